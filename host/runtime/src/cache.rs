//! Compiled components on disk: found by content, authenticated before they are loaded, rebuilt when they don't fit.
//!
//! One file a component, `<digest in hexadecimal>.artefact`, in a folder of our own. Nobody's word is taken for what is in it: the
//! file is read once into memory of this process, a keyed hash over all of it is compared, and those very bytes are loaded. The
//! key never lies in the folder. The header, under the same hash, says which component it is, which build and processor it was made
//! for, and what `prepare` would otherwise read from the component again. What is cut, altered or foreign is counted and deleted,
//! and the caller compiles the original again.
//!
//! The time of a file's last change is the time of its last use; beyond the bound on bytes, the oldest go. No state is kept in memory,
//! so several processes may share a folder: the worst that they do to each other is to rebuild.
//!
//! Layout: magic (8 bytes) · keyed BLAKE3 over all that follows (32) · length of the header (4, little-endian) · header (postcard) ·
//! artefact.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;
use crate::compile::{Artefact, Structure};

/// Raised with each change of what an entry says or means; entries of another number are rebuilt.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"hookloom";
const MAC_BYTES: usize = 32;
const SUFFIX: &str = ".artefact";

/// Bytes of a header: a few names and numbers.
const HEADER_BYTES_MAX: usize = 4096;

/// Bytes of a buffer that a thread keeps for the next entry that it reads; memory that is there already is read into faster.
const BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;

/// What the key is turned into before it is used, so that it may serve other purposes too.
const PURPOSE: &str = "hookloom-runtime artefact cache, 2026-11-20";

/// Where compiled components are kept.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// A folder for nothing else; made when it is missing, for its owner only.
    pub folder: PathBuf,
    /// Shows that an entry is ours. Keep it outside the folder: who has both can make this process run any machine code.
    pub key: CacheKey,
    /// Bytes of all entries together. Default of the gateway 2 GiB. Beyond it those go that were not used for longest.
    pub bytes_max: u64,
}

/// The secret that authenticates entries. Another one makes all entries foreign: they are rebuilt when they are next needed.
#[derive(Clone)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// A key of 32 random or derived bytes.
    pub fn new(bytes: [u8; 32]) -> CacheKey {
        CacheKey(bytes)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(…)")
    }
}

/// What the cache has done since the runtime was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Entries that were loaded.
    pub hits: u64,
    /// Components that had no entry.
    pub misses: u64,
    /// Entries that were cut, altered, foreign, or of another build or processor, and were deleted.
    pub rejected: u64,
    /// Artefacts that were made anew after their entry was rejected.
    pub rebuilt: u64,
    /// Entries that were written.
    pub written: u64,
    /// Entries that could not be written: a full disk, for example. The plugin runs all the same.
    pub write_errors: u64,
    /// Entries that had to make room.
    pub evicted: u64,
}

/// The folder can't be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It can't be made or opened.
    #[error("open the cache folder {}", folder.display())]
    Open {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else could change it.
    #[error("the cache folder {} {problem}", folder.display())]
    Foreign {
        /// Which.
        folder: PathBuf,
        /// In what way.
        problem: &'static str,
    },
}

/// The cache of a runtime.
pub(crate) struct Cache {
    folder: PathBuf,
    handle: OwnedFd,
    key: [u8; 32],
    /// What an entry's build must be.
    build: [u8; 32],
    bytes_max: u64,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    rebuilt: AtomicU64,
    written: AtomicU64,
    write_errors: AtomicU64,
    evicted: AtomicU64,
}

/// What an entry says about its artefact.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    component: [u8; 32],
    /// The build and the processor's features that it was made for.
    build: [u8; 32],
    facts: Facts,
    artefact_bytes: u64,
}

/// What the rest of a load would otherwise have to find out from the component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) structure: Structure,
    pub(crate) component_bytes: u64,
}

/// What looking for an entry came to.
pub(crate) enum Found<T> {
    Hit(T),
    Miss,
    /// There was one, and it is not fit for use; it is gone now.
    Rejected,
}

