//! `spool stat`: how much telemetry waits, while no agent runs.

use crate::{
    cli::{SpoolCommand, SpoolStatArgs},
    failure::{Failure, chain},
    telemetry::{TelemetrySettings, stat_closed},
};
use serde_json::json;

/// Runs a spool command.
///
/// # Errors
/// The configuration is not valid, there is no spool, or an agent has it open.
pub(crate) fn run(command: &SpoolCommand) -> Result<(), Failure> {
    match command {
        SpoolCommand::Stat(args) => stat(args),
    }
}

fn stat(args: &SpoolStatArgs) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    let settings = TelemetrySettings::of(&config);
    let attempted = format!("reading the spool in {}", settings.dir.display());
    // Opening would make one.
    if !settings.dir.is_dir() {
        return Err(Failure::failed(attempted, "there is none")
            .hint("name the agent's folder with --state-dir; a spool is made by the first `serve`"));
    }
    let stat = stat_closed(&settings).map_err(|e| {
        Failure::failed(attempted, chain(&e))
            .hint("while the agent runs it has the spool open: look at its /metrics instead")
    })?;
    if args.json {
        let text = json!({
            "pending_batches": stat.pending,
            "size_bytes": stat.size_bytes,
            "size_bytes_max": settings.spool_bytes_max,
            "generations": stat.generations,
            "boot": format!("{:016x}", stat.boot),
            "sequence": stat.high,
            "dropped_batches": stat.dropped,
            "damaged_generations": stat.damaged,
        });
        println!("{text}");
    } else {
        println!(
            "{} batches wait, in {} bytes of at most {}",
            stat.pending, stat.size_bytes, settings.spool_bytes_max
        );
        println!("incarnation {:016x}, {} batches so far", stat.boot, stat.high);
        println!("{} batches dropped, {} generations damaged", stat.dropped, stat.damaged);
    }
    Ok(())
}
