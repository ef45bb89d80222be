//! A PostgreSQL for tests: one server a test program, one database a test.
//!
//! The server is the one that `HOOKLOOM_TEST_POSTGRES=postgres://…` names, or one that the kit starts from the binaries on this
//! machine: on a socket in a folder of its own, as the user `postgres` where the tests run as root, which PostgreSQL refuses.
//! It is stopped, and its folder removed, when the program ends, however it ends. A test that stops and starts its server has one
//! of its own ([`PostgresServer::own`]).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio_postgres::{Client, NoTls};

/// Names a server to use instead of an own one. Its user must be allowed to make databases.
const VARIABLE: &str = "HOOKLOOM_TEST_POSTGRES";

/// What to do where there is none.
const MISSING: &str =
    "no PostgreSQL: `apt-get install postgresql`, or set HOOKLOOM_TEST_POSTGRES=postgres://user@host/postgres";

/// Makes the cluster, runs it, stops and starts it when a line of its input says so, and ends with it when that ends: when the
/// test program is gone. `$1` is the folder of the binaries; the first line that it prints is the folder of the socket, each
/// further one says that an order is done.
const RUN: &str = r#"
    set -e
    folder=$(mktemp -d /tmp/hookloom-pg.XXXXXX)
    trap 'rm -rf "$folder"' EXIT
    cd "$folder"
    "$1/initdb" -D "$folder/data" -U hookloom -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder/initdb.log" 2>&1 ||
        { cat "$folder/initdb.log" >&2; exit 1; }
    server=
    start() {
        "$1/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c max_connections=400 >>"$folder/log" 2>&1 &
        server=$!
    }
    end() {
        [ -z "$server" ] || { kill -"$1" $server; wait $server || true; }
        server=
    }
    start "$1"
    echo "$folder"
    while read -r order; do
        case $order in
            stop) end INT ;;
            crash) end QUIT ;;
            start) start "$1" ;;
        esac
        echo "$order"
    done
    end INT
"#;

/// A server that is there as long as the test program.
#[derive(Debug)]
pub struct PostgresServer {
    /// Up to the database's name.
    url: String,
    /// None for one that others run.
    runner: Option<Mutex<Runner>>,
}

/// What runs the server. Its standard input is held open by this program alone.
#[derive(Debug)]
struct Runner {
    process: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Its connections are closed, and it ends.
    Stop,
    /// It ends at once, with nothing tidied up, and recovers when it starts.
    Crash,
    /// It starts; connections are taken a little later.
    Start,
}

impl PostgresServer {
    /// The server of this program, started by whoever asks first.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn shared() -> Result<&'static Self, String> {
        static SERVER: OnceLock<Result<PostgresServer, String>> = OnceLock::new();
        SERVER.get_or_init(Self::start).as_ref().map_err(Clone::clone)
    }

    /// A server of the caller's own, from the binaries on this machine.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn own() -> Result<Self, String> {
        Self::run(&binaries().ok_or(MISSING)?)
    }

    /// Stops or starts a server that this program runs; returns when it is done.
    ///
    /// # Panics
    /// If others run the server.
    pub fn order(&self, order: Order) {
        let runner = self.runner.as_ref().expect("a test gives orders to a server of its own");
        let mut runner = runner.lock().unwrap_or_else(PoisonError::into_inner);
        let word = match order {
            Order::Stop => "stop",
            Order::Crash => "crash",
            Order::Start => "start",
        };
        writeln!(runner.orders, "{word}").expect("the server's runner is there");
        let mut done = String::new();
        runner.done.read_line(&mut done).expect("the server's runner answers");
        assert_eq!(done.trim(), word, "{:?}", runner.process.try_wait());
    }

    fn start() -> Result<Self, String> {
        if let Ok(url) = std::env::var(VARIABLE) {
            let (url, _) = url.rsplit_once('/').ok_or_else(|| format!("{VARIABLE} must end with /postgres"))?;
            return Ok(Self { url: url.to_owned(), runner: None });
        }
        Self::own()
    }

    fn run(binaries: &Path) -> Result<Self, String> {
        // PostgreSQL doesn't run as root.
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", RUN, "sh"]).arg(binaries).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("PostgreSQL doesn't start: {error}"))?;
        let orders = process.stdin.take().expect("its input is a pipe");
        let mut done = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        let mut folder = String::new();
        done.read_line(&mut folder).map_err(|error| error.to_string())?;
        let folder = folder.trim();
        if folder.is_empty() {
            return Err("PostgreSQL doesn't start; what it said stands above".to_owned());
        }
        let runner = Some(Mutex::new(Runner { process, orders, done }));
        Ok(Self { url: format!("postgres://hookloom@{}", folder.replace('/', "%2F")), runner })
    }

    /// Makes a new, empty database and answers its URL.
    ///
    /// # Panics
    /// If that fails.
    pub async fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hookloom_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let client = self.administrator().await;
        // A server that others named is left over from the last time, perhaps under the same number.
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.expect("the user may drop databases");
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the user may make databases");
        format!("{}/{name}", self.url)
    }

    /// A client that waits for a server that is just starting.
    async fn administrator(&self) -> Client {
        let url = format!("{}/postgres", self.url);
        let mut last = None;
        for _ in 0..600 {
            match tokio_postgres::connect(&url, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL can't be reached: {last:?}")
    }
}

/// A client of a database, beside the store under test.
///
/// # Panics
/// If it can't connect.
pub async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database is there");
    tokio::spawn(connection);
    client
}

/// A new, empty database of the program's server.
///
/// # Panics
/// If there is no PostgreSQL: with one line that says what to do.
pub async fn database() -> String {
    let server = tokio::task::spawn_blocking(PostgresServer::shared).await.expect("starting a server doesn't panic");
    match server {
        Ok(server) => server.database().await,
        Err(why) => panic!("{why}"),
    }
}

/// The folder with the newest `initdb` and `postgres`.
fn binaries() -> Option<PathBuf> {
    let of_path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&of_path).map(|folder| (u32::MAX, folder));
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|folder| {
        let version = folder.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(0);
        (version, folder.path().join("bin"))
    });
    let has_all = |folder: &Path| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    in_path.chain(packaged).filter(|(_, folder)| has_all(folder)).max_by_key(|(version, _)| *version).map(|(_, it)| it)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|of_process| std::os::unix::fs::MetadataExt::uid(&of_process) == 0)
}
