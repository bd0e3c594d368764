//! The protocol over real sockets.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Notes, Server, failing, message, raw, start, start_with, times, x};
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};
use whimbrel_serve::{Limits, NoObserver};

#[tokio::test]
async fn the_server_and_its_models_describe_themselves() {
    let server = start(&[times("1.2.3", 2.0)]).await;
    let v2 = server.get("/v2").await;
    assert_eq!((v2.status, v2.json()["name"].as_str()), (200, Some("whimbrel")));
    assert_eq!(v2.json()["extensions"][0], "binary_tensor_data");
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/livez",
        "/readyz",
        "/v2/models/times/ready",
        "/v2/models/times/versions/1.2.3/ready",
    ] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for path in ["/v2/models/times", "/v2/models/times/versions/1.2.3"] {
        let model = server.get(path).await.json();
        assert_eq!(model["versions"], serde_json::json!(["1.2.3"]));
        assert_eq!(model["platform"], "onnx_fake");
        assert_eq!(model["inputs"], serde_json::json!([{"name": "x", "datatype": "FP32", "shape": [-1]}]));
        assert_eq!(model["outputs"][1], serde_json::json!({"name": "n", "datatype": "INT64", "shape": [1]}));
    }
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_get_protocol_errors() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let long = format!("/v2/models/{}", "x".repeat(5000));
    for path in [
        "/",
        "/v3",
        "/v2/models",
        "/v2/models/other",
        "/v2/models/other/ready",
        "/v2/models/..%2f..%2fetc/ready",
        "/v2/models/times/versions/9.9.9",
        "/v2/models/times/versions/9.9.9/ready",
        "/v2/models/times/nothing",
        &long,
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status, 404, "{path}");
        assert!(response.error().len() < 300, "{path}");
    }
    assert_eq!(server.get("/v2/models/%ff").await.status, 400);
    assert_eq!(server.get("/v2/models/times/infer").await.status, 405);
    assert!(!server.get("/v2/models/times/infer").await.error().is_empty());
    assert_eq!(server.post("/v2", "", b"").await.status, 405);
    for path in ["/v2/models/other/infer", "/v2/models/times/versions/2.0.0/infer"] {
        assert_eq!(server.post(path, "", x(&[1.0]).as_bytes()).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn json_in_json_out() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let body = r#"{"id": "mine", "parameters": {"anything": [1, {"x": 2}]},
        "inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [[1], [2.5, -3]], "extra": null}]}"#;
    for path in ["/v2/models/times/infer", "/v2/models/times/versions/1.0.0/infer"] {
        let response = server.post(path, "", body.as_bytes()).await;
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        let json = response.json();
        assert_eq!((&json["model_name"], &json["model_version"]), (&"times".into(), &"1.0.0".into()));
        assert_eq!(json["id"], "mine");
        assert_eq!(json["parameters"]["fallback"], false);
        assert!(json["parameters"]["request_id"].as_str().is_some_and(|id| id.len() > 16));
        let y = serde_json::json!({"name": "y", "datatype": "FP32", "shape": [3], "data": [2.0, 5.0, -6.0]});
        let n = serde_json::json!({"name": "n", "datatype": "INT64", "shape": [1], "data": [3]});
        assert_eq!(json["outputs"], serde_json::json!([y, n]));
    }
}

#[tokio::test]
async fn request_ids_are_never_the_same() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let first = server.infer(&x(&[1.0])).await.json()["parameters"]["request_id"].clone();
    assert_ne!(first, server.infer(&x(&[1.0])).await.json()["parameters"]["request_id"]);
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[tokio::test]
async fn binary_in_binary_out() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let head = r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
        "parameters": {"binary_data_output": true}}"#;
    let response = server.infer_binary(head, &little_endian(&[1.0, 2.0])).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    let json = response.json();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!(json["outputs"][1]["parameters"]["binary_data_size"], 8);
    let length: usize =
        response.header("inference-header-content-length").and_then(|v| v.parse().ok()).expect("a length");
    assert_eq!(response.body[length..], [little_endian(&[2.0, 4.0]), 2i64.to_le_bytes().to_vec()].concat());
}