impl Cache {
    /// Opens the folder, or makes it. `engine` is the fingerprint of the engine that loads.
    ///
    /// # Errors
    /// [`CacheError`] where it can't be made, is no folder, belongs to somebody else, or can't be closed to others.
    pub(crate) fn open(config: &CacheConfig, engine: &[u8; 32]) -> Result<Cache, CacheError> {
        let folder = config.folder.clone();
        let failed = |source: io::Error| CacheError::Open { folder: config.folder.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&folder, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let stat = rustix::fs::fstat(&handle).map_err(|error| failed(error.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Foreign { folder, problem: "belongs to another user" });
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&handle, Mode::from_raw_mode(0o700)).map_err(|error| failed(error.into()))?;
        }
        let cache = Cache {
            folder,
            handle,
            key: blake3::derive_key(PURPOSE, &config.key.0),
            build: build(engine),
            bytes_max: config.bytes_max,
            counters: Counters::default(),
        };
        cache.sweep();
        Ok(cache)
    }

    /// Looks for a component's entry, and has `load` make something of it. An entry that `load` can't use is rejected too.
    pub(crate) fn find<T>(&self, component: &Digest, load: impl FnOnce(&Artefact<'_>, Facts) -> Option<T>) -> Found<T> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let name = name(component);
        let mut buffer = BUFFER.take();
        let found = match self.read(&name, &mut buffer) {
            Ok(false) => Found::Miss,
            Ok(true) => match self.verify(&buffer, component).and_then(|(artefact, facts)| load(&artefact, facts)) {
                Some(loaded) => Found::Hit(loaded),
                None => Found::Rejected,
            },
            Err(_) => Found::Rejected,
        };
        if buffer.capacity() <= BUFFER_KEPT_BYTES_MAX {
            BUFFER.set(buffer);
        }
        let counter = match found {
            Found::Hit(_) => &self.counters.hits,
            Found::Miss => &self.counters.misses,
            Found::Rejected => {
                let _ = rustix::fs::unlinkat(&self.handle, &name, AtFlags::empty());
                &self.counters.rejected
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps an artefact. Failing to is counted, and no error: the cache only saves time.
    pub(crate) fn keep(&self, component: &Digest, facts: &Facts, artefact: &Artefact<'_>) {
        let counter = match self.write(component, facts, artefact.bytes()) {
            Ok(()) => &self.counters.written,
            Err(_) => &self.counters.write_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.sweep();
    }

    /// Counts an artefact that was made because its entry was rejected.
    pub(crate) fn count_rebuilt(&self) {
        self.counters.rebuilt.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counters(&self) -> CacheCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            hits: read(&self.counters.hits),
            misses: read(&self.counters.misses),
            rejected: read(&self.counters.rejected),
            rebuilt: read(&self.counters.rebuilt),
            written: read(&self.counters.written),
            write_errors: read(&self.counters.write_errors),
            evicted: read(&self.counters.evicted),
        }
    }

    /// Reads a whole entry into `buffer`; `false` where there is none.
    ///
    /// # Errors
    /// What is there is no file of ours: a link, somebody else's, open to others, or larger than the cache.
    fn read(&self, name: &str, buffer: &mut Vec<u8>) -> io::Result<bool> {
        // Without waiting: a pipe in its place would never be opened else.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => std::fs::File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let about = file.metadata()?;
        let ours = about.is_file() && about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0;
        if !ours || about.len() > self.bytes_max {
            return Err(io::Error::other("it is no entry of this cache"));
        }
        let length = usize::try_from(about.len()).map_err(io::Error::other)?;
        buffer.clear();
        buffer.reserve_exact(length.saturating_add(1));
        // What somebody may append meanwhile is not read, and what he cuts off is missed by the hash.
        (&file).take(about.len()).read_to_end(buffer)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Ok(true)
    }

    /// The artefact in an entry, if the entry is ours, whole, of this component, build and processor.
    fn verify<'a>(&self, entry: &'a [u8], component: &Digest) -> Option<(Artefact<'a>, Facts)> {
        let rest = entry.strip_prefix(MAGIC)?;
        let (mac, signed) = rest.split_at_checked(MAC_BYTES)?;
        // Compared in constant time by the hash's own type; nothing of `signed` is looked at before.
        if blake3::keyed_hash(&self.key, signed) != blake3::Hash::from_slice(mac).ok()? {
            return None;
        }
        let (length, rest) = signed.split_at_checked(4)?;
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (header, artefact) = rest.split_at_checked(length.min(HEADER_BYTES_MAX))?;
        let header: Header = postcard::from_bytes(header).ok()?;
        let fits = header.format == FORMAT
            && header.component == *component.as_bytes()
            && header.build == self.build
            && header.artefact_bytes == artefact.len() as u64;
        fits.then(|| (Artefact::verified(artefact), header.facts))
    }

    /// Writes beside, then renames: an entry appears whole or not at all.
    fn write(&self, component: &Digest, facts: &Facts, artefact: &[u8]) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let header = Header {
            format: FORMAT,
            component: *component.as_bytes(),
            build: self.build,
            facts: facts.clone(),
            artefact_bytes: artefact.len() as u64,
        };
        let header = postcard::to_stdvec(&header).map_err(io::Error::other)?;
        let length = u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&length).update(&header).update(artefact);
        let total = (MAGIC.len() + MAC_BYTES + length.len() + header.len() + artefact.len()) as u64;
        if header.len() > HEADER_BYTES_MAX || total > self.bytes_max {
            return Err(io::Error::other("the artefact is larger than the cache"));
        }
        let temporary = format!(".{}-{}.new", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(file);
        let hash = hasher.finalize();
        let pieces: [&[u8]; 5] = [MAGIC, hash.as_bytes(), &length, &header, artefact];
        let written = pieces.iter().try_for_each(|piece| file.write_all(piece)).and_then(|()| {
            rustix::fs::renameat(&self.handle, &temporary, &self.handle, name(component)).map_err(io::Error::from)
        });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.handle, &temporary, AtFlags::empty());
        }
        written
    }

