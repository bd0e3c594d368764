//! Rollouts, and carrying out what the planner decides.

use super::{
    Doing as _, Store, StoreError, Tx, audit, commit,
    decode::{clamp, count, damaged, json, parse, to_json},
    reports::outcome_of,
};
use crate::{
    bus::Address,
    rollout::{Decision, Outcome, Rollout, state_name},
};
use std::collections::HashMap;
use whimbrel_wire::{
    DeviceId, ModelName, TenantId,
    api::{NewRollout, RolloutState},
};

/// Number of a rollout; its name is `r-NUMBER`.
pub(crate) type RolloutId = i64;

/// A rollout as the database knows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredRollout {
    /// Its number.
    pub(crate) id: RolloutId,
    /// What was asked for.
    pub(crate) spec: NewRollout,
    /// The target that holds the version.
    pub(crate) target: String,
    /// What the plan depends on.
    pub(crate) rollout: Rollout,
    /// Who or what put it into its state, and why.
    pub(crate) reason: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub(crate) created_ms: i64,
}

impl StoredRollout {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        name(self.id)
    }
}

/// The name of a rollout.
pub(crate) fn name(id: RolloutId) -> String {
    format!("r-{id}")
}

/// The number in a rollout's name.
pub(crate) fn number(name: &str) -> Option<RolloutId> {
    name.strip_prefix("r-")?.parse().ok().filter(|id| *id > 0)
}

/// Everything that decides about one model of one tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelFleet {
    /// Devices that are not revoked.
    pub(crate) devices: Vec<FleetDevice>,
    /// Its rollouts, oldest first.
    pub(crate) rollouts: Vec<StoredRollout>,
    /// Who was asked by which rollout, and what became of it.
    pub(crate) asked: HashMap<(RolloutId, DeviceId), FleetAsked>,
}

/// One device of a [`ModelFleet`].
#[derive(Debug, Clone)]
pub(crate) struct FleetDevice {
    /// Which.
    pub(crate) device: DeviceId,
    /// Its tags.
    pub(crate) tags: Vec<String>,
    /// The rollout by which it is asked to run a version; empty text when by hand; `None` when it is asked to run none.
    pub(crate) held_by: Option<String>,
}

/// A device that was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FleetAsked {
    /// In which stage.
    pub(crate) stage: u32,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// What a device is asked to run (version, target, rollout), what became of that, and what it would go back to.
type Before = (String, String, String, Option<String>, Option<String>, Option<String>, Option<String>);
type RolloutRow = (i64, String, String, String, String, i64, Option<i64>, i64);

