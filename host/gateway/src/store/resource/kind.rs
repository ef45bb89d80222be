//! The kinds of resource, and how many of each one tenant may have.

/// The kinds of resource; the text stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// [`App`](super::App)
    App,
    /// [`Endpoint`](super::Endpoint)
    Endpoint,
    /// [`EventType`](super::EventType)
    EventType,
    /// [`Source`](super::Source)
    Source,
    /// [`RuleRow`](super::RuleRow)
    Rule,
    /// [`Plugin`](super::Plugin)
    Plugin,
    /// [`Version`](super::Version)
    Version,
    /// [`ApiKey`](super::ApiKey)
    Key,
    /// [`Backtest`](crate::backtest::Backtest)
    Backtest,
    /// [`Replay`](crate::replay::Replay)
    Replay,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::App,
        Self::Endpoint,
        Self::EventType,
        Self::Source,
        Self::Rule,
        Self::Plugin,
        Self::Version,
        Self::Key,
        Self::Backtest,
        Self::Replay,
    ];

    /// The word that stands in the store and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Endpoint => "endpoint",
            Self::EventType => "event_type",
            Self::Source => "source",
            Self::Rule => "rule",
            Self::Plugin => "plugin",
            Self::Version => "version",
            Self::Key => "key",
            Self::Backtest => "backtest",
            Self::Replay => "replay",
        }
    }

    /// How many one tenant may have. Each event looks at all rules, each message at all endpoints.
    pub fn owned_max(self) -> Option<usize> {
        match self {
            Self::Rule => Some(200),
            Self::Endpoint | Self::Source | Self::Plugin | Self::Key => Some(1_000),
            Self::Backtest | Self::Replay => Some(100),
            Self::Version => Some(10_000),
            Self::App | Self::EventType => None,
        }
    }
}
