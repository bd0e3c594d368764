//! Joining a fleet with a one-time token.
//!
//! The token says which CA the server must show and which root metadata the device begins its trust with, so nothing
//! that the server says is believed on its own word. The root is fetched before the token is used up: a server that
//! cannot give the right one costs no token.
//!
//! | module | holds |
//! |---|---|
//! | [`client`] | the two calls, with their limits |
//! | [`verifier`] | which TLS chain is accepted |
//! | [`grant`] | what must be true of the certificate that came back |

mod client;
mod grant;
#[cfg(test)]
mod tests;
mod verifier;

use crate::{
    failure::{Failure, chain},
    identity::{self, Credentials, Identity, Membership},
    platform::platform,
};
use client::Client;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Url;
use std::path::PathBuf;
use whimbrel_updater::tuf::{Trust, Trusted, TufError};
use whimbrel_wire::{
    DeviceId,
    api::{EnrollRequest, EnrollToken},
};

/// The folder of trusted metadata below the state folder.
const TRUST_DIR: &str = "trust";

/// What an enrolment needs.
pub(crate) struct Enrolment {
    /// The fleet server.
    pub(crate) server: Url,
    /// What the operator handed over.
    pub(crate) token: EnrollToken,
    /// The name to ask for.
    pub(crate) device: DeviceId,
    /// The MQTT port, if not the one that the server names.
    pub(crate) mqtt_port: Option<u16>,
    /// Where the identity is kept.
    pub(crate) state_dir: PathBuf,
    /// Whether a present enrolment is given up.
    pub(crate) force: bool,
}

/// Enrols the device.
///
/// # Errors
/// It is enrolled already; the server cannot be reached, is not the one of the token, or refuses; the disk does.
pub(crate) async fn enroll(enrolment: &Enrolment) -> Result<Membership, Failure> {
    let Enrolment { server, token, device, mqtt_port, state_dir, force } = enrolment;
    let attempted = || format!("enrolling {device} at {server}");
    if !force && Identity::exists(state_dir).map_err(|e| stored(attempted(), &e))? {
        let why = format!("{} is enrolled already", state_dir.display());
        return Err(Failure::usage(attempted(), why).hint("--force gives up the present enrolment"));
    }
    let client = Client::new(server, token.ca)?;
    let root = client.root(token.root).await?;
    let no_root = |e| Failure::refused("beginning the trust in the fleet's root", chain(&e));
    Trusted::new(&root).map_err(no_root)?;
    let (key, csr_pem) = make_request().map_err(|e| Failure::failed("making a key", e))?;
    let request =
        EnrollRequest { secret: token.secret.clone(), device: device.clone(), csr_pem, platform: platform() };
    let granted = client.enroll(&request).await?;
    grant::check(&granted, device, key.public_key_raw(), token.ca).map_err(|why| {
        Failure::refused(attempted(), why).hint("the server's answer is not to be trusted: tell its operator")
    })?;
    let membership = Membership {
        device: granted.device,
        tenant: granted.tenant,
        server: server.clone(),
        mqtt_port: mqtt_port.unwrap_or(granted.mqtt_port),
    };
    // From here to the end of `save` the device is not enrolled, so that no crash leaves halves of two enrolments.
    identity::forget(state_dir).map_err(|e| stored(attempted(), &e))?;
    Trust::init(&state_dir.join(TRUST_DIR), &root).map_err(|e| match e {
        TufError::Disk(e) => stored(attempted(), &e),
        e => no_root(e),
    })?;
    let key_pem = key.serialize_pem();
    let credentials =
        Credentials { key_pem: &key_pem, certificate_pem: &granted.certificate_pem, ca_pem: &granted.ca_pem };
    identity::save(state_dir, &membership, &credentials).map_err(|e| stored(attempted(), &e))?;
    Ok(membership)
}

/// An ECDSA P-256 key, and a certificate request for it whose subject the server sets.
fn make_request() -> Result<(KeyPair, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let csr_pem = CertificateParams::default().serialize_request(&key)?.pem()?;
    Ok((key, csr_pem))
}

fn stored(attempted: String, error: &dyn std::error::Error) -> Failure {
    Failure::failed(attempted, chain(error)).hint("is the state folder writable? --state-dir names another")
}