#[tokio::test]
async fn each_output_comes_as_it_was_asked_for() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let inputs = x(&[3.0]);
    let ask = |outputs: &str| inputs.replacen('{', &format!(r#"{{"outputs": {outputs}, "#), 1);
    let only_n = server.infer(&ask(r#"[{"name": "n"}]"#)).await;
    assert_eq!(only_n.json()["outputs"].as_array().map(Vec::len), Some(1), "{only_n:?}");
    let mixed = r#"[{"name": "n", "parameters": {"binary_data": true}}, {"name": "y"}]"#;
    let mixed = server.infer(&ask(mixed)).await;
    assert_eq!(mixed.json()["outputs"][1]["data"][0], 6.0);
    assert_eq!(mixed.body[mixed.body.len() - 8..], 1i64.to_le_bytes());
    assert_eq!(server.infer(&ask("[]")).await.json()["outputs"].as_array().map(Vec::len), Some(2));
    for bad in [r#"[{"name": "z"}]"#, r#"[{"name": "y"}, {"name": "y"}]"#, r#"[{}]"#, "[1]", "1"] {
        let response = server.infer(&ask(bad)).await;
        assert_eq!(response.status, 400, "{bad}: {response:?}");
    }
}

/// What every refusal must be: the status, short text, and a server that goes on.
async fn refused(server: &Server, response: common::Response, status: u16, what: &str) {
    assert_eq!(response.status, status, "{what}: {response:?}");
    let error = response.error();
    assert!(!error.is_empty() && error.len() < 600, "{what}: {error}");
    assert_eq!(server.infer(&x(&[1.0])).await.status, 200, "after {what}");
}

#[tokio::test]
async fn malformed_json_requests_are_refused() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let input = |fields: &str| format!(r#"{{"inputs": [{{"name": "x", {fields}}}]}}"#);
    let data = |shape: &str, datatype: &str, data: &str| {
        input(&format!(r#""shape": {shape}, "datatype": "{datatype}", "data": {data}"#))
    };
    let huge_name = format!(
        r#"{{"inputs": [{{"name": "{}", "shape": [1], "datatype": "FP32", "data": [1]}}]}}"#,
        "n".repeat(100_000)
    );
    let huge_type = data("[1]", &"T".repeat(100_000), "[1]");
    let huge_id = x(&[1.0]).replacen('{', &format!(r#"{{"id": "{}", "#, "i".repeat(1000)), 1);
    let many = format!(
        r#"{{"inputs": [{}]}}"#,
        vec![r#"{"name":"x","shape":[1],"datatype":"FP32","data":[1]}"#; 65].join(",")
    );
    let deep = data("[1]", "FP32", &format!("{}1{}", "[".repeat(5000), "]".repeat(5000)));
    let cases = [
        ("nothing", String::new()),
        ("not JSON", "hello".into()),
        ("cut off", x(&[1.0])[..40].into()),
        ("more after the end", x(&[1.0]) + "}"),
        ("an array", "[]".into()),
        ("no inputs", "{}".into()),
        ("inputs of another type", r#"{"inputs": 1}"#.into()),
        ("no input", r#"{"inputs": []}"#.into()),
        ("no shape", input(r#""datatype": "FP32", "data": [1]"#)),
        ("no datatype", input(r#""shape": [1], "data": [1]"#)),
        ("no data", input(r#""shape": [1], "datatype": "FP32""#)),
        ("too few elements", data("[3]", "FP32", "[1, 2]")),
        ("too many elements", data("[1]", "FP32", "[1, 2]")),
        ("a negative size", data("[-1]", "FP32", "[1]")),
        ("a size that overflows", data("[9223372036854775807, 9223372036854775807]", "FP32", "[1]")),
        ("a size that wraps to the right one", data("[4294967296, 4294967296, 1]", "FP32", "[1]")),
        ("a size beyond memory", data("[9000000000000000000]", "FP32", "[1]")),
        ("a size beyond 64 bits", data("[99999999999999999999]", "FP32", "[1]")),
        ("a size with a fraction", data("[1.5]", "FP32", "[1]")),
        ("too many sizes", data("[1,1,1,1,1,1,1,1,1]", "FP32", "[1]")),
        ("another rank", data("[1, 1]", "FP32", "[1]")),
        ("another datatype", data("[1]", "INT32", "[1]")),
        ("an unknown datatype", data("[1]", "FP128", "[1]")),
        ("a string as a number", data("[1]", "FP32", "[\"1\"]")),
        ("a number that is too large", data("[1]", "FP32", "[1e300]")),
        ("data that is no array", data("[1]", "FP32", "1")),
        ("nesting without end", deep),
        ("an unknown input", x(&[1.0]).replace("\"x\"", "\"z\"")),
        ("an input twice", r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}, {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}"#.into()),
        ("a field twice", x(&[1.0]).replace("\"shape\"", "\"name\": \"x\", \"shape\"")),
        ("binary without a header", input(r#""shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}"#)),
        ("shared memory", input(r#""shape": [1], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}"#)),
        ("a huge name", huge_name),
        ("a huge datatype", huge_type),
        ("a huge id", huge_id),
        ("many inputs", many),
    ];
    for (what, body) in cases {
        refused(&server, server.infer(&body).await, 400, what).await;
    }
    let mut bytes = x(&[1.0]).into_bytes();
    bytes[14] = 0xff;
    refused(&server, server.post("/v2/models/times/infer", "", &bytes).await, 400, "not UTF-8").await;
    let gzip = server.post("/v2/models/times/infer", "Content-Encoding: gzip\r\n", &bytes).await;
    refused(&server, gzip, 400, "compressed").await;
}

#[tokio::test]
async fn malformed_binary_requests_are_refused() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    let head = |size: &str, shape: &str| {
        format!(
            r#"{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "FP32", "parameters": {{"binary_data_size": {size}}}}}]}}"#
        )
    };
    let eight = [0; 8];
    for (what, head, tail) in [
        ("cut off", head("8", "[2]"), &eight[..7]),
        ("nothing follows", head("8", "[2]"), &[][..]),
        ("more than announced", head("4", "[1]"), &eight[..]),
        ("not what the shape needs", head("8", "[1]"), &eight[..]),
        ("a negative length", head("-1", "[1]"), &eight[..]),
        ("a length beyond memory", head("18446744073709551615", "[1]"), &eight[..]),
        ("a length beyond 64 bits", head("99999999999999999999", "[1]"), &eight[..]),
        ("a shape that overflows", head("8", "[4611686018427387904, 4]"), &eight[..]),
    ] {
        refused(&server, server.infer_binary(&head, tail).await, 400, what).await;
    }
    let good = head("8", "[2]");
    for value in ["0", "5", "100000", "18446744073709551615", "99999999999999999999", "-1", "abc", "", "0x10"]
    {
        let header = format!("Inference-Header-Content-Length: {value}\r\n");
        let body = [good.as_bytes(), &eight].concat();
        let response = server.post("/v2/models/times/infer", &header, &body).await;
        refused(&server, response, 400, value).await;
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_whether_announced_or_not() {
    let limits = Limits { body_size_bytes_max: 10_000, ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[times("1.0.0", 2.0)]).await;
    // Refused by what it announces, before a byte of it is sent.
    let head = "POST /v2/models/times/infer HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 999999999999\r\n\r\n";
    refused(&server, raw(server.connect().await, head.as_bytes()).await, 413, "announced").await;
    let chunked = "POST /v2/models/times/infer HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{chunked}2711\r\n{}\r\n0\r\n\r\n", " ".repeat(0x2711));
    refused(&server, raw(server.connect().await, chunks.as_bytes()).await, 413, "chunked").await;
    let body = x(&[1.0]);
    let chunks = format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert_eq!(raw(server.connect().await, chunks.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_answered_or_cut_off() {
    let server = start(&[times("1.0.0", 2.0)]).await;
    for junk in
        [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let response = raw(server.connect().await, junk).await;
        assert_eq!(response.status, 400, "{response:?}");
    }
    let large = format!("GET /v2 HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    assert_eq!(raw(server.connect().await, large.as_bytes()).await.status, 431);
    assert_eq!(server.get("/v2").await.status, 200);
}

#[tokio::test]
async fn a_unix_socket_speaks_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("agent.sock");
    let observer = Arc::new(Notes::default());
    let server =
        start_with(Limits::default(), Some(path.clone()), observer.clone(), &[times("1.0.0", 2.0)]).await;
    assert_eq!(server.listening.uds.as_deref(), Some(path.as_path()));
    let stream = UnixStream::connect(&path).await.expect("connects");
    let request = message("POST", "/v2/models/times/infer", "", x(&[4.0]).as_bytes());
    let response = raw(stream, &request).await;
    assert_eq!(response.json()["outputs"][0]["data"][0], 8.0);
    assert_eq!(observer.0.lock().expect("no panic").len(), 1);
    server.stop.send(()).expect("runs");
    server.listening.drained().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = start(&[times("1.0.0", 2.0), failing("1.0.0")]).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    for _ in 0..3 {
        stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 200"));
    }
}
