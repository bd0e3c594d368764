//! Who is signed in. Sessions live in memory: a restart signs everybody out.

use crate::{
    http::{Shared, extract::OverTls},
    service::{Fault, Kind, random_secret},
    store::operators::Operator,
};
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, convert::Infallible, sync::Mutex};

const LIFE_S: i64 = 12 * 3600;
const SESSIONS_MAX: usize = 1024;

/// Sessions by the hash of their cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], Entry>>);

#[derive(Debug)]
struct Entry {
    operator: Operator,
    ends_ms: i64,
}

/// Whether the connection is TLS: the cookies of the two listeners have different names, because browsers share cookies
/// between the ports of a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secure(bool);

impl Secure {
    const fn cookie(self) -> &'static str {
        if self.0 { "__Host-whimbrel" } else { "whimbrel" }
    }

    const fn attribute(self) -> &'static str {
        if self.0 { "; Secure" } else { "" }
    }
}

/// A signed-in operator.
pub(super) struct Session(pub(super) Operator);

impl Sessions {
    /// Starts a session; returns the cookie to set.
    pub(super) fn start(&self, operator: Operator, secure: Secure, now_ms: i64) -> Result<String, Fault> {
        let secret = random_secret()?;
        let ends_ms = now_ms.saturating_add(LIFE_S * 1000);
        let mut sessions = self.0.lock().map_err(|_| Fault::new(Kind::Internal, "sign in: try again"))?;
        sessions.retain(|_, entry| entry.ends_ms > now_ms);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, entry)| entry.ends_ms).map(|(key, _)| *key);
            oldest.map(|key| sessions.remove(&key));
        }
        sessions.insert(key(&secret), Entry { operator, ends_ms });
        let (name, attribute) = (secure.cookie(), secure.attribute());
        Ok(format!("{name}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={LIFE_S}{attribute}"))
    }

    /// Ends the session of a request; returns the cookie that removes it.
    pub(super) fn end(&self, secure: Secure, headers: &HeaderMap) -> String {
        if let (Some(secret), Ok(mut sessions)) = (cookie(headers, secure.cookie()), self.0.lock()) {
            sessions.remove(&key(secret));
        }
        format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{}", secure.cookie(), secure.attribute())
    }

    fn find(&self, secure: Secure, headers: &HeaderMap, now_ms: i64) -> Option<Operator> {
        let secret = cookie(headers, secure.cookie())?;
        let sessions = self.0.lock().ok()?;
        sessions.get(&key(secret)).filter(|entry| entry.ends_ms > now_ms).map(|entry| entry.operator.clone())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Secure {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<OverTls>().is_some_and(|t| t.0)))
    }
}

impl OptionalFromRequestParts<Shared> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Option<Self>, Infallible> {
        let secure = Secure(parts.extensions.get::<OverTls>().is_some_and(|t| t.0));
        Ok(state.sessions.find(secure, &parts.headers, state.fleet.now_ms()).map(Session))
    }
}

/// Refuses a form that another site's page sent. The cookie's SameSite already keeps them apart; this does not depend on it.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name| headers.get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|o| o.split_once("://")).map(|(_, host)| host);
    match (origin, text(header::HOST)) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Fault::new(
            Kind::Forbidden,
            "the form did not come from a page of this server; open it again",
        )),
    }
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::operators::Role;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.clone(), v.parse().expect("valid"))).collect()
    }

    #[test]
    fn a_session_ends_with_time_and_with_signing_out() {
        let sessions = Sessions::default();
        let operator = Operator { name: "admin".into(), role: Role::Admin };
        let set = sessions.start(operator.clone(), Secure(true), 0).expect("started");
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Secure"));
        let sent = headers(&[(header::COOKIE, set.split(';').next().expect("pair"))]);
        assert_eq!(sessions.find(Secure(true), &sent, 1), Some(operator));
        assert_eq!(sessions.find(Secure(false), &sent, 1), None, "valid on the other listener");
        assert_eq!(sessions.find(Secure(true), &sent, LIFE_S * 1000), None);
        sessions.end(Secure(true), &sent);
        assert_eq!(sessions.find(Secure(true), &sent, 1), None);
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let from = |origin| headers(&[(header::HOST, "fleet:8443"), (header::ORIGIN, origin)]);
        assert!(same_origin(&from("https://fleet:8443")).is_ok());
        for bad in ["https://evil", "null", "https://fleet:9999", "https://fleet:8443.evil"] {
            assert!(same_origin(&from(bad)).is_err(), "{bad}");
        }
        assert!(same_origin(&headers(&[(header::HOST, "fleet:8443")])).is_err());
    }
}
