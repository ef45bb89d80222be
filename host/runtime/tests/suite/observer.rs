//! What an embedder is told, and that no type of the engine is part of what it sees.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookloom_runtime::{
    BusyReason, CallInfo, CompileError, Executor, ExecutorConfig, Limits, Observer, Outcome, Plugin, Report, Runtime,
    RuntimeConfig,
};

use crate::guest::{message, request, reshaper, runtime};

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// Writes down what it is told.
#[derive(Default)]
struct Witness(Mutex<Vec<String>>);

impl Witness {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Witness {
    fn call_submitted(&self, call: &CallInfo<'_>) {
        self.note(format!("{} submitted", call.tenant));
    }

    fn call_refused(&self, call: &CallInfo<'_>, reason: BusyReason) {
        self.note(format!("{} refused: {reason}", call.tenant));
    }

    fn call_started(&self, call: &CallInfo<'_>, _: Duration) {
        self.note(format!("{} started", call.tenant));
    }

    fn call_finished(&self, call: &CallInfo<'_>, _: Duration, report: &Report) {
        assert!(report.fuel_used > 0 && report.duration > Duration::ZERO);
        self.note(format!("{} finished: {} of {}", call.tenant, report.outcome.code(), call.digest));
    }

    fn compiled(&self, result: Result<&Plugin, &CompileError>, _: Duration) {
        self.note(format!("compiled: {}", result.map_or_else(|error| error.code(), |_| "fine")));
    }
}

fn watched(observer: Arc<impl Observer + 'static>) -> Runtime {
    runtime(RuntimeConfig { observer: observer.into(), instances_max: 2, ..RuntimeConfig::default() })
}

fn one_worker(queue_max: usize) -> Executor {
    Executor::new(ExecutorConfig { workers: 1, queue_max, ..ExecutorConfig::default() })
}

#[test]
fn every_call_and_every_compilation_is_told() {
    let witness = Arc::new(Witness::default());
    let runtime = watched(Arc::clone(&witness));
    let plugin = runtime.compile(&reshaper(MEMORY, "(call $unchanged)")).unwrap();
    runtime.compile(b"garbage").unwrap_err();
    assert_eq!(witness.take(), ["compiled: fine", "compiled: not_a_component"]);
    let digest = plugin.digest().to_string();
    let executor = one_worker(10);
    executor.submit("one", &plugin, request(message(), Limits::default())).unwrap().wait();
    drop(executor.submit("two", &plugin, request(message(), Limits { fuel: 10, ..Limits::default() })).unwrap());
    executor.shutdown();
    executor.submit("three", &plugin, request(message(), Limits::default())).unwrap_err();
    let one = ["one submitted".to_owned(), "one started".to_owned(), format!("one finished: unchanged of {digest}")];
    let two =
        ["two submitted".to_owned(), "two started".to_owned(), format!("two finished: fuel_exhausted of {digest}")];
    let three = ["three submitted".to_owned(), "three refused: plugin calls are being shut down".to_owned()];
    assert_eq!(witness.take(), [&one[..], &two[..], &three[..]].concat());
}

/// Panics whatever it is told.
struct Bomb;

impl Observer for Bomb {
    fn call_submitted(&self, _: &CallInfo<'_>) {
        panic!("submitted");
    }

    fn call_started(&self, _: &CallInfo<'_>, _: Duration) {
        panic!("started");
    }

    fn call_finished(&self, _: &CallInfo<'_>, _: Duration, _: &Report) {
        panic!("finished");
    }

    fn call_refused(&self, _: &CallInfo<'_>, _: BusyReason) {
        panic!("refused");
    }

    fn compiled(&self, _: Result<&Plugin, &CompileError>, _: Duration) {
        panic!("compiled");
    }
}

#[test]
fn an_observer_that_panics_harms_no_call() {
    let plugin = watched(Arc::new(Bomb)).compile(&reshaper(MEMORY, "(call $unchanged)")).unwrap();
    let executor = one_worker(10);
    for _ in 0..3 {
        let ticket = executor.submit("one", &plugin, request(message(), Limits::default())).unwrap();
        assert_eq!(ticket.wait().outcome, Outcome::Unchanged);
    }
    executor.shutdown();
    let busy = executor.submit("one", &plugin, request(message(), Limits::default())).unwrap_err();
    assert_eq!(busy.reason, BusyReason::ShuttingDown);
}

#[test]
fn no_public_item_names_the_engine() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut files, mut items) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            // A signature is read up to its end; `pub(crate)` is not public.
            let public = text.match_indices("\n").map(|(at, _)| text[at + 1..].trim_start());
            for item in public.filter(|rest| rest.starts_with("pub ") && !rest.starts_with("pub mod")) {
                items += 1;
                let signature = item.split(['{', ';']).next().unwrap();
                for name in ["wasmtime", "Store<", "Linker<", "Trap", "Component,", "Engine"] {
                    // The names of versions are texts.
                    let ours = signature.contains("EngineIdentity") || signature.contains("pub wasmtime: String");
                    assert!(ours || !signature.contains(name), "{}: {signature}", path.display());
                }
            }
        }
    }
    assert!(files > 15 && items > 100, "{files} files, {items} items");
}
