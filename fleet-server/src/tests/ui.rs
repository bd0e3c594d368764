//! The web UI.

use super::harness::{Release, Server};
use reqwest::{Client, StatusCode, redirect::Policy};
use serde_json::json;

struct Browser {
    client: Client,
    base: String,
}

impl Browser {
    fn plain(server: &Server) -> Self {
        let client = Client::builder().redirect(Policy::none());
        let client = client.tls_backend_preconfigured(server.tls(None)).build().expect("client");
        let ui = server.app.ui.expect("a UI listener");
        Self { client, base: format!("http://localhost:{}", ui.port()) }
    }

    async fn form(&self, path: &str, origin: &str, cookie: &str, body: String) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.base)).header("origin", origin);
        let request =
            request.header("cookie", cookie).header("content-type", "application/x-www-form-urlencoded");
        request.body(body).send().await.expect("answer")
    }

    async fn page(&self, path: &str, cookie: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.base)).header("cookie", cookie);
        request.send().await.expect("answer")
    }

    async fn sign_in(&self, token: &str) -> String {
        let answer = self.form("/login", &self.base, "", format!("token={token}")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()["set-cookie"].to_str().expect("text");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
        cookie.split(';').next().expect("pair").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_shows_the_fleet_and_a_button_steers_a_rollout() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    server.enrol("cam-1").await;
    let rollout =
        json!({"model": "digits", "version": "1.0.0", "stages": [50, 100], "success_percent_min": 90});
    server.post("/api/v1/rollouts", rollout).await;
    let browser = Browser::plain(&server);

    assert_eq!(browser.page("/", "").await.headers()["location"], "/login");
    let refused = browser.form("/login", &browser.base, "", "token=guess".into()).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let cookie = browser.sign_in(&server.admin).await;
    let page = browser.page("/", &cookie).await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    let text = page.text().await.expect("text");
    for part in
        ["cam-1", "digits 1.0.0", "1 of 1 devices asked", "/ui/rollouts/r-1/pause", "<th scope=\"col\">"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }

    // The fragment says nothing when nothing changed.
    let at = text.split("hx-get=\"").nth(1).and_then(|t| t.split('"').next()).expect("a poll address");
    assert_eq!(browser.page(at, &cookie).await.status(), StatusCode::NO_CONTENT);
    let foreign =
        browser.form("/ui/rollouts/r-1/pause", "https://evil.example", &cookie, String::new()).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert_eq!(server.get("/api/v1/rollouts/r-1").await["state"], "running");
    let done = browser.form("/ui/rollouts/r-1/pause", &browser.base, &cookie, String::new()).await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert_eq!(server.get("/api/v1/rollouts/r-1").await["state"], "paused");
    assert_eq!(browser.page(at, &cookie).await.status(), StatusCode::OK);

    browser.form("/logout", &browser.base, &cookie, String::new()).await;
    assert_eq!(browser.page("/", &cookie).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(browser.page(at, &cookie).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_listener_serves_the_ui_to_local_names_only() {
    let server = Server::start().await;
    let browser = Browser::plain(&server);
    let rebound = browser.client.get(format!("{}/login", browser.base)).header("host", "evil.example");
    assert_eq!(rebound.send().await.expect("answer").status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(browser.page("/api/v1/devices", "").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(browser.page("/assets/htmx.min.js", "").await.status(), StatusCode::OK);
    // The same pages are on the TLS port, where the cookie is for TLS only.
    let login = server.client(None).post(server.url("/login")).header("origin", server.url(""));
    let login = login.header("content-type", "application/x-www-form-urlencoded");
    let answer = login.body(format!("token={}", server.admin)).send().await.expect("answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    assert!(cookie.starts_with("__Host-whimbrel=") && cookie.contains("Secure"), "{cookie}");
}
