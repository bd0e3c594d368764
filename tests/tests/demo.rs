//! The demo, as a newcomer runs it.

use serde_json::Value;
use whimbrel_tests::{binary, examples, run};

#[test]
fn the_whole_path_holds() {
    let examples = examples();
    let demo = run(
        &binary("whimbrel"),
        ["demo", "--once", "--json", "--examples"].iter().map(Into::into).chain([examples.into_os_string()]),
    );
    let report: Value = serde_json::from_str(demo.stdout.trim())
        .unwrap_or_else(|e| panic!("{e}\nstdout: {}\nstderr: {}", demo.stdout, demo.stderr));
    let context = format!("{report:#}\n{}", demo.stderr);
    assert_eq!(report["ok"], true, "{context}");
    assert_eq!(demo.code, Some(0), "{context}");
    assert!(report["predictions"].as_u64() >= Some(500), "{context}");
    assert!(report["accuracy"].as_f64() > Some(0.95), "{context}");
    assert!(report["rollbacks"].as_u64() >= Some(1), "{context}");
    assert_eq!(report["telemetry_lost"], 0, "{context}");
    assert!(report["telemetry_sent"].as_u64() >= report["predictions"].as_u64(), "{context}");
    assert!(report["cold_start_ms"].as_f64() > Some(0.0), "{context}");
    let steps = report["steps"].as_array().expect("steps is a list");
    assert!(steps.len() > 5 && steps.iter().all(|s| s["ok"] == true && s["name"].is_string()), "{context}");
}
