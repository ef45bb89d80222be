//! Connections to PostgreSQL: how one is made, and what runs on it.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Row, Socket, Statement,
    config::{Host, SslMode},
    error::SqlState,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
    types::ToSql,
};

use super::rows::Param;
use crate::{
    config::Postgres,
    store::{Result, StoreError},
};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long the database may take for one statement before the connection counts as lost. It ends statements itself before.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Statements that a connection keeps prepared. Those of lists vary with their filters.
const STATEMENTS_MAX: usize = 400;

/// What each session begins with. A statement or an open transaction that hangs ends by itself and frees its locks.
const SESSION: &str = "SET application_name = 'hookloom'; SET statement_timeout = '10s'; SET lock_timeout = '5s';
     SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = 'warning'";

/// Knows how to connect.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    tls: Tls,
}

impl Connector {
    /// Reads a URL as `psql` takes it: `postgres://user:password@host/database?sslmode=…`. Over a network TLS is demanded
    /// unless the URL says `sslmode=disable`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the URL can't be read; its text is not in the error, since it may hold a password.
    pub fn parse(database: &Postgres) -> Result<Self> {
        let mut config: Config = database
            .url()
            .parse()
            .map_err(|error: tokio_postgres::Error| unavailable(format!("the URL: {}", with_cause(&error))))?;
        if let Some(password) = &database.password {
            config.password(password);
        }
        let is_near = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        };
        if config.get_ssl_mode() == SslMode::Prefer && !config.get_hosts().iter().all(is_near) {
            config.ssl_mode(SslMode::Require);
        }
        config.connect_timeout(CONNECT_WITHIN).tcp_user_timeout(ANSWER_WITHIN).keepalives_idle(ANSWER_WITHIN);
        Ok(Self { config, tls: Tls::new()? })
    }

    /// Opens a connection. Notifications go to `news`, if it is given.
    pub async fn connect(&self, news: Option<mpsc::Sender<String>>) -> Result<Connection> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, mut driver) =
            timeout(2 * CONNECT_WITHIN, connecting).await.map_err(unavailable)?.map_err(store_error)?;
        tokio::spawn(async move {
            // Ends when the client is dropped or the connection is lost; the client says so to whoever uses it next.
            while let Some(Ok(message)) = poll_fn(|context| driver.poll_message(context)).await {
                if let (AsyncMessage::Notification(notification), Some(news)) = (message, &news)
                    && news.send(notification.payload().to_owned()).await.is_err()
                {
                    break;
                }
            }
        });
        client.batch_execute(SESSION).await.map_err(store_error)?;
        Ok(Connection {
            client,
            statements: Mutex::default(),
            is_broken: AtomicBool::new(false),
            may_try_again: AtomicBool::new(false),
        })
    }
}

/// One connection, with the statements that it has prepared. Values stand in statements as `?`, or as `?1` where one stands
/// twice.
pub struct Connection {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    is_broken: AtomicBool,
    may_try_again: AtomicBool,
}

