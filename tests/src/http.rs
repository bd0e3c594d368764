//! A plain HTTP/1.1 exchange over a socket, so that malformed requests can be sent as they are.

use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, status line included.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.head, String::from_utf8_lossy(&self.body)))
    }
}

/// `GET path` from `http://HOST:PORT`; `None` when nobody answers.
#[must_use]
pub fn get(base: &str, path: &str) -> Option<Answer> {
    send(base, format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())
}

/// `POST path` with a body and further header lines (each ending in CRLF); `None` when nobody answers.
#[must_use]
pub fn post(base: &str, path: &str, headers: &str, body: &[u8]) -> Option<Answer> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    send(base, &request)
}

fn send(base: &str, request: &[u8]) -> Option<Answer> {
    let address = base.strip_prefix("http://")?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(crate::PATIENCE)).ok()?;
    // The peer may answer and close before it has read everything: its answer still counts.
    drop(stream.write_all(request));
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body: bytes[split + 4..].to_vec() })
}
