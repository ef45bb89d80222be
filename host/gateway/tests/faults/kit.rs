//! A gateway as a process, a tenant in it, a load, a receiver, and the ledger that compares them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::{Value, json};

pub use crate::patience::until;

/// Everything that was accepted has to arrive within this after the harm's end.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// A gateway on a folder of its own; its process can be killed and started again.
pub struct Gateway {
    pub address: String,
    pub folder: tempfile::TempDir,
    pub key: String,
    pub client: reqwest::Client,
    process: Mutex<Option<Child>>,
    environment: Vec<(String, String)>,
}

impl Gateway {
    /// Starts one with these settings besides the kit's.
    pub async fn start(settings: &str) -> Arc<Self> {
        Self::start_in(settings, &[], "").await
    }

    /// Starts one on this PostgreSQL.
    pub async fn start_on(database: &str, settings: &str) -> Arc<Self> {
        Self::start_in(settings, &[], database).await
    }

    /// Starts one with these variables in its environment, on a PostgreSQL or (empty) the embedded store.
    pub async fn start_in(settings: &str, environment: &[(&str, String)], database: &str) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        write_config(folder.path(), &address, database, settings);
        let gateway = Self {
            key: hookloom(folder.path(), &["key", "create", "--operator"]).trim().to_owned(),
            client: client(),
            process: Mutex::new(None),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            address,
            folder,
        };
        gateway.run().await;
        Arc::new(gateway)
    }

    /// Starts the process and waits until it answers.
    pub async fn run(&self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
        command.args(["serve", "--config"]).arg(self.folder.path().join("hookloom.toml"));
        command.envs(self.environment.iter().cloned());
        // Ignored by the shell and so by what it becomes: a file that may not grow is then an error and not the end.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        shell.envs(self.environment.iter().cloned());
        let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *lock(&self.process) = Some(child);
        let health = format!("http://{}/api/v1/health", self.address);
        until("the gateway answers", async || {
            let ended = lock(&self.process).as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended: {}", std::fs::read_to_string(self.log()).unwrap());
            self.client.get(&health).send().await.is_ok_and(|answer| answer.status() == 204)
        })
        .await;
    }

    /// Ends the process at once, with nothing tidied up.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.process).take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the process to stop, and says how it ended.
    pub async fn terminate(&self) -> Option<i32> {
        let mut child = lock(&self.process).take().unwrap();
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        lock(&self.process).as_ref().unwrap().id()
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("hookloom.db")
    }

    /// Runs a command of the binary over the same store.
    pub fn command(&self, arguments: &[&str]) -> String {
        hookloom(self.folder.path(), arguments)
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A request that succeeds.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, &body, None).await.unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// A request, and its status and answer; none if the connection broke.
    pub async fn ask(&self, method: &str, path: &str, body: &Value, key: Option<&str>) -> Option<(u16, Value)> {
        let url =
            if path.starts_with("http") { path.to_owned() } else { format!("http://{}/api/v1/{path}", self.address) };
        let request = self.client.request(method.parse().unwrap(), url).bearer_auth(&self.key);
        let mut request = request.header("content-type", "application/json").timeout(Duration::from_secs(20));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if method != "GET" {
            request = request.body(body.to_string());
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        assert!(status != 503 || response.headers().contains_key("retry-after"), "503 says when to come back");
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Makes the tenant `acme` with an endpoint there, and a source whose events all become messages to it; says where
    /// the source is.
    pub async fn tenant(&self, hook: &str) -> String {
        self.call("POST", "app", json!({ "name": "acme", "uid": "acme" })).await;
        self.call("POST", "app/acme/endpoint", json!({ "url": hook, "uid": "good" })).await;
        self.call("POST", "app/acme/rule", json!({ "key": "paid", "name": "paid", "trigger": "paid" })).await;
        let source = self.call("POST", "app/acme/source", json!({ "name": "site", "uid": "site" })).await;
        source["url"].as_str().unwrap().to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What was accepted, and what arrived.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// Messages and events by the number that they carry, with every id that was answered for it.
    accepted: BTreeMap<u64, BTreeSet<String>>,
    /// By what it was accepted as (the event, where it came from one): each `webhook-id` with the bodies that came.
    delivered: BTreeMap<String, BTreeMap<String, Vec<Bytes>>>,
    refused: u64,
    broken: u64,
}

impl Ledger {
    /// Starts a receiver that confirms and records everything; says where it is.
    pub async fn receive(&self) -> String {
        let router = Router::new().route("/", post(record)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        hook
    }

    pub fn accept(&self, number: u64, id: &str) {
        self.books().accepted.entry(number).or_default().insert(id.to_owned());
    }

    pub fn accepted(&self) -> usize {
        self.books().accepted.len()
    }

    /// Answers with 503 so far.
    pub fn refused(&self) -> u64 {
        self.books().refused
    }

    /// Waits until everything that was accepted has arrived, then prints the result and holds what must hold.
    pub async fn settle(&self, name: &str) {
        let complete = async || {
            let books = self.books();
            books.accepted.values().flatten().all(|id| books.delivered.contains_key(id))
        };
        let begun = std::time::Instant::now();
        while !complete().await && begun.elapsed() < SETTLE_MAX {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let settled = complete().await;
        let books = self.books();
        let ids: BTreeSet<&String> = books.accepted.values().flatten().collect();
        let missing = ids.iter().filter(|id| !books.delivered.contains_key(**id)).count();
        let unknown = books.delivered.keys().filter(|id| !ids.contains(id)).count();
        let twice = books.delivered.values().flatten().filter(|(_, bodies)| bodies.len() > 1).count();
        let doubled = books.delivered.values().filter(|messages| messages.len() > 1).count();
        let repeated = books.accepted.values().filter(|ids| ids.len() > 1).count();
        println!(
            "{name}: accepted {} · delivered {} · missing {missing} · twice {twice} · unknown {unknown} · refused {} · \
             answers cut off {}",
            ids.len(),
            books.delivered.len(),
            books.refused,
            books.broken
        );
        assert!(settled, "{name}: not everything was delivered");
        assert_eq!((missing, unknown), (0, 0), "{name}: missing, unknown");
        assert_eq!((doubled, repeated), (0, 0), "{name}: more than one message for one event, or for one key");
        for bodies in books.delivered.values().flat_map(BTreeMap::values) {
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{name}: a message's bytes stay the same");
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.0)
    }
}

async fn record(State(ledger): State<Ledger>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers["webhook-id"].to_str().unwrap_or_default().to_owned();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let subject = value["eventId"].as_str().map_or_else(|| id.clone(), str::to_owned);
    ledger.books().delivered.entry(subject).or_default().entry(id).or_default().push(body);
    StatusCode::OK
}

/// Publishes without a pause until it is told to end: messages with an idempotency key, messages with an id of their own,
/// and events at the source. What got no answer, or 503, is repeated until there is one.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub fn start(gateway: &Arc<Gateway>, source: &str, ledger: &Ledger, tasks: usize) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = Vec::from_iter((0..tasks).map(|_| {
            let (gateway, source, ledger) = (gateway.clone(), source.to_owned(), ledger.clone());
            let (stop, next) = (stop.clone(), next.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    publish(&gateway, &source, &ledger, number).await;
                }
            })
        }));
        Self { stop, tasks }
    }

    /// Ends it; everything that it has begun is answered then.
    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn publish(gateway: &Gateway, source: &str, ledger: &Ledger, number: u64) {
    let (name, messages) = (format!("n{number}"), "app/acme/msg".to_owned());
    let plain = json!({ "eventType": "paid", "payload": { "n": number } });
    let own = json!({ "eventType": "paid", "eventId": name, "payload": { "n": number } });
    let event = json!({ "event_type": "paid", "n": number });
    let (path, body, key) = match number % 3 {
        0 => (messages, plain, Some(name.as_str())),
        1 => (messages, own, None),
        _ => (source.to_owned(), event, Some(name.as_str())),
    };
    loop {
        let answer = gateway.ask("POST", &path, &body, key).await;
        match answer {
            Some((202, answer)) => return ledger.accept(number, answer["id"].as_str().unwrap()),
            // It was accepted, and the answer was lost on the way.
            Some((409, answer)) if answer["code"] == "event_exists" => {
                if let Some((200, found)) = gateway.ask("GET", &format!("{path}/{name}"), &Value::Null, None).await {
                    return ledger.accept(number, found["id"].as_str().unwrap());
                }
            }
            Some((503, _)) => ledger.books().refused += 1,
            Some((status, answer)) => panic!("number {number}: {status} {answer}"),
            None => ledger.books().broken += 1,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Random numbers that a seed repeats (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// From `HOOKLOOM_FAULT_SEED`, or another one each time; prints it.
    pub fn new(name: &str) -> Self {
        let given = std::env::var("HOOKLOOM_FAULT_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(name) % 1_000_000);
        println!("{name}: HOOKLOOM_FAULT_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn client() -> reqwest::Client {
    // Already installed by another test of this process, or now.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A port that was free a moment ago; the configuration of a process has to name one before it starts.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn write_config(folder: &Path, address: &str, database: &str, settings: &str) {
    let (store, key, cache) = (folder.join("hookloom.db"), folder.join("secret.key"), folder.join("cache"));
    let text = format!(
        "[server]\nlisten = {address:?}\n[store]\npath = {store:?}\nurl = {database:?}\n[secrets]\nkey_file = {key:?}\n\
         [runtime.cache]\npath = {cache:?}\n\
         [egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n{settings}"
    );
    std::fs::write(folder.join("hookloom.toml"), text).unwrap();
}

/// Runs a command of the binary and gives what it prints.
fn hookloom(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
    let output = command.args(arguments).arg("--config").arg(folder.join("hookloom.toml")).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { out.into_owned() } else { format!("failed: {error}") }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
