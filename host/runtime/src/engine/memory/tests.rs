use super::*;

const PAGE: usize = 64 << 10;

/// A memory as the engine asks for it that has these bounds.
fn memory(memories: &Memories, pages: usize) -> Box<dyn LinearMemory> {
    let (reserved, guard) = match memories.bounds {
        Bounds::Pages => (1 << 32, 32 << 20),
        Bounds::Code { .. } => (0, 0),
    };
    ask(memories, pages, Some(reserved), guard).unwrap()
}

fn ask(
    memories: &Memories,
    pages: usize,
    reserved: Option<usize>,
    guard: usize,
) -> Result<Box<dyn LinearMemory>, String> {
    let ty = MemoryType::new(u32::try_from(pages).unwrap(), None);
    memories.new_memory(ty, pages * PAGE, None, reserved, guard)
}

fn bytes(memory: &mut dyn LinearMemory) -> &mut [u8] {
    // SAFETY: the memory is alive and borrowed, and that much of it is accessible.
    unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
}

#[test]
fn a_slot_reads_as_zero_whatever_was_written_and_wherever() {
    let code = Bounds::Code { bytes_max: 256 << 20 };
    let all = [
        Memories::new(4, Bounds::Pages),
        Memories::new(4, code),
        Memories::with(Shelves::with(1), 4, None, Bounds::Pages),
    ];
    for memories in &all {
        for pages in [1, 4, 5, 17, 200] {
            for stride in [1 << 20, 64 << 10, 8 << 10, 4 << 10, 4097, 61] {
                let mut first = memory(memories, pages);
                let base = first.as_ptr();
                first.grow_to((pages + 3) * PAGE).unwrap();
                let content = bytes(&mut *first);
                content.iter_mut().step_by(stride).for_each(|byte| *byte = 0xa5);
                *content.last_mut().unwrap() = 0x5a;
                drop(first);
                let mut second = memory(memories, pages);
                assert_eq!(second.as_ptr(), base, "the same slot again");
                assert_eq!(second.byte_size(), pages * PAGE);
                second.grow_to((pages + 3) * PAGE).unwrap();
                assert!(bytes(&mut *second).iter().all(|byte| *byte == 0), "{pages} pages, every {stride} bytes");
            }
        }
    }
}

#[test]
fn a_memory_grows_up_to_its_maximum_and_never_shrinks() {
    let memories = Memories::with(Shelves::with(1), 1, None, Bounds::Pages);
    let mut one = memory(&memories, 1);
    assert!(one.grow_to(1 << 32).is_ok(), "address space is reserved for all of it");
    assert!(one.grow_to(PAGE).is_err());
    assert!(one.grow_to((1 << 32) + PAGE).is_err());
}

#[test]
fn code_that_relies_on_pages_gets_no_memory_whose_bounds_the_code_has_to_check() {
    let code = Memories::with(Shelves::with(1), 1, None, Bounds::Code { bytes_max: 64 * PAGE });
    for (reserved, guard) in [(None, 0), (Some(64 * PAGE), 0), (Some(1 << 32), 32 << 20), (Some(0), PAGE)] {
        assert!(ask(&code, 1, reserved, guard).is_err(), "{reserved:?}, {guard}");
    }
    assert!(ask(&code, 65, Some(0), 0).is_err(), "more than any may have");
    let pages = Memories::with(Shelves::with(1), 1, None, Bounds::Pages);
    assert!(ask(&pages, 1, None, 0).is_err());
    assert!(ask(&pages, 2, Some(PAGE), 0).is_err(), "more than its reservation");
}

#[test]
fn a_memory_that_the_code_bounds_has_its_own_size_and_what_is_behind_it_stays_accessible() {
    let memories = Memories::with(Shelves::with(1), 1, None, Bounds::Code { bytes_max: 64 * PAGE });
    let new = || memory(&memories, 17);
    let accessible = || memories.pool.shelves.own()[0].accessible;
    let mut first = new();
    assert_eq!((first.byte_size(), first.byte_capacity()), (17 * PAGE, 64 * PAGE));
    first.grow_to(20 * PAGE).unwrap();
    bytes(&mut *first).fill(1);
    assert!(first.grow_to(65 * PAGE).is_err());
    drop(first);
    assert_eq!(accessible(), 20 * PAGE);
    let mut second = new();
    assert_eq!(second.byte_size(), 17 * PAGE);
    second.grow_to(19 * PAGE).unwrap();
    assert!(bytes(&mut *second).iter().all(|byte| *byte == 0));
    drop(second);
    assert_eq!(accessible(), 20 * PAGE);
}

#[test]
fn pages_far_behind_a_memory_are_given_back() {
    let memories = Memories::with(Shelves::with(1), 1, None, Bounds::Code { bytes_max: 1 << 30 });
    drop(memory(&memories, 1000));
    let slot = || {
        let slot = &memories.pool.shelves.own()[0];
        (slot.reached, slot.accessible)
    };
    assert_eq!(slot(), (1000 * PAGE, 1000 * PAGE));
    drop(memory(&memories, 1000 - KEPT_BYTES_MAX / PAGE));
    assert_eq!(slot(), (1000 * PAGE, 1000 * PAGE), "as much may stay");
    drop(memory(&memories, 17));
    assert_eq!(slot(), (17 * PAGE, 17 * PAGE));
    let mut again = memory(&memories, 17);
    again.grow_to(1000 * PAGE).unwrap();
    assert!(bytes(&mut *again).iter().all(|byte| *byte == 0));
}

#[test]
fn a_memory_prefers_the_slot_of_its_own_size_and_few_are_kept() {
    let memories = Memories::with(Shelves::with(1), 2, None, Bounds::Pages);
    let (small, large, third) = (memory(&memories, 1), memory(&memories, 17), memory(&memories, 2));
    let places = (small.as_ptr(), large.as_ptr());
    drop(small);
    drop(large);
    drop(third);
    assert_eq!(memories.pool.shelves.own().len(), 2, "the third was unmapped");
    let (small, large) = (memory(&memories, 1), memory(&memories, 17));
    assert_eq!((small.as_ptr(), large.as_ptr()), places);
}
