//! Compilation in child processes, against components that mean harm. This program is its own compile child, so it has a `main`
//! of its own: the functions below are run one after another, those whose name contains the first argument where there is one.

#![expect(clippy::unwrap_used, reason = "a failed test ends with a panic")]

mod debug;
mod encode;
#[path = "../suite/guest.rs"]
#[expect(dead_code, reason = "the other suite uses the rest")]
mod guest;
mod structure;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hookloom_runtime::{
    Attempt, CacheConfig, CacheKey, ChildCompiler, CompileBound, CompileError, CompileLimits, Compiler, Digest, Limits,
    Outcome, Runtime, RuntimeConfig, RuntimeError,
};

use crate::debug::{a_trap_is_told_with_file_and_line, row_12_hostile_debug_information_is_survived};
use crate::guest::{reshape, reshaper};
use crate::structure::structure_checks_are_cheap_and_bounded;

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_none_or(|first| !first.starts_with("--hookloom")) {
        // Before `run_if_compile_child`, which this very program calls below.
        a_program_that_does_not_call_the_entry_is_refused_a_child_of_its_own();
    }
    hookloom_runtime::run_if_compile_child();
    let tests: &[(&str, fn())] = &[
        ("an_artefact_made_by_a_child_runs_here", an_artefact_made_by_a_child_runs_here),
        ("the_child_refuses_what_this_process_would_refuse", the_child_refuses_what_this_process_would_refuse),
        ("row_08_bombs_are_refused_before_anything_is_compiled", row_08_bombs_are_refused_before_anything_is_compiled),
        (
            "row_08_what_gets_past_the_checks_is_stopped_by_the_child",
            row_08_what_gets_past_the_checks_is_stopped_by_the_child,
        ),
        ("row_08_neighbors_go_on_while_a_bomb_is_compiled", row_08_neighbors_go_on_while_a_bomb_is_compiled),
        ("row_09_no_stranger_becomes_an_artefact", row_09_no_stranger_becomes_an_artefact),
        ("row_34_a_subverted_child_reaches_nothing", row_34_a_subverted_child_reaches_nothing),
        ("a_restart_with_a_full_cache_starts_no_child", a_restart_with_a_full_cache_starts_no_child),
        ("a_child_that_fails_is_not_the_authors_fault", a_child_that_fails_is_not_the_authors_fault),
        ("a_child_that_the_system_ends_took_too_much_memory", a_child_that_the_system_ends_took_too_much_memory),
        ("a_child_stands_back_behind_calls", a_child_stands_back_behind_calls),
        (
            "row_18_a_good_entry_outlives_a_failure_of_the_machine",
            row_18_a_good_entry_outlives_a_failure_of_the_machine,
        ),
        ("a_trap_is_told_with_file_and_line", a_trap_is_told_with_file_and_line),
        ("row_12_hostile_debug_information_is_survived", row_12_hostile_debug_information_is_survived),
        ("structure_checks_are_cheap_and_bounded", structure_checks_are_cheap_and_bounded),
    ];
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if std::env::args().any(|argument| argument == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        let start = Instant::now();
        let held = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {} ({:.2} s)", if held { "ok" } else { "FAILED" }, start.elapsed().as_secs_f64());
        failed += usize::from(!held);
    }
    println!("\ntest result: {}. {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn config(child: ChildCompiler) -> RuntimeConfig {
    RuntimeConfig { instances_max: 4, compiler: Compiler::Child(child), ..RuntimeConfig::default() }
}

fn contained(child: ChildCompiler) -> Runtime {
    Runtime::new(config(child)).unwrap()
}

fn component() -> Vec<u8> {
    reshaper(MEMORY, "(call $unchanged)")
}

/// Kibibytes of a line of this process's status.
fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processes that this one has started and not reaped.
fn children() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let children = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    children.collect()
}

fn a_program_that_does_not_call_the_entry_is_refused_a_child_of_its_own() {
    let error = Runtime::new(config(ChildCompiler::default())).unwrap_err();
    assert!(matches!(&error, RuntimeError::Config(text) if text.contains("run_if_compile_child")), "{error}");
}

fn an_artefact_made_by_a_child_runs_here() {
    let plugin = contained(ChildCompiler::default()).compile(&component()).unwrap();
    assert_eq!(reshape(&plugin, Limits::default()).outcome, Outcome::Unchanged);
    // The same code as in this process, so that fuel and traps are the same too.
    let own = Runtime::new(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() }).unwrap();
    let own = own.compile(&component()).unwrap();
    assert_eq!(plugin.artefact_bytes(), own.artefact_bytes());
    let fuel = |plugin| reshape(plugin, Limits::default()).fuel_used;
    assert_eq!(fuel(&plugin), fuel(&own));
}

