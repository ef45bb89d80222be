//! What reshapers made of messages whose fan-out was put off in the middle, since the next of them was busy or the tenant's fuel
//! used up: they are not run again when its turn comes back.
//!
//! Kept in memory, within bounds, the oldest leave first: a plugin whose result is lost runs again, and answers the same.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{ReshapeResult, Reshaped};
use crate::{
    id::{MessageId, PluginId},
    pipeline::shadow::ShadowJob,
    rollout::tally::Observation,
    store::flow::{Call, DeliveryBody},
};

/// Messages of which something is kept.
const MESSAGES_MAX: usize = 256;
/// Bytes of what reshapers answered, and of the inputs that are kept of failed calls.
const BYTES_MAX: usize = 16 << 20;

/// Fan-outs that were put off.
#[derive(Default)]
pub struct PutOff(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    all: VecDeque<(MessageId, Begun)>,
    bytes: usize,
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
    /// Keeps what was done for a message.
    pub fn keep(&self, message: MessageId, begun: Begun) {
        if begun.seen.is_empty() {
            return;
        }
        let mut kept = self.lock();
        kept.bytes += begun.bytes();
        kept.all.push_back((message, begun));
        while kept.all.len() > MESSAGES_MAX || kept.bytes > BYTES_MAX {
            let Some((_, oldest)) = kept.all.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
    }

    /// Takes out what was done for a message.
    pub fn take(&self, message: &MessageId) -> Option<Begun> {
        let mut kept = self.lock();
        let place = kept.all.iter().position(|(of, _)| of == message)?;
        let (_, begun) = kept.all.remove(place)?;
        kept.bytes -= begun.bytes();
        Some(begun)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    fn bytes(&self) -> usize {
        let answers = self.reshaped.values().map(|reshaped| match &reshaped.result {
            ReshapeResult::Send(DeliveryBody::Replaced(text)) => text.len(),
            _ => 0,
        });
        let inputs = self.calls.iter().filter_map(|call| call.evidence.as_ref()?.input.as_ref());
        let shown = self.shadows.iter().map(ShadowJob::bytes);
        answers.chain(inputs.map(|input| input.text.len())).chain(shown).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId as _;

    fn begun(bytes: usize) -> Begun {
        let plugin = PluginId::from_ulid(ulid::Ulid::nil());
        let result = ReshapeResult::Send(DeliveryBody::Replaced("x".repeat(bytes).into()));
        let reshaped = [(plugin.clone(), Reshaped { version: None, result })].into();
        Begun { reshaped, seen: vec![(plugin, 1)], ..Begun::default() }
    }

    fn message(number: u64) -> MessageId {
        MessageId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes_and_the_oldest_leave() {
        let put_off = PutOff::default();
        for n in 0..300 {
            put_off.keep(message(n), begun(1));
        }
        assert!(put_off.take(&message(43)).is_none() && put_off.take(&message(44)).is_some());
        assert!(put_off.take(&message(44)).is_none(), "it is taken once");
        for n in 300..309 {
            put_off.keep(message(n), begun(2 << 20));
        }
        assert!(put_off.take(&message(300)).is_none() && put_off.take(&message(308)).is_some());
        assert_eq!(put_off.lock().bytes, 7 * (2 << 20));
        put_off.keep(message(400), Begun::default());
        assert!(put_off.take(&message(400)).is_none(), "nothing was done");
    }
}
