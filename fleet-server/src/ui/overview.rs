//! The first page: devices, rollouts, telemetry.

use crate::{
    rollout::state_name,
    service::{DeviceState, Fault, Fleet, chain},
    store::operators::{Operator, Role},
};
use askama::Template;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, macros::format_description};
use whimbrel_wire::{
    api::{OnFailure, RolloutState, RolloutView, TelemetrySummary},
    desired::DesiredModel,
    report::{ModelReport, Progress},
};

#[derive(Template)]
#[template(path = "fleet.html")]
struct Overview {
    online: usize,
    attention: usize,
    running: usize,
    requests: u64,
    devices: Vec<DeviceRow>,
    rollouts: Vec<RolloutRow>,
    telemetry: Vec<TelemetryRow>,
}

struct DeviceRow {
    id: String,
    about: String,
    connection: &'static str,
    tone: &'static str,
    seen: String,
    active: Vec<String>,
    updates: Vec<UpdateCell>,
    why: Vec<String>,
    attention: bool,
}

struct UpdateCell {
    text: String,
    tone: &'static str,
}

struct RolloutRow {
    id: String,
    model: String,
    version: String,
    state: &'static str,
    tone: &'static str,
    stage: u32,
    stages: Vec<u8>,
    percents: String,
    summary: String,
    gate: String,
    reason: String,
    asked_width: String,
    failed_width: String,
    active_width: String,
    actions: Vec<Action>,
}

struct Action {
    command: &'static str,
    label: &'static str,
    danger: bool,
}

struct TelemetryRow {
    model: String,
    version: String,
    devices: u64,
    batches: u64,
    requests: u64,
    errors: u64,
    p50: String,
    p95: String,
}

/// The overview as HTML, and a hash by which the browser says which one it has.
pub(super) async fn render(fleet: &Fleet, operator: &Operator) -> Result<(String, String), Fault> {
    let mut devices: Vec<DeviceRow> = fleet.devices().await?.iter().map(device).collect();
    devices.sort_by_key(|d| !d.attention);
    let rollouts = fleet.rollouts().await?;
    let telemetry = fleet.telemetry().await?;
    let overview = Overview {
        online: devices.iter().filter(|d| d.connection == "online").count(),
        attention: devices.iter().filter(|d| d.attention).count(),
        running: rollouts.iter().filter(|r| r.state == RolloutState::Running).count(),
        requests: telemetry.iter().fold(0u64, |sum, t| sum.saturating_add(t.requests)),
        devices,
        rollouts: rollouts.iter().map(|r| rollout(r, operator.role >= Role::Releaser)).collect(),
        telemetry: telemetry.iter().map(sums).collect(),
    };
    let inner = overview.render().map_err(|e| {
        tracing::error!("render the overview: {}", chain(&e));
        Fault::new(crate::service::Kind::Internal, "render the overview: the server's log says why")
    })?;
    let hash = hex::encode(&Sha256::digest(inner.as_bytes())[..12]);
    let html = format!(
        "<div id=\"fleet\" hx-get=\"/ui/fleet?seen={hash}\" hx-trigger=\"every 2s\" hx-swap=\"outerHTML\">\n{inner}</div>\n"
    );
    Ok((html, hash))
}

fn device(state: &DeviceState) -> DeviceRow {
    let view = &state.view;
    let models = view.report.as_ref().map_or(&[][..], |r| &r.models);
    let (connection, tone) = match (state.revoked, view.online) {
        (true, _) => ("revoked", "bad"),
        (false, true) => ("online", "good"),
        (false, false) => ("offline", "warn"),
    };
    let mut about: Vec<&str> = view.tags.iter().map(String::as_str).collect();
    about.extend(view.report.iter().map(|r| r.platform.arch.as_str()));
    let updates: Vec<UpdateCell> = models.iter().filter_map(update).collect();
    DeviceRow {
        id: view.id.to_string(),
        about: about.join(", "),
        connection,
        tone,
        seen: view.seen_ms.map(moment).unwrap_or_default(),
        active: models
            .iter()
            .filter_map(|m| m.active.as_ref().map(|a| format!("{} {}", m.name, a.version)))
            .collect(),
        attention: state.revoked || updates.iter().any(|u| u.tone == "bad") || !settled(state),
        updates,
        why: view.why.clone(),
    }
}

/// Whether an offline device runs what it was asked to; one that is online gets there or says why not.
fn settled(state: &DeviceState) -> bool {
    let models = state.view.report.as_ref().map_or(&[][..], |r| &r.models);
    let runs = |d: &DesiredModel| {
        models.iter().any(|m| m.name == d.name && m.active.as_ref().is_some_and(|a| a.version == d.version))
    };
    state.view.online || state.desired.iter().all(runs)
}

