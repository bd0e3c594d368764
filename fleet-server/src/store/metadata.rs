//! Signed metadata, kept byte for byte, and the models it publishes.

use super::{
    Doing as _, Store, StoreError, audit, commit,
    decode::{clamp, count, digest, parse},
};
use semver::Version;
use whimbrel_updater::repo::file_name;
use whimbrel_wire::{Digest, ModelName};

/// A role, as files name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RoleFile {
    /// Keys of every role.
    Root,
    /// Newest snapshot.
    Timestamp,
    /// Newest targets.
    Snapshot,
    /// What may be installed.
    Targets,
    /// What may be installed, as a role says to which targets delegate; its name is none of the four above.
    Delegated(String),
}

impl RoleFile {
    /// Its name.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
            Self::Delegated(name) => name,
        }
    }
}

/// One metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetadataFile {
    /// Its role.
    pub(crate) role: RoleFile,
    /// Its version.
    pub(crate) version: u32,
    /// As it was signed.
    pub(crate) bytes: Vec<u8>,
    /// End of its life, milliseconds since 1970 UTC.
    pub(crate) expires_ms: i64,
}

/// A published model version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// Which model.
    pub(crate) name: ModelName,
    /// Which version.
    pub(crate) version: Version,
    /// Path of its target.
    pub(crate) target: String,
    /// SHA-256 of its index.
    pub(crate) bundle: Digest,
    /// Size of its index.
    pub(crate) index_bytes: u64,
    /// Size of its files.
    pub(crate) size_bytes: u64,
    /// One sentence.
    pub(crate) description: String,
}

type ModelRow = (String, String, String, Vec<u8>, i64, i64, String);

impl Store {
    /// The newest file of a role.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn newest_metadata(&self, role: RoleFile) -> Result<Option<MetadataFile>, StoreError> {
        let row: Option<(i64, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT version, bytes, expires_ms FROM metadata WHERE role = ? ORDER BY version DESC LIMIT 1",
        )
        .bind(role.as_str())
        .fetch_optional(&self.readers)
        .await
        .doing("read the newest metadata")?;
        row.map(|(version, bytes, expires_ms)| {
            Ok(MetadataFile { role, version: count("metadata version", version)?, bytes, expires_ms })
        })
        .transpose()
    }

    /// The bytes of one version of a role.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn metadata(&self, role: RoleFile, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT bytes FROM metadata WHERE role = ? AND version = ?")
                .bind(role.as_str())
                .bind(i64::from(version))
                .fetch_optional(&self.readers)
                .await
                .doing("read metadata")?;
        Ok(row.map(|(bytes,)| bytes))
    }

    /// Adds new files, all or none; `models`, where given, are all that the targets among them publish. Old timestamps
    /// and snapshots, which nobody may ask for any more, are dropped.
    ///
    /// # Errors
    /// When the database refuses, or a version is there already.
    pub(crate) async fn publish(
        &self,
        files: &[MetadataFile],
        models: Option<&[Model]>,
        actor: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        const KEPT: i64 = 16;
        let mut tx = self.begin().await?;
        for file in files {
            let role = file.role.as_str();
            sqlx::query(
                "INSERT INTO metadata (role, version, bytes, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(role)
            .bind(i64::from(file.version))
            .bind(&file.bytes)
            .bind(now_ms)
            .bind(file.expires_ms)
            .execute(&mut *tx)
            .await
            .doing("add metadata")?;
            if matches!(file.role, RoleFile::Timestamp | RoleFile::Snapshot) {
                sqlx::query("DELETE FROM metadata WHERE role = ? AND version <= ?")
                    .bind(role)
                    .bind(i64::from(file.version) - KEPT)
                    .execute(&mut *tx)
                    .await
                    .doing("drop old metadata")?;
            }
            let subject = file_name(role, Some(u64::from(file.version)));
            let entry =
                audit::Entry { at_ms: now_ms, actor, action: "metadata.add", subject: &subject, detail: "" };
            audit::append(&mut tx, &entry).await?;
        }
        if let Some(models) = models {
            replace_models(&mut tx, models, now_ms).await?;
        }
        commit(tx).await
    }

    /// Every published model version, newest publication first within a model.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn models(&self) -> Result<Vec<Model>, StoreError> {
        let rows: Vec<ModelRow> = sqlx::query_as(
            "SELECT name, version, target, bundle, index_bytes, size_bytes, description FROM models
             WHERE current = 1 ORDER BY name, published_ms DESC, version DESC",
        )
        .fetch_all(&self.readers)
        .await
        .doing("list models")?;
        rows.into_iter().map(model).collect()
    }

    /// One published model version.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn model(
        &self,
        name: &ModelName,
        version: &Version,
    ) -> Result<Option<Model>, StoreError> {
        let row: Option<ModelRow> = sqlx::query_as(
            "SELECT name, version, target, bundle, index_bytes, size_bytes, description FROM models
             WHERE current = 1 AND name = ? AND version = ?",
        )
        .bind(name.as_str())
        .bind(version.to_string())
        .fetch_optional(&self.readers)
        .await
        .doing("look up a model")?;
        row.map(model).transpose()
    }

    /// Whether a target of this path and hash is or was published.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn is_target(&self, path: &str, bundle: &Digest) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM models WHERE target = ? AND bundle = ?")
            .bind(path)
            .bind(bundle.as_bytes().to_vec())
            .fetch_optional(&self.readers)
            .await
            .doing("look up a target")?;
        Ok(row.is_some())
    }
}

async fn replace_models(tx: &mut super::Tx, models: &[Model], now_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE models SET current = 0").execute(&mut **tx).await.doing("replace models")?;
    for model in models {
        sqlx::query(
            "INSERT INTO models
                 (name, version, target, bundle, index_bytes, size_bytes, description, published_ms, current)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)
             ON CONFLICT (name, version) DO UPDATE SET current = 1, target = excluded.target,
                 bundle = excluded.bundle, index_bytes = excluded.index_bytes, size_bytes = excluded.size_bytes,
                 description = excluded.description",
        )
        .bind(model.name.as_str())
        .bind(model.version.to_string())
        .bind(&model.target)
        .bind(model.bundle.as_bytes().to_vec())
        .bind(clamp(model.index_bytes))
        .bind(clamp(model.size_bytes))
        .bind(&model.description)
        .bind(now_ms)
        .execute(&mut **tx)
        .await
        .doing("publish a model")?;
    }
    Ok(())
}

fn model(row: ModelRow) -> Result<Model, StoreError> {
    let (name, version, target, bundle, index_bytes, size_bytes, description) = row;
    Ok(Model {
        name: parse("model", &name)?,
        version: parse("version", &version)?,
        target,
        bundle: digest("bundle", &bundle)?,
        index_bytes: count("index size", index_bytes)?,
        size_bytes: count("bundle size", size_bytes)?,
        description,
    })
}
