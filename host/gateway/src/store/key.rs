//! How ids stand in the store: as the 16 bytes of their ULID; the column says what they are ids of.

use std::fmt;

use ulid::Ulid;

use super::flow::WorkKind;
use crate::id::{AppId, BacktestId, EndpointId, EventId, MessageId, PluginId, ReplayId, TypedId};

/// An id's bytes. They sort as the id does, by the time it was made.
pub type Key = [u8; 16];

/// The bytes of an id.
pub fn key(id: &impl TypedId) -> Key {
    id.ulid().to_bytes()
}

/// The id with these bytes.
pub fn id<T: TypedId>(key: Key) -> T {
    T::from_ulid(Ulid::from_bytes(key))
}

/// A queue of its own: work of one kind and lane is claimed in the order in which it is due, and lanes don't wait for each
/// other. The lane of mapping is the source, of fan-out the tenant, of attempts the endpoint, of all else the tenant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane([u8; 17]);

impl Lane {
    /// For what goes on by itself.
    pub fn live(id: &impl TypedId) -> Self {
        Self::of(id, 0)
    }

    /// For what somebody asked to be done again; it never delays the live lane.
    pub fn replay(id: &impl TypedId) -> Self {
        Self::of(id, 1)
    }

    /// Reads what stands in the store.
    pub fn from_bytes(bytes: [u8; 17]) -> Self {
        Self(bytes)
    }

    /// What stands in the store.
    pub fn as_bytes(&self) -> &[u8; 17] {
        &self.0
    }

    /// Whose lane it is.
    pub fn id<T: TypedId>(&self) -> T {
        let mut key = [0; 16];
        key.copy_from_slice(&self.0[..16]);
        id(key)
    }

    /// Whether it holds what somebody asked to be done again.
    pub fn is_replay(&self) -> bool {
        self.0[16] == 1
    }

    /// The lane of the same class of another id.
    pub fn beside(&self, id: &impl TypedId) -> Self {
        Self::of(id, self.0[16])
    }

    fn of(id: &impl TypedId, class: u8) -> Self {
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&key(id));
        bytes[16] = class;
        Self(bytes)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = [0; 16];
        key.copy_from_slice(&self.0[..16]);
        write!(f, "{}/{}", Ulid::from_bytes(key), self.0[16])
    }
}

/// What a piece of work is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An event to map.
    Event(EventId),
    /// A message to fan out.
    Message(MessageId),
    /// A delivery to attempt.
    Delivery(MessageId, EndpointId),
    /// A plugin to review or to release.
    Plugin(PluginId),
    /// A backtest to run.
    Backtest(BacktestId),
    /// An endpoint whose waiting deliveries end.
    Endpoint(EndpointId),
    /// A replay to go on with.
    Replay(ReplayId),
    /// A tenant to erase.
    App(AppId),
    /// The store's number of a component to erase.
    Component(i64),
    /// What there is one of.
    Once,
}

impl Subject {
    /// What stands in the store; the kind of work says what it is.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Event(id) => key(id).to_vec(),
            Self::Message(id) => key(id).to_vec(),
            Self::Delivery(message, endpoint) => [key(message), key(endpoint)].concat(),
            Self::Plugin(id) => key(id).to_vec(),
            Self::Backtest(id) => key(id).to_vec(),
            Self::Endpoint(id) => key(id).to_vec(),
            Self::Replay(id) => key(id).to_vec(),
            Self::App(id) => key(id).to_vec(),
            Self::Component(number) => number.to_be_bytes().to_vec(),
            Self::Once => vec![0; 16],
        }
    }

    /// Reads what stands in the store beside this kind of work.
    pub fn from_bytes(kind: WorkKind, bytes: &[u8]) -> Option<Self> {
        if kind == WorkKind::Deliver {
            let (message, endpoint) = bytes.split_at_checked(16)?;
            return Some(Self::Delivery(id(message.try_into().ok()?), id(endpoint.try_into().ok()?)));
        }
        if kind == WorkKind::Erase
            && let Ok(number) = bytes.try_into()
        {
            return Some(Self::Component(i64::from_be_bytes(number)));
        }
        let key: Key = bytes.try_into().ok()?;
        Some(match kind {
            WorkKind::Map => Self::Event(id(key)),
            WorkKind::FanOut => Self::Message(id(key)),
            WorkKind::Backtest => Self::Backtest(id(key)),
            WorkKind::Review | WorkKind::Release => Self::Plugin(id(key)),
            WorkKind::Drain => Self::Endpoint(id(key)),
            WorkKind::Replay => Self::Replay(id(key)),
            WorkKind::Erase => Self::App(id(key)),
            WorkKind::Deliver | WorkKind::Keep | WorkKind::Reseal => Self::Once,
        })
    }

    /// The event to map.
    pub fn event(&self) -> Option<&EventId> {
        if let Self::Event(id) = self { Some(id) } else { None }
    }

    /// The message to fan out, or that of the delivery.
    pub fn message(&self) -> Option<&MessageId> {
        match self {
            Self::Message(id) | Self::Delivery(id, _) => Some(id),
            _ => None,
        }
    }

    /// The plugin.
    pub fn plugin(&self) -> Option<&PluginId> {
        if let Self::Plugin(id) = self { Some(id) } else { None }
    }

    /// The backtest.
    pub fn backtest(&self) -> Option<&BacktestId> {
        if let Self::Backtest(id) = self { Some(id) } else { None }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => id.fmt(f),
            Self::Message(id) => id.fmt(f),
            Self::Delivery(message, endpoint) => write!(f, "{message} to {endpoint}"),
            Self::Plugin(id) => id.fmt(f),
            Self::Backtest(id) => id.fmt(f),
            Self::Endpoint(id) => id.fmt(f),
            Self::Replay(id) => id.fmt(f),
            Self::App(id) => id.fmt(f),
            Self::Component(number) => write!(f, "component {number}"),
            Self::Once => f.write_str("the instance"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_back_as_it_was_written() {
        let (message, endpoint): (MessageId, EndpointId) = (id([1; 16]), id([2; 16]));
        let check = |kind, subject: Subject| {
            assert_eq!(Subject::from_bytes(kind, &subject.to_bytes()), Some(subject));
        };
        check(WorkKind::Map, Subject::Event(id([3; 16])));
        check(WorkKind::FanOut, Subject::Message(message.clone()));
        check(WorkKind::Deliver, Subject::Delivery(message, endpoint));
        check(WorkKind::Erase, Subject::App(id([4; 16])));
        check(WorkKind::Erase, Subject::Component(5));
        check(WorkKind::Keep, Subject::Once);
        assert_eq!(Subject::from_bytes(WorkKind::Map, &[0; 15]), None);
        assert_eq!(Subject::from_bytes(WorkKind::Deliver, &[0; 16]), None);
    }

    #[test]
    fn a_lane_knows_whose_it_is_and_its_class() {
        let endpoint: EndpointId = id([7; 16]);
        assert_eq!(Lane::live(&endpoint).id::<EndpointId>(), endpoint);
        assert!(!Lane::live(&endpoint).is_replay() && Lane::replay(&endpoint).is_replay());
        assert!(Lane::live(&endpoint) < Lane::replay(&endpoint));
    }
}