impl Connection {
    /// Runs a statement and answers how many rows it changed.
    pub async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        self.run(async {
            let statement = self.statement(sql).await?;
            self.client.execute(&statement, &refs(params)).await
        })
        .await
    }

    /// Runs a statement and answers its rows.
    pub async fn rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.run(async {
            let statement = self.statement(sql).await?;
            self.client.query(&statement, &refs(params)).await
        })
        .await
    }

    /// Runs a statement and answers its first row.
    pub async fn first(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// Whether a statement has any row.
    pub async fn exists(&self, sql: &str, params: &[Param<'_>]) -> Result<bool> {
        Ok(!self.rows(sql, params).await?.is_empty())
    }

    /// As [`execute`](Self::execute); none if a unique index forbids it. The transaction can only be ended then.
    pub async fn execute_unique(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<u64>> {
        let changed = async {
            let statement = self.statement(sql).await?;
            match self.client.execute(&statement, &refs(params)).await {
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(None),
                other => other.map(Some),
            }
        };
        self.run(changed).await
    }

    /// Runs statements without values.
    pub async fn batch(&self, sql: &str) -> Result<()> {
        self.run(self.client.batch_execute(sql)).await
    }

    /// Runs a statement that may take as long as it takes.
    pub async fn unhurried(&self, sql: &str, params: &[Param<'_>]) -> Result<()> {
        self.client.query(&numbered(sql), &refs(params)).await.map_err(store_error)?;
        Ok(())
    }

    /// As [`batch`](Self::batch), however long it takes.
    pub async fn unhurried_batch(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(store_error)
    }

    /// Nothing more can be done with it.
    pub fn is_lost(&self) -> bool {
        self.client.is_closed() || self.is_broken.load(Ordering::Relaxed)
    }

    /// The last transaction failed only because another one ran beside it. Asking resets it.
    pub fn may_try_again(&self) -> bool {
        self.may_try_again.swap(false, Ordering::Relaxed)
    }

    async fn run<T>(
        &self,
        statement: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        match timeout(ANSWER_WITHIN, statement).await {
            Ok(result) => result.map_err(|error| {
                if matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
                {
                    self.may_try_again.store(true, Ordering::Relaxed);
                }
                store_error(error)
            }),
            Err(_) => {
                self.is_broken.store(true, Ordering::Relaxed);
                Err(unavailable("the database doesn't answer"))
            }
        }
    }

    async fn statement(&self, sql: &str) -> std::result::Result<Statement, tokio_postgres::Error> {
        let statements = || self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = statements().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&numbered(sql)).await?;
        let mut statements = statements();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

fn refs<'a>(params: &'a [Param<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

/// Writes `?` and `?1` as PostgreSQL wants them: `$1`.
fn numbered(sql: &str) -> String {
    let (mut text, mut count, mut rest) = (String::with_capacity(sql.len() + 16), 0, sql);
    while let Some((before, after)) = rest.split_once('?') {
        text.push_str(before);
        text.push('$');
        if !after.starts_with(|c: char| c.is_ascii_digit()) {
            count += 1;
            text.push_str(&count.to_string());
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// An error of a database that can't be used now.
pub fn unavailable(detail: impl ToString) -> StoreError {
    StoreError::Unavailable { detail: detail.to_string() }
}

/// Tells a database that can't be used now from one that we use wrongly.
pub fn store_error(error: tokio_postgres::Error) -> StoreError {
    let detail = with_cause(&error);
    let Some(code) = error.code() else {
        // Without a code it is no answer of the database: the connection is lost, or a value doesn't fit its column.
        let is_ours = detail.starts_with("error serializing") || detail.starts_with("error deserializing");
        return if is_ours { StoreError::Inconsistent { detail } } else { StoreError::Unavailable { detail } };
    };
    // Classes of SQLSTATE: connection, authorization, transaction rollback, resources, intervention of the operator, limits
    // that were reached, system errors; and a database that only reads.
    let passes = ["08", "28", "40", "53", "55", "57", "58"].iter().any(|class| code.code().starts_with(class));
    // Whose statement came after one that failed has not failed itself.
    let follows = *code == SqlState::IN_FAILED_SQL_TRANSACTION;
    if passes || follows || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        StoreError::Unavailable { detail }
    } else {
        StoreError::Inconsistent { detail }
    }
}

fn with_cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// TLS with rustls and the machine's certificate authorities (`SSL_CERT_FILE` names others).
#[derive(Clone)]
struct Tls(tokio_rustls::TlsConnector);

impl Tls {
    fn new() -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(unavailable)?
            .with_no_client_auth();
        Ok(Self(Arc::new(config).into()))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = std::convert::Infallible;

    fn make_tls_connect(&mut self, domain: &str) -> std::result::Result<Handshake, Self::Error> {
        // Also asked for a socket of this machine, which has no name and takes no handshake.
        Ok(Handshake { connector: self.0.clone(), domain: domain.to_owned() })
    }
}

struct Handshake {
    connector: tokio_rustls::TlsConnector,
    domain: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let name = rustls::pki_types::ServerName::try_from(self.domain).map_err(std::io::Error::other)?;
            Ok(Encrypted(Box::new(self.connector.connect(name, socket).await?)))
        })
    }
}

struct Encrypted(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_in_their_order_or_as_they_say() {
        assert_eq!(numbered("a = ? AND b IN (?, ?)"), "a = $1 AND b IN ($2, $3)");
        assert_eq!(numbered("a = ?2 AND b = ?1"), "a = $2 AND b = $1");
    }

    #[test]
    fn over_a_network_tls_is_demanded_unless_it_is_switched_off() {
        let parse = |url| Connector::parse(&Postgres::at(url).unwrap());
        let mode = |url| parse(url).map(|connector| connector.config.get_ssl_mode()).unwrap();
        assert_eq!(mode("postgres://u@db.example/h"), SslMode::Require);
        assert_eq!(mode("postgres://u@db.example/h?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://u@localhost/h"), SslMode::Prefer);
        assert_eq!(mode("postgres://u@%2Frun%2Fpostgresql/h"), SslMode::Prefer);
    }

    #[test]
    fn a_url_that_is_wrong_is_not_repeated() {
        let database = Postgres::at("postgres://u:secret@h/d?nonsense=1").unwrap();
        let error = Connector::parse(&database).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| !error.contains("secret")));
        assert_eq!(database.to_string(), "postgres://h/d");
    }
}
