//! Compiled components on disk: found by content, authenticated before they are loaded, rebuilt when they don't fit.
//!
//! One file a component, `<digest in hexadecimal>.artefact`, in a folder of our own. Nobody's word is taken for what is in it: the
//! file is read once into memory of this process, a keyed hash over all of it is compared, and those very bytes are loaded. The
//! key never lies in the folder. The header, under the same hash, says which component it is, which build and processor it was made
//! for, and what `prepare` would otherwise read from the component again. What is cut, altered or foreign is counted and deleted,
//! and the caller compiles the original again. An entry that the machine fails to read stays: nothing is known against it.
//!
//! The time of a file's last change is the time of its last use; beyond the bound on bytes, the oldest go. Whoever keeps plugins in
//! memory marks their entries now and then, since nobody reads them meanwhile. Nothing in memory says what is in the folder, so
//! several processes may share it: the worst that they do to each other is to rebuild.
//!
//! Layout: magic (8 bytes) · keyed BLAKE3 over all that follows (32) · length of the header (4, little-endian) · header (postcard) ·
//! artefact.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;
use crate::compile::{Artefact, Structure};

/// Raised with each change of what an entry says or means; entries of another number are rebuilt.
pub(crate) const FORMAT: u32 = 3;

const MAGIC: &[u8; 8] = b"hookloom";
const MAC_BYTES: usize = 32;
const SUFFIX: &str = ".artefact";

/// How a file that is being written is named: the first, something random, the second.
const TEMPORARY: [&str; 2] = [".", ".new"];

/// After so long nobody is writing a file any more: its process has died. Writing one takes seconds at most.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Rejected components that are remembered until they are made again; only a count depends on it.
const REJECTED_MAX: usize = 10_000;

/// The moment at which it is written.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

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
    /// Bytes of all entries together. Default of the gateway 2 GiB. Beyond it those go that were not used for longest: loaded,
    /// or named to [`crate::Runtime::touch`].
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
    /// Entries that the machine could not read or load: no descriptor or memory was left, or the disk fails. They stay, and the
    /// component is compiled as if there were none.
    pub read_errors: u64,
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
    /// Components whose entry was rejected and that were not made again yet.
    rejected: Mutex<HashSet<Digest>>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    rebuilt: AtomicU64,
    read_errors: AtomicU64,
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
    /// There is one, and the machine could not read or load it now.
    Unread,
}

