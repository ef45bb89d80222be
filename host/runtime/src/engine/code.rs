//! Memory for machine code: that of many plugins lies side by side in one file, and runs where it was written.
//!
//! With a mapping of its own, each plugin costs a system call for each change of access, and a page fault and the clearing of a page
//! that is overwritten at once for each 4 KiB. Here it lies in a *room* of an *area*: a file that exists in memory only, mapped once,
//! readable and executable. It is written through the file (`pwrite`), so there is no address at all through which code could be
//! written, neither while it is in use nor before.
//!
//! A room is made by [`CodeSpace::fill`], and belongs to the engine once it has loaded what is in there: it says through
//! [`CustomCodeMemory`] when it no longer needs it. Where the system lets nobody execute such a file or make one of that size, or a plugin
//! is large, `fill` answers `None`, and the engine maps memory for that plugin alone.
#![expect(unsafe_code, reason = "code is run from here; the proofs stand beside each use")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::Errno;
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use wasmtime::CustomCodeMemory;

/// Address space of the area: code of some 40,000 plugins. Memory is taken for what is in use only.
const AREA_BYTES: usize = 16 << 30;

/// Bytes of a room; more than that gets a mapping of its own, and doesn't leave large holes here.
const ROOM_BYTES_MAX: usize = 8 << 20;

/// Where machine code lies; once a runtime.
#[derive(Default)]
pub(crate) struct CodeSpace {
    /// Made when it is first needed; `None` where the system has none for us.
    area: OnceLock<Option<Arc<Area>>>,
}

/// A file in memory, and where it is mapped to be run.
struct Area {
    file: OwnedFd,
    /// Where the whole file is mapped, readable and executable.
    base: NonNull<u8>,
    rooms: Mutex<Rooms>,
}

// SAFETY: the area owns its mapping, which stays where it is, and nobody writes through it.
unsafe impl Send for Area {}
// SAFETY: as above; the rest is behind a lock.
unsafe impl Sync for Area {}

/// What of the area is taken. Places and sizes are in bytes from its base, and whole pages.
struct Rooms {
    /// Where what is free begins, and its bytes; no two of them touch.
    free: BTreeMap<usize, usize>,
    /// Where what is taken begins, its bytes, and which room it is.
    taken: BTreeMap<usize, (usize, u64)>,
    /// The room that was taken last.
    last: u64,
}

/// A part of the area that has been written. It is free again when this is dropped, unless the engine has taken it over.
pub(crate) struct Room {
    area: Arc<Area>,
    start: usize,
    bytes: usize,
    number: u64,
}

impl CodeSpace {
    /// Whether this kind of machine can run code from an area. Others want their instruction caches told of it.
    pub(crate) fn is_supported() -> bool {
        cfg!(all(target_os = "linux", target_arch = "x86_64"))
    }

    /// Copies machine code, and what belongs to it, to where it can be run; `None` where there is no room, or it is too large for one.
    pub(crate) fn fill(&self, artefact: &[u8]) -> Option<Room> {
        if !(1..=ROOM_BYTES_MAX).contains(&artefact.len()) || !CodeSpace::is_supported() {
            return None;
        }
        let area = self.area.get_or_init(|| Area::map().ok().map(Arc::new)).as_ref()?;
        let (start, number) = area.rooms().take(artefact.len().next_multiple_of(page_size()))?;
        let room = Room { area: Arc::clone(area), start, bytes: artefact.len(), number };
        area.write(start, artefact).ok().map(|()| room)
    }

    fn area_of(&self, address: *const u8) -> Option<(&Area, usize)> {
        let area = self.area.get()?.as_deref()?;
        let offset = address.addr().checked_sub(area.base.as_ptr().addr())?;
        (offset < AREA_BYTES).then_some((area, offset))
    }
}

impl CustomCodeMemory for CodeSpace {
    fn required_alignment(&self) -> usize {
        page_size()
    }

    fn publish_executable(&self, code: *const u8, bytes: usize) -> wasmtime::Result<()> {
        if self.area_of(code).is_some() {
            // It could be run as soon as it was written.
            return Ok(());
        }
        let bytes = bytes.next_multiple_of(page_size());
        // SAFETY: the engine's own mapping, of which it says that these bytes are code; they begin and end with a page.
        Ok(unsafe { mm::mprotect(code.cast_mut().cast(), bytes, MprotectFlags::READ | MprotectFlags::EXEC) }?)
    }

    fn unpublish_executable(&self, code: *const u8, _: usize) -> wasmtime::Result<()> {
        // A mapping of the engine's own goes as a whole now.
        if let Some((area, offset)) = self.area_of(code) {
            area.free(&mut area.rooms(), offset);
        }
        Ok(())
    }
}

