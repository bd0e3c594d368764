//! Malformed requests to a real agent: each gets a protocol error, and the next good one an answer.

use std::{io::Write, net::TcpStream};
use whimbrel_tests::{Agent, examples, get, post};

#[test]
fn every_malformed_request_gets_a_protocol_error_and_the_agent_answers_on() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut agent = Agent::alone(dir.path(), &examples().join("digits/v2"));
    let infer = "/v2/models/digits/infer";
    let tensor = |shape: &str, datatype: &str, data: &str| {
        format!(r#"{{"inputs":[{{"name":"pixels","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
    };
    let ones = format!("[{}]", ["1"; 64].join(","));
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, String, &str, u16)> = vec![
        (infer, "not JSON".into(), "", 400),
        (infer, deep, "", 400),
        (infer, "{}".into(), "", 400),
        (infer, r#"{"inputs":[]}"#.into(), "", 400),
        (infer, tensor("[1,1,8,9]", "FP32", &ones), "", 400),
        (infer, tensor("[1,1,8,-8]", "FP32", &ones), "", 400),
        (infer, tensor("[9223372036854775807,9223372036854775807,8,8]", "FP32", &ones), "", 400),
        (infer, tensor("[1,1,8,8]", "FP33", &ones), "", 400),
        (infer, tensor("[1,1,8,8]", "INT64", &ones), "", 400),
        (infer, tensor("[1,1,8,8]", "FP32", "[1,2]"), "", 400),
        (infer, tensor("[1,1,8,8]", "FP32", r#"["a"]"#), "", 400),
        (infer, tensor("[1,1,8,8]", "FP32", &ones), "Inference-Header-Content-Length: 99999\r\n", 400),
        (infer, tensor("[1,1,8,8]", "FP32", &ones), "Inference-Header-Content-Length: -1\r\n", 400),
        ("/v2/models/nobody/infer", tensor("[1,1,8,8]", "FP32", &ones), "", 404),
        ("/v2/models/digits/versions/9.9.9/infer", tensor("[1,1,8,8]", "FP32", &ones), "", 404),
        ("/v2/nothing", String::new(), "", 404),
    ];
    for (path, body, headers, status) in cases {
        let shown: String = body.chars().take(120).collect();
        let answer = post(&agent.http, path, headers, body.as_bytes())
            .unwrap_or_else(|| panic!("no answer to {shown}"));
        assert_eq!(answer.status, status, "{path} {shown}: {}", String::from_utf8_lossy(&answer.body));
        assert!(
            answer.json()["error"].is_string(),
            "{path} {shown}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        assert!(answer.body.len() < 4096, "an error stays short");
    }
    // Bytes that are no HTTP at all, and a request that is never finished.
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"POST /v2/models/digits/infer HTTP/1.1\r\n"]
    {
        let mut stream = TcpStream::connect(agent.http.trim_start_matches("http://")).expect("connects");
        stream.write_all(bytes).expect("writes");
    }
    let good = agent.infer(&[1.0; 64]).expect("an answer");
    assert_eq!(good.status, 200, "{}", String::from_utf8_lossy(&good.body));
    assert!(agent.process.is_running());
    assert_eq!(get(&agent.http, "/v2/health/ready").expect("an answer").status, 200);
    assert_eq!(agent.process.stop(), Some(0), "SIGTERM ends it cleanly");
}
