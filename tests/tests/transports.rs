//! Updates where HTTPS is blocked, from the beginning or from the middle of one.

#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

use std::{fs, path::Path};
use whimbrel_tests::{Agent, Fleet, Operator, Relay, examples, pixels};

/// Bytes that neither compress nor repeat.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// Version 1 of the example, with `more_bytes` that the network does not need; published.
fn publish(dir: &Path, operator: &Operator, more_bytes: usize) {
    let folder = dir.join("bundle");
    fs::create_dir(&folder).expect("made");
    for entry in fs::read_dir(examples().join("digits/v1")).expect("the example is there") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
    }
    fs::write(folder.join("more.bin"), noise(more_bytes)).expect("written");
    operator.publish(&operator.pack(&folder, "v1.wbundle"));
}

fn https_port(fleet: &Fleet) -> u16 {
    fleet.https.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the address has a port")
}

/// A device that reaches its server through these relays only.
fn enrolled_behind(
    dir: &Path,
    (https, mqtt): (&Relay, &Relay),
    transport: &str,
    fleet: &Fleet,
    operator: &Operator,
) -> Agent {
    let config = dir.join("agent.toml");
    let text = format!(
        "[server]\nurl = \"https://127.0.0.1:{}\"\nmqtt_port = {}\ntransport = \"{transport}\"\nreport_every_s = 1\n",
        https.port, mqtt.port
    );
    fs::write(&config, text).expect("written");
    Agent::enrolled_with(dir, "cam-1", fleet, operator, &["--config", &config.display().to_string()])
}

/// Waits, asking all the while, until the version is confirmed.
fn until_confirmed(agent: &Agent, operator: &Operator) {
    let images: Vec<Vec<f32>> = (0..50).map(pixels).collect();
    agent.serve_until("version 1 to be confirmed", &images, || {
        let (version, progress) = operator.update("cam-1")?;
        (version == "1.0.0" && !progress["active"].is_null()).then_some(())
    });
}

#[test]
fn a_device_that_has_mqtt_only_gets_its_version() {
    const MORE_BYTES: usize = 2 << 20;
    let dir = tempfile::tempdir().expect("a folder for the test");
    let fleet = Fleet::start(dir.path());
    let operator = Operator::new(dir.path(), &fleet);
    publish(dir.path(), &operator, MORE_BYTES);
    let (https, mqtt) = (Relay::start(https_port(&fleet)), Relay::start(fleet.mqtt_port));
    https.cut();
    let agent = enrolled_behind(dir.path(), (&https, &mqtt), "mqtt", &fleet, &operator);
    drop(operator.json(&["rollout", "start", "digits", "1.0.0", "--stages", "100"]));
    until_confirmed(&agent, &operator);
    assert_eq!(https.passed(), 0);
    assert!(mqtt.passed() > MORE_BYTES as u64, "{} bytes", mqtt.passed());
}

#[test]
fn an_update_whose_https_ends_in_the_middle_is_finished_over_mqtt() {
    const MORE_BYTES: u64 = 8 << 20;
    const CUT_AT: u64 = 4 << 20;
    // What the two connections carry beside chunks, and the chunks that were under way at the cut.
    const SLACK: u64 = 2 << 20;
    let dir = tempfile::tempdir().expect("a folder for the test");
    let fleet = Fleet::start(dir.path());
    let operator = Operator::new(dir.path(), &fleet);
    publish(dir.path(), &operator, usize::try_from(MORE_BYTES).expect("fits"));
    let (https, mqtt) = (Relay::start(https_port(&fleet)), Relay::start(fleet.mqtt_port));
    https.cut_at(CUT_AT);
    let agent = enrolled_behind(dir.path(), (&https, &mqtt), "auto", &fleet, &operator);
    drop(operator.json(&["rollout", "start", "digits", "1.0.0", "--stages", "100"]));
    until_confirmed(&agent, &operator);
    assert!(https.is_cut(), "{} bytes came over HTTPS", https.passed());
    let by_mqtt = mqtt.passed();
    assert!(by_mqtt > MORE_BYTES - CUT_AT, "{by_mqtt} bytes: the rest");
    assert!(by_mqtt < MORE_BYTES - CUT_AT + SLACK, "{by_mqtt} bytes: no more than the rest");
}
