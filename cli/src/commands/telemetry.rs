//! `whimbrel telemetry`: what devices report of their requests.

use crate::{
    client::Connection,
    error::Failure,
    output::{Output, table},
};
use clap::Subcommand;
use whimbrel_wire::api::TelemetrySummary;

#[derive(Debug, Subcommand)]
pub(crate) enum TelemetryCommand {
    /// Requests, failures and latency per model version
    Summary {
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) async fn run(command: TelemetryCommand, output: Output) -> Result<(), Failure> {
    let TelemetryCommand::Summary { connection } = command;
    let summary = connection.client()?.telemetry_summary().await?;
    output.emit(&serde_json::json!({ "summary": summary }), |_| text(&summary))
}

fn text(summary: &[TelemetrySummary]) -> String {
    let ms = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.2} ms"));
    let rows: Vec<Vec<String>> = summary
        .iter()
        .map(|s| {
            vec![
                s.model.to_string(),
                s.version.to_string(),
                s.devices.to_string(),
                s.requests.to_string(),
                s.errors.to_string(),
                ms(s.latency_p50_ms),
                ms(s.latency_p95_ms),
            ]
        })
        .collect();
    table(&["MODEL", "VERSION", "DEVICES", "REQUESTS", "FAILED", "P50", "P95"], &rows)
}
