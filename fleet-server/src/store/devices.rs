//! Devices as operators see them, and what each is asked to run.

use super::{
    Doing as _, Store, StoreError, audit, commit,
    decode::{address, count, damaged, digest, json, parse},
    tokens::end_certificates,
};
use crate::bus::Address;
use semver::Version;
use std::collections::HashMap;
use whimbrel_wire::{
    DeviceId, Digest, ModelName, TenantId, decode,
    desired::{DesiredModel, DesiredState},
    report::{Installed, Report},
};

/// A device as the database knows it.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// Its name.
    pub(crate) address: Address,
    /// Its tags.
    pub(crate) tags: Vec<String>,
    /// Whether its certificates were ended by an operator.
    pub(crate) revoked: bool,
    /// Last sign of life, milliseconds since 1970 UTC.
    pub(crate) seen_ms: Option<i64>,
    /// Its last report.
    pub(crate) report: Option<Report>,
    /// What it is asked to run.
    pub(crate) desired: Vec<DesiredModel>,
}

type DeviceRow = (String, String, String, Option<i64>, Option<i64>, Option<Vec<u8>>);
type AssignmentRow = (String, String, String, String, i64, String);

impl Store {
    /// Every device of a tenant, in order of name.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn devices(&self, tenant: &TenantId) -> Result<Vec<Device>, StoreError> {
        let rows: Vec<DeviceRow> = sqlx::query_as(
            "SELECT tenant, device, tags, revoked_ms, seen_ms, report FROM devices WHERE tenant = ? ORDER BY device",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("list devices")?;
        let assigned: Vec<AssignmentRow> = sqlx::query_as(
            "SELECT device, model, version, target, attempt, rollout FROM assignments WHERE tenant = ? ORDER BY model",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("list desired models")?;
        let mut desired: HashMap<String, Vec<DesiredModel>> = HashMap::new();
        for row in assigned {
            desired.entry(row.0.clone()).or_default().push(model(row)?);
        }
        rows.into_iter().map(|row| device(row, &mut desired)).collect()
    }

    /// One device.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn device(&self, who: &Address) -> Result<Option<Device>, StoreError> {
        let row: Option<DeviceRow> = sqlx::query_as(
            "SELECT tenant, device, tags, revoked_ms, seen_ms, report FROM devices WHERE tenant = ? AND device = ?",
        )
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .fetch_optional(&self.readers)
        .await
        .doing("look up a device")?;
        let Some(row) = row else { return Ok(None) };
        let models = self.assignments(who).await?;
        let mut desired = HashMap::from([(row.1.clone(), models)]);
        device(row, &mut desired).map(Some)
    }

