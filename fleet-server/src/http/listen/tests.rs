use super::*;
use crate::http::activity::ABANDONED_MAX;
use axum::{body::Body, routing::get};
use http_body_util::BodyExt as _;
use hyper::{
    StatusCode,
    client::conn::http2::{SendRequest, handshake},
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};

fn router() -> Router {
    let host = |request: Request<Body>| async move {
        let host = request.headers().get(header::HOST).cloned();
        host.map_or(String::new(), |h| h.to_str().expect("text").to_owned())
    };
    Router::new()
        .route("/", get(|| async { "here" }))
        .route("/never", get(std::future::pending::<()>))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                "done"
            }),
        )
        .route("/host", get(host))
}

/// A connection, and the task that serves it; without TLS, where the paths of a connection do not differ.
fn serving(speaks: Speaks, stop: &watch::Sender<bool>) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = duplex(64 << 10);
    let served = requests(theirs, speaks, Peer(None), OverTls(true), router(), stop.subscribe());
    (ours, tokio::spawn(served))
}

async fn http2(stop: &watch::Sender<bool>) -> (SendRequest<Body>, JoinHandle<()>) {
    let (stream, served) = serving(Speaks::Http2, stop);
    let (client, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    (client, served)
}

fn ask(path: &str) -> Request<Body> {
    Request::get(format!("https://fleet.example:8443{path}")).body(Body::empty()).expect("a request")
}

async fn answer(client: &mut SendRequest<Body>, request: Request<Body>) -> (StatusCode, String) {
    client.ready().await.expect("connected");
    let response = client.send_request(request).await.expect("answered");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    (head.status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_ended_like_an_idle_http1_one() {
    let stop = watch::Sender::new(false);
    let (mut client, served) = http2(&stop).await;
    let asked = Instant::now();
    assert_eq!(answer(&mut client, ask("/")).await, (StatusCode::OK, "here".to_owned()));
    tokio::time::sleep(HEADER_TIMEOUT / 2).await;
    answer(&mut client, ask("/")).await;
    served.await.expect("ended");
    let open = asked.elapsed();
    assert!(open >= HEADER_TIMEOUT * 3 / 2 && open < HEADER_TIMEOUT * 3 / 2 + DRAIN_TIMEOUT, "{open:?}");
    // One that says nothing at all.
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (stream, served) = serving(speaks, &stop);
        let began = Instant::now();
        served.await.expect("ended");
        assert!(began.elapsed() <= HEADER_TIMEOUT + DRAIN_TIMEOUT, "{speaks:?}");
        drop(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_keeps_its_connection() {
    let stop = watch::Sender::new(false);
    let (mut client, served) = http2(&stop).await;
    let slow = tokio::spawn(client.send_request(ask("/never")));
    tokio::time::sleep(HEADER_TIMEOUT * 3).await;
    assert!(!served.is_finished());
    // Taken back, the connection idles from then on.
    slow.abort();
    served.await.expect("ended");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_back_request_after_request_is_cut_off() {
    let stop = watch::Sender::new(false);
    let (mut client, served) = http2(&stop).await;
    let began = Instant::now();
    let mut taken_back = 0;
    while !served.is_finished() && taken_back < 10 * ABANDONED_MAX {
        if client.ready().await.is_err() {
            break;
        }
        let asked = tokio::spawn(client.send_request(ask("/never")));
        tokio::time::sleep(Duration::from_millis(1)).await;
        asked.abort();
        taken_back += 1;
    }
    served.await.expect("ended");
    assert!(began.elapsed() < HEADER_TIMEOUT, "not for idling");
    assert!((ABANDONED_MAX..2 * ABANDONED_MAX).contains(&taken_back), "{taken_back}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_no_more_requests_at_once_than_its_limit() {
    let stop = watch::Sender::new(false);
    let (mut client, served) = http2(&stop).await;
    answer(&mut client, ask("/")).await;
    let asked: Vec<_> = (0..STREAMS_MAX).map(|_| tokio::spawn(client.send_request(ask("/never")))).collect();
    // The client was told the limit and keeps to it: this one waits until another has ended.
    let waits = tokio::spawn(client.send_request(ask("/")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    asked[0].abort();
    assert_eq!(waits.await.expect("no panic").expect("answered").status(), StatusCode::OK);
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_head_beyond_the_limit_is_refused_and_the_host_is_where_handlers_look() {
    let stop = watch::Sender::new(false);
    let (mut client, _served) = http2(&stop).await;
    let named = answer(&mut client, ask("/host")).await;
    assert_eq!(named, (StatusCode::OK, "fleet.example:8443".to_owned()));
    let with = |len: usize| {
        let mut request = ask("/");
        let value = HeaderValue::from_bytes(&vec![b'x'; len]).expect("a value");
        request.headers_mut().insert("x-long", value);
        request
    };
    assert_eq!(answer(&mut client, with(HEADER_BYTES_MAX as usize / 2)).await.0, StatusCode::OK);
    client.ready().await.expect("connected");
    let refused = client.send_request(with(HEADER_BYTES_MAX as usize + 1)).await;
    let taken = refused.as_ref().is_ok_and(|r| r.status().is_success());
    assert!(!taken, "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn when_the_server_stops_requests_under_way_are_answered() {
    let stop = watch::Sender::new(false);
    let (mut client, served) = http2(&stop).await;
    answer(&mut client, ask("/")).await;
    let slow = tokio::spawn(client.send_request(ask("/slow")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    served.await.expect("ended");
    let answered = slow.await.expect("no panic").expect("answered");
    assert_eq!(answered.into_body().collect().await.expect("whole").to_bytes()[..], b"done"[..]);
    assert!(client.ready().await.is_err(), "nothing more is taken");
}
