//! Replays: deliveries of a span of time that are sent again, a few at a time. Pure: the resource;
//! [`crate::pipeline::replay`] does the steps, `api` counts, starts, shows and stops.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{AppId, MessageId, ReplayId},
    store::{
        flow::{ReplayFilter, Replayed},
        resource::{Resource, ResourceKind},
    },
};

/// Ended replays that a tenant keeps; the oldest are removed when another one is started.
pub const KEPT_MAX: usize = 20;
/// The name under which the one that runs is unique within its tenant.
const RUNNING: &str = "running";

/// A replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// The tenant.
    pub app: AppId,
    /// What is sent again.
    pub filter: ReplayFilter,
    /// How far it has come.
    pub state: ReplayState,
    /// Deliveries set in motion so far.
    pub moved: usize,
    /// The message that it has come to.
    pub after: Option<MessageId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last came further.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How far a replay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// Everything that was meant is set in motion.
    Finished,
    /// Somebody stopped it; what was set in motion by then goes on.
    Cancelled,
}

impl Replay {
    /// Notes a step.
    pub fn advance(&mut self, step: &Replayed, now: Timestamp) {
        self.moved += step.moved;
        self.after.clone_from(&step.after);
        self.updated_at = now;
        if step.done {
            self.end(ReplayState::Finished, now);
        }
    }

    /// Ends it. What has ended stays as it is.
    pub fn end(&mut self, state: ReplayState, now: Timestamp) {
        if self.ended_at.is_none() {
            (self.state, self.updated_at, self.ended_at) = (state, now, Some(now));
        }
    }
}

impl Resource for Replay {
    const KIND: ResourceKind = ResourceKind::Replay;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn app(&self) -> Option<&AppId> {
        Some(&self.app)
    }

    /// Only one that has not ended has a name, and all have the same: there is at most one.
    fn uid(&self) -> Option<&str> {
        self.ended_at.is_none().then_some(RUNNING)
    }
}