/// Why an entry can't be used.
pub(crate) enum Unusable {
    /// It is shown not to be ours, whole, and of this component, build and processor. That doesn't change.
    Unfit,
    /// The machine failed, which says nothing about the entry.
    Unread,
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
            rejected: Mutex::default(),
        };
        cache.sweep();
        Ok(cache)
    }

    /// Looks for a component's entry, and has `load` make something of it.
    pub(crate) fn find<T>(
        &self,
        component: &Digest,
        load: impl FnOnce(&Artefact<'_>, Facts) -> Result<T, Unusable>,
    ) -> Found<T> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let name = name(component);
        let mut buffer = BUFFER.take();
        let loaded = self.read(&name, &mut buffer).and_then(|is_there| {
            if !is_there {
                return Ok(None);
            }
            let (artefact, facts) = self.verify(&buffer, component).ok_or(Unusable::Unfit)?;
            load(&artefact, facts).map(Some)
        });
        if buffer.capacity() <= BUFFER_KEPT_BYTES_MAX {
            BUFFER.set(buffer);
        }
        let (found, counter) = match loaded {
            Ok(Some(loaded)) => (Found::Hit(loaded), &self.counters.hits),
            Ok(None) => (Found::Miss, &self.counters.misses),
            Err(Unusable::Unread) => (Found::Unread, &self.counters.read_errors),
            Err(Unusable::Unfit) => {
                self.reject(component, &name);
                (Found::Rejected, &self.counters.rejected)
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps an artefact that was accepted in every respect. Failing to is counted, and no error: the cache only saves time.
    pub(crate) fn keep(&self, component: &Digest, facts: &Facts, artefact: &Artefact<'_>) {
        let counter = match self.write(component, facts, artefact.bytes()) {
            Ok(()) => &self.counters.written,
            Err(_) => &self.counters.write_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if self.rejected().remove(component) {
            self.counters.rebuilt.fetch_add(1, Ordering::Relaxed);
        }
        self.sweep();
    }

    /// Marks a component's entry as used now, if there is one.
    pub(crate) fn touch(&self, component: &Digest) {
        // There may be none any more, and a mark that fails costs a compilation at worst.
        let _ = rustix::fs::utimensat(&self.handle, name(component), &NOW, AtFlags::SYMLINK_NOFOLLOW);
    }

    pub(crate) fn counters(&self) -> CacheCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            hits: read(&self.counters.hits),
            misses: read(&self.counters.misses),
            rejected: read(&self.counters.rejected),
            rebuilt: read(&self.counters.rebuilt),
            read_errors: read(&self.counters.read_errors),
            written: read(&self.counters.written),
            write_errors: read(&self.counters.write_errors),
            evicted: read(&self.counters.evicted),
        }
    }

    /// Reads a whole entry into `buffer`; `false` where there is none.
    ///
    /// # Errors
    /// [`Unusable`]: what is there is no file of ours (a link, somebody else's, open to others, or larger than the cache), or the
    /// machine can't read it.
    fn read(&self, name: &str, buffer: &mut Vec<u8>) -> Result<bool, Unusable> {
        // Without waiting: a pipe in its place would never be opened else.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => std::fs::File::from(file),
            Err(Errno::NOENT) => return Ok(false),
            // A link, or a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Err(Unusable::Unfit),
            Err(_) => return Err(Unusable::Unread),
        };
        let about = file.metadata().map_err(|_| Unusable::Unread)?;
        let ours = about.is_file() && about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0;
        if !ours || about.len() > self.bytes_max {
            return Err(Unusable::Unfit);
        }
        let length = usize::try_from(about.len()).map_err(|_| Unusable::Unread)?;
        buffer.clear();
        buffer.try_reserve_exact(length.saturating_add(1)).map_err(|_| Unusable::Unread)?;
        // What somebody may append meanwhile is not read, and what he cuts off is missed by the hash.
        (&file).take(about.len()).read_to_end(buffer).map_err(|_| Unusable::Unread)?;
        let _ = rustix::fs::futimens(&file, &NOW);
        Ok(true)
    }

    /// Lets an entry go that is not fit for use.
    fn reject(&self, component: &Digest, name: &str) {
        let _ = rustix::fs::unlinkat(&self.handle, name, AtFlags::empty());
        let mut rejected = self.rejected();
        if rejected.len() < REJECTED_MAX {
            rejected.insert(*component);
        }
    }

    fn rejected(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
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
        // By chance, not by process: processes in containers have the same numbers. Each state of that type is random.
        let temporary = format!("{}{:016x}{}", TEMPORARY[0], RandomState::new().hash_one(()), TEMPORARY[1]);
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

    /// Lets the entries go that were not used for longest until the rest fits, and what was left half written long ago.
    fn sweep(&self) {
        let Ok(listed) = std::fs::read_dir(&self.folder) else { return };
        let mut entries = Vec::new();
        for entry in listed.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(about) = entry.metadata() else { continue };
            if name.ends_with(SUFFIX) {
                entries.push(((about.mtime(), about.mtime_nsec()), about.len(), name));
            } else if is_temporary(&name) && is_abandoned(&about) {
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

fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY[0]).is_some_and(|name| name.ends_with(TEMPORARY[1]))
}

/// Whether nobody has written a file for so long that nobody will.
fn is_abandoned(about: &std::fs::Metadata) -> bool {
    let age = about.modified().ok().and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age > ABANDONED_AFTER)
}
