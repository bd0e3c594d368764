//! The HTTPS listener speaks HTTP/2 with who offers it, and HTTP/1.1 with everyone else.

use super::harness::{Identity, Release, Server, bundle, sha256};
use reqwest::{Client, StatusCode, Version, header};

fn offering(server: &Server, identity: Option<&Identity>, protocols: &[&str]) -> Client {
    let mut tls = server.tls(identity);
    tls.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let no_redirects = reqwest::redirect::Policy::none();
    Client::builder().tls_backend_preconfigured(tls).redirect(no_redirects).build().expect("client")
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_come_whole_and_in_part_over_both_versions() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let chunk = bundle("1.0.0").1;
    let url = server.url(&format!("/chunks/{}", sha256(&chunk)));
    let offers: [(&[&str], Version); 4] = [
        (&["h2", "http/1.1"], Version::HTTP_2),
        (&["h2"], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ];
    for (protocols, version) in offers {
        let client = offering(&server, None, protocols);
        let whole = client.get(&url).send().await.expect("answer");
        assert_eq!((whole.version(), whole.status()), (version, StatusCode::OK), "{protocols:?}");
        assert_eq!(whole.content_length(), Some(chunk.len() as u64));
        assert_eq!(whole.bytes().await.expect("body")[..], chunk[..]);
        let part = client.get(&url).header("range", "bytes=2-").send().await.expect("answer");
        assert_eq!((part.version(), part.status()), (version, StatusCode::PARTIAL_CONTENT));
        let range = format!("bytes 2-{}/{}", chunk.len() - 1, chunk.len());
        assert_eq!(part.headers()["content-range"], range);
        assert_eq!(part.bytes().await.expect("body")[..], chunk[2..]);
    }
    // Many at once share the connection, more of them than it allows at a time.
    let client = offering(&server, None, &["h2"]);
    let fetches = (0..100).map(|_| client.get(&url).send());
    for fetched in futures_util::future::join_all(fetches).await {
        assert_eq!(fetched.expect("answer").bytes().await.expect("body")[..], chunk[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_and_a_browser_are_known_over_http2() {
    let server = Server::start().await;
    let device = server.enrol("cam-1").await;
    let url = server.url("/api/v1/device/desired");
    let known = offering(&server, Some(&device), &["h2"]).get(&url).send().await.expect("answer");
    assert_eq!((known.version(), known.status()), (Version::HTTP_2, StatusCode::OK));
    let stranger = offering(&server, None, &["h2"]);
    assert_eq!(stranger.get(&url).send().await.expect("answer").status(), StatusCode::UNAUTHORIZED);
    // The page compares the origin of a form with its own host, which HTTP/2 has in another place.
    let login = |origin: String| {
        let form = format!("token={}", server.admin);
        let request = stranger.post(server.url("/login")).header(header::ORIGIN, origin);
        request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form).send()
    };
    let own = login(server.url("")).await.expect("answer");
    assert_eq!((own.version(), own.status()), (Version::HTTP_2, StatusCode::SEE_OTHER));
    let other = login("https://elsewhere.example".to_owned()).await.expect("answer");
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
}
