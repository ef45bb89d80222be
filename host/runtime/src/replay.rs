//! Replay files: one past call with everything that decided it, to be run again elsewhere.
//!
//! A file holds the exact input, settings and limits, names the component by its digest (and may carry it), names the engine
//! that ran it, and holds how the call ended. Whoever recorded the call makes a [`Replay`]; whoever runs it again reads it with
//! [`Replay::parse`], asks [`Replay::mismatches`] whether the same component and engine are at hand, calls the plugin with
//! [`Replay::request`] and lets [`Replay::compare`] say what came out differently. Nothing here runs a plugin or reads a file.
//!
//! Each part has a digest of its own, so that a file that was cut or edited is not taken for a plugin that behaves differently.
//! They guard against mistakes, not against forgery: who edits a part can also write its digest anew.
//!
//! ```
//! use hookloom_runtime::{Limits, Replay};
//!
//! let error = Replay::parse(r#"{"format":"something-else"}"#).unwrap_err();
//! assert_eq!(error.to_string(), "this is no replay file: `format` is not `hookloom-replay`");
//! ```

mod comparison;
mod error;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

pub use self::comparison::{Comparison, Mismatch, MismatchKind, Sameness};
pub use self::error::ReplayError;
use crate::{Digest, Failure, FailureCode, Input, Limits, Logs, Outcome, Plugin, Report, Request};

/// What [`Replay::format`] says.
pub const REPLAY_FORMAT: &str = "hookloom-replay";

/// The version of the format that this crate writes, and the only one that it reads.
pub const REPLAY_VERSION: u32 = 1;

/// A past call, as a replay file holds it. In JSON the names are in camelCase; the limits are as in [`Limits`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replay {
    /// [`REPLAY_FORMAT`]
    pub format: String,
    /// [`REPLAY_VERSION`]
    pub version: u32,
    /// What people want to know of the call and what decides nothing: ids, names, times. Not covered by a digest.
    #[serde(default)]
    pub about: BTreeMap<String, String>,
    /// What ran.
    pub component: ReplayComponent,
    /// What ran it.
    pub engine: EngineIdentity,
    /// The settings of the plugin's version: JSON text, as the plugin got it.
    pub settings: String,
    /// What the call might use.
    pub limits: Limits,
    /// What the plugin was handed.
    pub input: Input,
    /// How the call ended.
    pub recorded: Recorded,
    /// Digests of the parts.
    pub digests: ReplayDigests,
}

/// The component of a past call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayComponent {
    /// Of its bytes.
    pub digest: Digest,
    /// The version of the contract that it was built for.
    pub contract: String,
    /// Its bytes in base64 (RFC 4648 §4), where the file carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// What must be the same for a call to end the same way, apart from the call itself.
///
/// Fuel and outcome are the same within one version of the engine and one architecture; another one usually gives the same, too,
/// but nobody promises it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EngineIdentity {
    /// The version of this crate, which sets what an operation costs in fuel.
    pub runtime: String,
    /// The version of wasmtime.
    pub wasmtime: String,
    /// The processor's architecture, for example `x86_64`.
    pub architecture: String,
}

/// How a call ended: what a record keeps of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recorded {
    /// The kind of the outcome, as [`Outcome::kind`] names it.
    pub outcome: String,
    /// The digest of the output, see [`Outcome::digest`].
    pub output_digest: Digest,
    /// The outcome itself, where it was kept; always for a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Outcome>,
    /// Units of fuel.
    pub fuel_used: u64,
    /// The most that all linear memories together had, in bytes.
    pub memory_peak_bytes: u64,
    /// What the plugin wrote.
    pub logs: Logs,
}

/// The digests of a file's parts: SHA-256 over their JSON text without white space, the settings' over their text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayDigests {
    /// Of [`Replay::input`]; the same as [`Input::digest`].
    pub input: Digest,
    /// Of [`Replay::settings`].
    pub settings: Digest,
    /// Of [`Replay::limits`].
    pub limits: Digest,
    /// Of [`Replay::recorded`].
    pub recorded: Digest,
}

impl Replay {
    /// Makes a file's content, with its digests.
    pub fn new(
        component: ReplayComponent,
        engine: EngineIdentity,
        request: &Request,
        recorded: Recorded,
        about: BTreeMap<String, String>,
    ) -> Replay {
        let settings = request.settings.to_string();
        let digests = ReplayDigests {
            input: request.input.digest(),
            settings: Digest::of(settings.as_bytes()),
            limits: digest_of(&request.limits),
            recorded: digest_of(&recorded),
        };
        Replay {
            format: REPLAY_FORMAT.to_owned(),
            version: REPLAY_VERSION,
            about,
            component,
            engine,
            settings,
            limits: request.limits.clone(),
            input: request.input.clone(),
            recorded,
            digests,
        }
    }

