//! The fair queue: deficit round robin across tenants, paid in the time that their calls took.
//!
//! Pure: no thread, no clock. `executor.rs` holds it under its lock. A tenant whose turn it is may start a call as long as it has
//! credit; each turn gives it a quantum. What a call costs is known only afterwards, so the tenant pays an estimate when the call
//! starts and the difference when it ends. A tenant that goes away in debt still owes it when it comes back, as long as others
//! compete with it.
//!
//! A call can't be interrupted, so time alone is not enough: as many long calls as there are workers would keep everybody else
//! waiting for their whole length. Therefore one worker is kept from each tenant that has not shown that its calls are short:
//! such a tenant runs on all workers but one. Trust is earned by short calls and lost by long ones, and outlives idleness.
//! Several such tenants could together still hold every worker: those that have had very long calls of late ([`Pace::Slow`]) share one
//! worker of their own, however many they are, and none of the others'. Where there is only one of those, a neighbor may wait for
//! the first long call of each other tenant; `ExecutorConfig` starts two also on a single core, which the system then shares.
//!
//! Source: M. Shreedhar, G. Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What a turn is worth in microseconds of a worker. Small against a deadline, large against an ordinary call.
const QUANTUM: i64 = 1_000;

/// A call that takes at most this many microseconds is short.
const SHORT: i64 = QUANTUM;

/// Microseconds of short calls after which a tenant may use all workers. As much again is all that it can save up.
const TRUSTED: i64 = 20_000;

/// A long call takes as much trust as this many times its length in short calls would earn: whoever mixes them on purpose holds
/// the last worker for less than one part in a hundred of the time.
const LONG_PENALTY: i64 = 200;

/// The least trust, in microseconds: ten minutes of short calls make up for anything.
const TRUST_MIN: i64 = -600_000_000;

/// A tenant that has had calls of more than this many microseconds of late shares a worker with its like.
const SLOW: i64 = 50_000;

/// What a tenant's longest call counts for shrinks by one part in so many with each call.
const SLOW_DECAY: i64 = 256;

/// Tenants whose trust is remembered while they are idle.
const REMEMBERED_MAX: usize = 10_000;

/// Jobs of many tenants, handed out so that each tenant gets the same time.
#[derive(Debug)]
pub(crate) struct FairQueue<J> {
    tenants: HashMap<Arc<str>, Tenant<J>>,
    /// Tenants in the order of their turns: all that have jobs waiting, and idle ones that are in debt.
    turns: VecDeque<Arc<str>>,
    waiting: usize,
    /// Of these, those of slow tenants.
    waiting_slow: usize,
    waiting_max: usize,
    in_flight_max: usize,
    /// What is known of tenants that are idle.
    remembered: HashMap<Arc<str>, Known>,
    /// Workers that a tenant with long or unknown calls may hold at once.
    long_max: usize,
}

/// Whose jobs a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Those of tenants that are not slow.
    Ordinary,
    /// Those of tenants that have had very long calls of late.
    Slow,
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
    /// The tenant has as many jobs waiting and running as it may.
    Tenant,
}

/// What a tenant's calls have shown.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Microseconds of short calls that speak for it; below [`TRUSTED`] its calls may be long.
    trust: i64,
    /// The longest of late, in microseconds.
    longest: i64,
}

#[derive(Debug)]
struct Tenant<J> {
    name: Arc<str>,
    jobs: VecDeque<J>,
    running: usize,
    /// Credit in microseconds; below zero it is a debt.
    credit: i64,
    /// What its calls cost of late, in microseconds.
    estimate: i64,
    known: Known,
    /// Whether it stands in `turns`.
    in_turn: bool,
}

