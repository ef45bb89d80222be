//! What parent and compile child say to each other, over pipes: length-prefixed, each side bounded by the other's announcement
//! and its own limit.
//!
//! Both ends are the same program, so the format needs no version. `parent → child`: order, component. `child → parent`: answer,
//! artefact. Each is a length (8 bytes, little-endian) and so many bytes; order and answer are in postcard's format.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::Unwrapped;
use crate::engine::Class;
use crate::outcome::Frame;

/// Bytes of an order or an answer, artefact not included: enough for the places of sixteen frames.
pub(crate) const HEAD_BYTES_MAX: usize = 1 << 20;

/// What the child is to do, and within which bounds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) memory_bytes_max: u64,
    pub(crate) cpu_seconds: u64,
    pub(crate) work: Work,
}

/// The kinds of work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Compile the component, for the engine of this class; or the core module of it that runs alone.
    Compile(Class, Option<Unwrapped>),
    /// Find the places of these frames in the component's debug information.
    Symbolicate(Vec<Frame>),
    /// Try what a subverted child would try. There is no component.
    Probe(Vec<Attempt>),
}

/// Something that a compile child must not be able to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    /// Read this file.
    ReadFile(String),
    /// Make this file.
    WriteFile(String),
    /// List this folder.
    ListFolder(String),
    /// Connect to this address by TCP.
    Connect(String),
    /// Listen on loopback.
    Listen,
    /// Start `/bin/true`.
    Exec,
    /// Start a thread.
    Thread,
    /// Send this process a signal that does nothing but ask whether it is there.
    Signal(u32),
    /// Read a variable of the environment.
    Environment(String),
    /// Take this many bytes of memory.
    Memory(u64),
}

/// What the child answers; an artefact follows where it compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The artefact comes next, made by an engine with this fingerprint.
    Compiled([u8; 32]),
    /// The compiler refuses the component, and says why.
    Refused(String),
    /// For each frame its places, innermost first; empty where nothing was found.
    Symbols(Vec<Vec<Place>>),
    /// For each attempt whether it succeeded.
    Probed(Vec<bool>),
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// Writes one length-prefixed piece.
pub(crate) fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(bytes)
}

/// Reads one length-prefixed piece of at most `bytes_max`.
pub(crate) fn read(from: &mut impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a piece is longer than allowed");
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| too_long())?;
    if length > bytes_max {
        return Err(too_long());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// An order or answer as bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

/// The order or answer in `bytes`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_as_it_was_written_and_never_beyond_the_bound() {
        let mut pipe = Vec::new();
        write(&mut pipe, b"hello").unwrap();
        assert_eq!(read(&mut &pipe[..], 5).unwrap(), b"hello");
        assert_eq!(read(&mut &pipe[..], 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&mut &pipe[..12], 5).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let endless = u64::MAX.to_le_bytes();
        assert_eq!(read(&mut &endless[..], usize::MAX - 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
