//! Operators' tokens. Only hashes are kept; a token is 256 random bits, so a plain hash of it cannot be guessed back.

use super::{Doing as _, Store, StoreError, audit, commit, decode::damaged};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What an operator may do; each includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Enrol and revoke devices.
    Operator,
    /// Publish models and roll them out.
    Releaser,
    /// Everything.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Releaser, Self::Admin];

    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Releaser => "releaser",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == s)
            .ok_or_else(|| format!("role {s:?}: expected viewer, operator, releaser or admin"))
    }
}

/// Who a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operator {
    /// Name, for the audit log.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
}

impl Operator {
    /// How the audit log names it.
    pub(crate) fn actor(&self) -> String {
        format!("operator:{}", self.name)
    }
}

impl Store {
    /// Keeps a new operator token.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn add_operator(
        &self,
        token: &str,
        operator: &Operator,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("INSERT INTO operator_tokens (hash, name, role, created_ms) VALUES (?, ?, ?, ?)")
            .bind(hash(token))
            .bind(&operator.name)
            .bind(operator.role.as_str())
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .doing("add an operator token")?;
        let detail = format!("role {}", operator.role.as_str());
        let entry = audit::Entry {
            at_ms: now_ms,
            actor: "server",
            action: "operator.add",
            subject: &operator.name,
            detail: &detail,
        };
        audit::append(&mut tx, &entry).await?;
        commit(tx).await
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn operator(&self, token: &str) -> Result<Option<Operator>, StoreError> {
        let wanted = hash(token);
        let found: Option<(Vec<u8>, String, String)> =
            sqlx::query_as("SELECT hash, name, role FROM operator_tokens WHERE hash = ?")
                .bind(&wanted)
                .fetch_optional(&self.readers)
                .await
                .doing("look up an operator token")?;
        let Some((hash, name, role)) = found else { return Ok(None) };
        if !bool::from(hash.ct_eq(&wanted)) {
            return Ok(None);
        }
        let role = role.parse().map_err(|e| damaged("operator role", e))?;
        Ok(Some(Operator { name, role }))
    }

    /// Whether there is any operator.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn has_operators(&self) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM operator_tokens LIMIT 1")
            .fetch_optional(&self.readers)
            .await
            .doing("count operators")?;
        Ok(found.is_some())
    }
}

/// What is kept of a secret.
pub(super) fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
