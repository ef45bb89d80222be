//! What reshapers made of messages whose fan-out was put off in the middle, since the next of them was busy or the tenant's fuel
//! used up: they are not run again when its turn comes back.
//!
//! Kept in memory, within bounds, the oldest leave first: a plugin whose result is lost runs again, and answers the same. What is kept
//! serves the next claim of the same work only: where another node had it meanwhile, or it was done and asked for again, it is nothing
//! worth any more. That claim comes soon or, where the message or its tenant is gone, never: what is older than the longest wait is
//! dropped at the next look.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{ReshapeResult, Reshaped};
use crate::{
    engine::PUT_OFF_MAX,
    id::PluginId,
    pipeline::shadow::ShadowJob,
    rollout::tally::Observation,
    store::flow::{Call, Claim, DeliveryBody, Held},
};

/// Messages of which something is kept.
const MESSAGES_MAX: usize = 256;
/// Bytes of texts in what is kept: answers, logs, reasons, inputs.
const BYTES_MAX: usize = 16 << 20;
/// The same of one message, which must not push out those of all others.
const MESSAGE_BYTES_MAX: usize = BYTES_MAX / 8;
/// How long something is kept: work that was put off comes back a little after it is due.
const KEPT_FOR: Duration = PUT_OFF_MAX.saturating_add(Duration::from_secs(60));

/// Fan-outs that were put off.
#[derive(Default)]
pub struct PutOff(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    all: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    /// The claim that it was made under.
    held: Held,
    at: Instant,
    bytes: usize,
    begun: Begun,
}

/// What was done of a fan-out.
#[derive(Default)]
pub struct Begun {
    /// What each plugin made of the message.
    pub(super) reshaped: HashMap<PluginId, Reshaped>,
    /// The calls that this took.
    pub(super) calls: Vec<Call>,
    /// What they say of their versions.
    pub(super) observed: Vec<Observation>,
    /// At which revision each plugin was read.
    pub(super) seen: Vec<(PluginId, i64)>,
    /// What shadows are to be shown.
    pub(super) shadows: Vec<ShadowJob>,
}

impl PutOff {
    /// Keeps what was done under a claim until now.
    pub fn keep(&self, claim: &Claim, begun: Begun, now: Instant) {
        let bytes = begun.bytes();
        let mut kept = self.lock();
        kept.drop_old(now);
        if begun.seen.is_empty() || bytes > MESSAGE_BYTES_MAX {
            return;
        }
        kept.bytes += bytes;
        kept.all.push_back(Entry { held: claim.held(), at: now, bytes, begun });
        while kept.all.len() > MESSAGES_MAX || kept.bytes > BYTES_MAX {
            kept.drop_oldest();
        }
    }

