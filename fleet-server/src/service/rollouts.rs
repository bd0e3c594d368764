//! Starting, steering and carrying on rollouts.

use super::{Fault, Fleet, observe::observe};
use crate::{
    bus::Address,
    rollout::{self, Command, Decision},
    store::{
        metadata::Model,
        operators::Operator,
        rollouts::{ModelFleet, StoredRollout, name, number},
    },
};
use std::sync::atomic::Ordering;
use whimbrel_updater::tuf::{Signed, Targets};
use whimbrel_wire::{
    ModelName,
    api::{NewRollout, RolloutState, RolloutView},
    encode,
    topic::Leaf,
};

/// Decisions carried out at one wake-up; what is left waits for the next.
const DECISIONS_MAX: usize = 64;

impl Fleet {
    /// Starts a rollout of a published version.
    ///
    /// # Errors
    /// 400 for numbers that make no sense, 404 for a version that is not published, 409 below the signed floor.
    pub(crate) async fn start_rollout(&self, new: &NewRollout, by: &Operator) -> Result<RolloutView, Fault> {
        let model = self.check_new(new).await?;
        let id = {
            let _guard = self.planning.lock().await;
            let tenant = &self.settings().tenant;
            self.store().add_rollout(tenant, new, &model.target, &by.actor(), self.now_ms()).await?
        };
        tracing::info!(rollout = name(id), model = %new.model, version = %new.version, "rollout started");
        self.carry_on().await?;
        self.rollout(&name(id)).await
    }

    /// Carries out an operator's command on a rollout.
    ///
    /// # Errors
    /// 404 for an unknown rollout, 409 when the command makes no sense in its state.
    pub(crate) async fn command(
        &self,
        id: &str,
        command: Command,
        by: &Operator,
    ) -> Result<RolloutView, Fault> {
        {
            let _guard = self.planning.lock().await;
            let (fleet, index) = self.find(id).await?;
            let stored = &fleet.rollouts[index];
            let decision = rollout::command(&stored.rollout, &observe(&fleet, index), command, &by.actor())?;
            if !decision.is_empty() {
                self.carry_out(stored, &decision, &by.actor()).await?;
            }
        }
        self.wake_planner();
        self.rollout(id).await
    }

    /// One rollout.
    ///
    /// # Errors
    /// 404 for an unknown one.
    pub(crate) async fn rollout(&self, id: &str) -> Result<RolloutView, Fault> {
        let (fleet, index) = self.find(id).await?;
        Ok(view(&fleet, index))
    }

