//! Compiled components on disk: found again, and never trusted further than the keyed hash goes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookloom_runtime::{
    CacheConfig, CacheCounters, CacheKey, CompileError, Digest, FailureCode, Limits, LoadError, Outcome, Plugin,
    Runtime, RuntimeConfig, RuntimeError,
};

use crate::guest::{reshape, reshaper, runtime};

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

const KEY: [u8; 32] = [7; 32];

fn config(folder: &Path, key: [u8; 32], bytes_max: u64) -> RuntimeConfig {
    let cache = CacheConfig { folder: folder.to_owned(), key: CacheKey::new(key), bytes_max };
    RuntimeConfig { instances_max: 1, cache: Some(cache), ..RuntimeConfig::default() }
}

fn open(folder: &Path) -> Runtime {
    runtime(config(folder, KEY, 1 << 30))
}

/// A component whose digest depends on `number`.
fn component(number: u32) -> Vec<u8> {
    reshaper(&format!("{MEMORY} (global i32 (i32.const {number}))"), "(call $unchanged)")
}

/// Loads a component whose original must not be needed.
fn load_cached(runtime: &Runtime, component: &[u8]) -> Plugin {
    let original = || -> Result<Vec<u8>, ()> { panic!("the original was asked for") };
    runtime.load(&Digest::of(component), original).unwrap()
}

/// Loads a component whose original is at hand.
fn load(runtime: &Runtime, component: &[u8]) -> Plugin {
    runtime.load(&Digest::of(component), || Ok::<_, ()>(component.to_vec())).unwrap()
}

fn runs(plugin: &Plugin) {
    assert_eq!(reshape(plugin, Limits::default()).outcome, Outcome::Unchanged);
}

/// The only entry in a folder.
fn entry(folder: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[test]
fn what_was_compiled_once_is_loaded_by_the_next_process_without_its_original() {
    let folder = tempfile::tempdir().unwrap();
    let component = component(0);
    let first = open(folder.path()).compile(&component).unwrap();
    let runtime = open(folder.path());
    let plugin = load_cached(&runtime, &component);
    runs(&plugin);
    assert_eq!(plugin.digest(), first.digest());
    assert_eq!((plugin.contract(), plugin.exports()), (first.contract(), first.exports()));
    assert_eq!((plugin.bytes_len(), plugin.artefact_bytes()), (component.len(), first.artefact_bytes()));
    runs(&runtime.compile(&component).unwrap());
    assert_eq!(runtime.cache_counters(), CacheCounters { hits: 2, ..CacheCounters::default() });
}

#[test]
fn pools_of_another_size_share_artefacts() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).compile(&component(0)).unwrap();
    let mut larger = config(folder.path(), KEY, 1 << 30);
    (larger.instances_max, larger.stack_bytes) = (3, 1 << 20);
    larger.limits_max.memory_bytes_max = 16 << 20;
    runs(&load_cached(&runtime(larger), &component(0)));
}

#[test]
fn row_18_an_entry_that_was_cut_or_altered_anywhere_is_noticed_and_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let component = component(0);
    open(folder.path()).compile(&component).unwrap();
    let whole = fs::read(entry(folder.path())).unwrap();
    let runtime = open(folder.path());
    let mut broken: Vec<Vec<u8>> = [0, 1, 7, 39, 43, 200, whole.len() - 1].map(|end| whole[..end].to_vec()).into();
    // The magic, the hash, the header's length, the header, and all over the machine code.
    for place in [0, 8, 40, 44, 60, whole.len() - 1].into_iter().chain((100..whole.len()).step_by(whole.len() / 50)) {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        broken.push(altered);
    }
    broken.push([&whole[..], b"more"].concat());
    let expected = broken.len() as u64;
    for bytes in broken {
        fs::write(entry(folder.path()), &bytes).unwrap();
        runs(&load(&runtime, &component));
        assert_eq!(fs::read(entry(folder.path())).unwrap(), whole, "it is rebuilt as it was");
    }
    let counters = runtime.cache_counters();
    assert_eq!((counters.rejected, counters.rebuilt, counters.hits), (expected, expected, 0));
    load_cached(&runtime, &component);
}

