//! What roles may do.

use super::Caller;
use crate::{audit::ActorKind, store::resource::Role};

/// Something that a role may do or not.
pub trait Permission: Send + Sync + 'static {
    /// Whether they may do it, where they reach.
    fn granted(caller: &Caller) -> bool;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $($role:ident)|+;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl Permission for $name {
            fn granted(caller: &Caller) -> bool {
                matches!(caller.role, $(Role::$role)|+)
            }
        }
    )*};
}

permissions! {
    /// To read messages, deliveries, rules and the catalogue of event types.
    ReadTraffic = Operator | Admin | Manager | User;
    /// To read everything but secrets.
    Read = Operator | Admin | Manager;
    /// To try a plugin, send again, process again.
    Replay = Operator | Admin | Manager;
    /// To configure a tenant, publish its messages, and see its secrets.
    Change = Operator | Admin;
    /// What the platform decides: applications themselves, and the catalogue.
    Operate = Operator;
}

/// To make and revoke keys. A portal's token may not: what it makes would outlive it.
pub struct Keys;

impl Permission for Keys {
    fn granted(caller: &Caller) -> bool {
        Change::granted(caller) && caller.kind != ActorKind::Portal
    }
}