impl<J> FairQueue<J> {
    /// A queue for so many workers that holds `waiting_max` jobs, and of each tenant `in_flight_max`, waiting and running
    /// together.
    pub(crate) fn new(workers: usize, waiting_max: usize, in_flight_max: usize) -> FairQueue<J> {
        let long_max = workers.saturating_sub(1).max(1);
        FairQueue {
            tenants: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            waiting_slow: 0,
            waiting_max,
            in_flight_max,
            remembered: HashMap::new(),
            long_max,
        }
    }

    /// Jobs that wait, of all tenants.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Jobs that wait for workers of a pace.
    pub(crate) fn waiting_for(&self, pace: Pace) -> usize {
        match pace {
            Pace::Ordinary => self.waiting - self.waiting_slow,
            Pace::Slow => self.waiting_slow,
        }
    }

    /// Adds a job at the end of its tenant's line. Answers which workers will take it.
    ///
    /// # Errors
    /// [`Refusal`] when the queue or the tenant's share of it is full; the job is given back.
    pub(crate) fn push(&mut self, tenant: &str, job: J) -> Result<Pace, (Refusal, J)> {
        if self.waiting >= self.waiting_max {
            return Err((Refusal::Full, job));
        }
        if self.in_flight_max == 0 {
            return Err((Refusal::Tenant, job));
        }
        if !self.tenants.contains_key(tenant) {
            let name: Arc<str> = Arc::from(tenant);
            let known = self.remembered.remove(&name).unwrap_or_default();
            self.tenants.insert(Arc::clone(&name), Tenant::new(name, known));
        }
        let entry = self.tenants.get_mut(tenant).expect("it was there or has just been added");
        if entry.in_flight() >= self.in_flight_max {
            return Err((Refusal::Tenant, job));
        }
        entry.jobs.push_back(job);
        self.waiting += 1;
        self.waiting_slow += usize::from(entry.pace() == Pace::Slow);
        if !entry.in_turn {
            entry.in_turn = true;
            self.turns.push_back(Arc::clone(&entry.name));
        }
        Ok(entry.pace())
    }

    /// Takes the next job for a worker of a pace; `None` when none waits, or only jobs of tenants that hold as many workers as they
    /// may.
    pub(crate) fn pop(&mut self, pace: Pace) -> Option<Started<J>> {
        if self.waiting == 0 {
            self.forgive_idle();
        }
        if self.waiting_for(pace) == 0 {
            return None;
        }
        // Whoever has credit keeps its turn until the credit is used up. A whole round without one raises all credits at once by
        // as many quanta as the best placed tenant needs, so that the second round finds it.
        for _ in 0..2 {
            for _ in 0..self.turns.len() {
                if let Some(started) = self.take_turn(pace) {
                    return Some(started);
                }
            }
            self.raise_credits(pace);
        }
        (0..self.turns.len()).find_map(|_| self.take_turn(pace))
    }

    /// Settles a job that [`FairQueue::pop`] handed out: `cost` is the time that it took, in microseconds. Answers which workers
    /// take the tenant's jobs now, if those are others than before.
    pub(crate) fn finish(&mut self, tenant: &Arc<str>, paid: i64, cost: i64) -> Option<Pace> {
        let entry = self.tenants.get_mut(tenant)?;
        let cost = cost.max(1);
        entry.running -= 1;
        entry.credit += paid - cost;
        entry.estimate = (3 * entry.estimate + cost) / 4;
        let before = entry.pace();
        entry.known.learn(cost);
        let now = entry.pace();
        match (before, now) {
            (Pace::Ordinary, Pace::Slow) => self.waiting_slow += entry.jobs.len(),
            (Pace::Slow, Pace::Ordinary) => self.waiting_slow -= entry.jobs.len(),
            (Pace::Ordinary, Pace::Ordinary) | (Pace::Slow, Pace::Slow) => {}
        }
        if !entry.in_turn && entry.running == 0 {
            self.rest(tenant);
        }
        (now != before).then_some(now)
    }

