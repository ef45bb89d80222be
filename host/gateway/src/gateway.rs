//! What all rooms of the gateway share: configuration, store, clock, keys, plugins, and the bells that wake the workers.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{
    clock::{Clock, Minter},
    config::Config,
    pipeline::{conditions::Conditions, shadow::Shadows},
    plugins::Plugins,
    secret::SecretKeyring,
    store::{Store, flow::WorkKind},
    timing::Timings,
};

/// The shared parts of one running gateway.
pub struct Gateway {
    /// Its configuration.
    pub config: Config,
    /// The address that begins the URLs of sources, without a slash at its end.
    pub public_url: String,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub minter: Minter,
    /// Encrypts secrets at rest.
    pub keyring: SecretKeyring,
    /// Compiles and runs plugins.
    pub plugins: Plugins,
    /// Compiled conditions of rules.
    pub conditions: Conditions,
    /// Sends deliveries; refuses forbidden addresses.
    pub client: reqwest::Client,
    /// Candidates that run beside the active version.
    pub shadows: Shadows,
    /// How long the stages take.
    pub timings: Timings,
    /// Wakes the workers when there is work.
    pub bells: Bells,
}

/// One bell for each kind of work. Ringing is a hint that saves waiting for the next poll; nothing depends on it.
#[derive(Default)]
pub struct Bells {
    map: Notify,
    fan_out: Notify,
    deliver: Notify,
    backtest: Notify,
    review: Notify,
    release: Notify,
    drain: Notify,
    replay: Notify,
    keep: Notify,
    erase: Notify,
    reseal: Notify,
}

impl Bells {
    /// Tells the workers that work of this kind may be due.
    pub fn ring(&self, kind: WorkKind) {
        self.of(kind).notify_one();
    }

    /// The bell for this kind.
    pub fn of(&self, kind: WorkKind) -> &Notify {
        match kind {
            WorkKind::Map => &self.map,
            WorkKind::FanOut => &self.fan_out,
            WorkKind::Deliver => &self.deliver,
            WorkKind::Backtest => &self.backtest,
            WorkKind::Review => &self.review,
            WorkKind::Release => &self.release,
            WorkKind::Drain => &self.drain,
            WorkKind::Replay => &self.replay,
            WorkKind::Keep => &self.keep,
            WorkKind::Erase => &self.erase,
            WorkKind::Reseal => &self.reseal,
        }
    }
}
