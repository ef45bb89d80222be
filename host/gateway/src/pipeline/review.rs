//! Decides what follows from a plugin's failures: its version is suspended, its canary ends, or the last good version
//! comes back. Each failure that counts brings this work in its own commit, so no crash keeps it from being decided.
//!
//! The plugin, its history, the message to the tenant and the release of what is held are one commit; nothing is done
//! twice, since the decision looks at what the plugin says already.

use hookloom_runtime::Origin;
use serde_json::{Value, json};

use super::{
    WorkError,
    binding::{self, Task},
};
use crate::{
    clock::Timestamp,
    engine::{self, Piece, Worker},
    gateway::Gateway,
    id::VersionId,
    rollout::{Act, Action, Actor, Suspension, after_change},
    store::{
        StoreError, Write,
        flow::{Message, WorkKind},
        require,
        resource::{App, Plugin, Version},
        update,
    },
};

/// Characters of a failure that a suspension keeps.
const DETAIL_CHARS_MAX: usize = 300;

/// Event type of the message that a version was suspended.
pub const SUSPENDED: &str = "plugin.suspended";
/// Event type of the message that the last good version came back.
pub const RETURNED: &str = "plugin.returned";
/// Event type of the message that a canary was ended for its failures.
pub const CANARY_ENDED: &str = "plugin.canary_ended";

/// Reviews plugins.
pub struct Review;

