//! What devices say about themselves.

use super::{Doing as _, Store, StoreError, Tx, commit, decode::damaged};
use crate::{bus::Address, rollout::Outcome};
use whimbrel_wire::{
    encode,
    report::{ModelReport, Progress, Report},
};

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is the newest now.
    New,
    /// A newer one of the same start of the agent was there already.
    Old,
    /// No such device.
    Unknown,
}

impl Store {
    /// Keeps a report, and what it says about rollouts.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn note_report(
        &self,
        who: &Address,
        report: &Report,
        now_ms: i64,
    ) -> Result<Noted, StoreError> {
        let bytes = encode(report).map_err(|e| damaged("report", e))?;
        let (boot, sequence) = (report.boot.cast_signed(), report.sequence.cast_signed());
        let mut tx = self.begin().await?;
        let before: Option<(Option<i64>, Option<i64>)> = sqlx::query_as(
            "SELECT report_boot, report_sequence FROM devices WHERE tenant = ? AND device = ?",
        )
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .fetch_optional(&mut *tx)
        .await
        .doing("read the last report")?;
        let Some((last_boot, last_sequence)) = before else { return Ok(Noted::Unknown) };
        if last_boot == Some(boot) && last_sequence.is_some_and(|s| s.cast_unsigned() >= report.sequence) {
            return Ok(Noted::Old);
        }
        sqlx::query(
            "UPDATE devices SET report = ?, report_boot = ?, report_sequence = ?, seen_ms = max(coalesce(seen_ms, 0), ?)
             WHERE tenant = ? AND device = ?",
        )
        .bind(bytes)
        .bind(boot)
        .bind(sequence)
        .bind(now_ms)
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .execute(&mut *tx)
        .await
        .doing("keep a report")?;
        note_active(&mut tx, who, report).await?;
        note_outcomes(&mut tx, who, report).await?;
        commit(tx).await?;
        Ok(Noted::New)
    }
}

async fn note_active(tx: &mut Tx, who: &Address, report: &Report) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM device_models WHERE tenant = ? AND device = ?")
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .execute(&mut **tx)
        .await
        .doing("replace active versions")?;
    for model in &report.models {
        let Some(active) = &model.active else { continue };
        // A device may list a model twice; the last one counts.
        sqlx::query(
            "INSERT INTO device_models (tenant, device, model, version, bundle) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET version = excluded.version, bundle = excluded.bundle",
        )
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .bind(model.name.as_str())
        .bind(active.version.to_string())
        .bind(active.bundle.as_bytes().to_vec())
        .execute(&mut **tx)
        .await
        .doing("note an active version")?;
    }
    Ok(())
}

/// The rollout that asked, and what for, of every model of a device.
type HeldRow = (i64, String, String, i64, Vec<u8>, String);

async fn note_outcomes(tx: &mut Tx, who: &Address, report: &Report) -> Result<(), StoreError> {
    let held: Vec<HeldRow> = sqlx::query_as(
        "SELECT r.rollout, a.model, a.version, a.attempt, m.bundle, r.outcome FROM assignments a
         JOIN rollout_devices r ON r.tenant = a.tenant AND r.device = a.device AND 'r-' || r.rollout = a.rollout
         JOIN rollouts o ON o.id = r.rollout AND o.model = a.model
         JOIN models m ON m.name = a.model AND m.version = a.version
         WHERE a.tenant = ? AND a.device = ? AND r.given_back = 0",
    )
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .fetch_all(&mut **tx)
    .await
    .doing("read what rollouts asked for")?;
    for (rollout, model, version, attempt, bundle, before) in held {
        let said = report.models.iter().find(|m| m.name.as_str() == model);
        let outcome = said.map_or(Outcome::Pending, |said| judge(said, &version, attempt, &bundle));
        if outcome_name(outcome) != before {
            set_outcome(tx, who, rollout, outcome).await?;
        }
    }
    let returned: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT r.rollout, o.model, o.spec FROM rollout_devices r JOIN rollouts o ON o.id = r.rollout
         WHERE r.tenant = ? AND r.device = ? AND r.given_back = 1 AND r.outcome = 'active'",
    )
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .fetch_all(&mut **tx)
    .await
    .doing("read what rollouts took back")?;
    for (rollout, model, spec) in returned {
        let spec: whimbrel_wire::api::NewRollout = super::decode::json("rollout", &spec)?;
        let active = report.models.iter().find(|m| m.name.as_str() == model).and_then(|m| m.active.as_ref());
        if active.is_none_or(|a| a.version != spec.version) {
            set_outcome(tx, who, rollout, Outcome::RolledBack).await?;
        }
    }
    Ok(())
}

/// What a device's words mean for the version it was asked to run. An active version is always a confirmed one.
fn judge(said: &ModelReport, version: &str, attempt: i64, bundle: &[u8]) -> Outcome {
    let is_active = |a: &whimbrel_wire::report::Installed| {
        a.version.to_string() == version && a.bundle.as_bytes()[..] == *bundle
    };
    if said.active.as_ref().is_some_and(is_active) {
        return Outcome::Active;
    }
    let update = said.update.as_ref();
    let answer = update.filter(|u| u.version.to_string() == version && i64::from(u.attempt) == attempt);
    match answer.map(|u| &u.progress) {
        Some(Progress::Rejected { .. }) => Outcome::Rejected,
        Some(Progress::RolledBack { .. }) => Outcome::RolledBack,
        _ => Outcome::Pending,
    }
}

async fn set_outcome(tx: &mut Tx, who: &Address, rollout: i64, outcome: Outcome) -> Result<(), StoreError> {
    sqlx::query("UPDATE rollout_devices SET outcome = ? WHERE rollout = ? AND tenant = ? AND device = ?")
        .bind(outcome_name(outcome))
        .bind(rollout)
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
        .doing("note what became of an update")
}

pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pending => "pending",
        Outcome::Active => "active",
        Outcome::Rejected => "rejected",
        Outcome::RolledBack => "rolled_back",
    }
}

pub(super) fn outcome_of(name: &str) -> Result<Outcome, StoreError> {
    [Outcome::Pending, Outcome::Active, Outcome::Rejected, Outcome::RolledBack]
        .into_iter()
        .find(|o| outcome_name(*o) == name)
        .ok_or_else(|| damaged("outcome", name))
}