impl Store {
    /// Keeps a new rollout.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn add_rollout(
        &self,
        tenant: &TenantId,
        spec: &NewRollout,
        target: &str,
        actor: &str,
        now_ms: i64,
    ) -> Result<RolloutId, StoreError> {
        let mut tx = self.begin().await?;
        let (id,): (i64,) = sqlx::query_as(
            "INSERT INTO rollouts (tenant, model, spec, target, state, reason, stage, created_ms)
             VALUES (?, ?, ?, ?, 'running', ?, 0, ?) RETURNING id",
        )
        .bind(tenant.as_str())
        .bind(spec.model.as_str())
        .bind(to_json("rollout", spec)?)
        .bind(target)
        .bind(format!("started by {actor}"))
        .bind(now_ms)
        .fetch_one(&mut *tx)
        .await
        .doing("add a rollout")?;
        let detail = format!("{} {}", spec.model, spec.version);
        let entry = audit::Entry {
            at_ms: now_ms,
            actor,
            action: "rollout.start",
            subject: &name(id),
            detail: &detail,
        };
        audit::append(&mut tx, &entry).await?;
        commit(tx).await?;
        Ok(id)
    }

    /// The models of a tenant that have rollouts.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn models_with_rollouts(&self, tenant: &TenantId) -> Result<Vec<ModelName>, StoreError> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT model FROM rollouts WHERE tenant = ? AND state IN ('running', 'paused', 'done')",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("list models with rollouts")?;
        rows.iter().map(|(model,)| parse("model", model)).collect()
    }

    /// The model of a rollout.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn rollout_model(
        &self,
        tenant: &TenantId,
        id: RolloutId,
    ) -> Result<Option<ModelName>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT model FROM rollouts WHERE tenant = ? AND id = ?")
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .doing("look up a rollout")?;
        row.map(|(model,)| parse("model", &model)).transpose()
    }

    /// The models that ever had a rollout.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn models_ever_rolled_out(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<ModelName>, StoreError> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT DISTINCT model FROM rollouts WHERE tenant = ? ORDER BY model")
                .bind(tenant.as_str())
                .fetch_all(&self.readers)
                .await
                .doing("list models with rollouts")?;
        rows.iter().map(|(model,)| parse("model", model)).collect()
    }

    /// Everything that decides about one model.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn model_fleet(
        &self,
        tenant: &TenantId,
        model: &ModelName,
    ) -> Result<ModelFleet, StoreError> {
        // One transaction, so that the three lists belong to the same moment.
        let mut tx = self.readers.begin().await.doing("begin reading a fleet")?;
        let devices: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT d.device, d.tags, a.rollout FROM devices d
             LEFT JOIN assignments a ON a.tenant = d.tenant AND a.device = d.device AND a.model = ?
             WHERE d.tenant = ? AND d.revoked_ms IS NULL ORDER BY d.device",
        )
        .bind(model.as_str())
        .bind(tenant.as_str())
        .fetch_all(&mut *tx)
        .await
        .doing("read the devices of a fleet")?;
        let rollouts: Vec<RolloutRow> = sqlx::query_as(
            "SELECT id, spec, target, state, reason, stage, passed_ms, created_ms FROM rollouts
             WHERE tenant = ? AND model = ? ORDER BY id",
        )
        .bind(tenant.as_str())
        .bind(model.as_str())
        .fetch_all(&mut *tx)
        .await
        .doing("read the rollouts of a model")?;
        let asked: Vec<(i64, String, i64, String)> = sqlx::query_as(
            "SELECT r.rollout, r.device, r.stage, r.outcome FROM rollout_devices r
             JOIN rollouts o ON o.id = r.rollout WHERE o.tenant = ? AND o.model = ?",
        )
        .bind(tenant.as_str())
        .bind(model.as_str())
        .fetch_all(&mut *tx)
        .await
        .doing("read whom rollouts asked")?;
        drop(tx);
        Ok(ModelFleet {
            devices: devices.into_iter().map(fleet_device).collect::<Result<_, _>>()?,
            rollouts: rollouts.into_iter().map(rollout).collect::<Result<_, _>>()?,
            asked: asked.into_iter().map(fleet_asked).collect::<Result<_, _>>()?,
        })
    }

    /// Carries out a decision, whole or not at all. Returns the devices whose desired state changed.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn apply(
        &self,
        tenant: &TenantId,
        stored: &StoredRollout,
        decision: &Decision,
        actor: &str,
        now_ms: i64,
    ) -> Result<Vec<Address>, StoreError> {
        let mut tx = self.begin().await?;
        let mut changed = Vec::new();
        for device in &decision.ask {
            let who = Address { tenant: tenant.clone(), device: device.clone() };
            ask(&mut tx, stored, &who).await?;
            changed.push(who);
        }
        for device in &decision.give_back {
            let who = Address { tenant: tenant.clone(), device: device.clone() };
            give_back(&mut tx, stored, &who).await?;
            changed.push(who);
        }
        for who in &changed {
            bump_serial(&mut tx, who).await?;
        }
        let mut detail = format!("{} asked, {} given back", decision.ask.len(), decision.give_back.len());
        let mut action = "rollout.ask";
        if let Some(moved) = &decision.moved {
            action = "rollout.move";
            detail = format!("{}; {detail}", moved.reason);
            sqlx::query("UPDATE rollouts SET state = ?, stage = ?, passed_ms = ?, reason = ? WHERE id = ?")
                .bind(state_key(moved.state))
                .bind(i64::from(moved.stage))
                .bind(moved.passed_ms)
                .bind(&moved.reason)
                .bind(stored.id)
                .execute(&mut *tx)
                .await
                .doing("move a rollout")?;
        }
        let entry = audit::Entry { at_ms: now_ms, actor, action, subject: &stored.name(), detail: &detail };
        audit::append(&mut tx, &entry).await?;
        commit(tx).await?;
        Ok(changed)
    }
}

async fn ask(tx: &mut Tx, stored: &StoredRollout, who: &Address) -> Result<(), StoreError> {
    let model = stored.spec.model.as_str();
    let before: Option<Before> = sqlx::query_as(
        "SELECT a.version, a.target, a.rollout, r.outcome, r.previous_version, r.previous_target, r.previous_rollout
         FROM assignments a LEFT JOIN rollout_devices r
             ON r.tenant = a.tenant AND r.device = a.device AND 'r-' || r.rollout = a.rollout
         WHERE a.tenant = ? AND a.device = ? AND a.model = ?",
    )
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .bind(model)
    .fetch_optional(&mut **tx)
    .await
    .doing("read what a device was asked to run")?;
    // A version that the device refused or took back is nothing to go back to: what it would itself go back to is kept
    // instead.
    let (version, target, rollout) = match before {
        None => (None, None, None),
        Some((_, _, _, Some(outcome), v, t, r)) if outcome_of(&outcome)?.failed() => (v, t, r),
        Some((v, t, r, ..)) => (Some(v), Some(t), Some(r)),
    };
    // Asked again by the same rollout: what was before the first time stays what it goes back to.
    sqlx::query(
        "INSERT INTO rollout_devices
             (rollout, tenant, device, stage, outcome, previous_version, previous_target, previous_rollout)
         VALUES (?, ?, ?, ?, 'pending', ?, ?, ?)
         ON CONFLICT (rollout, tenant, device) DO UPDATE SET outcome = 'pending', given_back = 0",
    )
    .bind(stored.id)
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .bind(i64::from(stored.rollout.stage))
    .bind(version)
    .bind(target)
    .bind(rollout)
    .execute(&mut **tx)
    .await
    .doing("note whom a rollout asked")?;
    assign(tx, who, model, &stored.spec.version.to_string(), &stored.target, &stored.name()).await
}

