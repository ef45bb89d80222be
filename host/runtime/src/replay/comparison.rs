//! What is not as it was when a call was recorded, and what came out differently when it was made again.

use std::fmt;

use serde::Serialize;

/// Something that is not as it was when the call was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mismatch {
    /// What.
    pub what: MismatchKind,
    /// How it was.
    pub recorded: String,
    /// How it is here.
    pub here: String,
}

/// What can differ between the machine that recorded a call and the one that runs it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// The component's bytes.
    Component,
    /// The version of this crate.
    Runtime,
    /// The version of wasmtime.
    Wasmtime,
    /// The processor's architecture.
    Architecture,
}

impl MismatchKind {
    /// What differs, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            MismatchKind::Component => "component",
            MismatchKind::Runtime => "version of hookloom-runtime",
            MismatchKind::Wasmtime => "version of wasmtime",
            MismatchKind::Architecture => "architecture",
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another {}: recorded {}, here {}", self.what.as_str(), self.recorded, self.here)
    }
}

/// What came out the same and what didn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// What the plugin answered: the kind and every byte of it. Of a failure, its kind only.
    pub output: Sameness,
    /// The units of fuel.
    pub fuel: Sameness,
    /// The code of the failure, or that there is none.
    pub failure: Sameness,
    /// What the plugin wrote.
    pub logs: Sameness,
}

impl Comparison {
    /// Whether nothing came out differently.
    pub fn is_same(&self) -> bool {
        [self.output, self.fuel, self.failure, self.logs].iter().all(|part| *part != Sameness::Different)
    }

    /// Whether the machine decided how one of the runs ended.
    pub fn is_exempt(&self) -> bool {
        self.output == Sameness::Exempt
    }
}

/// One answer of a [`Comparison`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sameness {
    /// The same.
    Same,
    /// Something else.
    Different,
    /// One of the two runs ended by `deadline` or `stack_overflow`, where the machine decides: nothing follows from it.
    Exempt,
}

impl Sameness {
    pub(super) fn of(same: bool) -> Sameness {
        if same { Sameness::Same } else { Sameness::Different }
    }
}

impl fmt::Display for Sameness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sameness::Same => "same",
            Sameness::Different => "different",
            Sameness::Exempt => "exempt",
        })
    }
}