    /// Reads a file and checks its digests.
    ///
    /// # Errors
    /// [`ReplayError`]; for a file that was altered it names the parts.
    pub fn parse(text: &str) -> Result<Replay, ReplayError> {
        let not_replay = |detail: String| ReplayError::NotReplay { detail };
        let head: Head = serde_json::from_str(text).map_err(|error| not_replay(error.to_string()))?;
        if head.format.as_deref() != Some(REPLAY_FORMAT) {
            return Err(not_replay(format!("`format` is not `{REPLAY_FORMAT}`")));
        }
        if head.version != Some(u64::from(REPLAY_VERSION)) {
            return Err(ReplayError::Version { found: head.version.unwrap_or(0) });
        }
        let replay: Replay =
            serde_json::from_str(text).map_err(|error| ReplayError::Unreadable { detail: error.to_string() })?;
        let altered = replay.altered();
        if altered.is_empty() { Ok(replay) } else { Err(ReplayError::Altered { altered }) }
    }

    /// The file's text: JSON with line breaks, one at its end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("texts, numbers and lists always serialize");
        text.push('\n');
        text
    }

    /// The call, to be made again.
    pub fn request(&self) -> Request {
        Request { input: self.input.clone(), settings: self.settings.as_str().into(), limits: self.limits.clone() }
    }

    /// The component that the file carries, if it does.
    ///
    /// # Errors
    /// [`ReplayError`] if they are no base64, or not the bytes that the digest names.
    pub fn component_bytes(&self) -> Result<Option<Vec<u8>>, ReplayError> {
        let Some(text) = &self.component.bytes else { return Ok(None) };
        let unreadable =
            |error: base64::DecodeError| ReplayError::Unreadable { detail: format!("its component: {error}") };
        let bytes = BASE64_STANDARD.decode(text).map_err(unreadable)?;
        if Digest::of(&bytes) == self.component.digest {
            return Ok(Some(bytes));
        }
        Err(ReplayError::Altered { altered: vec!["component"] })
    }

    /// Puts the component into the file.
    #[must_use]
    pub fn with_component(mut self, bytes: &[u8]) -> Replay {
        self.component.bytes = Some(BASE64_STANDARD.encode(bytes));
        self
    }

    /// What is not as it was, if `plugin` is called here.
    pub fn mismatches(&self, plugin: &Plugin) -> Vec<Mismatch> {
        let here = EngineIdentity::current();
        let recorded = &self.engine;
        let all = [
            (MismatchKind::Component, self.component.digest.to_string(), plugin.digest().to_string()),
            (MismatchKind::Runtime, recorded.runtime.clone(), here.runtime),
            (MismatchKind::Wasmtime, recorded.wasmtime.clone(), here.wasmtime),
            (MismatchKind::Architecture, recorded.architecture.clone(), here.architecture),
        ];
        let differ = all.into_iter().filter(|(_, recorded, here)| recorded != here);
        differ.map(|(what, recorded, here)| Mismatch { what, recorded, here }).collect()
    }

    /// What came out the same as it was recorded.
    pub fn compare(&self, report: &Report) -> Comparison {
        let failure = failure_code(&report.outcome);
        let recorded_failure = self.recorded.output.as_ref().and_then(failure_code);
        if [failure, recorded_failure].into_iter().flatten().any(FailureCode::depends_on_machine) {
            let exempt = Sameness::Exempt;
            return Comparison { output: exempt, fuel: exempt, failure: exempt, logs: exempt };
        }
        Comparison {
            output: Sameness::of(self.recorded.output_digest == report.outcome.digest()),
            fuel: Sameness::of(self.recorded.fuel_used == report.fuel_used),
            failure: Sameness::of(failure == recorded_failure),
            logs: Sameness::of(self.recorded.logs == report.logs),
        }
    }

    /// The parts that their digests don't fit.
    fn altered(&self) -> Vec<&'static str> {
        let digests = &self.digests;
        let parts = [
            ("input", digests.input == self.input.digest()),
            ("settings", digests.settings == Digest::of(self.settings.as_bytes())),
            ("limits", digests.limits == digest_of(&self.limits)),
            ("recorded outcome", digests.recorded == digest_of(&self.recorded) && self.recorded.is_consistent()),
        ];
        parts.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect()
    }
}