    /// Takes out what was done under earlier claims of the same work: what the one just before this left is answered, what is older is
    /// dropped.
    pub fn take(&self, claim: &Claim, now: Instant) -> Option<Begun> {
        let mut kept = self.lock();
        kept.drop_old(now);
        let place = kept.all.iter().position(|entry| entry.held.work == claim.work)?;
        let entry = kept.all.remove(place)?;
        kept.bytes -= entry.bytes;
        // Each claim has a token that is one higher; giving the work back changes none.
        (entry.held.token + 1 == claim.token).then_some(entry.begun)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn drop_old(&mut self, now: Instant) {
        while self.all.front().is_some_and(|oldest| now.saturating_duration_since(oldest.at) > KEPT_FOR) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.bytes -= self.all.pop_front().map_or(0, |oldest| oldest.bytes);
    }
}

impl Begun {
    fn bytes(&self) -> usize {
        let answers = self.reshaped.values().map(|reshaped| match &reshaped.result {
            ReshapeResult::Send(DeliveryBody::Replaced(text)) => text.len(),
            ReshapeResult::Send(DeliveryBody::Original) => 0,
            ReshapeResult::Dropped(reason) => reason.len(),
            ReshapeResult::Failed(failed) => failed.detail.len(),
        });
        let calls = self.calls.iter().map(|call| {
            let input = call.evidence.as_ref().and_then(|evidence| evidence.input.as_ref());
            let logs = call.record.logs.lines.iter().map(|line| line.message.len()).sum::<usize>();
            let failure = call.record.failure.as_ref().map_or(0, |failure| failure.detail.len());
            let detail = call.record.detail.as_ref().map_or(0, String::len);
            input.map_or(0, |input| input.text.len()) + logs + failure + detail
        });
        answers.chain(calls).chain(self.shadows.iter().map(ShadowJob::bytes)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{AppId, TypedId as _},
        store::{
            flow::WorkKind,
            key::{Lane, Subject},
        },
    };

    fn begun(bytes: usize) -> Begun {
        let plugin = PluginId::from_ulid(ulid::Ulid::nil());
        let result = ReshapeResult::Send(DeliveryBody::Replaced("x".repeat(bytes).into()));
        let reshaped = [(plugin.clone(), Reshaped { version: None, result })].into();
        Begun { reshaped, seen: vec![(plugin, 1)], ..Begun::default() }
    }

    fn claim(work: i64, token: i64) -> Claim {
        let app = AppId::from_ulid(ulid::Ulid::nil());
        Claim { work, kind: WorkKind::FanOut, lane: Lane::live(&app), app, subject: Subject::Once, token, tries: 1 }
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes_and_the_oldest_leave() {
        let (put_off, now) = (PutOff::default(), Instant::now());
        for work in 0..300 {
            put_off.keep(&claim(work, 1), begun(1), now);
        }
        assert!(put_off.take(&claim(43, 2), now).is_none() && put_off.take(&claim(44, 2), now).is_some());
        assert!(put_off.take(&claim(44, 2), now).is_none(), "it is taken once");
        for work in 300..309 {
            put_off.keep(&claim(work, 1), begun(MESSAGE_BYTES_MAX), now);
        }
        assert!(put_off.take(&claim(300, 2), now).is_none() && put_off.take(&claim(308, 2), now).is_some());
        assert_eq!(put_off.lock().bytes, 7 * MESSAGE_BYTES_MAX);
        put_off.keep(&claim(400, 1), Begun::default(), now);
        put_off.keep(&claim(401, 1), begun(MESSAGE_BYTES_MAX + 1), now);
        assert!(put_off.take(&claim(400, 2), now).is_none(), "nothing was done");
        assert!(put_off.take(&claim(401, 2), now).is_none(), "it is too large");
    }

    #[test]
    fn what_another_claim_came_after_is_worth_nothing() {
        let (put_off, now) = (PutOff::default(), Instant::now());
        put_off.keep(&claim(1, 5), begun(1), now);
        assert!(put_off.take(&claim(2, 6), now).is_none(), "of other work");
        assert!(put_off.take(&claim(1, 7), now).is_none(), "somebody had it in between");
        assert!(put_off.take(&claim(1, 6), now).is_none(), "and it is gone then");
    }

    #[test]
    fn what_nobody_comes_for_is_dropped() {
        let (put_off, begun_at) = (PutOff::default(), Instant::now());
        put_off.keep(&claim(1, 1), begun(5), begun_at);
        put_off.keep(&claim(2, 1), begun(7), begun_at + KEPT_FOR);
        let size = || {
            let kept = put_off.lock();
            (kept.bytes, kept.all.len())
        };
        assert_eq!(size(), (12, 2));
        // Neither has anything to do with the first one.
        assert!(put_off.take(&claim(3, 2), begun_at + KEPT_FOR + Duration::from_secs(1)).is_none());
        assert_eq!(size(), (7, 1));
        put_off.keep(&claim(4, 1), Begun::default(), begun_at + 3 * KEPT_FOR);
        assert_eq!(size(), (0, 0));
    }
}