impl Area {
    fn map() -> Result<Area, Errno> {
        // Beyond a limit on files the kernel would not only refuse: it ends the process (SIGXFSZ).
        if getrlimit(Resource::Fsize).current.is_some_and(|most| most < AREA_BYTES as u64) {
            return Err(Errno::FBIG);
        }
        let file = rustix::fs::memfd_create("hookloom-code", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, AREA_BYTES as u64)?;
        let access = ProtFlags::READ | ProtFlags::EXEC;
        // SAFETY: a new mapping, at a place that the system chooses, touches nothing that exists.
        let base = unsafe { mm::mmap(ptr::null_mut(), AREA_BYTES, access, MapFlags::SHARED, &file, 0) }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let free = BTreeMap::from([(0, AREA_BYTES)]);
        Ok(Area { file, base, rooms: Mutex::new(Rooms { free, taken: BTreeMap::new(), last: 0 }) })
    }

    /// Writes into a room that nobody else knows yet.
    fn write(&self, start: usize, mut bytes: &[u8]) -> Result<(), Errno> {
        let mut at = start as u64;
        while !bytes.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, bytes, at))?;
            bytes = bytes.get(written..).filter(|_| written > 0).ok_or(Errno::IO)?;
            at += written as u64;
        }
        Ok(())
    }

    /// Frees the room that `offset` lies in, if there is one, and gives its pages back to the system.
    fn free(&self, rooms: &mut Rooms, offset: usize) {
        let Some((start, bytes)) = rooms.free(offset) else { return };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Under the lock, so that nobody writes there meanwhile. Where it fails the pages stay, and are overwritten one day.
        let _ = rustix::fs::fallocate(&self.file, flags, start as u64, bytes as u64);
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    /// The first place that is large enough, and which room it is now.
    fn take(&mut self, bytes: usize) -> Option<(usize, u64)> {
        let (&start, &free) = self.free.iter().find(|(_, free)| **free >= bytes)?;
        self.free.remove(&start);
        if free > bytes {
            self.free.insert(start + bytes, free - bytes);
        }
        self.last += 1;
        self.taken.insert(start, (bytes, self.last));
        Some((start, self.last))
    }

    /// Frees the room that a place lies in; answers where it began, and its bytes.
    fn free(&mut self, place: usize) -> Option<(usize, usize)> {
        let (&start, &(bytes, _)) = self.taken.range(..=place).next_back()?;
        if place >= start + bytes {
            return None;
        }
        self.taken.remove(&start);
        let (mut from, mut free) = (start, bytes);
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.free.remove(&before);
            (from, free) = (before, length + free);
        }
        if let Some(after) = self.free.remove(&(from + free)) {
            free += after;
        }
        self.free.insert(from, free);
        Some((start, bytes))
    }
}

