//! Errors that name the line, the key and what was expected; and which source wins.

use super::*;
use std::{ffi::OsString, path::Path};

/// Loads `agent.toml` with this content; an error comes without the folder's name.
fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::write(dir.path().join("agent.toml"), text).expect("writes");
    load_dir(dir.path(), env)
}

fn load_dir(dir: &Path, env: &[(&str, &str)]) -> Result<Loaded, String> {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let sources = Sources::new(&dir.join("agent.toml"), None, env);
    load(&sources).map_err(|e| e.to_string().replace(&format!("{}/", dir.display()), ""))
}

#[test]
fn errors_name_the_line_the_key_and_what_was_expected() {
    let cases = [
        ("[serve]\nhttp = \"localhost\"", "agent.toml:2: serve.http: \"localhost\": expected ADDR:PORT"),
        ("\n[serve]\n\nhttp = 8350", "agent.toml:4: serve.http: 8350: expected a string"),
        ("[server]\nmqtt_port = 0", "agent.toml:2: server.mqtt_port: 0: expected a port, 1 to 65535"),
        (
            "[telemetry]\nwindow_s = \"5m\"",
            "agent.toml:2: telemetry.window_s: \"5m\": expected an integer, 0 or more",
        ),
        (
            "[telemetry]\nwindow_s = -1",
            "agent.toml:2: telemetry.window_s: -1: expected an integer, 0 or more",
        ),
        (
            "[updates]\nwindows = \"22-06\"",
            "agent.toml:2: updates.windows: \"22-06\": expected windows like 22:00-06:00, Sat 00:00-24:00",
        ),
        (
            "[updates]\nmetered_download = \"small\"",
            "agent.toml:2: updates.metered_download: \"small\": expected never, always or small:BYTES",
        ),
        ("[telemetry]\nwindow_s = 0", "agent.toml:2: telemetry.window_s: 0: expected seconds, 1 to 86400"),
        ("[telemetry]\nenabled = 1", "agent.toml:2: telemetry.enabled: 1: expected true or false"),
        ("[serve]\nqueue_max = 1000000", "agent.toml:2: serve.queue_max: 1000000: expected 0 to 65536"),
        (
            "[server]\nurl = \"http://fleet\"",
            "agent.toml:2: server.url: \"http://fleet\": expected an address like https://HOST:PORT",
        ),
        ("[device]\nid = \"x\"", "agent.toml:2: device.id: unknown key: expected one of device.state_dir"),
        (
            "[servers]\nurl = 1",
            "agent.toml:1: servers: unknown section: expected one of device, server, serve, models, updates, telemetry, log, model.NAME",
        ),
        ("log = \"info\"", "agent.toml:1: log: string: expected a section, [log]"),
        ("[log]\nlevel = { a = 1 }", "agent.toml:2: log.level: a table: expected a string"),
    ];
    for (text, expected) in cases {
        assert_eq!(load_text(text, &[]).expect_err(text), expected);
    }
}

#[test]
fn a_syntax_error_keeps_the_parsers_words_on_one_line() {
    let error = load_text("[serve]\nhttp = \"open\nuds = 3", &[]).expect_err("no TOML");
    assert!(error.starts_with("agent.toml:2: "), "{error}");
    assert!(!error.contains('\n') && error.len() > "agent.toml:2: ".len(), "{error}");
}

#[test]
fn requests_from_other_machines_are_let_in_only_on_purpose() {
    let error = load_text("[serve]\nhttp = \"0.0.0.0:8350\"", &[]).expect_err("refused");
    assert!(error.starts_with("agent.toml:2: serve.http: \"0.0.0.0:8350\": expected a loopback address"));
    assert!(load_text("[serve]\nhttp = \"0.0.0.0:8350\"\nallow_remote = true", &[]).is_ok());
}

#[test]
fn without_a_file_everything_is_a_default() {
    let dir = tempfile::tempdir().expect("temp dir");
    let loaded = load_dir(dir.path(), &[]).expect("defaults are valid");
    assert_eq!(loaded.config.device.state_dir, Path::new("/var/lib/whimbrel"));
    assert_eq!(loaded.config.serve.http, Some(([127, 0, 0, 1], 8350).into()));
    assert!(loaded.config.serve.uds_is_default);
    assert!(loaded.files.is_empty());
    assert!(loaded.shown.iter().all(|s| s.origin == Origin::Default));
}

#[test]
fn a_named_file_must_be_there() {
    let sources = Sources::new(Path::new("/nowhere/a.toml"), Some(Path::new("/nowhere/b.toml")), []);
    assert_eq!(load(&sources).expect_err("absent").to_string(), "/nowhere/b.toml: there is no such file");
}

