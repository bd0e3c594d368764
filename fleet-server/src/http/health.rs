//! Health and metrics. No device is named in them.

use super::{Shared, problem::problem};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// `GET /livez`: the process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers too.
pub(crate) async fn ready(State(state): State<Shared>) -> Response {
    match state.fleet.store().ping().await {
        Ok(()) => "ok\n".into_response(),
        Err(error) => {
            tracing::error!("{}", crate::service::chain(&error));
            problem(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "the database does not answer")
        }
    }
}

/// `GET /metrics`, in the Prometheus text format.
pub(crate) async fn metrics(State(state): State<Shared>) -> Response {
    let fleet = &state.fleet;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let c = fleet.counters();
    let mut text = String::new();
    let online = fleet.online_len() as u64;
    add(&mut text, "whimbrel_fleet_devices_online", "gauge", "Devices connected over MQTT.", online);
    add(
        &mut text,
        "whimbrel_fleet_telemetry_batches_total",
        "counter",
        "Telemetry batches counted for the first time.",
        read(&c.batches),
    );
    add(
        &mut text,
        "whimbrel_fleet_telemetry_batches_repeated_total",
        "counter",
        "Telemetry batches that were counted before.",
        read(&c.batches_repeated),
    );
    add(&mut text, "whimbrel_fleet_reports_total", "counter", "Reports of devices kept.", read(&c.reports));
    add(
        &mut text,
        "whimbrel_fleet_messages_refused_total",
        "counter",
        "Messages of devices that could not be read.",
        read(&c.messages_refused),
    );
    let help = "Parts of files sent to devices over MQTT.";
    add(&mut text, "whimbrel_fleet_mqtt_parts_total", "counter", help, read(&c.parts));
    let help = "Bytes of the parts of files sent to devices over MQTT.";
    add(&mut text, "whimbrel_fleet_mqtt_part_bytes_total", "counter", help, read(&c.part_bytes));
    let help = "Files asked for over MQTT beyond a device's window.";
    add(&mut text, "whimbrel_fleet_mqtt_wants_dropped_total", "counter", help, read(&c.wants_dropped));
    add(
        &mut text,
        "whimbrel_fleet_http_requests_total",
        "counter",
        "HTTP requests answered.",
        read(&c.http_requests),
    );
    add(
        &mut text,
        "whimbrel_fleet_http_failures_total",
        "counter",
        "HTTP requests answered with a failure of the server.",
        read(&c.http_failures),
    );
    text.push_str(&expiries(&state).await);
    if let Some(bytes) = resident_bytes() {
        add(&mut text, "process_resident_memory_bytes", "gauge", "Memory of the process.", bytes);
    }
    let mut response = text.into_response();
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn add(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

/// When the newest file of each role expires: operators must sign root and targets again before.
async fn expiries(state: &Shared) -> String {
    use crate::store::metadata::RoleFile;
    const NAME: &str = "whimbrel_fleet_metadata_expires_timestamp_seconds";
    let mut text = format!("# HELP {NAME} When the newest file of a role expires.\n# TYPE {NAME} gauge\n");
    for role in [RoleFile::Root, RoleFile::Timestamp, RoleFile::Snapshot, RoleFile::Targets] {
        match state.fleet.store().newest_metadata(role).await {
            Ok(Some(file)) => {
                let _ =
                    writeln!(text, "{NAME}{{role=\"{}\"}} {}", file.role.as_str(), file.expires_ms / 1000);
            }
            Ok(None) => {}
            Err(error) => tracing::error!("{}", crate::service::chain(&error)),
        }
    }
    text
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