impl Recorded {
    /// What a file keeps of a report.
    pub fn of(report: &Report) -> Recorded {
        Recorded {
            outcome: report.outcome.kind().to_owned(),
            output_digest: report.outcome.digest(),
            output: Some(report.outcome.clone()),
            fuel_used: report.fuel_used,
            memory_peak_bytes: report.memory_peak_bytes,
            logs: report.logs.clone(),
        }
    }

    /// Whether the output, where it is there, is the one that kind and digest name. Of a failure it must be there.
    fn is_consistent(&self) -> bool {
        match &self.output {
            Some(output) => output.kind() == self.outcome && output.digest() == self.output_digest,
            None => self.outcome != "failed",
        }
    }
}

impl EngineIdentity {
    /// The engine of this process.
    pub fn current() -> EngineIdentity {
        EngineIdentity {
            runtime: env!("CARGO_PKG_VERSION").to_owned(),
            wasmtime: wasmtime_environ::VERSION.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

impl Outcome {
    /// The word of the outcome's kind, as it stands in its JSON: `mapped`, `unchanged`, `replaced`, `dropped`, `invalidPayload`
    /// or `failed`.
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Mapped(_) => "mapped",
            Outcome::Unchanged => "unchanged",
            Outcome::Replaced(_) => "replaced",
            Outcome::Dropped(_) => "dropped",
            Outcome::InvalidPayload(_) => "invalidPayload",
            Outcome::Failed(_) => "failed",
        }
    }

    /// Names what the plugin answered: two answers with the same digest are the same, byte for byte.
    ///
    /// SHA-256 over the outcome's JSON text without white space; of a failure only `{"kind":"failed"}`, since its words may
    /// change with the engine, and its code is compared by itself.
    pub fn digest(&self) -> Digest {
        match self {
            Outcome::Failed(_) => Digest::of(br#"{"kind":"failed"}"#),
            other => digest_of(other),
        }
    }
}

impl Input {
    /// SHA-256 over the input's JSON text without white space.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
}

impl FailureCode {
    /// Whether the same call may end otherwise on another machine, or on a busier one.
    pub fn depends_on_machine(self) -> bool {
        matches!(self, FailureCode::Deadline | FailureCode::StackOverflow | FailureCode::Busy | FailureCode::Internal)
    }
}

/// What must be understood of a file before the rest is looked at.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    version: Option<u64>,
}

fn failure_code(outcome: &Outcome) -> Option<FailureCode> {
    match outcome {
        Outcome::Failed(Failure { code, .. }) => Some(*code),
        _ => None,
    }
}

fn digest_of(value: &impl Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(value).expect("texts, numbers and lists always serialize"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogLevel, LogLine, Message, Origin};

    fn request(payload: &str) -> Request {
        let input = Input::Reshape(Message {
            id: "msg_1".into(),
            event_type: "a.b".into(),
            created_at: "2026-06-30T17:40:00.000Z".into(),
            origin: Origin::Human,
            medium: None,
            channels: Vec::new(),
            payload: payload.into(),
        });
        Request { input, settings: r#"{"limit": 1.10}"#.into(), limits: Limits::default() }
    }

    fn report(outcome: Outcome) -> Report {
        let lines = vec![LogLine { level: LogLevel::Info, message: "hi".into(), cut: false }];
        Report {
            outcome,
            fuel_used: 1_234,
            duration: std::time::Duration::from_micros(5),
            memory_peak_bytes: 65_536,
            logs: Logs { lines, cut: false },
        }
    }

    fn replay(outcome: Outcome) -> Replay {
        let component = ReplayComponent { digest: Digest::of(b"component"), contract: "1.0.0".into(), bytes: None };
        let about = BTreeMap::from([("call".to_owned(), "call_1".to_owned())]);
        Replay::new(
            component,
            EngineIdentity::current(),
            &request(r#"{"n":1.10}"#),
            Recorded::of(&report(outcome)),
            about,
        )
    }

    fn replaced(text: &str) -> Outcome {
        Outcome::Replaced(text.to_owned())
    }

    fn failed(code: FailureCode) -> Outcome {
        Outcome::Failed(Failure::new(code, "why"))
    }

    #[test]
    fn a_file_reads_back_what_it_was_written_from() {
        for outcome in
            [replaced(r#"{"n": 1.10}"#), Outcome::Unchanged, Outcome::Mapped(Vec::new()), failed(FailureCode::Trap)]
        {
            let replay = replay(outcome).with_component(b"component");
            let again = Replay::parse(&replay.to_json()).unwrap();
            assert_eq!(again, replay);
            assert_eq!(again.component_bytes().unwrap().as_deref(), Some(&b"component"[..]));
            assert_eq!(again.request().settings.as_ref(), r#"{"limit": 1.10}"#);
        }
    }

    #[test]
    fn an_altered_part_is_named() {
        let text = replay(replaced(r#"{"n":1}"#)).to_json();
        let check = |from: &str, to: &str, altered: &[&str]| {
            assert!(text.contains(from), "{from} in {text}");
            let error = Replay::parse(&text.replace(from, to)).unwrap_err();
            let ReplayError::Altered { altered: found } = &error else { panic!("{error:?}") };
            assert_eq!(found, altered, "{error}");
        };
        check(r#"{\"n\":1.10}"#, r#"{\"n\":1.1}"#, &["input"]);
        check(r#"{\"limit\": 1.10}"#, r#"{\"limit\":1.10}"#, &["settings"]);
        check(r#""deadline_ms": 1000"#, r#""deadline_ms": 1001"#, &["limits"]);
        check(r#""fuelUsed": 1234"#, r#""fuelUsed": 1235"#, &["recorded outcome"]);
        check("msg_1", "msg_2", &["input"]);
        let error = Replay::parse(&text.replace("1.10", "2.10")).unwrap_err().to_string();
        assert_eq!(error, "the replay file was altered: its input, settings do not fit their digests");
    }

    #[test]
    fn a_component_with_another_digest_is_refused() {
        let replay = replay(Outcome::Unchanged).with_component(b"another");
        let error = Replay::parse(&replay.to_json()).unwrap().component_bytes().unwrap_err();
        assert_eq!(error.to_string(), "the replay file was altered: its component does not fit its digest");
        let broken =
            Replay { component: ReplayComponent { bytes: Some("%".into()), ..replay.component.clone() }, ..replay };
        assert!(matches!(broken.component_bytes(), Err(ReplayError::Unreadable { .. })));
    }

    #[test]
    fn what_is_something_else_is_said_to_be() {
        let check = |text: &str, expected: &str| {
            let error = Replay::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("hello", "this is no replay file: expected value");
        check("{}", "`format` is not `hookloom-replay`");
        check(r#"{"format":"hookloom-replay","version":2}"#, "format version 2, and this program reads version 1");
        check(r#"{"format":"hookloom-replay","version":1}"#, "can't be read: missing field `component`");
        let more = replay(Outcome::Unchanged).to_json().replacen("{", "{\"new\":1,", 1);
        check(&more, "unknown field `new`");
    }

    #[test]
    fn each_difference_is_found_by_itself() {
        use Sameness::{Different, Same};
        let check = |recorded: Outcome, now: Report, expected: [Sameness; 4]| {
            let Comparison { output, fuel, failure, logs } = replay(recorded).compare(&now);
            assert_eq!([output, fuel, failure, logs], expected);
        };
        let recorded = || replaced(r#"{"n":1}"#);
        check(recorded(), report(recorded()), [Same; 4]);
        check(recorded(), report(replaced(r#"{"n":1.0}"#)), [Different, Same, Same, Same]);
        check(recorded(), Report { fuel_used: 1, ..report(recorded()) }, [Same, Different, Same, Same]);
        check(recorded(), Report { logs: Logs::default(), ..report(recorded()) }, [Same, Same, Same, Different]);
        check(recorded(), report(failed(FailureCode::Trap)), [Different, Same, Different, Same]);
        check(failed(FailureCode::Trap), report(failed(FailureCode::Trap)), [Same; 4]);
        let other = report(failed(FailureCode::FuelExhausted));
        check(failed(FailureCode::Trap), other, [Same, Same, Different, Same]);
    }

    #[test]
    fn where_the_machine_decided_nothing_is_different() {
        for code in [FailureCode::Deadline, FailureCode::StackOverflow] {
            for (recorded, now) in [(Outcome::Unchanged, failed(code)), (failed(code), Outcome::Unchanged)] {
                let comparison = replay(recorded).compare(&report(now));
                assert!(comparison.is_exempt() && comparison.is_same(), "{code}: {comparison:?}");
            }
        }
    }
}
