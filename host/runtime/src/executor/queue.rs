//! The fair queue: deficit round robin across tenants, paid in the processor time that their calls took.
//!
//! Pure: no thread, no clock. `executor.rs` holds it under its lock. A tenant whose turn it is may start a call as long as it has
//! credit; each turn gives it a quantum. What a call costs is known only afterwards, so the tenant pays an estimate when the call
//! starts and the difference when it ends. A tenant that goes away in debt still owes it when it comes back, as long as others
//! compete with it.
//!
//! A call can't be interrupted, so time alone is not enough: as many long calls as there are workers would keep everybody else
//! waiting for their whole length. Therefore one worker is kept from each tenant that has not shown that its calls are short:
//! such a tenant runs on all workers but one. Trust is earned by short calls and lost by long ones, and outlives idleness.
//! Several such tenants could together still hold every worker: those that have had very long calls of late ([`Pace::Slow`]) stand in a
//! line of their own, which one worker of its own serves, however many they are. As many tenants of which nothing is known as there
//! are workers still hold them all, for a call each.
//!
//! Source: M. Shreedhar, G. Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995.

mod tenant;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use self::tenant::Pace;
use self::tenant::{Known, Tenant};

/// What a turn is worth in microseconds of a worker. Small against a deadline, large against an ordinary call.
const QUANTUM: i64 = 1_000;

/// Tenants whose trust is remembered while they are idle.
const REMEMBERED_MAX: usize = 10_000;

/// Slow tenants' jobs may be one of so many that wait: their worker takes long for each, and the rest is the others'.
const SLOW_PART: usize = 4;

/// Jobs of many tenants, handed out so that each tenant gets the same time.
#[derive(Debug)]
pub(crate) struct FairQueue<J> {
    tenants: HashMap<Arc<str>, Tenant<J>>,
    ordinary: Line,
    slow: Line,
    waiting_max: usize,
    in_flight_max: usize,
    /// What is known of tenants that are idle.
    remembered: HashMap<Arc<str>, Known>,
    /// Workers that a tenant with long or unknown calls may hold at once.
    long_max: usize,
}

/// The tenants of a pace: they take turns among themselves.
#[derive(Debug, Default)]
struct Line {
    /// In the order of their turns: all that have jobs waiting, and idle ones that are in debt.
    turns: VecDeque<Arc<str>>,
    /// Jobs that wait.
    waiting: usize,
}

/// One job, and what its end must be reported with.
#[derive(Debug)]
pub(crate) struct Started<J> {
    pub(crate) tenant: Arc<str>,
    pub(crate) job: J,
    /// What the tenant has paid already, in microseconds.
    paid: i64,
}

/// Why a job is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many jobs wait as may.
    Full,
    /// As many jobs of slow tenants wait as may, and the tenant is one; how many that is.
    Slow(usize),
    /// The tenant has as many jobs waiting and running as it may.
    Tenant,
}

impl<J> FairQueue<J> {
    /// A queue for so many workers that holds `waiting_max` jobs, and of each tenant `in_flight_max`, waiting and running
    /// together.
    pub(crate) fn new(workers: usize, waiting_max: usize, in_flight_max: usize) -> FairQueue<J> {
        let long_max = workers.saturating_sub(1).max(1);
        FairQueue {
            tenants: HashMap::new(),
            ordinary: Line::default(),
            slow: Line::default(),
            waiting_max,
            in_flight_max,
            remembered: HashMap::new(),
            long_max,
        }
    }

    /// Jobs that wait, of all tenants.
    pub(crate) fn waiting(&self) -> usize {
        self.ordinary.waiting + self.slow.waiting
    }

    /// Jobs that wait for workers of a pace.
    pub(crate) fn waiting_for(&self, pace: Pace) -> usize {
        match pace {
            Pace::Ordinary => self.ordinary.waiting,
            Pace::Slow => self.slow.waiting,
        }
    }

    /// Adds a job at the end of its tenant's line. Answers which workers will take it.
    ///
    /// # Errors
    /// [`Refusal`] when the queue or the tenant's share of it is full; the job is given back.
    pub(crate) fn push(&mut self, tenant: &str, job: J) -> Result<Pace, (Refusal, J)> {
        let (known, in_flight) = match self.tenants.get(tenant) {
            Some(entry) => (entry.known, entry.in_flight()),
            None => (self.remembered.get(tenant).copied().unwrap_or_default(), 0),
        };
        let (pace, slow_max) = (known.pace(), self.waiting_max.div_ceil(SLOW_PART));
        if self.waiting() >= self.waiting_max {
            return Err((Refusal::Full, job));
        }
        if in_flight >= self.in_flight_max {
            return Err((Refusal::Tenant, job));
        }
        if pace == Pace::Slow && self.slow.waiting >= slow_max {
            return Err((Refusal::Slow(slow_max), job));
        }
        if !self.tenants.contains_key(tenant) {
            let name: Arc<str> = Arc::from(tenant);
            self.remembered.remove(&name);
            self.tenants.insert(Arc::clone(&name), Tenant::new(name, known));
        }
        let entry = self.tenants.get_mut(tenant).expect("it was there or has just been added");
        entry.jobs.push_back(job);
        let newcomer = (!entry.in_turn).then(|| Arc::clone(&entry.name));
        entry.in_turn = true;
        let line = self.line(pace);
        line.waiting += 1;
        line.turns.extend(newcomer);
        Ok(pace)
    }

