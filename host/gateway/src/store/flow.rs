//! What flows: accepted events, their matches, messages, deliveries, attempts, calls, dead letters, and the work queue
//! that drives them. Bodies are kept once; the other rows refer to them.

mod accepted;
mod attempt;
mod call;
mod delivery;
mod event;
mod expiry;
mod message;
mod replay;
mod state;
mod work;

pub use accepted::{Accepted, Admitted, Idempotency};
pub use attempt::{Attempt, AttemptDone, AttemptEnd, EXPUNGED, EndpointHealth, HealthChange};
pub use call::{Call, CallRecord, DeadLetter};
pub use delivery::{Delivery, DeliveryBody, DeliveryCounts, DeliveryJob, NewDelivery};
pub use event::{Event, MappingEnd, MatchRow, NewEvent};
pub use expiry::{Expired, Expiry};
pub use message::{FanOutDone, FanOutEnd, Message, Rescheduled};
pub use replay::{ReplayFilter, Replayed};
pub use state::{CallOutcome, DeliveryState, EventState, MatchState, Trigger, WorkKind};
pub use work::{CLAIMED_MAX, Claim, Held, Job, LaneHead, Want};

/// What a tenant has in the store, and what it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Inbound events.
    pub events: u64,
    /// Bytes of their bodies.
    pub event_bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub message_bytes: u64,
    /// Fuel that the calls of a day used, as far as they are committed,
    pub fuel: u64,
    /// and the day.
    pub fuel_day: i64,
}