    /// Every rollout, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn rollouts(&self) -> Result<Vec<RolloutView>, Fault> {
        let mut views = Vec::new();
        for fleet in self.model_fleets().await? {
            views.extend((0..fleet.1.rollouts.len()).map(|index| view(&fleet.1, index)));
        }
        views.sort_by_key(|v| std::cmp::Reverse(number(&v.id)));
        Ok(views)
    }

    /// Carries on every rollout until nothing more is to be done now.
    ///
    /// # Errors
    /// When the database refuses; the next call goes on from there.
    pub(crate) async fn carry_on(&self) -> Result<(), Fault> {
        let _guard = self.planning.lock().await;
        let mut soaking = false;
        for model in self.store().models_with_rollouts(&self.settings().tenant).await? {
            soaking |= self.carry_on_model(&model).await?;
        }
        self.soaking.store(soaking, Ordering::Relaxed);
        Ok(())
    }

    /// Lets [`super::plan_rollouts`] look at the rollouts again.
    pub(crate) fn wake_planner(&self) {
        self.wake.notify_one();
    }

    /// Whether a rollout waits for time to pass.
    pub(crate) fn is_soaking(&self) -> bool {
        self.soaking.load(Ordering::Relaxed)
    }

    /// Waits until something changed that rollouts depend on.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Every model with a rollout, and what decides about it.
    pub(super) async fn model_fleets(&self) -> Result<Vec<(ModelName, ModelFleet)>, Fault> {
        let tenant = &self.settings().tenant;
        let mut fleets = Vec::new();
        for model in self.store().models_ever_rolled_out(tenant).await? {
            let fleet = self.store().model_fleet(tenant, &model).await?;
            fleets.push((model, fleet));
        }
        Ok(fleets)
    }

    /// Publishes the desired state of every device: the bus keeps it in memory only.
    ///
    /// # Errors
    /// When the database or the bus refuses.
    pub(crate) async fn publish_all_desired(&self) -> Result<(), Fault> {
        let _guard = self.planning.lock().await;
        for who in self.store().addresses_with_desired().await? {
            self.publish_desired(&who).await?;
        }
        Ok(())
    }

    /// True when a rollout of the model soaks.
    async fn carry_on_model(&self, model: &ModelName) -> Result<bool, Fault> {
        for _ in 0..DECISIONS_MAX {
            let fleet = self.store().model_fleet(&self.settings().tenant, model).await?;
            // The newest first; after each decision everything is read again, because it may change what others see.
            let next = (0..fleet.rollouts.len()).rev().find_map(|index| {
                let decision =
                    rollout::plan(&fleet.rollouts[index].rollout, &observe(&fleet, index), self.now_ms());
                (!decision.is_empty()).then_some((index, decision))
            });
            let Some((index, decision)) = next else {
                return Ok(fleet.rollouts.iter().any(soaks));
            };
            self.carry_out(&fleet.rollouts[index], &decision, "server").await?;
        }
        self.wake_planner();
        Ok(true)
    }

    /// Stores a decision, then publishes what it changed. The caller holds `planning`.
    async fn carry_out(&self, stored: &StoredRollout, decision: &Decision, actor: &str) -> Result<(), Fault> {
        let tenant = &self.settings().tenant;
        let changed = self.store().apply(tenant, stored, decision, actor, self.now_ms()).await?;
        if let Some(moved) = &decision.moved {
            let state = rollout::state_name(moved.state);
            tracing::info!(rollout = stored.name(), state, stage = moved.stage, "{}", moved.reason);
        }
        for who in changed {
            // Stored already: a device that misses the message finds it over HTTPS, and the next start publishes it.
            if let Err(error) = self.publish_desired(&who).await {
                tracing::error!(device = %who.device, "{error}");
            }
        }
        Ok(())
    }

    async fn publish_desired(&self, who: &Address) -> Result<(), Fault> {
        let Some(state) = self.store().desired(who, self.settings().poll_s).await? else { return Ok(()) };
        let body = encode(&state).map_err(|e| Fault::internal(&e))?;
        self.parts.bus.publish(who, Leaf::Desired, body.into(), true).await?;
        Ok(())
    }

    async fn find(&self, id: &str) -> Result<(ModelFleet, usize), Fault> {
        let tenant = &self.settings().tenant;
        let unknown =
            || Fault::not_found(format!("there is no rollout {:?}", id.chars().take(64).collect::<String>()));
        let id = number(id).ok_or_else(unknown)?;
        let model = self.store().rollout_model(tenant, id).await?.ok_or_else(unknown)?;
        let fleet = self.store().model_fleet(tenant, &model).await?;
        let index = fleet.rollouts.iter().position(|r| r.id == id).ok_or_else(unknown)?;
        Ok((fleet, index))
    }

    /// The version that a new rollout brings, where the rollout may be started.
    pub(super) async fn check_new(&self, new: &NewRollout) -> Result<Model, Fault> {
        rollout::validate(new).map_err(Fault::invalid)?;
        let Some(model) = self.store().model(&new.model, &new.version).await? else {
            return Err(Fault::not_found(format!(
                "{} {} is not published; publish it first with `whimbrel model publish`",
                new.model, new.version
            )));
        };
        self.check_floor(new).await?;
        Ok(model)
    }

    async fn check_floor(&self, new: &NewRollout) -> Result<(), Fault> {
        use crate::store::metadata::RoleFile;
        let Some(file) = self.store().newest_metadata(RoleFile::Targets).await? else { return Ok(()) };
        let targets = Signed::<Targets>::parse(&file.bytes).map_err(|e| Fault::internal(&e))?;
        match targets.body().floors.get(&new.model) {
            Some(floor) if new.version < *floor => Err(Fault::conflict(format!(
                "{} {} is below the signed floor {floor}: every device would refuse it",
                new.model, new.version
            ))),
            _ => Ok(()),
        }
    }
}

fn soaks(stored: &StoredRollout) -> bool {
    stored.rollout.state == RolloutState::Running && stored.rollout.passed_ms.is_some()
}

fn view(fleet: &ModelFleet, index: usize) -> RolloutView {
    let stored = &fleet.rollouts[index];
    RolloutView {
        id: stored.name(),
        spec: stored.spec.clone(),
        state: stored.rollout.state,
        state_reason: stored.reason.clone(),
        stage: stored.rollout.stage,
        counts: rollout::counts(&observe(fleet, index)),
        created_ms: stored.created_ms,
    }
}