fn the_child_refuses_what_this_process_would_refuse() {
    let text = r#"(component (core module (func (result i32) (f32.const 0)))
        (instance $empty) (export "hookloom:plugin/mapping@1.0.0" (instance $empty)))"#;
    let error = contained(ChildCompiler::default()).compile(&wat::parse_str(text).unwrap()).unwrap_err();
    assert!(matches!(&error, CompileError::Compile { detail } if detail.contains("type mismatch")), "{error}");
}

/// Components that would cost a compiler much, and the bound that each passes.
fn bombs() -> Vec<(CompileBound, Vec<u8>)> {
    let functions = "(func)".repeat(100_000);
    let mut types = String::new();
    for number in 0..50_000 {
        // All different, so that no encoder can share them.
        let params: String = (0..16).map(|bit| if number >> bit & 1 == 1 { " i32" } else { " i64" }).collect();
        types.push_str(&format!("(type (func (param {params})))"));
    }
    let large = format!("(func (param i32) {})", "(local.set 0 (i32.add (local.get 0) (local.get 0)))".repeat(200_000));
    let nested = format!("(func {}{})", "block ".repeat(50_000), "end ".repeat(50_000));
    let table = format!("(func (block (br_table {} (i32.const 0))))", "0 ".repeat(200_000));
    let exports: String = (0..100_001).map(|number| format!("(export \"{number}\" (func 0))")).collect();
    let mut bombs: Vec<_> = [
        (CompileBound::Functions, functions),
        (CompileBound::Types, types),
        (CompileBound::FunctionBytes, large),
        (CompileBound::Nesting, nested),
        (CompileBound::BranchTargets, table),
        (CompileBound::Items, format!("(func) {exports}")),
    ]
    .map(|(bound, fields)| (bound, wrap(&fields)))
    .into();
    // Whoever checks the types copies the names of the inner component into each instance of it: 40 million here.
    let names: String = (0..50_000).map(|number| format!("(export \"n{number}\" (type $t))")).collect();
    let copies = "(instance (instantiate $c))".repeat(800);
    let text = format!("(component (component $c (type $t string) {names}) {copies})");
    bombs.push((CompileBound::Items, wat::parse_str(text).unwrap()));
    bombs
}

/// A component with one core module beside what makes it a plugin.
fn wrap(fields: &str) -> Vec<u8> {
    let text = format!(
        r#"(component (core module {fields}) (instance $empty) (export "hookloom:plugin/mapping@1.0.0" (instance $empty)))"#
    );
    wat::parse_str(text).unwrap()
}

fn row_08_bombs_are_refused_before_anything_is_compiled() {
    // A child that does not exist: nothing may ask for it.
    let program = Some("/nonexistent".into());
    let runtime = contained(ChildCompiler { program, ..ChildCompiler::default() });
    for (bound, component) in bombs() {
        let error = runtime.compile(&component).unwrap_err();
        let CompileError::Limit { bound: found, needed: Some(needed), allowed } = error else { panic!("{error:?}") };
        assert_eq!(found, bound);
        assert!(needed > allowed);
        assert_eq!(error.code(), "compile_limit");
        assert!(error.to_string().contains(&allowed.to_string()), "{error}");
    }
}