    /// The tenant at the front starts a job if it can; else it gets a quantum and goes to the back.
    fn take_turn(&mut self, pace: Pace) -> Option<Started<J>> {
        let name = self.turns.pop_front()?;
        let tenant = self.tenants.get_mut(&name)?;
        if !tenant.jobs.is_empty() && !tenant.may_start(pace, self.long_max) {
            self.turns.push_back(name);
            return None;
        }
        if tenant.credit <= 0 {
            tenant.credit += QUANTUM;
            self.turns.push_back(name);
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
        self.waiting -= 1;
        self.waiting_slow -= usize::from(pace == Pace::Slow);
        let paid = tenant.estimate;
        tenant.credit -= paid;
        tenant.running += 1;
        if tenant.jobs.is_empty() {
            // An idle tenant saves no credit up.
            tenant.credit = tenant.credit.min(0);
            tenant.in_turn = false;
        } else {
            self.turns.push_front(Arc::clone(&name));
        }
        Some(Started { tenant: name, job, paid })
    }

    /// Gives every tenant in line the same number of quanta, enough that one of those with jobs has credit.
    fn raise_credits(&mut self, pace: Pace) {
        let can_start = |tenant: &&Tenant<J>| !tenant.jobs.is_empty() && tenant.may_start(pace, self.long_max);
        let waiting = self.tenants.values().filter(can_start);
        let Some(best) = waiting.map(|tenant| tenant.credit).max() else { return };
        let rounds = if best > 0 { 0 } else { -best / QUANTUM + 1 };
        for tenant in self.tenants.values_mut().filter(|tenant| tenant.in_turn) {
            tenant.credit += rounds * QUANTUM;
        }
    }

    /// A tenant has neither jobs waiting nor running: it is forgotten, unless it owes time while others wait for theirs.
    fn rest(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        // The number of idle debtors is bounded as the queue is; beyond it a debt is forgiven.
        if tenant.credit < 0 && self.waiting > 0 && self.turns.len() < 2 * self.waiting_max {
            tenant.in_turn = true;
            self.turns.push_back(Arc::clone(name));
        } else {
            self.forget(name);
        }
    }

    /// Nothing of an idle tenant is kept but what is known of it.
    fn forget(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.remove(name) else { return };
        self.remember(Arc::clone(name), tenant.known);
    }

    fn remember(&mut self, name: Arc<str>, known: Known) {
        if self.remembered.len() >= REMEMBERED_MAX {
            // Those who have lost trust are what matters.
            self.remembered.retain(|_, known| known.trust < 0);
        }
        if known.trust != 0 && self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(name, known);
        }
    }

    /// Nobody waits, so nobody was kept waiting by what an idle tenant owes.
    fn forgive_idle(&mut self) {
        self.turns.clear();
        for (name, tenant) in self.tenants.extract_if(|_, tenant| tenant.running == 0).collect::<Vec<_>>() {
            self.remember(name, tenant.known);
        }
        self.tenants.values_mut().for_each(|tenant| tenant.in_turn = false);
    }
}

impl<J> Started<J> {
    /// Splits the job from what [`FairQueue::finish`] needs.
    pub(crate) fn into_parts(self) -> (J, Arc<str>, i64) {
        (self.job, self.tenant, self.paid)
    }
}

impl Known {
    /// Takes a call in that took so many microseconds.
    fn learn(&mut self, cost: i64) {
        self.trust = match cost <= SHORT {
            true => (self.trust + cost).min(2 * TRUSTED),
            false => (self.trust.min(0) - cost.saturating_mul(LONG_PENALTY)).max(TRUST_MIN),
        };
        self.longest = cost.max(self.longest - self.longest / SLOW_DECAY);
    }

    fn is_slow(self) -> bool {
        self.longest > SLOW
    }
}

impl<J> Tenant<J> {
    fn new(name: Arc<str>, known: Known) -> Tenant<J> {
        Tenant { name, jobs: VecDeque::new(), running: 0, credit: 0, estimate: QUANTUM / 10, known, in_turn: false }
    }

