//! The web UI: server-rendered pages over the same service layer as the API. It reads without JavaScript; with it, the
//! overview asks for itself every two seconds and swaps in what changed.

mod overview;
mod session;

pub(crate) use session::Sessions;

use crate::{
    http::{
        Shared,
        operator::command_named,
        problem::{problem, status},
    },
    service::Fault,
    store::operators::{Operator, Role},
};
use askama::Template;
use axum::{
    Form, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use session::{Secure, Session, same_origin};

const HTMX: &str = include_str!("assets/htmx.min.js");
const STYLE: &str = include_str!("assets/style.css");
const FORM_BYTES_MAX: usize = 4096;
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The paths of the UI.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(page))
        .route("/ui/fleet", get(fragment))
        .route("/ui/rollouts/{id}/{command}", post(command))
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/assets/htmx.min.js", get(|| async { asset("text/javascript; charset=utf-8", HTMX) }))
        .route("/assets/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(protect))
}

/// On the plain listener, answers only to names of this machine: another site's name that was made to point here must not
/// reach it.
pub(crate) async fn only_local_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |p| p.0);
    if matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
        return next.run(request).await;
    }
    problem(
        StatusCode::MISDIRECTED_REQUEST,
        "host",
        "this listener answers to localhost, 127.0.0.1 and [::1] only",
    )
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    operator: &'a str,
    fleet: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    reason: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    reason: &'a str,
}

#[derive(Deserialize)]
struct Seen {
    seen: Option<String>,
}

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

async fn page(State(shared): State<Shared>, session: Option<Session>) -> Response {
    let Some(Session(operator)) = session else { return Redirect::to("/login").into_response() };
    match overview::render(&shared.fleet, &operator).await {
        Ok((fleet, _)) => html(StatusCode::OK, &Page { operator: &operator.name, fleet }),
        Err(fault) => notice(&fault),
    }
}

/// The overview alone, or nothing when it is the same as the caller has.
async fn fragment(
    State(shared): State<Shared>,
    session: Option<Session>,
    Query(query): Query<Seen>,
) -> Response {
    let Some(Session(operator)) = session else {
        // Tells htmx to load the whole sign-in page instead of swapping it in.
        let to = (HeaderName::from_static("hx-redirect"), HeaderValue::from_static("/login"));
        return (StatusCode::UNAUTHORIZED, [to]).into_response();
    };
    match overview::render(&shared.fleet, &operator).await {
        Ok((_, hash)) if query.seen.as_deref() == Some(&hash) => StatusCode::NO_CONTENT.into_response(),
        Ok((fleet, _)) => axum::response::Html(fleet).into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn command(
    State(shared): State<Shared>,
    session: Option<Session>,
    Path((id, what)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(Session(operator)) = session else { return Redirect::to("/login").into_response() };
    match steer(&shared, &operator, &id, &what, &headers).await {
        Ok(()) => Redirect::to("/").into_response(),
        Err(fault) => notice(&fault),
    }
}

async fn steer(
    shared: &Shared,
    by: &Operator,
    id: &str,
    what: &str,
    headers: &HeaderMap,
) -> Result<(), Fault> {
    same_origin(headers)?;
    if by.role < Role::Releaser {
        let detail = format!("{} is {}, which does not allow this", by.name, by.role.as_str());
        return Err(Fault::new(crate::service::Kind::Forbidden, detail));
    }
    shared.fleet.command(id, command_named(what)?, by).await.map(drop)
}

async fn login_page() -> Response {
    html(StatusCode::OK, &Login { reason: None })
}

async fn login(
    State(shared): State<Shared>,
    secure: Secure,
    headers: HeaderMap,
    form: Result<Form<Credentials>, axum::extract::rejection::FormRejection>,
) -> Response {
    if let Err(fault) = same_origin(&headers) {
        return notice(&fault);
    }
    let Ok(Form(Credentials { token })) = form else {
        return html(StatusCode::BAD_REQUEST, &Login { reason: Some("Enter a token.") });
    };
    match shared.fleet.store().operator(token.trim()).await {
        Ok(Some(operator)) => match shared.sessions.start(operator, secure, shared.fleet.now_ms()) {
            Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
            Err(fault) => notice(&fault),
        },
        Ok(None) => html(StatusCode::FORBIDDEN, &Login { reason: Some("The token is not known here.") }),
        Err(error) => notice(&error.into()),
    }
}

async fn logout(State(shared): State<Shared>, secure: Secure, headers: HeaderMap) -> Response {
    if let Err(fault) = same_origin(&headers) {
        return notice(&fault);
    }
    let cookie = shared.sessions.end(secure, &headers);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

fn html(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, axum::response::Html(text)).into_response(),
        Err(error) => Fault::internal(&error).into_response(),
    }
}

fn notice(fault: &Fault) -> Response {
    html(status(fault.kind).0, &Notice { reason: &fault.detail })
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "public, max-age=3600")];
    (headers, text).into_response()
}

/// Headers that keep other sites and injected markup out.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}