    /// Lets the entries go that were not used for longest until the rest fits, and what a process that has died left half written.
    fn sweep(&self) {
        let Ok(listed) = std::fs::read_dir(&self.folder) else { return };
        let mut entries = Vec::new();
        for entry in listed.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(about) = entry.metadata() else { continue };
            if name.ends_with(SUFFIX) {
                entries.push(((about.mtime(), about.mtime_nsec()), about.len(), name));
            } else if is_abandoned(&name) {
                let _ = rustix::fs::unlinkat(&self.handle, &name, AtFlags::empty());
            }
        }
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        entries.sort_unstable();
        for (_, bytes, name) in entries {
            if total <= self.bytes_max {
                return;
            }
            if rustix::fs::unlinkat(&self.handle, &name, AtFlags::empty()).is_ok() {
                self.counters.evicted.fetch_add(1, Ordering::Relaxed);
            }
            total = total.saturating_sub(bytes);
        }
    }
}

fn name(component: &Digest) -> String {
    let mut name = String::with_capacity(2 * MAC_BYTES + SUFFIX.len());
    for byte in component.as_bytes() {
        name.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        name.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    name + SUFFIX
}

/// Everything that decides whether machine code made there runs here: the engine's version and settings, target and processor
/// features (all in its fingerprint), and this crate's version, since the header speaks of its types.
fn build(engine: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&FORMAT.to_le_bytes()).update(engine).update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.finalize().into()
}

/// Whether a file that is being written belongs to a process that is no more.
fn is_abandoned(name: &str) -> bool {
    let Some(process) =
        name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")).and_then(|name| name.split('-').next())
    else {
        return false;
    };
    let process = process.parse().ok().and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH))
}