#[test]
fn later_sources_win_and_are_remembered() {
    let dir = tempfile::tempdir().expect("temp dir");
    let drop_ins = dir.path().join("agent.d");
    std::fs::create_dir(&drop_ins).expect("creates");
    std::fs::write(dir.path().join("agent.toml"), "[serve]\nqueue_max = 1\nthreads = 1\nconnections_max = 1")
        .expect("writes");
    std::fs::write(drop_ins.join("20.toml"), "[serve]\nqueue_max = 3").expect("writes");
    std::fs::write(drop_ins.join("10.toml"), "[serve]\nqueue_max = 2\nthreads = 2").expect("writes");
    std::fs::write(drop_ins.join("30.toml.bak"), "not read").expect("writes");
    let env = [("WHIMBREL__SERVE__THREADS", "3"), ("WHIMBREL__SERVE__UDS", ""), ("WHIMBREL_OTHER", "x")];
    let env = env.map(|(name, value)| (name.into(), value.into()));
    let sources = Sources::new(&dir.path().join("agent.toml"), None, env)
        .flag("--http", ("serve", "http"), Some("127.0.0.1:0"))
        .path_flag("--state-dir", ("device", "state_dir"), None);
    let Loaded { config, shown, files } = load(&sources).expect("valid");
    assert_eq!(config.serve.limits.queue_max, 3);
    assert_eq!(config.serve.limits.workers, 3);
    assert_eq!(config.serve.limits.connections_max, 1);
    assert_eq!(config.serve.uds, None);
    assert_eq!(files.len(), 3);
    let origin = |key| shown.iter().find(|s| s.key == key).expect("shown").origin.to_string();
    assert!(origin("serve.queue_max").ends_with("agent.d/20.toml:2"));
    assert_eq!(origin("serve.threads"), "WHIMBREL__SERVE__THREADS");
    assert_eq!(origin("serve.http"), "--http");
    assert_eq!(origin("device.state_dir"), "default");
}

#[test]
fn errors_in_the_environment_name_the_variable() {
    let cases = [
        ("WHIMBREL__LOG__LEVEL", "loud", "WHIMBREL__LOG__LEVEL: log.level: \"loud\": expected off, error"),
        ("WHIMBREL__LOG", "info", "WHIMBREL__LOG: expected a name of the form WHIMBREL__SECTION__KEY"),
        (
            "WHIMBREL__LOG__COLOUR",
            "x",
            "WHIMBREL__LOG__COLOUR: log.colour: unknown key: expected one of log.level",
        ),
        (
            "WHIMBREL__SERVE__THREADS",
            "all",
            "WHIMBREL__SERVE__THREADS: serve.threads: \"all\": expected an integer",
        ),
    ];
    for (name, value, expected) in cases {
        let error = load_text("", &[(name, value)]).expect_err(name);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_model_takes_what_it_does_not_set_from_all_models() {
    let text = "[models]\nmemory_bytes_max = 2097152\nthreads = 2\n[model.detector]\nthreads = 1\ncores = \"0-1\"\n\
        [model.\"a.b\"]\nmemory_bytes_max = 4194304";
    let loaded = load_text(text, &[("WHIMBREL__MODEL__DETECTOR__INPUT_BYTES_MAX", "4096")]).expect("valid");
    let of = |name: &str| {
        let options = loaded.config.models.options(&name.parse().expect("a name"));
        let limits = options.limits;
        let cores = options.cores.map(|cores| cores.to_string());
        (limits.memory_bytes_max, limits.input_bytes_max, options.threads.expect("said").get(), cores)
    };
    assert_eq!(of("detector"), (2 << 20, 4096, 1, Some("0-1".to_owned())));
    assert_eq!(of("a.b"), (4 << 20, 1 << 30, 2, None));
    assert_eq!(of("other"), (2 << 20, 1 << 30, 2, None));
    let defaults = load_text("", &[]).expect("valid").config.models.options(&"x".parse().expect("a name"));
    assert_eq!((defaults.threads.map(usize::from), defaults.cores), (Some(1), None));
    let half = memory_bytes().expect("told") / 2;
    assert_eq!(defaults.limits.memory_bytes_max, half);
    let cases = [
        (
            "[model.x]\nthreads = 33",
            "agent.toml:2: model.x.threads: 33: expected threads of one run, 1 to 32",
        ),
        ("[model.x]\ncores = \"1-0\"", "agent.toml:2: model.x.cores: \"1-0\": expected processors, like"),
        (
            "[models]\nmemory_bytes_max = 5",
            "agent.toml:2: models.memory_bytes_max: 5: expected bytes, 1048576",
        ),
        (
            "[model.x]\nthread = 1",
            "agent.toml:2: model.x.thread: unknown key: expected one of model.x.memory_bytes_max",
        ),
        ("[model]\nx = 1", "agent.toml:2: model.x: integer: expected a section, [model.x]"),
        ("[model.\"A b\"]\nthreads = 1", "agent.toml:2: model.A b: A b: expected the name of a model"),
    ];
    for (text, expected) in cases {
        let error = load_text(text, &[]).expect_err(text);
        assert!(error.starts_with(expected), "{error}");
    }
}