fn row_08_what_gets_past_the_checks_is_stopped_by_the_child() {
    let unlimited = CompileLimits {
        functions_max: u64::MAX,
        function_bytes_max: u64::MAX,
        types_max: u64::MAX,
        items_max: u64::MAX,
        nesting_max: u64::MAX,
        branch_targets_max: u64::MAX,
    };
    let run = |child: ChildCompiler, component: &[u8]| {
        let config = RuntimeConfig { compile_limits: unlimited.clone(), ..config(child) };
        Runtime::new(config).unwrap().compile(component).unwrap_err()
    };
    let large = wrap(&format!(
        "(func (param i32) (result i32) {} (local.get 0))",
        "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 7)) (i32.popcnt (local.get 0))))".repeat(300_000)
    ));
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_kib("VmHWM");
    let second = Duration::from_secs(1);
    let quick = ChildCompiler { cpu: second, cpu_per_mib: Duration::ZERO, ..ChildCompiler::default() };
    let error = run(quick.clone(), &large);
    assert_eq!(error, CompileError::Limit { bound: CompileBound::CpuSeconds, needed: None, allowed: 1 });
    let memory = 150 << 20;
    let error = run(ChildCompiler { memory_bytes_max: memory, ..ChildCompiler::default() }, &large);
    assert_eq!(error, CompileError::Limit { bound: CompileBound::MemoryBytes, needed: None, allowed: memory });
    let small = ChildCompiler { artefact_bytes_max: 1000, ..ChildCompiler::default() };
    let error = run(small, &component());
    assert!(matches!(
        error,
        CompileError::Compiler { .. } | CompileError::Limit { bound: CompileBound::ArtefactBytes, .. }
    ));
    // A child that does nothing at all is ended by the clock.
    let sleeper = tempfile::tempdir().unwrap();
    let program = script(sleeper.path(), "exec sleep 1000");
    let start = Instant::now();
    let idle = ChildCompiler { program: Some(program), wall_clock_factor: 1, ..quick };
    let error = run(idle, &component());
    assert_eq!(error, CompileError::Limit { bound: CompileBound::WallClockSeconds, needed: None, allowed: 1 });
    assert!(start.elapsed() < Duration::from_secs(5));
    let grown = status_kib("VmHWM") - before;
    assert!(grown < 32 << 10, "this process grew by {grown} KiB");
    assert_eq!(children(), "", "all are reaped");
}

fn row_08_neighbors_go_on_while_a_bomb_is_compiled() {
    let runtime = contained(ChildCompiler {
        cpu: Duration::from_secs(1),
        cpu_per_mib: Duration::ZERO,
        ..ChildCompiler::default()
    });
    let plugin = runtime.compile(&component()).unwrap();
    let bomb = wrap(
        &"(func (param i32) (result i32) (i32.mul (i32.add (local.get 0) (i32.const 7)) (local.get 0)))".repeat(50_000),
    );
    let resident = status_kib("VmRSS");
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| runtime.compile(&bomb));
        let mut calls = 0;
        while !compiling.is_finished() {
            // Other programs may take the machine meanwhile.
            let limits = Limits { deadline: Duration::from_secs(60), ..Limits::default() };
            assert_eq!(reshape(&plugin, limits).outcome, Outcome::Unchanged);
            // Another upload, at the same time.
            if calls == 10 {
                runtime.compile(&reshaper(MEMORY, "(nop) (call $unchanged)")).unwrap();
            }
            calls += 1;
        }
        let error = compiling.join().unwrap().unwrap_err();
        assert!(matches!(error, CompileError::Limit { bound: CompileBound::CpuSeconds, .. }), "{error}");
        assert!(calls > 100, "{calls} calls");
    });
    let grown = status_kib("VmRSS").saturating_sub(resident);
    assert!(grown < 32 << 10, "this process grew by {grown} KiB");
}

fn row_09_no_stranger_becomes_an_artefact() {
    let runtime = contained(ChildCompiler::default());
    let component = component();
    let cases: [(&[u8], &str); 5] = [
        (b"garbage", "not_a_component"),
        (&component[..component.len() - 5], "truncated"),
        (b"\0asm\x01\0\0\0", "core_module"),
        (b"\x7fELF\x02\x01\x01\0", "precompiled"),
        (b"", "empty"),
    ];
    for (bytes, code) in cases {
        assert_eq!(runtime.compile(bytes).unwrap_err().code(), code);
    }
    // What a program that is none of ours answers is never loaded, be it in the right form or not.
    let folder = tempfile::tempdir().unwrap();
    for answer in
        ["cat >/dev/null; printf 'garbage'", "cat", "cat >/dev/null", r"cat >/dev/null; printf '\001\0\0\0\0\0\0\0\0'"]
    {
        let program = Some(script(folder.path(), answer));
        let error = contained(ChildCompiler { program, ..ChildCompiler::default() }).compile(&component).unwrap_err();
        assert_eq!(error.code(), "compiler_failed", "{answer}: {error}");
    }
}

fn row_34_a_subverted_child_reaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret.key");
    std::fs::write(&secret, "secret").unwrap();
    let written = folder.path().join("written");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let attempts = vec![
        Attempt::ReadFile(text(&secret)),
        Attempt::ReadFile("/etc/passwd".to_owned()),
        Attempt::ReadFile("/proc/self/maps".to_owned()),
        Attempt::WriteFile(text(&written)),
        Attempt::ListFolder(text(folder.path())),
        Attempt::Connect(listener.local_addr().unwrap().to_string()),
        Attempt::Listen,
        Attempt::Exec,
        Attempt::Thread,
        Attempt::Signal(std::process::id()),
        Attempt::Environment("PATH".to_owned()),
        Attempt::Environment("HOME".to_owned()),
        Attempt::Memory(3 << 30),
    ];
    let successes = ChildCompiler::default().probe(attempts.clone()).unwrap();
    let reached: Vec<_> = attempts.iter().zip(successes).filter(|(_, success)| *success).collect();
    assert!(reached.is_empty(), "{reached:?}");
    assert!(!written.exists());
    // The probe can tell: what is allowed succeeds.
    assert_eq!(ChildCompiler::default().probe(vec![Attempt::Memory(1 << 20)]).unwrap(), [true]);
}