#[test]
fn row_18_what_is_made_again_in_a_second_step_is_counted_too() {
    // As an async host does it: it asks the cache first, and gets the bytes from elsewhere when they are needed.
    let folder = tempfile::tempdir().unwrap();
    let component = component(0);
    open(folder.path()).compile(&component).unwrap();
    let runtime = open(folder.path());
    fs::write(entry(folder.path()), "something else").unwrap();
    assert!(runtime.cached(&Digest::of(&component)).unwrap().is_none());
    runs(&load(&runtime, &component));
    let counters = runtime.cache_counters();
    assert_eq!((counters.rejected, counters.rebuilt), (1, 1));
    // Once is enough.
    fs::remove_file(entry(folder.path())).unwrap();
    runs(&load(&runtime, &component));
    assert_eq!(runtime.cache_counters().rebuilt, 1);
}

#[test]
fn what_a_check_refuses_is_not_kept() {
    #[derive(Debug, PartialEq)]
    enum Refused {
        Component(CompileError),
        SelfTest(FailureCode),
    }
    impl From<CompileError> for Refused {
        fn from(error: CompileError) -> Refused {
            Refused::Component(error)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = open(folder.path());
    let compile = |component: &[u8]| {
        // Fuel ends it, however busy the machine is.
        let limits = Limits { fuel: 100_000, deadline: Duration::from_secs(60), ..Limits::default() };
        let start = |plugin: &Plugin| plugin.self_test(&limits).map_err(|failure| Refused::SelfTest(failure.code));
        runtime.compile_checked(component, start)
    };
    let spinning = reshaper(&format!("{MEMORY} (func $spin (loop $l (br $l))) (start $spin)"), "(call $unchanged)");
    assert_eq!(compile(&spinning).unwrap_err(), Refused::SelfTest(FailureCode::FuelExhausted));
    assert_eq!(compile(b"").unwrap_err(), Refused::Component(CompileError::Empty));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    runs(&compile(&component(0)).unwrap());
    entry(folder.path());
    // What is in the cache is checked all the same, and stays for those whose check it passes.
    let refused = runtime.compile_checked(&component(0), |_| Err(Refused::SelfTest(FailureCode::Trap)));
    assert_eq!(refused.unwrap_err(), Refused::SelfTest(FailureCode::Trap));
    load_cached(&runtime, &component(0));
}

#[test]
fn row_18_an_entry_under_another_key_or_of_another_component_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    runtime(config(folder.path(), [8; 32], 1 << 30)).compile(&component(0)).unwrap();
    let runtime = open(folder.path());
    assert!(runtime.cached(&Digest::of(&component(0))).unwrap().is_none());
    assert_eq!(runtime.cache_counters().rejected, 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it is deleted");
    // An honest entry under the name of another component.
    runtime.compile(&component(1)).unwrap();
    let digest = Digest::of(&component(2)).to_string().replace("sha256:", "");
    fs::rename(entry(folder.path()), folder.path().join(format!("{digest}.artefact"))).unwrap();
    assert!(runtime.cached(&Digest::of(&component(2))).unwrap().is_none());
    assert_eq!(runtime.cache_counters().rejected, 2);
}

#[test]
fn row_09_machine_code_that_carries_no_hash_of_ours_is_never_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let component = component(0);
    open(folder.path()).compile(&component).unwrap();
    let whole = fs::read(entry(folder.path())).unwrap();
    let elf = whole.windows(4).position(|window| window == b"\x7fELF").unwrap();
    let runtime = open(folder.path());
    // As an entry, and as an upload.
    fs::write(entry(folder.path()), &whole[elf..]).unwrap();
    assert!(runtime.cached(&Digest::of(&component)).unwrap().is_none());
    assert_eq!(runtime.compile(&whole[elf..]).unwrap_err(), CompileError::Precompiled);
    assert_eq!(runtime.compile(&whole).unwrap_err().code(), "not_a_component");
}

#[test]
fn row_34_links_and_files_that_others_can_write_are_no_entries() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let component = component(0);
    open(folder.path()).compile(&component).unwrap();
    let entry = entry(folder.path());
    assert_eq!(fs::metadata(&entry).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    let runtime = open(folder.path());
    // Its bytes are right, but somebody else could change them after they were checked.
    let moved = elsewhere.path().join("entry");
    fs::rename(&entry, &moved).unwrap();
    symlink(&moved, &entry).unwrap();
    runs(&load(&runtime, &component));
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o620)).unwrap();
    runs(&load(&runtime, &component));
    assert_eq!(runtime.cache_counters().rejected, 2);
    load_cached(&runtime, &component);
}