    /// Takes the next job for a worker of a pace; `None` when none waits, or only jobs of tenants that hold as many workers as they
    /// may.
    pub(crate) fn pop(&mut self, pace: Pace) -> Option<Started<J>> {
        if self.waiting_for(pace) == 0 {
            self.forgive_idle(pace);
            return None;
        }
        // Whoever has credit keeps its turn until the credit is used up. A whole round without one raises all credits at once by
        // as many quanta as the best placed tenant needs, so that the second round finds it.
        for _ in 0..2 {
            for _ in 0..self.line(pace).turns.len() {
                if let Some(started) = self.take_turn(pace) {
                    return Some(started);
                }
            }
            self.raise_credits(pace);
        }
        (0..self.line(pace).turns.len()).find_map(|_| self.take_turn(pace))
    }

    /// Settles a job that [`FairQueue::pop`] handed out: `cost` is the processor time that it took, in microseconds. Answers which
    /// workers take the tenant's jobs now, if it has any and those are others than before.
    pub(crate) fn finish(&mut self, tenant: &Arc<str>, paid: i64, cost: i64) -> Option<Pace> {
        let entry = self.tenants.get_mut(tenant)?;
        let cost = cost.max(1);
        entry.running -= 1;
        entry.credit += paid - cost;
        entry.estimate = (3 * entry.estimate + cost) / 4;
        let before = entry.known.pace();
        entry.known.learn(cost);
        let (now, waiting, in_turn, running) = (entry.known.pace(), entry.jobs.len(), entry.in_turn, entry.running);
        if now != before {
            self.line(before).waiting -= waiting;
            self.line(now).waiting += waiting;
            if in_turn {
                self.line(before).turns.retain(|name| name != tenant);
                self.line(now).turns.push_back(Arc::clone(tenant));
            }
        }
        if !in_turn && running == 0 {
            self.rest(tenant);
        }
        (now != before && waiting > 0).then_some(now)
    }

    /// The tenant at the front starts a job if it can; else it gets a quantum and goes to the back.
    fn take_turn(&mut self, pace: Pace) -> Option<Started<J>> {
        let name = self.line(pace).turns.pop_front()?;
        let tenant = self.tenants.get_mut(&name)?;
        if !tenant.jobs.is_empty() && tenant.is_held(self.long_max) {
            self.line(pace).turns.push_back(name);
            return None;
        }
        if tenant.credit <= 0 {
            tenant.credit += QUANTUM;
            self.line(pace).turns.push_back(name);
            return None;
        }
        let Some(job) = tenant.jobs.pop_front() else {
            // It has paid its debt and wants nothing.
            tenant.in_turn = false;
            if tenant.running == 0 {
                self.forget(&name);
            }
            return None;
        };
        let paid = tenant.estimate;
        tenant.credit -= paid;
        tenant.running += 1;
        let goes_on = !tenant.jobs.is_empty();
        tenant.in_turn = goes_on;
        if !goes_on {
            // An idle tenant saves no credit up.
            tenant.credit = tenant.credit.min(0);
        }
        let line = self.line(pace);
        line.waiting -= 1;
        if goes_on {
            line.turns.push_front(Arc::clone(&name));
        }
        Some(Started { tenant: name, job, paid })
    }

    /// Gives every tenant in a line the same number of quanta, enough that one of those with jobs has credit.
    fn raise_credits(&mut self, pace: Pace) {
        let FairQueue { tenants, ordinary, slow, long_max, .. } = self;
        let turns = match pace {
            Pace::Ordinary => &ordinary.turns,
            Pace::Slow => &slow.turns,
        };
        let can_start = |tenant: &&Tenant<J>| !tenant.jobs.is_empty() && !tenant.is_held(*long_max);
        let waiting = turns.iter().filter_map(|name| tenants.get(name)).filter(can_start);
        let Some(best) = waiting.map(|tenant| tenant.credit).max() else { return };
        let rounds = if best > 0 { 0 } else { -best / QUANTUM + 1 };
        for name in turns {
            if let Some(tenant) = tenants.get_mut(name) {
                tenant.credit += rounds * QUANTUM;
            }
        }
    }

    /// A tenant has neither jobs waiting nor running: it is forgotten, unless it owes time while others of its line wait for theirs.
    fn rest(&mut self, name: &Arc<str>) {
        let turns_max = self.waiting_max.saturating_mul(2);
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        let pace = tenant.known.pace();
        let owes = tenant.credit < 0;
        let line = self.line(pace);
        // The number of idle debtors is bounded as the queue is; beyond it a debt is forgiven.
        if owes && line.waiting > 0 && line.turns.len() < turns_max {
            line.turns.push_back(Arc::clone(name));
            if let Some(tenant) = self.tenants.get_mut(name) {
                tenant.in_turn = true;
            }
        } else {
            self.forget(name);
        }
    }

    /// Nothing of an idle tenant is kept but what is known of it.
    fn forget(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.remove(name) else { return };
        if self.remembered.len() >= REMEMBERED_MAX {
            // Those who have lost trust are what matters.
            self.remembered.retain(|_, known| known.is_bad());
        }
        if tenant.known.is_something() && self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(Arc::clone(name), tenant.known);
        }
    }

    /// Nobody of a line waits, so nobody was kept waiting by what an idle tenant of it owes.
    fn forgive_idle(&mut self, pace: Pace) {
        while let Some(name) = self.line(pace).turns.pop_front() {
            let Some(tenant) = self.tenants.get_mut(&name) else { continue };
            tenant.in_turn = false;
            if tenant.running == 0 {
                self.forget(&name);
            }
        }
    }

    fn line(&mut self, pace: Pace) -> &mut Line {
        match pace {
            Pace::Ordinary => &mut self.ordinary,
            Pace::Slow => &mut self.slow,
        }
    }
}

impl<J> Started<J> {
    /// Splits the job from what [`FairQueue::finish`] needs.
    pub(crate) fn into_parts(self) -> (J, Arc<str>, i64) {
        (self.job, self.tenant, self.paid)
    }
}
