//! `bench update`: what an update takes, beside what moves the same bytes without Whimbrel.

mod delta;
mod faults;
mod transfer;

use anyhow::Result;
use serde_json::{Value, json};

/// Every figure of the updater.
pub(super) fn run() -> Result<Value> {
    Ok(json!({
        "transfer": transfer::run()?,
        "delta": delta::run()?,
        "cut_points": faults::cut_points()?,
        "kills": faults::kills()?,
    }))
}

/// The figures for a terminal.
pub(super) fn show(value: &Value) {
    let (transfer, cuts, kills) = (&value["transfer"], &value["cut_points"], &value["kills"]);
    println!(
        "transfer of {} MiB   {:.3} s, curl and sha256sum {:.3} s, ratio {:.2} ({:.2} to {:.2})",
        transfer["size_mib"],
        super::number(&transfer["ours_s"]),
        super::number(&transfer["peer_s"]),
        super::number(&transfer["ratio"]),
        super::number(&transfer["ratio_min"]),
        super::number(&transfer["ratio_max"]),
    );
    println!("memory above idle, MB: {}", transfer["above_idle_mb"]);
    println!("killed at half, finished by another process: {}", transfer["resume"]);
    println!("{:<40} {:>9} {:>9} {:>9} {:>10}", "delta, bytes", "whole", "zstd -19", "moved", "patch-from");
    for row in value["delta"].as_array().into_iter().flatten() {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        println!(
            "{:<40} {:>9} {:>9} {:>9} {:>10}",
            format!("{}, {}", text("model"), text("change")),
            row["whole_bytes"],
            row["zstd_bytes"],
            row["moved_bytes"],
            row["patch_bytes"],
        );
    }
    let violations =
        cuts["scenarios"].as_array().into_iter().flatten().filter_map(|s| s["violations"].as_u64());
    println!("power cuts: {} points, {} violations", cuts["total_cut_points"], violations.sum::<u64>());
    println!("kills: {}, violations: {}", kills["kills"], kills["violations"]);
}