#[test]
fn row_34_a_loaded_plugin_does_not_depend_on_its_file_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let component = component(0);
    open(folder.path()).compile(&component).unwrap();
    let runtime = open(folder.path());
    let plugin = load_cached(&runtime, &component);
    // In place, so that a mapping of the file would change too.
    let entry = entry(folder.path());
    let zeros = vec![0; usize::try_from(fs::metadata(&entry).unwrap().len()).unwrap()];
    let mut file = fs::OpenOptions::new().write(true).open(&entry).unwrap();
    std::io::Write::write_all(&mut file, &zeros).unwrap();
    runs(&plugin);
    file.set_len(0).unwrap();
    runs(&plugin);
}

#[test]
fn a_folder_of_somebody_else_or_none_at_all_is_refused_and_an_open_one_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let link = folder.path().join("link");
    symlink(folder.path(), &link).unwrap();
    for path in [file, link] {
        assert!(matches!(Runtime::new(config(&path, KEY, 1)), Err(RuntimeError::Cache(_))), "{path:?}");
    }
    let open_to_all = folder.path().join("open");
    fs::create_dir(&open_to_all).unwrap();
    fs::set_permissions(&open_to_all, fs::Permissions::from_mode(0o777)).unwrap();
    open(&open_to_all);
    assert_eq!(fs::metadata(&open_to_all).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_entries_that_were_not_used_for_longest_make_room() {
    // Read again, or marked as in use by whoever has it in memory.
    let uses: [fn(&Runtime); 2] =
        [|runtime| drop(load_cached(runtime, &component(0))), |runtime| runtime.touch(&Digest::of(&component(0)))];
    for use_again in uses {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).compile(&component(0)).unwrap();
        let bytes = fs::metadata(entry(folder.path())).unwrap().len();
        let runtime = runtime(config(folder.path(), KEY, bytes * 3 + bytes / 2));
        for number in 1..3 {
            runtime.compile(&component(number)).unwrap();
        }
        use_again(&runtime);
        runtime.compile(&component(3)).unwrap();
        assert_eq!(runtime.cache_counters().evicted, 1);
        let kept = |number| runtime.cached(&Digest::of(&component(number))).unwrap().is_some();
        assert_eq!([kept(0), kept(1), kept(2), kept(3)], [true, false, true, true]);
    }
}

#[test]
fn marking_what_is_not_there_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).touch(&Digest::of(b"unknown"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_artefact_that_can_not_be_kept_runs_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime(config(folder.path(), KEY, 10));
    runs(&runtime.compile(&component(0)).unwrap());
    let counters = runtime.cache_counters();
    assert_eq!((counters.write_errors, counters.written, counters.misses), (1, 0, 1));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_was_left_half_written_is_cleared_away_by_its_age_whoever_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, hours: u64| {
        let path = folder.path().join(name);
        let file = fs::File::create(&path).unwrap();
        let changed = file.metadata().unwrap().modified().unwrap();
        file.set_modified(changed - Duration::from_secs(hours * 3600)).unwrap();
        path
    };
    // In another container a process with our number may be writing, and one with a number that nobody has here.
    let own = format!(".{}-1.new", std::process::id());
    let (old, new) = (write(&own, 2), write(".4000000-1.new", 0));
    let other = write("README", 2);
    open(folder.path());
    assert_eq!([&old, &new, &other].map(|path| path.exists()), [false, true, true]);
}

#[test]
fn processes_with_the_same_number_do_not_get_into_each_others_way() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..2_000 {
        fs::write(folder.path().join(format!(".{}-{number}.new", std::process::id())), "half").unwrap();
    }
    let runtime = open(folder.path());
    runtime.compile(&component(0)).unwrap();
    assert_eq!((runtime.cache_counters().written, runtime.cache_counters().write_errors), (1, 0));
}

#[test]
fn a_component_that_no_longer_fits_the_pool_is_refused_when_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let large = reshaper(r#"(memory (export "memory") 100)"#, "(call $unchanged)");
    open(folder.path()).compile(&large).unwrap();
    let mut small = config(folder.path(), KEY, 1 << 30);
    small.limits_max.memory_bytes_max = 99 << 16;
    let error = runtime(small).cached(&Digest::of(&large)).unwrap_err();
    assert_eq!(error.code(), "too_many_resources");
}

#[test]
fn an_original_that_can_not_be_had_or_is_another_is_told_apart() {
    let runtime = runtime(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() });
    let digest = Digest::of(&component(0));
    assert!(matches!(runtime.load(&digest, || Err("gone")), Err(LoadError::Original("gone"))));
    let other = runtime.load(&digest, || Ok::<_, ()>(component(1)));
    assert!(matches!(other, Err(LoadError::OtherBytes)));
    runs(&load(&runtime, &component(0)));
    assert_eq!(runtime.cache_counters(), CacheCounters::default());
}
