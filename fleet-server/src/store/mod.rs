//! What the server remembers. SQL is written in this module only, so that another database can take its place.
//!
//! SQLite in WAL mode with full synchronisation: an acknowledged batch survives a power cut. One connection writes, because
//! SQLite has one writer anyway and waiting in order is fairer than retrying; several read.

pub(crate) mod audit;
pub(crate) mod blobs;
mod decode;
pub(crate) mod devices;
pub(crate) mod metadata;
pub(crate) mod operators;
mod reports;
pub(crate) mod rollouts;
pub(crate) mod telemetry;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

const READERS_MAX: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why something could not be remembered or recalled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refused.
    #[error("{doing} in the database")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// The database could not be brought up to date.
    #[error("open the database {path}")]
    Open {
        /// Which file.
        path: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row does not hold what it should.
    #[error("read {what} from the database: {reason}; restore it from a backup")]
    Damaged {
        /// Which part of which row.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A stored file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
}

/// Names the operation that a database error interrupted.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}

type Tx = Transaction<'static, Sqlite>;

/// The database of a state folder.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the database, and brings it to this build's schema.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or was written by a newer build.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let fail = |e: sqlx::Error| StoreError::Open { path: shown.clone(), source: e.into() };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer =
            SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(fail)?;
        sqlx::migrate!("./migrations")
            .run(&writer)
            .await
            .map_err(|e| StoreError::Open { path: shown.clone(), source: e.into() })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(fail)?;
        Ok(Self { writer, readers })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await.map(drop).doing("look for life")
    }

    /// Closes the connections, which folds the write-ahead log back into the database.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.doing("begin a transaction")
    }
}

async fn commit(tx: Tx) -> Result<(), StoreError> {
    tx.commit().await.doing("commit a transaction")
}