    /// The desired state of a device; `None` when there is no such device.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn desired(
        &self,
        who: &Address,
        poll_s: u32,
    ) -> Result<Option<DesiredState>, StoreError> {
        // The serial first: if a change falls between the two, the newer models go out under the older serial, and the
        // change is published again under its own right after.
        let serial: Option<(i64,)> =
            sqlx::query_as("SELECT desired_serial FROM devices WHERE tenant = ? AND device = ?")
                .bind(who.tenant.as_str())
                .bind(who.device.as_str())
                .fetch_optional(&self.readers)
                .await
                .doing("read a desired serial")?;
        let Some((serial,)) = serial else { return Ok(None) };
        let models = self.assignments(who).await?;
        Ok(Some(DesiredState { serial: count("desired serial", serial)?, models, poll_s }))
    }

    /// Every device that is asked to run something.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn addresses_with_desired(&self) -> Result<Vec<Address>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT tenant, device FROM devices WHERE desired_serial > 0 AND revoked_ms IS NULL",
        )
        .fetch_all(&self.readers)
        .await
        .doing("list devices to publish to")?;
        rows.iter().map(|(tenant, device)| address(tenant, device)).collect()
    }

    /// Notes signs of life, in one transaction.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn note_seen(&self, seen: &[(Address, i64)]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (who, at_ms) in seen {
            sqlx::query(
                "UPDATE devices SET seen_ms = max(coalesce(seen_ms, 0), ?) WHERE tenant = ? AND device = ?",
            )
            .bind(at_ms)
            .bind(who.tenant.as_str())
            .bind(who.device.as_str())
            .execute(&mut *tx)
            .await
            .doing("note a sign of life")?;
        }
        commit(tx).await
    }

    /// Whether a certificate was issued by us, to this device, and still stands.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn certificate_stands(&self, who: &Address, serial: &str) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 FROM certificates c JOIN devices d ON d.tenant = c.tenant AND d.device = c.device
             WHERE c.serial = ? AND c.tenant = ? AND c.device = ? AND c.revoked_ms IS NULL AND d.revoked_ms IS NULL",
        )
        .bind(serial)
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .fetch_optional(&self.readers)
        .await
        .doing("look up a certificate")?;
        Ok(found.is_some())
    }

    /// Ends a device's certificates; it must be enrolled again. False when there is no such device.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn revoke(&self, who: &Address, actor: &str, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE devices SET revoked_ms = coalesce(revoked_ms, ?) WHERE tenant = ? AND device = ?",
        )
        .bind(now_ms)
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .execute(&mut *tx)
        .await
        .doing("revoke a device")?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        end_certificates(&mut tx, who, now_ms).await?;
        let subject = who.device.as_str();
        let entry = audit::Entry { at_ms: now_ms, actor, action: "device.revoke", subject, detail: "" };
        audit::append(&mut tx, &entry).await?;
        commit(tx).await?;
        Ok(true)
    }

    /// How many devices have each version active, by model, version and bundle.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn active_counts(
        &self,
        tenant: &TenantId,
    ) -> Result<HashMap<(ModelName, Version, Digest), u64>, StoreError> {
        let rows: Vec<(String, String, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT model, version, bundle, count(*) FROM device_models WHERE tenant = ?
             GROUP BY model, version, bundle",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("count active versions")?;
        rows.into_iter()
            .map(|(model, version, bundle, n)| {
                let key = (parse("model", &model)?, parse("version", &version)?, digest("bundle", &bundle)?);
                Ok((key, count("devices", n)?))
            })
            .collect()
    }

    /// What every device of a tenant has active of a model, as it last said.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn active_of(
        &self,
        tenant: &TenantId,
        model: &ModelName,
    ) -> Result<HashMap<DeviceId, Installed>, StoreError> {
        let rows: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
            "SELECT device, version, bundle FROM device_models WHERE tenant = ? AND model = ?",
        )
        .bind(tenant.as_str())
        .bind(model.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("read the active versions of a model")?;
        rows.into_iter()
            .map(|(device, version, bundle)| {
                let installed =
                    Installed { version: parse("version", &version)?, bundle: digest("bundle", &bundle)? };
                Ok((parse("device", &device)?, installed))
            })
            .collect()
    }

    async fn assignments(&self, who: &Address) -> Result<Vec<DesiredModel>, StoreError> {
        let rows: Vec<AssignmentRow> = sqlx::query_as(
            "SELECT device, model, version, target, attempt, rollout FROM assignments
             WHERE tenant = ? AND device = ? ORDER BY model",
        )
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("read a desired state")?;
        rows.into_iter().map(model).collect()
    }
}

fn model((_, name, version, target, attempt, rollout): AssignmentRow) -> Result<DesiredModel, StoreError> {
    Ok(DesiredModel {
        name: parse("model", &name)?,
        version: parse("version", &version)?,
        target,
        attempt: count("attempt", attempt)?,
        rollout,
    })
}

fn device(row: DeviceRow, desired: &mut HashMap<String, Vec<DesiredModel>>) -> Result<Device, StoreError> {
    let (tenant, name, tags, revoked_ms, seen_ms, report) = row;
    let report = report.map(|bytes| decode(&bytes)).transpose().map_err(|e| damaged("report", e))?;
    Ok(Device {
        address: address(&tenant, &name)?,
        tags: json("tags", &tags)?,
        revoked: revoked_ms.is_some(),
        seen_ms,
        report,
        desired: desired.remove(&name).unwrap_or_default(),
    })
}
