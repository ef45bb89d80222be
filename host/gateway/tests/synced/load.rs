//! The gateway that is traced, and the requests that it gets, in three phases.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::trace::Store;

/// Messages and events that are accepted before the syncs fail.
pub const ACCEPTS: usize = 200;
/// Clients at the same time, so that commits are shared.
const CLIENTS: usize = 8;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Everything works.
    Works,
    /// Each sync of the store fails.
    SyncsFail,
}

/// What was answered after the first phase.
#[derive(Debug, Default)]
pub struct Answers {
    pub accepted_while_failing: usize,
    pub refused_while_failing: usize,
    pub accepted_afterwards: usize,
}

/// A gateway that has not started yet.
pub struct Gateway {
    folder: PathBuf,
    address: String,
    key: String,
    phase: Arc<AtomicU8>,
}

impl Gateway {
    /// Makes the store and a key in it.
    pub fn prepare(folder: &Path) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (store, key, cache) = (folder.join("hookloom.db"), folder.join("secret.key"), folder.join("cache"));
        let text = format!(
            "[server]\nlisten = {address:?}\n[store]\npath = {store:?}\n[secrets]\nkey_file = {key:?}\n\
             [runtime.cache]\npath = {cache:?}\n[log]\nfilter = \"off\"\n"
        );
        fs::write(folder.join("hookloom.toml"), text).unwrap();
        let mut gateway = Self {
            folder: folder.to_owned(),
            address,
            key: String::new(),
            phase: Arc::new(AtomicU8::new(Phase::Works as u8)),
        };
        let [program, _, arguments @ ..] = &gateway.command()[..] else { unreachable!("it has more words") };
        let output = Command::new(program).args(["key", "create", "--operator"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        gateway.key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        gateway
    }

    pub fn store(&self) -> PathBuf {
        self.folder.join("hookloom.db")
    }

    /// The command that runs it.
    pub fn command(&self) -> Vec<String> {
        let config = self.folder.join("hookloom.toml").display().to_string();
        [env!("CARGO_BIN_EXE_hookloom"), "serve", "--config", &config].map(str::to_owned).into()
    }

    pub fn phase(&self) -> Phase {
        if self.phase.load(Ordering::SeqCst) == Phase::SyncsFail as u8 { Phase::SyncsFail } else { Phase::Works }
    }

    /// Which file of the store a path names.
    pub fn file(&self, path: &OsStr) -> Option<Store> {
        let store = self.store();
        let log = self.folder.join("hookloom.db-wal");
        if path == store.as_os_str() {
            Some(Store::Database)
        } else if path == log.as_os_str() {
            Some(Store::Log)
        } else {
            None
        }
    }

    /// Loads it from other threads, phase by phase, and stops it in the end.
    pub fn load(&self, pid: u32) -> JoinHandle<Answers> {
        let (address, key, phase) = (self.address.clone(), self.key.clone(), self.phase.clone());
        thread::spawn(move || {
            let client = Arc::new(Client { address, key });
            while client.ask("GET", "/api/v1/health", &Value::Null).is_none() {
                thread::sleep(Duration::from_millis(20));
            }
            let source = client.tenant();
            let accepted = client.publish(&source, ACCEPTS);
            assert_eq!(accepted, (ACCEPTS, 0), "accepted, refused");
            let mut answers = Answers::default();
            phase.store(Phase::SyncsFail as u8, Ordering::SeqCst);
            (answers.accepted_while_failing, answers.refused_while_failing) = client.publish(&source, 2 * CLIENTS);
            phase.store(Phase::Works as u8, Ordering::SeqCst);
            for _ in 0..50 {
                answers.accepted_afterwards += client.publish(&source, CLIENTS).0;
                if answers.accepted_afterwards > 0 {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGTERM).unwrap();
            answers
        })
    }
}

struct Client {
    address: String,
    key: String,
}

impl Client {
    /// Makes a tenant without endpoints, and says where its source is.
    fn tenant(&self) -> String {
        self.ask("POST", "/api/v1/app", &json!({ "name": "acme", "uid": "acme" })).unwrap();
        let source = self.ask("POST", "/api/v1/app/acme/source", &json!({ "name": "site" })).unwrap();
        let url = source.1["url"].as_str().unwrap().to_owned();
        url.split_once("/api/event/").map(|(_, token)| format!("/api/event/{token}")).unwrap()
    }

    /// Sends so many messages and events over several connections; how many were accepted and refused.
    fn publish(self: &Arc<Self>, source: &str, count: usize) -> (usize, usize) {
        let totals = Arc::new(Mutex::new((0, 0)));
        let threads = (0..CLIENTS).map(|client| {
            let (this, source, totals) = (self.clone(), source.to_owned(), totals.clone());
            thread::spawn(move || {
                for number in (client..count).step_by(CLIENTS) {
                    let event = json!({ "event_type": "a.b", "n": number });
                    let message = json!({ "eventType": "a.b", "payload": { "n": number } });
                    let (path, body) =
                        if number % 2 == 0 { (source.as_str(), event) } else { ("/api/v1/app/acme/msg", message) };
                    let (status, answer) = this.ask("POST", path, &body).unwrap();
                    let mut totals = totals.lock().unwrap();
                    match status {
                        202 => totals.0 += 1,
                        503 => totals.1 += 1,
                        other => panic!("{other} {answer}"),
                    }
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        let totals = totals.lock().unwrap();
        *totals
    }

    /// One request on a connection of its own.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.key,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.get(9..12)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }
}