fn a_restart_with_a_full_cache_starts_no_child() {
    let folder = tempfile::tempdir().unwrap();
    let cache = |child| {
        let cache = CacheConfig { folder: folder.path().to_owned(), key: CacheKey::new([1; 32]), bytes_max: 1 << 30 };
        Runtime::new(RuntimeConfig { cache: Some(cache), ..config(child) }).unwrap()
    };
    cache(ChildCompiler::default()).compile(&component()).unwrap();
    let restarted = cache(ChildCompiler { program: Some("/nonexistent".into()), ..ChildCompiler::default() });
    let plugin = restarted.load(&Digest::of(&component()), || Err("not needed")).unwrap();
    assert_eq!(reshape(&plugin, Limits::default()).outcome, Outcome::Unchanged);
}

fn a_child_that_fails_is_not_the_authors_fault() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["/nonexistent".into(), script(folder.path(), "echo broken >&2; exit 3")] {
        let runtime = contained(ChildCompiler { program: Some(program), ..ChildCompiler::default() });
        let error = runtime.compile(&component()).unwrap_err();
        assert!(matches!(&error, CompileError::Compiler { .. }), "{error:?}");
    }
    // Without a cage there is no work: so little address space that not even the filter can be set up.
    let error =
        contained(ChildCompiler { memory_bytes_max: 1, ..ChildCompiler::default() }).compile(&component()).unwrap_err();
    assert!(
        matches!(error, CompileError::Compiler { .. } | CompileError::Limit { bound: CompileBound::MemoryBytes, .. }),
        "{error:?}"
    );
}

fn a_child_that_the_system_ends_took_too_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    let program = Some(script(folder.path(), "cat >/dev/null; kill -9 $$"));
    let runtime = contained(ChildCompiler { program, ..ChildCompiler::default() });
    let error = runtime.compile(&component()).unwrap_err();
    assert_eq!(error, CompileError::Limit { bound: CompileBound::MachineMemory, needed: None, allowed: 0 });
    assert!(error.to_string().contains("more than there is of the machine's memory"), "{error}");
}

fn a_child_stands_back_behind_calls() {
    let runtime = contained(ChildCompiler {
        cpu: Duration::from_secs(1),
        cpu_per_mib: Duration::ZERO,
        ..ChildCompiler::default()
    });
    let bomb = wrap(
        &"(func (param i32) (result i32) (i32.mul (i32.add (local.get 0) (i32.const 7)) (local.get 0)))".repeat(50_000),
    );
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| runtime.compile(&bomb));
        let mut nice = None;
        while !compiling.is_finished() && nice != Some(10) {
            nice = children().split_whitespace().next().and_then(nice_of).or(nice);
        }
        assert_eq!(nice, Some(10));
        compiling.join().unwrap().unwrap_err();
    });
    assert_eq!(nice_of("self"), Some(0), "this process is not");
}

/// How far a process stands back; see proc_pid_stat(5).
fn nice_of(process: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before may have spaces.
    status.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

fn row_18_a_good_entry_outlives_a_failure_of_the_machine() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let folder = tempfile::tempdir().unwrap();
    let cache = CacheConfig { folder: folder.path().to_owned(), key: CacheKey::new([1; 32]), bytes_max: 1 << 30 };
    let config = RuntimeConfig { instances_max: 1, cache: Some(cache), ..RuntimeConfig::default() };
    let runtime = Runtime::new(config).unwrap();
    runtime.compile(&component()).unwrap();
    let digest = Digest::of(&component());
    // Not one descriptor is left.
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
    let found = runtime.cached(&digest);
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(found.unwrap().is_none());
    let counters = runtime.cache_counters();
    assert_eq!((counters.read_errors, counters.rejected), (1, 0));
    assert!(runtime.cached(&digest).unwrap().is_some(), "it is still there");
}

/// A program that does this.
fn script(folder: &Path, commands: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(format!("script-{}", Digest::of(commands.as_bytes()).to_string().split_off(50)));
    std::fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{commands}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}
