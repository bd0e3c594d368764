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
    println!("memory above idle    {}", transfer["above_idle_mb"]);
    println!("after SIGKILL at half  {}", transfer["resume"]);
    println!("{:<24} {:>10} {:>10} {:>10} {:>10}", "delta", "whole", "zstd -19", "moved", "patch-from");
    for row in value["delta"].as_array().into_iter().flatten() {
        println!(
            "{:<24} {:>10} {:>10} {:>10} {:>10}",
            format!(
                "{} {}",
                row["model"].as_str().unwrap_or_default(),
                row["change"].as_str().unwrap_or_default()
            ),
            row["whole_bytes"],
            row["zstd_bytes"],
            row["moved_bytes"],
            row["patch_bytes"],
        );
    }
    println!("cut points           {}, violations {}", cuts["total_cut_points"], cuts["violations"]);
    println!("kills                {}, violations {}", kills["kills"], kills["violations"]);
}
