//! Where the store's rows are: in a file of SQLite, or in a database on a server of PostgreSQL.
//!
//! SQLite in WAL mode has two pools: one writer, whose transactions begin IMMEDIATE and are on disk when they
//! commit, since sagas and the ledger must survive a power cut, and several readers. PostgreSQL has the same two.
//! A writer there takes an advisory lock first, which gives what SQLite's file lock gives: whoever reads and then
//! writes is alone with it, over all hubs, and readers never wait.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use sqlx::{
    Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use super::clean::Clean;

/// How many connections read at once. Reads are short; more would only fight over the page cache.
const READERS: u32 = 4;

/// How long a statement waits for another process, such as `orglift-hub user add`, to finish writing.
const BUSY: Duration = Duration::from_secs(10);

/// How long a server may take to answer at the start, and a lost connection to come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of PostgreSQL. Older ones get no more fixes.
const OLDEST: i32 = 14;

/// What every connection to PostgreSQL is set to, whatever its database's defaults are.
///
/// Each statement of a writer must see what was committed before it got the lock, and so the isolation is that of
/// statements. A hub that was cut off, or stopped in the middle of a transaction, must not keep the lock for ever.
const SESSION: &str = "SET default_transaction_isolation = 'read committed'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = warning; \
     SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3";

/// Held by whoever writes, until its transaction ends. The number is `orglift` in ASCII.
const ONE_WRITER: &str = "SELECT pg_advisory_xact_lock(31369510940927604)";

const CREATE: &str = "make it by CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'";

/// Where a hub's database is.
#[derive(Debug, Clone)]
pub enum Database {
    File(PathBuf),
    Server(Server),
}

/// A database on a server of PostgreSQL, and how to get at it. What is shown of it never holds the password.
#[derive(Clone)]
pub struct Server(Box<PgConnectOptions>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the address of a database is written postgres://USER@HOST/DATABASE")]
    Form,
    #[error("the address of a database may set {known}, and not {0:?}", known = PARAMETERS.join(", "))]
    Parameter(String),
    #[error("the address of the database cannot be used: {0}")]
    Value(String),
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    #[error("cannot use the PostgreSQL database {server}: {why}")]
    Refused { server: String, why: String },
    #[error("the database failed")]
    Failed(#[from] DbErr),
    #[error(
        "its machines trust another authority, with the fingerprint {0}: copy the folder `ca` of the hub that has used the \
         database until now, or restore it from a backup"
    )]
    Foreign(String),
}

/// What may be set after the `?` of an address. What is not known might be another password, and is not ignored.
const PARAMETERS: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
];

impl FromStr for Server {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        let parts = Parts::of(url)?;
        for (name, _) in parts.parameters() {
            if !PARAMETERS.contains(&name) {
                return Err(AddressError::Parameter(name.to_owned()));
            }
        }
        let mut options: PgConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| AddressError::Value(error.to_string()))?;
        // As libpq does: whoever names an authority wants it to be asked.
        let names_authority = parts.parameters().any(|(name, _)| name == "sslrootcert");
        if names_authority && matches!(options.get_ssl_mode(), PgSslMode::Require) {
            options = options.ssl_mode(PgSslMode::VerifyCa);
        }
        if options.get_application_name().is_none() {
            options = options.application_name("orglift-hub");
        }
        Ok(Self(Box::new(options)))
    }
}

/// Whether a password is written in the address.
pub fn holds_password(url: &str) -> bool {
    Parts::of(url).is_ok_and(|parts| {
        parts.user.is_some_and(|user| user.contains(':'))
            || parts.parameters().any(|(name, _)| name == "password")
    })
}

struct Parts<'a> {
    user: Option<&'a str>,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, AddressError> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or(AddressError::Form)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        Ok(Self {
            user: authority.rsplit_once('@').map(|(user, _)| user),
            query,
        })
    }

    fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(options) = self;
        let user = options.get_username();
        let database = options.get_database().unwrap_or(user);
        match options.get_socket() {
            Some(socket) => write!(f, "{database} of {user} at {}", socket.display()),
            None => write!(
                f,
                "{database} of {user} at {}:{}",
                options.get_host(),
                options.get_port()
            ),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

impl Database {
    /// The file of the hub in `dir`.
    pub fn in_folder(dir: &Path) -> Self {
        Self::File(dir.join("hub.db"))
    }

    /// Its writer and its readers.
    pub(super) async fn connect(&self) -> Result<(DatabaseConnection, DatabaseConnection), Unopened> {
        match self {
            Self::File(path) => Ok((file(path, 1).await?, file(path, READERS).await?)),
            Self::Server(server) => {
                server.check().await?;
                Ok((server.pool(1), server.pool(READERS)))
            }
        }
    }
}

async fn file(path: &Path, connections: u32) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    options
        .max_connections(connections)
        .sqlx_logging(false)
        .test_before_acquire(false)
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "FULL")
                .busy_timeout(BUSY)
                .foreign_keys(true)
        });
    sea_orm::Database::connect(options).await
}

impl Server {
    pub(super) fn refused(&self, why: &str) -> Unopened {
        Unopened::Refused {
            server: self.to_string(),
            why: why.to_owned(),
        }
    }

