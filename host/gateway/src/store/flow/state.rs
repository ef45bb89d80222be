//! How far everything that flows has come, and what work there is: enums whose numbers stand in the store and whose words
//! stand on the wire.

use serde::{Deserialize, Serialize};

use crate::schema;

/// A state enum: its number stands in the store and is never given to another state, its text on the wire.
macro_rules! states {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                schema::words(concat!($($doc),*), Self::ALL.iter().map(|state| state.as_str()))
            }
        }

        impl utoipa::ToSchema for $name {}

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads its word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text)
            }

            /// The number that stands in the store.
            pub fn code(self) -> i64 {
                match self { $(Self::$variant => $code,)* }
            }

            /// Reads the number that stands in the store.
            pub fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}

states! {
    /// How far an inbound event has come.
    EventState {
        /// Accepted, not mapped yet.
        Accepted = 0 "accepted",
        /// Mapped; the matches tell what came of it.
        Mapped = 1 "mapped",
        /// The mapper called the payload invalid: the sender's fault.
        Rejected = 2 "rejected",
        /// The mapper failed and the binding says hold.
        Held = 3 "held",
        /// The mapper failed and the binding says drop.
        Dropped = 4 "dropped",
    }

    /// How far a delivery (one message for one endpoint) has come.
    DeliveryState {
        /// Its next attempt is due or scheduled, or waits for another message of its ordering key.
        Waiting = 0 "waiting",
        /// The receiver confirmed.
        Delivered = 1 "delivered",
        /// The reshaper failed and the binding says hold.
        Held = 2 "held",
        /// The reshaper dropped it, or failed and the binding says drop.
        Dropped = 3 "dropped",
        /// No attempt is left, or none makes sense any more.
        Dead = 4 "dead",
        /// The endpoint is gone, or the message was cancelled before its time.
        Cancelled = 5 "cancelled",
    }

    /// What made an attempt happen.
    Trigger {
        /// The schedule.
        Scheduled = 0 "scheduled",
        /// A person or program asked for it.
        Manual = 1 "manual",
    }

    /// What a piece of work is.
    WorkKind {
        /// Map an event.
        Map = 1 "map",
        /// Fan a message out.
        FanOut = 2 "fan_out",
        /// Make an attempt of a delivery.
        Deliver = 3 "deliver",
        /// Run a part of a backtest.
        Backtest = 4 "backtest",
        /// Decide what follows from a plugin's failures.
        Review = 5 "review",
        /// Let go on what a plugin held.
        Release = 6 "release",
        /// End the waiting deliveries of an endpoint that is switched off or gone.
        Drain = 7 "drain",
        /// Go on with a replay.
        Replay = 8 "replay",
        /// Remove what is older than it is kept.
        Keep = 9 "keep",
        /// Erase what was removed: a tenant's, or a component.
        Erase = 10 "erase",
        /// Encrypt secrets anew with the newest key.
        Reseal = 11 "reseal",
    }

    /// How a call of a plugin ended.
    CallOutcome {
        /// It named rule matches, perhaps none.
        Mapped = 0 "mapped",
        /// It leaves the message as it is.
        Unchanged = 1 "unchanged",
        /// It wrote another body.
        Replaced = 2 "replaced",
        /// It doesn't want the message delivered.
        Dropped = 3 "dropped",
        /// It refused the payload: the sender's fault.
        InvalidPayload = 4 "invalid_payload",
        /// It failed: the author's fault.
        Failed = 5 "failed",
    }

    /// What became of a rule match.
    MatchState {
        /// It sent a message.
        Fired = 0 "fired",
        /// It sent nothing, for the reason beside it.
        Skipped = 1 "skipped",
    }
}

impl CallOutcome {
    /// The runtime's word for it, see `Outcome::kind`.
    pub fn runtime_kind(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalidPayload",
            other => other.as_str(),
        }
    }
}
