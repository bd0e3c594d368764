//! `whimbrel device`: what the fleet knows of its devices.

use crate::{
    client::Connection,
    error::Failure,
    output::{Output, bytes, moment, table},
};
use clap::Subcommand;
use std::fmt::Write as _;
use whimbrel_wire::{
    DeviceId,
    api::DeviceView,
    report::{ModelReport, Progress, Report},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Every device: connected or not, what it runs
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// One device: what it is, what it runs and why
    #[command(after_help = "Example:\n  whimbrel device show cam-1")]
    Show {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) async fn run(command: DeviceCommand, output: Output) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { connection } => {
            let devices = connection.client()?.devices().await?;
            output.emit(&serde_json::json!({ "devices": devices }), |_| list(&devices))
        }
        DeviceCommand::Show { id, connection } => {
            let device = connection.client()?.device(&id).await?;
            output.emit(&device, show)
        }
    }
}

fn list(devices: &[DeviceView]) -> String {
    let rows: Vec<Vec<String>> = devices
        .iter()
        .map(|d| {
            let models = d.report.iter().flat_map(|r| &r.models).map(model_in_short);
            vec![
                d.id.to_string(),
                if d.online { "online" } else { "offline" }.to_owned(),
                d.seen_ms.map_or_else(|| "never".to_owned(), moment),
                models.collect::<Vec<_>>().join(", "),
                d.tags.join(","),
            ]
        })
        .collect();
    table(&["DEVICE", "STATE", "SEEN", "MODELS", "TAGS"], &rows)
}

/// `digits 1.0.0`, and how far an update of it came where it is not simply active.
fn model_in_short(model: &ModelReport) -> String {
    let mut text = match &model.active {
        Some(active) => format!("{} {}", model.name, active.version),
        None => format!("{} -", model.name),
    };
    if let Some(update) = model.update.as_ref().filter(|u| !matches!(u.progress, Progress::Active {})) {
        // Writing to a String cannot fail.
        let _ = write!(text, " ({} {})", update.version, update.progress.as_str());
    }
    text
}

fn show(device: &DeviceView) -> String {
    let mut text = format!(
        "device   {}\nstate    {}\nseen     {}\ntags     {}\n",
        device.id,
        if device.online { "online" } else { "offline" },
        device.seen_ms.map_or_else(|| "never".to_owned(), moment),
        device.tags.join(", "),
    );
    match &device.report {
        Some(report) => show_report(&mut text, report),
        None => text.push_str("it has not reported yet\n"),
    }
    for why in &device.why {
        let _ = writeln!(text, "why      {why}");
    }
    text
}

fn show_report(text: &mut String, report: &Report) {
    let platform = &report.platform;
    let _ = writeln!(
        text,
        "agent    {}\nmachine  {}, {}, {} cores, {}",
        report.agent,
        platform.arch,
        platform.board,
        platform.cores,
        bytes(platform.memory_bytes),
    );
    for model in &report.models {
        let active = model.active.as_ref().map_or_else(|| "none".to_owned(), |a| a.version.to_string());
        let _ = writeln!(text, "model    {}: active {active}", model.name);
        if let Some(update) = &model.update {
            let _ = writeln!(text, "         {} {}", update.version, progress(&update.progress));
            if let Some(reason) = &update.waiting {
                let _ = writeln!(text, "         waiting: {reason}");
            }
        }
    }
}

/// How far an update came, in words.
pub(crate) fn progress(progress: &Progress) -> String {
    match progress {
        Progress::Fetching { done_bytes, total_bytes } => {
            format!("fetching: {} of {}", bytes(*done_bytes), bytes(*total_bytes))
        }
        Progress::Probation { requests, errors } => {
            format!("in probation: {requests} requests, {errors} failed")
        }
        Progress::Rejected { reason } => format!("rejected: {reason}"),
        Progress::RolledBack { reason } => format!("rolled back: {reason}"),
        Progress::Resolving {} | Progress::SelfTest {} | Progress::Active {} => {
            progress.as_str().replace('_', " ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_wire::report::{Reason, ReasonKind, Update};

    fn model(progress: Progress) -> ModelReport {
        let version = semver_of("2.0.0");
        ModelReport {
            name: "digits".parse().expect("a name"),
            active: None,
            update: Some(Update { version, attempt: 1, rollout: String::new(), progress, waiting: None }),
        }
    }

    fn semver_of(text: &str) -> semver::Version {
        text.parse().expect("a version")
    }

    #[test]
    fn a_device_that_never_reported_is_listed() {
        let device = DeviceView {
            id: "cam-1".parse().expect("an id"),
            tags: vec!["a".into()],
            online: false,
            seen_ms: None,
            report: None,
            why: vec!["digits: no rollout asks for it".into()],
        };
        assert!(list(std::slice::from_ref(&device)).contains("never"));
        assert!(show(&device).contains("why      digits: no rollout"));
    }

    #[test]
    fn the_reason_of_a_refusal_is_shown() {
        let reason = Reason::new(ReasonKind::GoldenMismatch, "vector 3 differs by 0.5");
        let rejected = Progress::Rejected { reason };
        assert_eq!(model_in_short(&model(rejected.clone())), "digits - (2.0.0 rejected)");
        assert_eq!(progress(&rejected), "rejected: golden_mismatch: vector 3 differs by 0.5");
    }
}