    /// One that belongs to no pool.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let connecting = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&self.0));
        let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer");
        let mut connection = connecting.await.map_err(|_| silent())??;
        sqlx::Executor::execute(&mut connection, SESSION).await?;
        Ok(connection)
    }

    /// One connection, which waits for what others tell.
    pub(super) fn listening(&self) -> sqlx::PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with((*self.0).clone())
    }

    /// A pool tells only that it waited in vain; one connection tells why.
    async fn check(&self) -> Result<(), Unopened> {
        let looked = self.look().await;
        let (version, encoding, by_bytes) = looked.map_err(|error| self.refused(&explained(&error)))?;
        if version / 10_000 < OLDEST {
            return Err(self.refused(&format!(
                "it runs PostgreSQL {}, and the oldest that will do is {OLDEST}",
                version / 10_000
            )));
        }
        // Lists are in the order that SQLite has them in, and no update of a system's languages breaks indexes.
        if encoding != "UTF8" || !by_bytes {
            return Err(self.refused(&format!(
                "its text is in {encoding} and sorted {}: {CREATE}",
                if by_bytes { "by bytes" } else { "as in a language" }
            )));
        }
        Ok(())
    }

    /// Its version, its encoding, and whether it sorts text by its bytes.
    async fn look(&self) -> Result<(i32, String, bool), sqlx::Error> {
        let mut connection = self.connect().await?;
        let row = sqlx::query(
            "SELECT current_setting('server_version_num')::int, pg_encoding_to_char(encoding)::text, \
             'B' < 'a' FROM pg_database WHERE datname = current_database()",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }

    /// Connections are made when they are needed, and again when they were lost.
    fn pool(&self, connections: u32) -> DatabaseConnection {
        use sqlx::ConnectOptions;
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(PATIENCE)
            .after_connect(|connection, _| {
                Box::pin(async move { sqlx::Executor::execute(connection, SESSION).await.map(drop) })
            })
            .connect_lazy_with((*self.0).clone().disable_statement_logging())
            .into()
    }
}

/// What went wrong, and what to do about it.
pub(super) fn explained(error: &sqlx::Error) -> String {
    let remedy = match error {
        sqlx::Error::Io(_) => "PostgreSQL must run there, and firewalls must let the hub through",
        sqlx::Error::Tls(_) => {
            "?sslmode= and ?sslrootcert= of the address say how the server proves who it is, as for psql"
        }
        sqlx::Error::Database(refusal) => match refusal.code().as_deref() {
            Some("28P01") => {
                "the password is taken from ORGLIFT_DATABASE, or from the file ~/.pgpass, as for psql"
            }
            Some("3D000") => CREATE,
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    format!("{error} ({remedy})")
}

/// A transaction with whose reads and writes nobody interferes.
pub(super) async fn begin(writer: &DatabaseConnection) -> Result<Clean, DbErr> {
    let options = TransactionOptions {
        // A deferred one that turns from reading to writing fails at once when another writes.
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = writer.begin_with_options(options).await?;
    if tx.get_database_backend() == sea_orm::DbBackend::Postgres {
        tx.execute_unprepared(ONE_WRITER).await?;
    }
    Ok(Clean(tx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_seen() {
        for (url, held) in [
            ("postgres://hub@db/orglift", false),
            ("postgres://hub:x@db/orglift", true),
            ("postgresql://hub:x@db", true),
            ("postgres:///orglift?host=/run/postgresql", false),
            ("postgres://db:5432/orglift", false),
            ("postgres://hub@db/orglift?sslmode=require&password=x", true),
            ("postgres://hub@db/a:b@c", false),
        ] {
            assert_eq!(holds_password(url), held, "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_its_values() {
        for url in [
            "mysql://hub:secret@db/orglift",
            "hub:secret@db",
            "postgres://hub:secret@db/orglift?sslpassword=secret",
            "postgres://hub:secret@db/orglift?p%61ssword=secret",
            "postgres://hub:secret@db:port/orglift",
            "postgres://hub:secret@db/orglift?sslmode=maybe",
        ] {
            let error = url.parse::<Server>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn a_server_is_shown_without_its_password() {
        for url in [
            "postgres://hub:secret@db/orglift",
            "postgres://hub@db/orglift?password=secret",
        ] {
            let server: Server = url.parse().unwrap();
            assert_eq!(server.to_string(), "orglift of hub at db:5432");
            assert!(!format!("{:?}", Database::Server(server)).contains("secret"));
        }
    }

    #[test]
    fn an_authority_that_is_named_is_asked() {
        let mode = |url: &str| url.parse::<Server>().unwrap().0.get_ssl_mode();
        let named = mode("postgres://hub@db/orglift?sslmode=require&sslrootcert=ca.pem");
        assert!(matches!(named, PgSslMode::VerifyCa));
        let full = mode("postgres://hub@db/orglift?sslmode=verify-full&sslrootcert=ca.pem");
        assert!(matches!(full, PgSslMode::VerifyFull));
        assert!(matches!(
            mode("postgres://hub@db/orglift?sslmode=require"),
            PgSslMode::Require
        ));
    }
}
