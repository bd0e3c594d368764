//! Cuts the power at every point of every scenario and says how many there were.
//!
//! `cutpoints [--json] [--mixtures N] [--second-cuts N]`

use serde_json::json;
use std::{env, process::ExitCode};
use whimbrel_sim::{
    cuts::{Effort, Tried, try_every_cut},
    scenario::Scenario,
};

/// What is tried where nothing else is asked for.
const EFFORT: Effort = Effort { mixtures: 12, second_cuts: 200, until: None };

fn main() -> ExitCode {
    match arguments(env::args().skip(1)) {
        Ok((effort, as_json)) => run(effort, as_json),
        Err(why) => {
            eprintln!("error: reading the arguments: {why}");
            eprintln!("hint: cutpoints [--json] [--mixtures N] [--second-cuts N]");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<(Effort, bool), String> {
    let (mut effort, mut as_json) = (EFFORT, false);
    while let Some(word) = words.next() {
        let number = |next: Option<String>| -> Result<u64, String> {
            let text = next.ok_or_else(|| format!("{word} needs a number"))?;
            text.parse().map_err(|e| format!("{word} {text:?}: {e}"))
        };
        match word.as_str() {
            "--json" => as_json = true,
            "--mixtures" => effort.mixtures = number(words.next())?,
            "--second-cuts" => effort.second_cuts = number(words.next())?,
            _ => return Err(format!("{word:?} is unknown")),
        }
    }
    Ok((effort, as_json))
}

fn run(effort: Effort, as_json: bool) -> ExitCode {
    let tried: Vec<Tried> = Scenario::ALL.iter().map(|make| try_every_cut(&make(), effort, None)).collect();
    for violation in tried.iter().flat_map(|t| &t.violations) {
        eprintln!("violation: {violation}");
    }
    if as_json {
        println!("{}", summary(&tried));
    } else {
        println!(
            "{:<26} {:>10} {:>7} {:>7} {:>11}",
            "scenario", "cut points", "images", "runs", "violations"
        );
        for Tried { name, cut_points, images, runs, violations } in &tried {
            println!("{name:<26} {cut_points:>10} {images:>7} {runs:>7} {:>11}", violations.len());
        }
    }
    ExitCode::from(u8::from(tried.iter().any(|t| !t.violations.is_empty())))
}

fn summary(tried: &[Tried]) -> serde_json::Value {
    let scenario = |t: &Tried| {
        json!({
            "name": t.name,
            "cut_points": t.cut_points,
            "images": t.images,
            "runs": t.runs,
            "violations": t.violations.len(),
        })
    };
    json!({
        "scenarios": tried.iter().map(scenario).collect::<Vec<_>>(),
        "total_cut_points": tried.iter().map(|t| t.cut_points).sum::<u64>(),
    })
}