async fn give_back(tx: &mut Tx, stored: &StoredRollout, who: &Address) -> Result<(), StoreError> {
    let model = stored.spec.model.as_str();
    let before: Option<(Option<String>, Option<String>, Option<String>)> = sqlx::query_as(
        "UPDATE rollout_devices SET given_back = 1 WHERE rollout = ? AND tenant = ? AND device = ?
         RETURNING previous_version, previous_target, previous_rollout",
    )
    .bind(stored.id)
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .fetch_optional(&mut **tx)
    .await
    .doing("note that a device is asked to go back")?;
    match before {
        Some((Some(version), Some(target), rollout)) => {
            assign(tx, who, model, &version, &target, rollout.as_deref().unwrap_or_default()).await
        }
        // It was asked to run none before: the model is left as it is on the device.
        _ => sqlx::query("DELETE FROM assignments WHERE tenant = ? AND device = ? AND model = ?")
            .bind(who.tenant.as_str())
            .bind(who.device.as_str())
            .bind(model)
            .execute(&mut **tx)
            .await
            .map(drop)
            .doing("take a model out of a desired state"),
    }
}

/// Asks a device to run a version. Every offer carries a higher attempt than the last of the same version.
async fn assign(
    tx: &mut Tx,
    who: &Address,
    model: &str,
    version: &str,
    target: &str,
    rollout: &str,
) -> Result<(), StoreError> {
    let (attempt,): (i64,) = sqlx::query_as(
        "INSERT INTO offers (tenant, device, model, version, attempt) VALUES (?, ?, ?, ?, 1)
         ON CONFLICT DO UPDATE SET attempt = attempt + 1 RETURNING attempt",
    )
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .bind(model)
    .bind(version)
    .fetch_one(&mut **tx)
    .await
    .doing("count an offer")?;
    sqlx::query(
        "INSERT INTO assignments (tenant, device, model, version, target, attempt, rollout)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET version = excluded.version, target = excluded.target,
             attempt = excluded.attempt, rollout = excluded.rollout",
    )
    .bind(who.tenant.as_str())
    .bind(who.device.as_str())
    .bind(model)
    .bind(version)
    .bind(target)
    .bind(attempt)
    .bind(rollout)
    .execute(&mut **tx)
    .await
    .map(drop)
    .doing("change a desired state")
}

async fn bump_serial(tx: &mut Tx, who: &Address) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET desired_serial = desired_serial + 1 WHERE tenant = ? AND device = ?")
        .bind(who.tenant.as_str())
        .bind(who.device.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
        .doing("number a desired state")
}

const STATES: [RolloutState; 5] = [
    RolloutState::Running,
    RolloutState::Paused,
    RolloutState::Done,
    RolloutState::Aborted,
    RolloutState::RolledBack,
];

fn state_key(state: RolloutState) -> &'static str {
    if state == RolloutState::RolledBack { "rolled_back" } else { state_name(state) }
}

fn rollout(row: RolloutRow) -> Result<StoredRollout, StoreError> {
    let (id, spec, target, state, reason, stage, passed_ms, created_ms) = row;
    let spec: NewRollout = json("rollout", &spec)?;
    let state =
        STATES.into_iter().find(|s| state_key(*s) == state).ok_or_else(|| damaged("rollout state", state))?;
    let rollout = Rollout {
        stages: spec.stages.clone(),
        success_percent_min: spec.success_percent_min,
        on_failure: spec.on_failure,
        soak_ms: clamp(u64::from(spec.soak_s)).saturating_mul(1000),
        state,
        stage: count("stage", stage)?,
        passed_ms,
    };
    Ok(StoredRollout { id, spec, target, rollout, reason, created_ms })
}

fn fleet_device(
    (device, tags, held_by): (String, String, Option<String>),
) -> Result<FleetDevice, StoreError> {
    Ok(FleetDevice { device: parse("device", &device)?, tags: json("tags", &tags)?, held_by })
}

fn fleet_asked(
    (rollout, device, stage, outcome): (i64, String, i64, String),
) -> Result<((RolloutId, DeviceId), FleetAsked), StoreError> {
    let asked = FleetAsked { stage: count("stage", stage)?, outcome: outcome_of(&outcome)? };
    Ok(((rollout, parse("device", &device)?), asked))
}
