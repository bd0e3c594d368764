//! Where MQTT is blocked: the same messages over HTTPS.

#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

use std::fs;
use whimbrel_tests::{Agent, Fleet, Operator, examples, pixels};

#[test]
fn a_device_without_mqtt_gets_its_version_and_delivers_every_count() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let fleet = Fleet::start(dir.path());
    let operator = Operator::new(dir.path(), &fleet);
    let archive = operator.pack(&examples().join("digits/v1"), "v1.wbundle");
    operator.publish(&archive);
    let config = dir.path().join("agent.toml");
    fs::write(&config, "[server]\ntransport = \"https\"\npoll_s_max = 1\nreport_every_s = 1\n")
        .expect("written");
    let config = config.display().to_string();
    let agent = Agent::enrolled_with(dir.path(), "cam-1", &fleet, &operator, &["--config", &config]);
    drop(operator.json(&["rollout", "start", "digits", "1.0.0", "--stages", "100"]));

    let images: Vec<Vec<f32>> = (0..50).map(pixels).collect();
    agent.serve_until("version 1 to be confirmed", &images, || {
        let (version, progress) = operator.update("cam-1")?;
        (version == "1.0.0" && !progress["active"].is_null()).then_some(())
    });
    // What was asked before a version served was no request of a model: the agent's own count is the one to compare.
    whimbrel_tests::eventually("every count to arrive", || {
        let metrics = whimbrel_tests::get(&agent.http, "/metrics")?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let answered: u64 = text
            .lines()
            .filter(|line| line.starts_with("whimbrel_agent_inference_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        let summary = operator.json(&["telemetry", "summary"]);
        let rows = summary.as_array().or_else(|| summary["summary"].as_array())?;
        let received: u64 = rows.iter().filter_map(|row| row["requests"].as_u64()).sum();
        (answered > 0 && received == answered).then_some(())
    });
    let device = operator.device("cam-1");
    assert_eq!(device["online"], false, "it never connected over MQTT");
}
