//! One request of the Open Inference Protocol, over TCP or a Unix socket.

use crate::image::PIXELS;
use anyhow::{Context, Result, anyhow, bail, ensure};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};
use tokio::net::{TcpStream, UnixStream};

/// Largest accepted answer.
const BODY_SIZE_BYTES_MAX: usize = 1 << 20;

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Agent {
    /// `HOST:PORT`.
    Tcp(String),
    Unix(PathBuf),
}

/// What the model made of an image.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) label: String,
    /// The label's probability.
    pub(crate) score: f64,
    pub(crate) model_version: Option<String>,
    /// Whether the previous version answered, because the current one could not.
    pub(crate) fallback: bool,
}

impl FromStr for Agent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        match (address, text.strip_prefix("unix:")) {
            (Some(address), _) if address.contains(':') && !address.contains('/') => {
                Ok(Self::Tcp(address.into()))
            }
            (_, Some(path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err("expected http://HOST:PORT or unix:PATH".into()),
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Accepts what fits into a URL without quoting, which every model name does.
pub(crate) fn model_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() || text.contains("..") || !text.bytes().all(fits) {
        return Err("expected a-z 0-9 . _ - without '..'".into());
    }
    Ok(text.into())
}

impl Agent {
    /// Asks `model` about an image and waits at most `timeout` for the whole exchange.
    pub(crate) async fn classify(&self, model: &str, pixels: &[f32], timeout: Duration) -> Result<Answer> {
        ensure!(pixels.len() == PIXELS, "an image has {PIXELS} pixels, not {}", pixels.len());
        let request = json!({
            "inputs": [{ "name": "pixels", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": pixels }],
            "outputs": [{ "name": "label" }, { "name": "score" }],
        });
        let path = format!("/v2/models/{model}/infer");
        let exchange = async {
            let (status, body) = self.post(&path, request.to_string()).await?;
            parse(status, &body)
        };
        let answer = tokio::time::timeout(timeout, exchange).await;
        answer
            .unwrap_or_else(|_| Err(anyhow!("no answer within {} s", timeout.as_secs())))
            .with_context(|| format!("asking {self} for model {model:?}"))
    }

    async fn post(&self, path: &str, body: String) -> Result<(StatusCode, Bytes)> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await.context("connecting")?;
                post(TokioIo::new(stream), address, path, body).await
            }
            Self::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.context("connecting")?;
                post(TokioIo::new(stream), "localhost", path, body).await
            }
        }
    }
}

async fn post<S>(stream: S, host: &str, path: &str, body: String) -> Result<(StatusCode, Bytes)>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    // Moves the bytes; ends once `sender` is dropped.
    let _driver = tokio::spawn(connection);
    let request = Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await.context("sending the request")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_SIZE_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow!(error)).context("reading the answer")?;
    Ok((status, body.to_bytes()))
}

#[derive(Deserialize)]
struct Response {
    model_version: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    outputs: Vec<Output>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    fallback: bool,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

fn parse(status: StatusCode, body: &[u8]) -> Result<Answer> {
    if status != StatusCode::OK {
        let why =
            serde_json::from_slice(body).map_or_else(|_| "no reason given".into(), |r: Refusal| r.error);
        // Quoted, so that no control character reaches the terminal.
        bail!("status {}: {why:?}", status.as_u16());
    }
    let response: Response = serde_json::from_slice(body).context("reading the answer")?;
    let label =
        first(&response.outputs, "label").and_then(Value::as_str).context("the answer has no label")?;
    let score =
        first(&response.outputs, "score").and_then(Value::as_f64).context("the answer has no score")?;
    Ok(Answer {
        label: label.into(),
        score,
        model_version: response.model_version,
        fallback: response.parameters.fallback,
    })
}

/// The first element of output `name`; the protocol lets its data be flat or nested.
fn first<'a>(outputs: &'a [Output], name: &str) -> Option<&'a Value> {
    let mut value = &outputs.iter().find(|output| output.name == name)?.data;
    while let Value::Array(elements) = value {
        value = elements.first()?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    const GOOD: &str = r#"{"model_name":"digits","model_version":"2.0.0","parameters":{"fallback":true},
        "outputs":[{"name":"score","datatype":"FP32","shape":[1,1],"data":[[0.75]]},
                   {"name":"label","datatype":"BYTES","shape":[1,1],"data":["7"]}]}"#;

    /// Answers one connection with `bytes`, and gives what `classify` made of them and what was asked.
    async fn exchange(bytes: Vec<u8>) -> (Result<Answer>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"}]}") {
                let mut block = [0; 4096];
                let got = stream.read(&mut block).await.unwrap();
                assert!(got > 0, "the request ended early");
                asked.extend_from_slice(&block[..got]);
            }
            // The client may have seen enough before the end.
            let _ = stream.write_all(&bytes).await;
            String::from_utf8(asked).unwrap()
        });
        let answer = Agent::Unix(path).classify("digits", &[1.5; PIXELS], Duration::from_secs(60)).await;
        (answer, server.await.unwrap())
    }

    fn http(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn a_good_answer_is_read() {
        let (answer, asked) = exchange(http("200 OK", GOOD)).await;
        assert!(asked.starts_with("POST /v2/models/digits/infer HTTP/1.1\r\n"), "{asked}");
        let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["inputs"][0]["shape"], json!([1, 1, 8, 8]));
        assert_eq!(body["inputs"][0]["data"][63], json!(1.5));
        let expected =
            Answer { label: "7".into(), score: 0.75, model_version: Some("2.0.0".into()), fallback: true };
        assert_eq!(answer.unwrap(), expected);
    }

    #[tokio::test]
    async fn refusals_and_broken_answers_are_errors_that_say_why() {
        let cases = [
            (http("404 Not Found", r#"{"error":"no such model"}"#), "status 404: \"no such model\""),
            (http("503 Busy", "oops"), "status 503: \"no reason given\""),
            (http("200 OK", "{}"), "missing field `outputs`"),
            (http("200 OK", r#"{"outputs":[{"name":"label","data":[]}]}"#), "no label"),
            (http("200 OK", r#"{"outputs":[{"name":"label","data":["7"]}]}"#), "no score"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec(), "reading the answer"),
            (b"not http\r\n\r\n".to_vec(), "sending the request"),
            (http("200 OK", &" ".repeat(BODY_SIZE_BYTES_MAX + 1)), "limit"),
        ];
        for (bytes, why) in cases {
            let error = exchange(bytes).await.0.unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}, expected {why}");
        }
    }

    #[tokio::test]
    async fn an_absent_agent_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::Unix(folder.path().join("absent.sock"));
        let error = agent.classify("digits", &[0.0; PIXELS], Duration::from_secs(60)).await.unwrap_err();
        assert!(format!("{error:#}").contains("absent.sock for model \"digits\": connecting"), "{error:#}");
    }

    #[test]
    fn urls_and_names() {
        assert_eq!("http://127.0.0.1:8350/".parse(), Ok(Agent::Tcp("127.0.0.1:8350".into())));
        assert_eq!("unix:/run/a.sock".parse(), Ok(Agent::Unix("/run/a.sock".into())));
        for bad in ["", "https://a:1", "http://a", "http://a:1/path", "unix:", "127.0.0.1:1"] {
            assert!(bad.parse::<Agent>().is_err(), "{bad}");
        }
        for bad in ["", "a/b", "a..b", "A", "a b"] {
            assert!(model_name(bad).is_err(), "{bad}");
        }
        assert_eq!(model_name("digits-2"), Ok("digits-2".into()));
    }
}
