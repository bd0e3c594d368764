//! Against a server that gives what it should not, or breaks off.

use super::*;
use std::{
    fs,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use whimbrel_updater::tuf::Hashes;

/// How one connection is answered.
#[derive(Debug, Clone, Copy)]
struct Answer {
    content: &'static [u8],
    /// The connection breaks after so many bytes of the body.
    cut: usize,
    /// Ranges are answered, and the length is announced.
    able: bool,
}

const CONTENT: &[u8] = b"what was signed";

const fn whole(content: &'static [u8]) -> Answer {
    Answer { content, cut: usize::MAX, able: true }
}

const fn cut(cut: usize) -> Answer {
    Answer { content: CONTENT, cut, able: true }
}

impl Answer {
    async fn give(self, mut stream: TcpStream, from: Option<usize>) {
        let Self { content, cut, able } = self;
        let (rest, end) = (&content[from.unwrap_or(0)..], content.len());
        let head = match from {
            Some(from) if able => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{end}\r\nContent-Length: {}\r\n",
                end - 1,
                rest.len()
            ),
            _ if able => format!("HTTP/1.1 200 OK\r\nContent-Length: {end}\r\n"),
            _ => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        let body = if able { rest } else { content };
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.expect("answers");
        stream.write_all(&body[..body.len().min(cut)]).await.expect("answers");
    }
}

/// A server of these answers, one after the other, and a folder.
struct World {
    dir: tempfile::TempDir,
    source: Https,
    /// The range asked for by each request, empty for the whole.
    asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let (asked, answers) = (Arc::new(Mutex::new(Vec::new())), answers.to_vec());
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let range = range(&mut stream).await;
                seen.lock().expect("no panic").push(range.clone());
                let from = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
                answer.give(stream, from.map(|from| from.parse().expect("a number"))).await;
            }
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let source = Https::plain(client, &base, &base);
        Self { dir: tempfile::tempdir().expect("temp dir"), source, asked }
    }

    async fn fetch(&self) -> Result<()> {
        fetch(&target(CONTENT), "t".into(), &self.source, self.dir.path()).await
    }

    /// What failed.
    async fn fails(&self) -> String {
        format!("{:#}", self.fetch().await.expect_err("fails"))
    }

    /// Files in the folder, and what is in them.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = fs::read_dir(self.dir.path()).expect("lists").map(|entry| {
            let entry = entry.expect("lists");
            (entry.file_name().into_string().expect("text"), fs::read(entry.path()).expect("reads"))
        });
        files.collect()
    }

    /// The folder holds the target and nothing else.
    fn is_there(&self) {
        assert_eq!(self.files(), [("a%2Ft".to_owned(), CONTENT.to_vec())]);
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).expect("writes");
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn range(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).expect("text");
    head.lines().find_map(|line| line.strip_prefix("range: ")).unwrap_or_default().to_owned()
}

fn target(content: &[u8]) -> Target {
    Target {
        path: "a/t".into(),
        length_bytes: content.len() as u64,
        hashes: Hashes::of(content),
        custom: serde_json::Value::Null,
    }
}

#[tokio::test]
async fn a_target_comes_whole_and_is_not_fetched_again() {
    let world = World::new(&[whole(CONTENT)]).await;
    for _ in 0..2 {
        world.fetch().await.expect("downloads");
        world.is_there();
    }
    assert_eq!(world.asked(), [""]);
}

#[tokio::test]
async fn what_is_there_but_is_not_the_target_is_replaced() {
    let world = World::new(&[whole(CONTENT); 3]).await;
    for present in ["what was SIGNED", "short", "longer than what was signed"] {
        world.put("a%2Ft", present.as_bytes());
        world.fetch().await.expect("downloads");
        world.is_there();
    }
    assert_eq!(world.asked().len(), 3);
}

#[tokio::test]
async fn wrong_content_never_appears_nor_takes_the_place_of_what_is_there() {
    let unannounced = |content| Answer { able: false, ..whole(content) };
    let bad: [(Answer, &str); 5] = [
        (whole(b"what was SIGNED"), "its hash is not the signed one"),
        (whole(b"what was"), "8 bytes, 15 are signed"),
        (unannounced(b""), "0 bytes, 15 are signed"),
        (whole(b"what was signed, and more"), "longer than the 15 bytes accepted"),
        (unannounced(b"what was signed, and more"), "longer than the 15 bytes accepted"),
    ];
    for (answer, why) in bad {
        let world = World::new(&[answer; 2]).await;
        let error = world.fails().await;
        assert!(error.contains(why), "{error}");
        assert_eq!(world.files(), []);
        world.put("a%2Ft", b"an older version");
        world.fails().await;
        assert_eq!(world.files(), [("a%2Ft".to_owned(), b"an older version".to_vec())]);
        assert_eq!(world.asked().len(), 2, "what is wrong is not asked for again");
    }
}

#[tokio::test]
async fn where_a_connection_broke_only_the_rest_is_asked_for() {
    let world = World::new(&[cut(4), cut(5), whole(CONTENT)]).await;
    world.fetch().await.expect("downloads");
    world.is_there();
    assert_eq!(world.asked(), ["", "bytes=4-", "bytes=9-"]);
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_gives_the_whole_again() {
    let world = World::new(&[cut(4), Answer { able: false, ..whole(CONTENT) }]).await;
    world.fetch().await.expect("downloads");
    world.is_there();
    assert_eq!(world.asked(), ["", "bytes=4-"]);
}

#[tokio::test]
async fn two_files_put_together_are_not_the_target() {
    let world = World::new(&[cut(4), whole(b"WHAT WAS SIGNED")]).await;
    let error = world.fails().await;
    assert!(error.contains("its hash is not the signed one"), "{error}");
    assert_eq!(world.files(), []);
}

#[tokio::test]
async fn nothing_stays_of_a_connection_that_breaks_for_good() {
    let world = World::new(&[cut(4), cut(4), cut(0)]).await;
    world.fails().await;
    assert_eq!(world.files(), []);
    assert_eq!(world.asked(), ["", "bytes=4-", "bytes=8-"]);
}

#[tokio::test]
async fn what_a_killed_process_left_is_replaced() {
    let world = World::new(&[whole(CONTENT)]).await;
    world.put(".a%2Ft+new", b"something longer than the whole of the target");
    world.fetch().await.expect("downloads");
    world.is_there();
}

#[tokio::test]
async fn an_empty_target_is_an_empty_file() {
    let world = World::new(&[whole(b"")]).await;
    for _ in 0..2 {
        fetch(&target(b""), "t".into(), &world.source, world.dir.path()).await.expect("downloads");
        assert_eq!(world.files(), [("a%2Ft".to_owned(), vec![])]);
    }
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn a_name_that_is_none_for_a_file_is_refused() {
    let world = World::new(&[]).await;
    for path in ["", ".", ".."] {
        let target = Target { path: path.into(), ..target(CONTENT) };
        let error = fetch(&target, "t".into(), &world.source, world.dir.path()).await;
        assert!(error.expect_err("refused").to_string().contains("none for a file"), "{path:?}");
    }
    assert_eq!(world.files(), []);
}
