//! The audit log: every change, who made it, chained by hash so that a later change of the log shows.

use super::{Doing as _, Store, StoreError, Tx};
use sha2::{Digest as _, Sha256};

/// One entry, before it is numbered and chained.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    /// When, milliseconds since 1970 UTC.
    pub(crate) at_ms: i64,
    /// Who: `operator:NAME`, `device:NAME` or `server`.
    pub(crate) actor: &'a str,
    /// What was done, e.g. `rollout.pause`.
    pub(crate) action: &'a str,
    /// To what.
    pub(crate) subject: &'a str,
    /// More, for people.
    pub(crate) detail: &'a str,
}

/// Whether the log is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every row follows from the one before.
    Whole {
        /// Rows.
        rows: u64,
    },
    /// A row was changed, or one before it taken away.
    Broken {
        /// The first that does not fit.
        sequence: i64,
    },
}

type Row = (i64, i64, String, String, String, String, Vec<u8>, Vec<u8>);

/// Adds an entry in the transaction of the change it speaks of.
pub(super) async fn append(tx: &mut Tx, entry: &Entry<'_>) -> Result<(), StoreError> {
    let last: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&mut **tx)
            .await
            .doing("read the end of the audit log")?;
    let (sequence, previous) = last.map_or((1, vec![0; 32]), |(s, hash)| (s.saturating_add(1), hash));
    let hash = chain(sequence, &previous, entry);
    sqlx::query(
        "INSERT INTO audit (sequence, at_ms, actor, action, subject, detail, previous, hash)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(sequence)
    .bind(entry.at_ms)
    .bind(entry.actor)
    .bind(entry.action)
    .bind(entry.subject)
    .bind(entry.detail)
    .bind(previous)
    .bind(hash.to_vec())
    .execute(&mut **tx)
    .await
    .map(drop)
    .doing("write to the audit log")
}

impl Store {
    /// Checks the whole chain, a page at a time.
    ///
    /// # Errors
    /// When the database cannot be read; a broken chain is a verdict.
    pub(crate) async fn verify_audit(&self) -> Result<Verdict, StoreError> {
        let (mut expected, mut previous) = (1i64, vec![0u8; 32]);
        loop {
            let page: Vec<Row> = sqlx::query_as(
                "SELECT sequence, at_ms, actor, action, subject, detail, previous, hash FROM audit
                 WHERE sequence >= ? ORDER BY sequence LIMIT 1000",
            )
            .bind(expected)
            .fetch_all(&self.readers)
            .await
            .doing("read the audit log")?;
            if page.is_empty() {
                return Ok(Verdict::Whole { rows: expected.unsigned_abs() - 1 });
            }
            for (sequence, at_ms, actor, action, subject, detail, before, hash) in page {
                let entry =
                    Entry { at_ms, actor: &actor, action: &action, subject: &subject, detail: &detail };
                let fits = sequence == expected
                    && before == previous
                    && chain(sequence, &before, &entry)[..] == hash;
                if !fits {
                    return Ok(Verdict::Broken { sequence: expected });
                }
                (expected, previous) = (sequence + 1, hash);
            }
        }
    }
}

/// SHA-256 over the row's fields, each with its length, so that no two rows are written the same.
fn chain(sequence: i64, previous: &[u8], entry: &Entry<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(sequence.to_be_bytes());
    hash.update(entry.at_ms.to_be_bytes());
    for field in [
        previous,
        entry.actor.as_bytes(),
        entry.action.as_bytes(),
        entry.subject.as_bytes(),
        entry.detail.as_bytes(),
    ] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}
