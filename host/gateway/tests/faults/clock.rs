//! Row 26: the wall clock jumps forward and back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};

use crate::kit::{Gateway, Ledger, Load, lock, until};

/// Messages that wait for their next attempt.
const WAITING: usize = 60;
/// Attempts at their endpoint at the same time.
const IN_FLIGHT_MAX: usize = 4;
/// From one attempt to the next, with a tenth more or less.
const HOUR_S: i64 = 3_600;

/// A receiver that fails until it is told to behave, and counts.
#[derive(Clone, Default)]
struct Failing {
    behave: Arc<AtomicBool>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    attempts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Failing {
    async fn receive(&self) -> String {
        let router = Router::new().route("/", post(fail)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        hook
    }

    /// Waits until each message had so many attempts and the gateway has recorded them, which is when it decides about the next ones;
    /// holds that none had more and that few were made at once.
    async fn each_had(&self, gateway: &Gateway, attempts: usize) {
        let all = async || {
            let counts = lock(&self.attempts).values().copied().collect::<Vec<_>>();
            counts.len() == WAITING && counts.iter().all(|count| *count >= attempts)
        };
        until(&format!("each message had {attempts} attempts"), all).await;
        let recorded = async || {
            let found = gateway.call("GET", "app/late/attempt/endpoint/bad?limit=250", Value::Null).await;
            found["data"].as_array().map_or(0, Vec::len) >= WAITING * attempts
        };
        until(&format!("{attempts} attempts of each message are recorded"), recorded).await;
        assert!(lock(&self.attempts).values().all(|count| *count == attempts), "{:?}", lock(&self.attempts));
        assert!(self.most.load(Ordering::SeqCst) <= IN_FLIGHT_MAX, "{} at once", self.most.load(Ordering::SeqCst));
    }
}

async fn fail(State(failing): State<Failing>, headers: HeaderMap) -> StatusCode {
    let now = failing.now.fetch_add(1, Ordering::SeqCst) + 1;
    failing.most.fetch_max(now, Ordering::SeqCst);
    let id = headers["webhook-id"].to_str().unwrap_or_default().to_owned();
    *lock(&failing.attempts).entry(id).or_default() += 1;
    // Long enough that more would meet here if more were made at once.
    tokio::time::sleep(Duration::from_millis(20)).await;
    failing.now.fetch_sub(1, Ordering::SeqCst);
    if failing.behave.load(Ordering::SeqCst) { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// The wall clock of a process.
struct Shift {
    folder: tempfile::TempDir,
}

impl Shift {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/clock/shift.rs");
        let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        compiler.args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-o"]);
        let compiled = compiler.arg(library(folder.path())).arg(source).status().unwrap();
        assert!(compiled.success());
        let shift = Self { folder };
        shift.by(0);
        shift
    }

    fn by(&self, seconds: i64) {
        // Never half written: it is read all the time.
        let (file, new) = (self.file(), self.folder.path().join("new"));
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [("LD_PRELOAD", text(library(self.folder.path()))), ("HOOKLOOM_TEST_CLOCK", text(self.file()))]
    }
}

fn library(folder: &Path) -> PathBuf {
    folder.join("libshift.so")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_a_clock_that_jumps_makes_no_burst_and_no_stall() {
    let (ledger, failing, shift) = (Ledger::default(), Failing::default(), Shift::new());
    let schedule = [HOUR_S; 10].map(|seconds| seconds.to_string()).join(", ");
    let settings = format!(
        "[delivery]\nschedule_s = [{schedule}]\nbreaker_failures = 0\nin_flight_max = {IN_FLIGHT_MAX}\n\
         disable_after_failing_s = {HOUR_S}\n"
    );
    let gateway = Gateway::start_in(&settings, &shift.environment(), "").await;
    let source = gateway.tenant(&ledger.receive().await).await;
    gateway.call("POST", "app", json!({ "name": "late", "uid": "late" })).await;
    gateway.call("POST", "app/late/endpoint", json!({ "url": failing.receive().await, "uid": "bad" })).await;
    for number in 0..WAITING {
        let message = json!({ "eventType": "a", "payload": { "n": number } });
        gateway.call("POST", "app/late/msg", message).await;
    }
    failing.each_had(&gateway, 1).await;
    let load = Load::start(&gateway, &source, &ledger, 2);
    // Each jump forward over a time that is waited for makes what waits due once; a jump back makes nothing due, and nobody waits for it.
    let mut attempts = 1;
    for (minutes, is_due) in [(120, true), (-1_440, false), (140, false), (300, true)] {
        shift.by(minutes * 60);
        attempts += usize::from(is_due);
        failing.each_had(&gateway, attempts).await;
        let accepted = ledger.accepted();
        until("it goes on", async || ledger.accepted() > accepted + 50).await;
        failing.each_had(&gateway, attempts).await;
    }
    load.end().await;
    ledger.settle("clock moved 4 times").await;
    let endpoint = gateway.call("GET", "app/late/endpoint/bad", Value::Null).await;
    assert_eq!(endpoint["disabled"], false, "a jump is no time in which an endpoint failed");

    failing.behave.store(true, Ordering::SeqCst);
    shift.by(7 * HOUR_S);
    failing.each_had(&gateway, attempts + 1).await;
    println!("clock moved: {WAITING} messages waited · {attempts} attempts each · at most {IN_FLIGHT_MAX} at once");
}