impl Worker for Review {
    const KIND: WorkKind = WorkKind::Review;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let claim = &piece.claim;
        let plugin = gateway.store.find::<Plugin>(Some(&claim.app), &claim.subject.to_string()).await?;
        let app = gateway.store.find::<App>(None, claim.app.as_str()).await?;
        if let (Some(plugin), Some(app)) = (plugin, app) {
            let mut decision = Decision {
                gateway,
                app: &app.value,
                now: gateway.clock.now(),
                plugin: plugin.value,
                also: Vec::new(),
                told: Vec::new(),
            };
            if decision.make().await? {
                let writes = decision.writes(plugin.revision);
                match gateway.write(writes, decision.now).await {
                    Ok(()) => ring(gateway),
                    // Somebody changed the plugin meanwhile: decided anew on what it is now.
                    Err(StoreError::Changed { .. }) => {
                        return Ok(engine::put_off(gateway, claim, decision.now).await?);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        match gateway.store.abandon(claim).await {
            // A failure since then made it due again.
            Ok(()) | Err(StoreError::LeaseLost { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Wakes those who go on after a change of a plugin.
pub fn ring(gateway: &Gateway) {
    gateway.engine.ring(WorkKind::FanOut);
    gateway.engine.ring(WorkKind::Release);
}

/// What is decided about one plugin.
struct Decision<'a> {
    gateway: &'a Gateway,
    app: &'a App,
    now: Timestamp,
    plugin: Plugin,
    /// Committed with it.
    also: Vec<Write>,
    /// Messages to the tenant: type and payload.
    told: Vec<(&'static str, Value)>,
}

impl Decision<'_> {
    /// Whether anything changed.
    async fn make(&mut self) -> Result<bool, StoreError> {
        let running: Vec<VersionId> = self
            .plugin
            .active_version
            .iter()
            .chain(self.plugin.canary().map(|canary| &canary.version))
            .cloned()
            .collect();
        let mut changed = false;
        for version in running {
            changed |= self.suspend(&version).await?;
        }
        changed |= self.end_canary().await?;
        changed |= self.go_back().await?;
        Ok(changed)
    }

    async fn suspend(&mut self, version: &VersionId) -> Result<bool, StoreError> {
        let health = self.gateway.store.health(version).await?;
        let max = self.gateway.config.versions.suspend_after_failures;
        let Some(last) = health.last.filter(|_| health.in_row >= max && self.plugin.suspension(version).is_none())
        else {
            return Ok(false);
        };
        tracing::warn!(app = %self.plugin.app, plugin = %self.plugin.id, %version, code = last.code, "suspended");
        let payload = json!({
            "pluginId": self.plugin.id,
            "pluginName": self.plugin.name,
            "versionId": version,
            "versionDigest": self.digest(version).await?,
            "code": last.code,
            "detail": last.detail,
            "failures": health.in_row,
            "callId": last.call,
            "at": self.now.to_string(),
        });
        self.told.push((SUSPENDED, payload));
        self.plugin.suspend(Suspension {
            version: version.clone(),
            at: self.now,
            code: last.code,
            // The call has all of it; the plugin is read for each of its calls.
            detail: last.detail.chars().take(DETAIL_CHARS_MAX).collect(),
            failures: health.in_row,
            call: Some(last.call),
        });
        Ok(true)
    }

    async fn end_canary(&mut self) -> Result<bool, StoreError> {
        let Some(canary) = self.plugin.canary().cloned() else { return Ok(false) };
        let tally = self.gateway.store.tally(&canary.id).await?.unwrap_or_default();
        let suspended = self.plugin.suspension(&canary.version).map(|_| "the candidate was suspended".to_owned());
        let Some(reason) = suspended.or_else(|| tally.too_many(&canary.policy)) else { return Ok(false) };
        tracing::warn!(app = %self.plugin.app, plugin = %self.plugin.id, version = %canary.version, reason, "canary ended");
        let payload = json!({
            "pluginId": self.plugin.id,
            "pluginName": self.plugin.name,
            "versionId": canary.version,
            "versionDigest": self.digest(&canary.version).await?,
            "sharePermille": canary.share_permille,
            "calls": tally.calls,
            "failures": tally.failures,
            "reason": reason,
            "at": self.now.to_string(),
        });
        self.told.push((CANARY_ENDED, payload));
        self.plugin.end_canary(&self.act(reason));
        Ok(true)
    }

    async fn go_back(&mut self) -> Result<bool, StoreError> {
        let Some(watch) = self.plugin.watch(self.now).cloned() else { return Ok(false) };
        let tally = self.gateway.store.tally(&watch.id).await?.unwrap_or_default();
        let suspended = self.plugin.suspension(&watch.version).map(|_| "the new version was suspended".to_owned());
        let Some(reason) = tally.too_many(&watch.policy).or(suspended) else { return Ok(false) };
        let Some(good) = last_good(self.gateway, self.app, &self.plugin).await? else { return Ok(false) };
        tracing::warn!(app = %self.plugin.app, plugin = %self.plugin.id, from = %watch.version, to = %good, reason, "returned");
        let payload = json!({
            "pluginId": self.plugin.id,
            "pluginName": self.plugin.name,
            "fromVersionId": watch.version,
            "fromVersionDigest": self.digest(&watch.version).await?,
            "toVersionId": good,
            "toVersionDigest": self.digest(&good).await?,
            "calls": tally.calls,
            "failures": tally.failures,
            "reason": reason,
            "at": self.now.to_string(),
        });
        self.told.push((RETURNED, payload));
        let act = self.act(reason);
        self.plugin.activate(&good, Action::Returned, &act, self.gateway.minter.mint(), watch.policy);
        // As whenever a version goes live: failures of an earlier time would suspend it at its next one.
        self.also.extend([require::<Version>(&good), Write::ForgetHealth(good)]);
        Ok(true)
    }

    fn act(&self, reason: String) -> Act {
        Act { by: Actor::Gateway, at: self.now, reason: Some(reason) }
    }

    async fn digest(&self, version: &VersionId) -> Result<Option<String>, StoreError> {
        let mut digests = self.gateway.store.version_digests(&self.plugin.app, vec![version.clone()]).await?;
        Ok(digests.remove(version).map(|digests| digests.version))
    }

    fn writes(&self, revision: i64) -> Vec<Write> {
        let mut writes = vec![update(&self.plugin, revision)];
        writes.extend(self.also.iter().cloned());
        writes.extend(after_change(&self.plugin, true));
        for (event_type, payload) in &self.told {
            writes.push(Write::Message(Box::new(self.message(event_type, payload))));
        }
        writes
    }

    fn message(&self, event_type: &str, payload: &Value) -> Message {
        Message {
            id: self.gateway.minter.mint(),
            app: self.plugin.app.clone(),
            uid: None,
            event_type: event_type.to_owned(),
            channels: Vec::new(),
            origin: Origin::System,
            medium: None,
            created_at: self.now,
            deliver_at: None,
            event: None,
            operational: true,
            ordering_key: None,
            content_until: None,
            payload: payload.to_string(),
        }
    }
}

/// The version to go back to: the last good one that is still there and has what the plugin's bindings need.
///
/// # Errors
/// As the store.
pub async fn last_good(gateway: &Gateway, app: &App, plugin: &Plugin) -> Result<Option<VersionId>, StoreError> {
    let before = plugin.good_before();
    if before.is_empty() {
        return Ok(None);
    }
    let needed: Vec<Task> = binding::uses(gateway, app, &plugin.id).await?.into_iter().map(|(task, _)| task).collect();
    for id in before {
        let found = gateway.store.find::<Version>(Some(&app.id), id.as_str()).await?;
        if found.is_some_and(|version| needed.iter().all(|task| task.is_done_by(&version.value))) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