fn update(model: &ModelReport) -> Option<UpdateCell> {
    let update = model.update.as_ref()?;
    let tone = match update.progress {
        Progress::Active {} => "good",
        Progress::Rejected { .. } | Progress::RolledBack { .. } => "bad",
        _ => "",
    };
    let what = update.progress.as_str().replace('_', " ");
    Some(UpdateCell { text: format!("{} {}: {what}", model.name, update.version), tone })
}

fn rollout(view: &RolloutView, may_steer: bool) -> RolloutRow {
    let counts = &view.counts;
    let failed = counts.rejected.saturating_add(counts.rolled_back);
    let width = |n: u64| share(n, counts.matched);
    RolloutRow {
        id: view.id.clone(),
        model: view.spec.model.to_string(),
        version: view.spec.version.to_string(),
        state: state_name(view.state),
        tone: tone(view.state),
        stage: view.stage + 1,
        stages: view.spec.stages.clone(),
        percents: view.spec.stages.iter().map(|p| format!("{p} %")).collect::<Vec<_>>().join(", "),
        summary: format!(
            "{} of {} devices asked: {} active, {} refused it, {} took it back",
            counts.asked, counts.matched, counts.active, counts.rejected, counts.rolled_back
        ),
        gate: gate(view),
        reason: view.state_reason.clone(),
        asked_width: width(counts.asked),
        failed_width: width(counts.active.saturating_add(failed)),
        active_width: width(counts.active),
        actions: if may_steer { actions(view.state) } else { Vec::new() },
    }
}

fn gate(view: &RolloutView) -> String {
    let on_failure = match view.spec.on_failure {
        OnFailure::Pause => "pauses",
        OnFailure::RollBack => "rolls back",
    };
    let soak =
        if view.spec.soak_s > 0 { format!(", held for {} s", view.spec.soak_s) } else { String::new() };
    format!("{} % of each stage confirmed{soak}; otherwise it {on_failure}", view.spec.success_percent_min)
}

const fn tone(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Running => "",
        RolloutState::Done => "good",
        RolloutState::Paused => "warn",
        RolloutState::Aborted | RolloutState::RolledBack => "bad",
    }
}

fn actions(state: RolloutState) -> Vec<Action> {
    let action = |command, label, danger| Action { command, label, danger };
    let pause = action("pause", "Pause", false);
    let resume = action("resume", "Resume", false);
    let abort = action("abort", "Abort", true);
    let back = action("rollback", "Roll back", true);
    match state {
        RolloutState::Running => vec![pause, abort, back],
        RolloutState::Paused => vec![resume, abort, back],
        RolloutState::Done | RolloutState::Aborted => vec![back],
        RolloutState::RolledBack => Vec::new(),
    }
}

fn sums(summary: &TelemetrySummary) -> TelemetryRow {
    let ms = |value: Option<f64>| value.map_or_else(|| "–".into(), |v| format!("{v:.2}"));
    TelemetryRow {
        model: summary.model.to_string(),
        version: summary.version.to_string(),
        devices: summary.devices,
        batches: summary.batches,
        requests: summary.requests,
        errors: summary.errors,
        p50: ms(summary.latency_p50_ms),
        p95: ms(summary.latency_p95_ms),
    }
}

/// A width between 0 and 100, as SVG writes it.
fn share(n: u64, of: u64) -> String {
    let hundredths = if of == 0 { 0 } else { u128::from(n.min(of)) * 10_000 / u128::from(of) };
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn moment(at_ms: i64) -> String {
    let at =
        OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_stay_within_the_bar() {
        assert_eq!(share(1, 3), "33.33");
        assert_eq!(share(0, 0), "0.00");
        assert_eq!(share(9, 3), "100.00");
    }

    #[test]
    fn names_from_devices_cannot_become_markup() {
        let cell = UpdateCell { text: "<script>alert(1)</script>".into(), tone: "" };
        let row = DeviceRow {
            id: "a".into(),
            about: "<b>".into(),
            connection: "online",
            tone: "good",
            seen: moment(0),
            active: Vec::new(),
            updates: vec![cell],
            why: vec!["\"><img>".into()],
            attention: false,
        };
        let overview = Overview {
            online: 1,
            attention: 0,
            running: 0,
            requests: 0,
            devices: vec![row],
            rollouts: Vec::new(),
            telemetry: Vec::new(),
        };
        let html = overview.render().expect("renders");
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("<img>"), "{html}");
    }
}