    /// Whether a worker of this pace may start something of it: if that is its own, and not so many of its calls are running of
    /// which nobody knows that they are short.
    fn may_start(&self, pace: Pace, long_max: usize) -> bool {
        self.pace() == pace && (pace == Pace::Slow || self.running < long_max || self.known.trust >= TRUSTED)
    }

    /// Which workers take its jobs.
    fn pace(&self) -> Pace {
        if self.known.is_slow() { Pace::Slow } else { Pace::Ordinary }
    }

    fn in_flight(&self) -> usize {
        self.jobs.len() + self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next job that a worker of either pace would take.
    fn pop<J>(queue: &mut FairQueue<J>) -> Option<Started<J>> {
        queue.pop(Pace::Ordinary).or_else(|| queue.pop(Pace::Slow))
    }

    /// Runs jobs of (tenant, cost in µs) one after the other for `time` µs, each tenant always having `depth` jobs waiting.
    fn simulate(tenants: &[(&str, i64)], depth: usize, time: i64) -> HashMap<String, i64> {
        let mut queue = FairQueue::new(1, 1024, 64);
        let mut used: HashMap<String, i64> = HashMap::new();
        for (name, cost) in tenants {
            for _ in 0..depth {
                queue.push(name, *cost).unwrap();
            }
        }
        let mut now = 0;
        while now < time {
            let (cost, tenant, paid) = pop(&mut queue).unwrap().into_parts();
            now += cost;
            *used.entry(tenant.to_string()).or_default() += cost;
            queue.finish(&tenant, paid, cost);
            queue.push(&tenant, cost).unwrap();
        }
        used
    }

    #[test]
    fn tenants_get_the_same_time_however_long_their_calls_are() {
        let used = simulate(&[("quick", 10), ("slow", 50_000), ("middle", 900)], 8, 10_000_000);
        for (tenant, time) in &used {
            let share = *time as f64 / 10_000_000.0;
            assert!((0.32..0.35).contains(&share), "{tenant} got {share} of {used:?}");
        }
    }

    #[test]
    fn a_tenant_alone_gets_everything_at_once() {
        let used = simulate(&[("alone", 1_000_000)], 1, 5_000_000);
        assert_eq!(used["alone"], 5_000_000);
    }

    #[test]
    fn a_debt_is_not_escaped_by_leaving_for_a_moment() {
        let mut queue = FairQueue::new(1, 1024, 64);
        for _ in 0..40 {
            queue.push("quick", 100).unwrap();
        }
        queue.push("slow", 1_000_000).unwrap();
        let mut order = Vec::new();
        // The slow tenant comes back as soon as its call is done; all the quick ones are still served first.
        while let Some(started) = pop(&mut queue) {
            let (cost, tenant, paid) = started.into_parts();
            queue.finish(&tenant, paid, cost);
            order.push(tenant.to_string());
            if &*tenant == "slow" && order.iter().filter(|name| *name == "slow").count() < 2 {
                queue.push("slow", 1_000_000).unwrap();
            }
        }
        assert_eq!(order.last().map(String::as_str), Some("slow"));
        assert_eq!(order.len(), 42);
    }

    #[test]
    fn a_full_queue_and_a_full_tenant_are_told_apart() {
        let mut queue = FairQueue::new(2, 3, 2);
        queue.push("a", 1).unwrap();
        queue.push("a", 2).unwrap();
        assert_eq!(queue.push("a", 3), Err((Refusal::Tenant, 3)));
        queue.push("b", 4).unwrap();
        assert_eq!(queue.push("c", 5), Err((Refusal::Full, 5)));
        // What runs still counts for its tenant, but no longer for the queue.
        let (_, tenant, paid) = pop(&mut queue).unwrap().into_parts();
        assert_eq!(queue.push(&tenant, 6).is_err(), &*tenant == "a");
        queue.finish(&tenant, paid, 1);
        assert_eq!(queue.push(&tenant, 7), Ok(Pace::Ordinary));
    }

    #[test]
    fn jobs_of_one_tenant_keep_their_order_and_none_is_lost() {
        let mut queue = FairQueue::new(1, 1000, 1000);
        for job in 0..100 {
            queue.push(if job % 3 == 0 { "a" } else { "b" }, job).unwrap();
        }
        let mut seen = Vec::new();
        while let Some(started) = pop(&mut queue) {
            let (job, tenant, paid) = started.into_parts();
            queue.finish(&tenant, paid, 10 + job);
            seen.push(job);
        }
        let of_a: Vec<i64> = seen.iter().copied().filter(|job| job % 3 == 0).collect();
        assert!(of_a.is_sorted());
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(queue.tenants.is_empty() && queue.turns.is_empty(), "nothing of an idle tenant is kept");
    }

    /// Starts whatever can be started and says whose.
    fn start_all(queue: &mut FairQueue<i64>, pace: Pace) -> Vec<Started<i64>> {
        std::iter::from_fn(|| queue.pop(pace)).collect()
    }

    fn names(started: &[Started<i64>]) -> Vec<&str> {
        started.iter().map(|started| &*started.tenant).collect()
    }

    #[test]
    fn long_calls_of_a_tenant_leave_a_worker_to_the_others() {
        let mut queue = FairQueue::new(4, 1024, 64);
        for _ in 0..8 {
            queue.push("long", SLOW).unwrap();
        }
        for _ in 0..10 {
            let running = start_all(&mut queue, Pace::Ordinary);
            assert_eq!(names(&running), ["long"; 3], "not the fourth, at no time");
            queue.push("quick", 10).unwrap();
            let quick = start_all(&mut queue, Pace::Ordinary);
            assert_eq!(names(&quick), ["quick"], "at once");
            for started in running.into_iter().chain(quick) {
                let (cost, tenant, paid) = started.into_parts();
                queue.finish(&tenant, paid, cost);
                if &*tenant == "long" {
                    queue.push("long", cost).unwrap();
                }
            }
        }
    }

    #[test]
    fn however_many_tenants_have_endless_calls_they_share_a_worker_of_their_own() {
        for workers in [1, 2, 4] {
            let mut queue = FairQueue::new(workers, 1024, 64);
            let hostile = ["a", "b", "c", "d", "e", "f"];
            // Each has had one call that ran until its fuel was used up.
            for tenant in hostile {
                assert_eq!(queue.push(tenant, 300_000), Ok(Pace::Ordinary), "nothing is known of it");
                let (cost, tenant, paid) = queue.pop(Pace::Ordinary).unwrap().into_parts();
                queue.finish(&tenant, paid, cost);
            }
            for tenant in hostile.into_iter().cycle().take(60) {
                assert_eq!(queue.push(tenant, 300_000), Ok(Pace::Slow));
            }
            let mut served: HashMap<String, usize> = HashMap::new();
            for _ in 0..60 {
                assert_eq!(names(&start_all(&mut queue, Pace::Ordinary)), [""; 0], "none of the others' workers");
                assert_eq!(queue.push("quick", 10), Ok(Pace::Ordinary));
                let quick = queue.pop(Pace::Ordinary).unwrap();
                let (cost, tenant, paid) = queue.pop(Pace::Slow).unwrap().into_parts();
                queue.finish(&tenant, paid, cost);
                *served.entry(tenant.to_string()).or_default() += 1;
                let (cost, tenant, paid) = quick.into_parts();
                queue.finish(&tenant, paid, cost);
            }
            assert_eq!(served.values().copied().collect::<Vec<_>>(), [10; 6], "in turns");
            assert_eq!((queue.waiting(), queue.waiting_for(Pace::Slow)), (0, 0));
        }
    }

    #[test]
    fn what_waits_changes_workers_with_what_is_learnt_of_its_tenant() {
        let mut queue = FairQueue::new(2, 10_000, 10_000);
        for _ in 0..5_000 {
            queue.push("tenant", 10).unwrap();
        }
        let waiting = |queue: &FairQueue<i64>| [Pace::Ordinary, Pace::Slow].map(|pace| queue.waiting_for(pace));
        let (_, tenant, paid) = queue.pop(Pace::Ordinary).unwrap().into_parts();
        assert_eq!(waiting(&queue), [4_999, 0]);
        queue.finish(&tenant, paid, 1_000_000);
        assert_eq!(waiting(&queue), [0, 4_999]);
        assert!(queue.pop(Pace::Ordinary).is_none());
        while let Some(started) = queue.pop(Pace::Slow) {
            let (cost, tenant, paid) = started.into_parts();
            queue.finish(&tenant, paid, cost);
        }
        let [ordinary, slow] = waiting(&queue);
        assert!(ordinary > 3_000 && slow == 0, "it has come back: {ordinary} and {slow} wait");
        assert!(queue.pop(Pace::Ordinary).is_some());
    }

    #[test]
    fn a_tenant_is_slow_until_enough_short_calls_have_followed() {
        let mut known = Known::default();
        known.learn(SLOW);
        assert!(!known.is_slow(), "as long as an interpreter's calls may be");
        known.learn(1_000_000);
        let calls = (1..).find(|_| {
            known.learn(10);
            !known.is_slow()
        });
        assert!(calls.is_some_and(|calls| (500..2_000).contains(&calls)), "{calls:?}");
    }

    #[test]
    fn short_calls_of_a_tenant_may_use_all_workers_once_they_have_earned_it() {
        let mut queue = FairQueue::new(4, 1024, 64);
        let run = |queue: &mut FairQueue<i64>, cost| {
            queue.push("tenant", cost).unwrap();
            let (cost, tenant, paid) = pop(queue).unwrap().into_parts();
            queue.finish(&tenant, paid, cost);
        };
        let at_once = |queue: &mut FairQueue<i64>| {
            for _ in 0..8 {
                queue.push("tenant", 10).unwrap();
            }
            let running = start_all(queue, Pace::Ordinary);
            let count = running.len();
            let mut all = running;
            while let Some(started) = all.pop() {
                let (cost, tenant, paid) = started.into_parts();
                queue.finish(&tenant, paid, cost);
                all.extend(pop(queue));
            }
            count
        };
        assert_eq!(at_once(&mut queue), 3, "nothing is known of it");
        for _ in 0..TRUSTED / 100 {
            run(&mut queue, 100);
        }
        assert_eq!(at_once(&mut queue), 8, "and being idle in between does no harm");
        run(&mut queue, SLOW);
        // A short call or a thousand between long ones buy nothing.
        for _ in 0..1_000 {
            run(&mut queue, 100);
        }
        assert_eq!(at_once(&mut queue), 3);
    }

    #[test]
    fn a_single_worker_serves_everybody() {
        let mut queue = FairQueue::new(1, 1024, 64);
        queue.push("long", 100_000).unwrap();
        queue.push("other", 10).unwrap();
        for _ in 0..2 {
            let (cost, tenant, paid) = pop(&mut queue).unwrap().into_parts();
            queue.finish(&tenant, paid, cost);
        }
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn held_jobs_keep_their_place_and_debts_are_paid_meanwhile() {
        let mut queue = FairQueue::new(2, 1024, 64);
        queue.push("long", 1).unwrap();
        queue.push("long", 2).unwrap();
        let first = pop(&mut queue).unwrap();
        assert!(queue.pop(Pace::Ordinary).is_none(), "the second is held");
        assert_eq!(queue.waiting(), 1);
        let (_, tenant, paid) = first.into_parts();
        queue.finish(&tenant, paid, SLOW);
        assert_eq!(pop(&mut queue).unwrap().into_parts().0, 2);
    }
}
