//! Why a text is no replay file that can be used.

use thiserror::Error;

use super::REPLAY_VERSION;

/// Why a text is no replay file that can be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReplayError {
    /// It is something else.
    #[error("this is no replay file: {detail}")]
    NotReplay {
        /// What is wrong.
        detail: String,
    },
    /// It is of a version that this program doesn't know.
    #[error("the replay file has format version {found}, and this program reads version {REPLAY_VERSION}")]
    Version {
        /// The file's version.
        found: u64,
    },
    /// It lacks something, or something of it can't be read.
    #[error("the replay file can't be read: {detail}")]
    Unreadable {
        /// What, and where.
        detail: String,
    },
    /// A part is not what it was when the file was written.
    #[error("the replay file was altered: its {} not fit {digests}", parts(.altered), digests = if .altered.len() == 1 { "its digest" } else { "their digests" })]
    Altered {
        /// The names of the parts.
        altered: Vec<&'static str>,
    },
}

fn parts(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "does" } else { "do" };
    format!("{} {verb}", names.join(", "))
}
