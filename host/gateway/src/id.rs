//! Typed ids: a prefix that says what it names, and a ULID, so that ids of one kind sort by time of creation.
//!
//! Pure: time and randomness come in as arguments (the [`Minter`](crate::clock::Minter) brings them).

use std::{fmt, str::FromStr};

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize, Serializer};
use ulid::{ULID_LEN, Ulid};

/// An id's text, in place: ids are copied at every step of a message, and a block of memory for each costs more than the step.
type Text = ArrayString<{ PREFIX_BYTES_MAX + ULID_LEN }>;

/// The longest prefix.
const PREFIX_BYTES_MAX: usize = 7;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no {prefix}… id")]
pub struct IdError {
    /// The prefix that was expected, without the underscore's successor, for example `msg_`.
    pub prefix: &'static str,
    /// What came instead.
    pub found: String,
}

/// What every typed id can do.
pub trait TypedId: Sized {
    /// The prefix with its underscore, for example `msg_`.
    const PREFIX: &'static str;
    /// Makes an id from a ULID, whose first 48 bits are milliseconds since 1970 and whose other 80 are random.
    fn from_ulid(ulid: Ulid) -> Self;
    /// The ULID behind the prefix.
    fn ulid(&self) -> Ulid;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        const _: () = assert!($prefix.len() <= PREFIX_BYTES_MAX, concat!("the prefix ", $prefix, " is too long"));

        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String")]
        #[schema(value_type = String)]
        pub struct $name(Text);

        impl $name {
            /// The id as it stands in paths, answers and the store.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TypedId for $name {
            const PREFIX: &'static str = $prefix;

            fn from_ulid(ulid: Ulid) -> Self {
                Self(text($prefix, ulid.array_to_str(&mut [0; ULID_LEN])))
            }

            fn ulid(&self) -> Ulid {
                Ulid::from_string(&self.0[$prefix.len()..]).expect("an id is made of a ULID or was checked to be")
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A tenant: on the wire an application.
    AppId = "app_";
    /// Where messages go.
    EndpointId = "ep_";
    /// An event type of the catalogue.
    EventTypeId = "evtype_";
    /// An inbound connection.
    SourceId = "src_";
    /// An automation rule.
    RuleId = "rule_";
    /// A named transform.
    PluginId = "plg_";
    /// An immutable version of a plugin.
    VersionId = "plv_";
    /// An API key.
    KeyId = "key_";
    /// An accepted inbound event.
    EventId = "evt_";
    /// An outbound message.
    MessageId = "msg_";
    /// One HTTP try of a delivery.
    AttemptId = "atmpt_";
    /// One run of a plugin.
    CallId = "call_";
    /// A run of a version over recorded inputs.
    BacktestId = "bt_";
    /// A replay of deliveries.
    ReplayId = "replay_";
    /// Counts of a watch, a canary or a shadow.
    RolloutId = "roll_";
    /// An entry of the audit log.
    AuditId = "audit_";
    /// Something that is held until somebody acts.
    DeadLetterId = "dead_";
}

/// Both fit: the one is checked where ids are declared, the other is a ULID.
fn text(prefix: &str, ulid: &str) -> Text {
    let mut text = Text::new();
    text.push_str(prefix);
    text.push_str(ulid);
    text
}

fn parse(found: &str, prefix: &'static str) -> Result<Text, IdError> {
    let error = || IdError { prefix, found: found.chars().take(64).collect() };
    let rest = found.strip_prefix(prefix).ok_or_else(error)?;
    let ulid = Ulid::from_string(rest).map_err(|_| error())?;
    // One id, one text: the decoder also takes small letters and numbers that don't fit.
    let mut buffer = [0; ULID_LEN];
    if ulid.array_to_str(&mut buffer) == rest { Ok(text(prefix, rest)) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = MessageId::from_ulid(Ulid::from_parts(1, u128::MAX));
        let late = MessageId::from_ulid(Ulid::from_parts(2, 0));
        assert!(early < late);
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let message = MessageId::from_ulid(Ulid::from_parts(1, 1));
        assert_eq!(message.as_str().parse::<MessageId>(), Ok(message.clone()));
        assert!(message.as_str().parse::<EndpointId>().is_err());
        assert!("msg_not-a-ulid".parse::<MessageId>().is_err());
        assert!(message.as_str().parse::<MessageId>().is_ok_and(|id| MessageId::from_ulid(id.ulid()) == message));
    }

    #[test]
    fn an_id_with_the_longest_prefix_has_its_place() {
        let id = ReplayId::from_ulid(Ulid::from_parts(1, 1));
        assert_eq!(serde_json::to_value(&id).unwrap(), "replay_00000000010000000000000001");
        assert_eq!((id.as_str().parse(), id.as_str().len()), (Ok(id.clone()), PREFIX_BYTES_MAX + ULID_LEN));
    }

    #[test]
    fn an_id_has_one_text() {
        assert!("msg_0000000000000000000000000A".parse::<MessageId>().is_ok());
        assert!("msg_0000000000000000000000000a".parse::<MessageId>().is_err());
        assert!("msg_8000000000000000000000000A".parse::<MessageId>().is_err());
    }
}
