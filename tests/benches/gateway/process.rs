//! The gateway as a process: its folder, its key, what it uses.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    GATEWAY,
    http::{self, Connection},
};

/// A running gateway; it is killed when this is dropped.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// An operator's key.
    pub key: String,
    folder: tempfile::TempDir,
    child: Child,
    peak_kib: Arc<AtomicU64>,
    watched: Arc<AtomicBool>,
}

impl Gateway {
    /// Starts one over a new embedded store, on the disk that the target folder is on.
    pub fn start() -> Result<Self> {
        Self::start_on(None)
    }

    /// As [`start`](Self::start); over a PostgreSQL, if its URL is given.
    pub fn start_on(postgres: Option<&str>) -> Result<Self> {
        let under = target();
        fs::create_dir_all(&under)?;
        let folder = tempfile::Builder::new().prefix("gateway-").tempdir_in(under)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = |name: &str| folder.path().join(name);
        let (store, key, cache) = (file("hookloom.db"), file("secret.key"), file("cache"));
        let url = postgres.map(|url| format!("url = {url:?}\n")).unwrap_or_default();
        let config = format!(
            "[server]\nlisten = \"{address}\"\n[store]\npath = {store:?}\n{url}[secrets]\nkey_file = {key:?}\n\
             [runtime.cache]\npath = {cache:?}\n[log]\nfilter = \"warn\"\n\
             [egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n"
        );
        fs::write(file("hookloom.toml"), config)?;
        let made = command(folder.path(), &["key", "create", "--operator"])?.output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let child = serve(folder.path())?;
        let (peak_kib, watched) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let gateway = Self { address, key, folder, child, peak_kib, watched };
        gateway.wait()?;
        gateway.watch();
        Ok(gateway)
    }

    /// Stops it in order, does something to its store, and starts it again at the same place. Answers when it was started.
    pub fn restart(&mut self, between: impl FnOnce(&Path) -> Result<()>) -> Result<Instant> {
        self.watched.store(false, Ordering::Relaxed);
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill {pid}");
        self.child.wait()?;
        between(&self.folder.path().join("hookloom.db"))?;
        (self.peak_kib, self.watched) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let started = Instant::now();
        self.child = serve(self.folder.path())?;
        self.watch();
        Ok(started)
    }

    /// Waits until it answers.
    pub fn wait(&self) -> Result<()> {
        let begun = Instant::now();
        while Connection::open(self.address).is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(30), "the gateway does not answer");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A request for JSON with the operator's key.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let request = http::post(&format!("/api/v1/{path}"), &self.key, &body);
        let request = [method.as_bytes(), &request[4..]].concat();
        self.ask(&request)
    }

    /// Sends bytes as a request that succeeds.
    pub fn ask(&self, request: &[u8]) -> Result<Value> {
        let mut connection = Connection::open(self.address)?;
        let answer = connection.exchange(request)?;
        let text = String::from_utf8_lossy(answer.body);
        ensure!((200..300).contains(&answer.status), "{}: {text}", answer.status);
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Processor time that it has used, in all its threads.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(&format!("/proc/{}/stat", self.child.id()))
    }

    /// The most anonymous memory that it held since its start, in MiB, looked at ten times a second.
    pub fn peak_mib(&self) -> f64 {
        self.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0
    }

    fn watch(&self) {
        let (peak, watched, pid) = (self.peak_kib.clone(), self.watched.clone(), self.child.id());
        thread::spawn(move || {
            while watched.load(Ordering::Relaxed) {
                let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return };
                let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
                let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                peak.fetch_max(kib.unwrap_or_default(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
        });
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.watched.store(false, Ordering::Relaxed);
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that this program has used: load and receiver.
pub fn own_cpu() -> Result<Duration> {
    cpu("/proc/self/stat")
}

/// Processor time that all processes of PostgreSQL have used that are there now.
pub fn postgres_cpu() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for process in fs::read_dir("/proc")? {
        let folder = process?.path();
        // What ends at this moment can't be read any more.
        if fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim() == "postgres") {
            sum += cpu(&folder.join("stat").to_string_lossy()).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// The processor time in a process's `stat`, in all its threads.
fn cpu(stat: &str) -> Result<Duration> {
    // proc_pid_stat(5): fields 14 and 15, in clock ticks, of which Linux shows 100 a second to every program.
    let stat = fs::read_to_string(stat)?;
    let fields = stat.rsplit_once(") ").context("a name in parentheses")?.1;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Where the bench writes.
pub fn target() -> PathBuf {
    hookloom_tests::plugins::root().join("target/bench")
}

fn serve(folder: &Path) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(folder.join("log"))?;
    Ok(command(folder, &["serve"])?.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?)
}

fn command(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(GATEWAY).args(arguments).arg("--config").arg(folder.join("hookloom.toml"));
    Ok(command)
}
