//! Enrolment: one-time tokens, devices, and the certificates made for them.

use super::{
    Doing as _, Store, StoreError, Tx, audit, commit,
    decode::{json, parse, to_json},
    operators::hash,
};
use crate::bus::Address;
use subtle::ConstantTimeEq as _;
use whimbrel_wire::{DeviceId, TenantId, report::Platform};

/// A one-time token, before it is kept.
pub(crate) struct EnrolmentToken<'a> {
    /// Shown once.
    pub(crate) secret: &'a str,
    /// The tenant of the devices it enrols.
    pub(crate) tenant: &'a TenantId,
    /// The only device it enrols; any new one when absent.
    pub(crate) device: Option<&'a DeviceId>,
    /// What the device is tagged with.
    pub(crate) tags: &'a [String],
    /// End of its life, milliseconds since 1970 UTC.
    pub(crate) expires_ms: i64,
}

/// A certificate that was made for a device.
pub(crate) struct Issued {
    /// Lower-case hexadecimal.
    pub(crate) serial: String,
    /// End of its life, milliseconds since 1970 UTC.
    pub(crate) not_after_ms: i64,
}

/// Why an enrolment was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Unknown, used, or past its end: said in one way, so that guessing learns nothing.
    Token,
    /// The token is for another device.
    OtherDevice,
    /// A device of that name is there, and the token was not made for it.
    NameTaken,
}

type TokenRow = (Vec<u8>, String, Option<String>, String, i64, Option<i64>);

impl Store {
    /// Keeps a one-time token.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn add_enrolment_token(
        &self,
        token: &EnrolmentToken<'_>,
        actor: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO enrolment_tokens (hash, tenant, device, tags, created_ms, expires_ms)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(hash(token.secret))
        .bind(token.tenant.as_str())
        .bind(token.device.map(DeviceId::as_str))
        .bind(to_json("tags", &token.tags)?)
        .bind(now_ms)
        .bind(token.expires_ms)
        .execute(&mut *tx)
        .await
        .doing("add an enrolment token")?;
        let subject = token.device.map_or("any device", DeviceId::as_str);
        let entry = audit::Entry { at_ms: now_ms, actor, action: "enrolment.token", subject, detail: "" };
        audit::append(&mut tx, &entry).await?;
        commit(tx).await
    }

    /// Which tenant a secret enrols a device into, if it may; used up only by [`Self::enrol`].
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn check_enrolment(
        &self,
        secret: &str,
        device: &DeviceId,
        now_ms: i64,
    ) -> Result<Result<TenantId, Refusal>, StoreError> {
        // Anyone may ask: it must not make writers wait.
        let mut tx = self.readers.begin().await.doing("begin reading an enrolment token")?;
        Ok(usable(&mut tx, secret, device, now_ms).await?.map(|(tenant, _)| tenant))
    }

    /// Uses the secret up and registers the device with its certificate, or does nothing. A device that enrols again
    /// keeps its history; its earlier certificates end.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn enrol(
        &self,
        secret: &str,
        device: &DeviceId,
        platform: &Platform,
        issued: &Issued,
        now_ms: i64,
    ) -> Result<Result<Address, Refusal>, StoreError> {
        let mut tx = self.begin().await?;
        let (tenant, tags) = match usable(&mut tx, secret, device, now_ms).await? {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let who = Address { tenant, device: device.clone() };
        sqlx::query("UPDATE enrolment_tokens SET used_ms = ?, used_by = ? WHERE hash = ?")
            .bind(now_ms)
            .bind(device.as_str())
            .bind(hash(secret))
            .execute(&mut *tx)
            .await
            .doing("use an enrolment token")?;
        end_certificates(&mut tx, &who, now_ms).await?;
        register(&mut tx, &who, &tags, platform, now_ms).await?;
        sqlx::query(
            "INSERT INTO certificates (serial, tenant, device, issued_ms, not_after_ms) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&issued.serial)
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .bind(now_ms)
        .bind(issued.not_after_ms)
        .execute(&mut *tx)
        .await
        .doing("record a certificate")?;
        let actor = format!("device:{device}");
        let detail = format!("certificate {}", issued.serial);
        let entry = audit::Entry {
            at_ms: now_ms,
            actor: &actor,
            action: "device.enrol",
            subject: device.as_str(),
            detail: &detail,
        };
        audit::append(&mut tx, &entry).await?;
        commit(tx).await?;
        Ok(Ok(who))
    }
}

/// The tenant and tags of a token that may enrol the device now.
async fn usable(
    tx: &mut Tx,
    secret: &str,
    device: &DeviceId,
    now_ms: i64,
) -> Result<Result<(TenantId, Vec<String>), Refusal>, StoreError> {
    let wanted = hash(secret);
    let found: Option<TokenRow> = sqlx::query_as(
        "SELECT hash, tenant, device, tags, expires_ms, used_ms FROM enrolment_tokens WHERE hash = ?",
    )
    .bind(&wanted)
    .fetch_optional(&mut **tx)
    .await
    .doing("look up an enrolment token")?;
    let Some((hash, tenant, bound, tags, expires_ms, used_ms)) = found else {
        return Ok(Err(Refusal::Token));
    };
    if !bool::from(hash.ct_eq(&wanted)) || used_ms.is_some() || now_ms >= expires_ms {
        return Ok(Err(Refusal::Token));
    }
    if bound.as_deref().is_some_and(|b| b != device.as_str()) {
        return Ok(Err(Refusal::OtherDevice));
    }
    let tenant: TenantId = parse("tenant", &tenant)?;
    let taken: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM devices WHERE tenant = ? AND device = ?")
        .bind(tenant.as_str())
        .bind(device.as_str())
        .fetch_optional(&mut **tx)
        .await
        .doing("look up a device")?;
    if taken.is_some() && bound.is_none() {
        return Ok(Err(Refusal::NameTaken));
    }
    Ok(Ok((tenant, json("tags", &tags)?)))
}

pub(super) async fn end_certificates(tx: &mut Tx, who: &Address, now_ms: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE certificates SET revoked_ms = ? WHERE tenant = ? AND device = ? AND revoked_ms IS NULL",
    )
    .bind(now_ms)
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .doing("end a device's certificates")
}

async fn register(
    tx: &mut Tx,
    who: &Address,
    tags: &[String],
    platform: &Platform,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO devices (tenant, device, tags, platform, enrolled_ms, seen_ms) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (tenant, device) DO UPDATE SET tags = excluded.tags, platform = excluded.platform,
             enrolled_ms = excluded.enrolled_ms, seen_ms = excluded.seen_ms, revoked_ms = NULL",
    )
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .bind(to_json("tags", &tags)?)
    .bind(to_json("platform", platform)?)
    .bind(now_ms)
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map(drop)
    .doing("register a device")
}