impl Room {
    /// What was written there, where it can be run.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the area maps these bytes of the file there, readable, as long as `self` holds it, and nobody writes them: rooms don't
        // overlap, and a room is written before it is made.
        unsafe { slice::from_raw_parts(self.area.base.as_ptr().add(self.start), self.bytes) }
    }

    /// Leaves the room to the engine, which has loaded what is in there, and says when it needs it no longer.
    pub(crate) fn leave_to_engine(mut self) {
        // No room has this number.
        self.number = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut rooms = self.area.rooms();
        // Unless the engine has it, or had it and gave it back; then the place may be somebody else's by now.
        if rooms.taken.get(&self.start).is_some_and(|(_, number)| *number == self.number) {
            self.area.free(&mut rooms, self.start);
        }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the mapping is the area's own, and nothing points into it any more: rooms hold it, and the engine that runs code from it
        // holds the space. That fails only where the system has no room for what it would have to write down about it; then the address
        // space stays taken.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), AREA_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Rlimit, setrlimit};

    use super::*;

    fn fill(space: &CodeSpace, bytes: usize, with: u8) -> Room {
        space.fill(&vec![with; bytes]).expect("this machine has an area")
    }

    fn area(space: &CodeSpace) -> &Area {
        space.area.get().unwrap().as_deref().unwrap()
    }

    fn taken(space: &CodeSpace) -> usize {
        area(space).rooms().taken.len()
    }

    /// Memory that the file takes.
    fn allocated(space: &CodeSpace) -> usize {
        usize::try_from(rustix::fs::fstat(&area(space).file).unwrap().st_blocks).unwrap() * 512
    }

    #[test]
    fn rooms_hold_what_was_written_and_never_overlap() {
        let space = CodeSpace::default();
        let sizes = [1, 63, 64, 65, 392 << 10, 4096, 4097, 5 << 20, ROOM_BYTES_MAX];
        let filled: Vec<Room> = sizes.iter().zip(1..).map(|(&bytes, with)| fill(&space, bytes, with)).collect();
        for ((room, &bytes), with) in filled.iter().zip(&sizes).zip(1..) {
            assert_eq!((room.bytes().len(), room.bytes().as_ptr().addr() % page_size()), (bytes, 0));
            assert!(room.bytes().iter().all(|byte| *byte == with), "room {with}");
        }
        assert!(space.fill(&vec![0; ROOM_BYTES_MAX + 1]).is_none());
        assert!(space.fill(&[]).is_none());
    }

    #[test]
    fn what_is_freed_is_joined_used_again_and_given_back_and_its_neighbors_stay() {
        let space = CodeSpace::default();
        let rooms: Vec<Room> = (0..32).map(|number| fill(&space, 70_000, number)).collect();
        let all = allocated(&space);
        let first = rooms[0].bytes().as_ptr();
        // Every second one first, so that nothing is next to each other.
        let (even, odd): (Vec<_>, Vec<_>) = rooms.into_iter().zip(0..32).partition(|(_, number)| number % 2 == 0);
        drop(even);
        for (room, with) in &odd {
            assert!(room.bytes().iter().all(|byte| byte == with), "room {with}");
        }
        assert_eq!(allocated(&space), all / 2);
        drop(odd);
        assert_eq!((taken(&space), allocated(&space)), (0, 0));
        assert_eq!(area(&space).rooms().free, BTreeMap::from([(0, AREA_BYTES)]));
        let again = fill(&space, ROOM_BYTES_MAX, 7);
        assert_eq!(again.bytes().as_ptr(), first);
        assert!(again.bytes().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_room_is_freed_once_by_the_engine_or_by_whoever_filled_it() {
        let space = CodeSpace::default();
        let (first, second) = (fill(&space, 1000, 1), fill(&space, 1000, 2));
        let (first_at, second_at) = (first.bytes().as_ptr(), second.bytes().as_ptr());
        // As an engine does that refuses to load: it gives the room back, and the next one lies there before the first is dropped.
        space.unpublish_executable(first_at.wrapping_add(500), 0).unwrap();
        let third = fill(&space, 1000, 3);
        assert_eq!(third.bytes().as_ptr(), first_at);
        drop(first);
        assert_eq!(taken(&space), 2);
        second.leave_to_engine();
        third.leave_to_engine();
        assert_eq!(taken(&space), 2);
        space.unpublish_executable(second_at, 0).unwrap();
        space.unpublish_executable(first_at, 0).unwrap();
        space.unpublish_executable(first_at, 0).unwrap();
        assert_eq!(taken(&space), 0);
    }

    #[test]
    fn nothing_is_mapped_to_be_written() {
        let space = CodeSpace::default();
        let room = fill(&space, 100 << 10, 1);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let own = format!("{:x}-", area(&space).base.as_ptr().addr());
        let fields = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mapped = maps.lines().find(|line| line.starts_with(&own)).map(fields).unwrap();
        assert_eq!(mapped[1], "r-xs", "{mapped:?}");
        let all: Vec<Vec<String>> = maps.lines().map(fields).filter(|other| other[4] == mapped[4]).collect();
        assert_eq!(all, [mapped], "a file that is mapped once has one line");
        drop(room);
    }

    #[test]
    fn where_files_are_bounded_there_is_no_area_and_the_process_lives() {
        const BOUNDED: &str = "HOOKLOOM_TEST_FILES_ARE_BOUNDED";
        if std::env::var_os(BOUNDED).is_some() {
            let hard = getrlimit(Resource::Fsize).maximum;
            setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 30), maximum: hard }).unwrap();
            assert!(CodeSpace::default().fill(&[1]).is_none());
            return;
        }
        // A process of its own, since the limit is that of all its threads.
        let own = std::env::current_exe().unwrap();
        let own_name = std::thread::current().name().unwrap().to_owned();
        let run = std::process::Command::new(own).args(["--exact", &own_name]).env(BOUNDED, "").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{} {said}", run.status);
    }

    #[test]
    fn rooms_are_filled_and_freed_from_many_threads() {
        let space = CodeSpace::default();
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let space = &space;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for round in 0..50_usize {
                        let with = u8::try_from((thread * 50 + round) % 256).unwrap();
                        kept.push((fill(space, 1 + (round * 7919) % (300 << 10), with), with));
                        if round % 3 == 2 {
                            kept.swap_remove(round % kept.len());
                        }
                        assert!(kept.iter().all(|(room, with)| room.bytes().iter().all(|byte| byte == with)));
                    }
                });
            }
        });
        assert_eq!((taken(&space), allocated(&space)), (0, 0));
    }
}
