//! What must be true of the certificate that came back.

use crate::certificate::{self, CertificateError, CertificateInfo};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use whimbrel_updater::hash::sha256;
use whimbrel_wire::{DeviceId, Digest, api::EnrollResponse};

/// Why the certificate is of no use, or not to be trusted.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum GrantError {
    /// It is none.
    #[error("the server's answer: {0}")]
    Certificate(#[from] CertificateError),
    /// Another device's name.
    #[error("the server enrolled the device as {0:?}")]
    Name(String),
    /// Another key than ours.
    #[error("the server certified another key than the device's")]
    Key,
    /// Another CA than the token's.
    #[error("the server's answer names another CA than the token")]
    Ca,
    /// Not signed by the CA, not valid now, or not for a client.
    #[error("the server's certificate for the device is not usable: {0}")]
    Chain(String),
}

/// Checks that the certificate names the device and tenant, is for our key, and is signed by the CA of the token.
///
/// # Errors
/// The first check that fails.
pub(super) fn check(
    granted: &EnrollResponse,
    device: &DeviceId,
    public_key: &[u8],
    ca: Digest,
) -> Result<(), GrantError> {
    let ca_der = certificate::from_pem(granted.ca_pem.as_bytes())?;
    if sha256(&ca_der) != ca {
        return Err(GrantError::Ca);
    }
    let der = certificate::from_pem(granted.certificate_pem.as_bytes())?;
    let info = CertificateInfo::read(&der)?;
    let name = info.common_name.unwrap_or_default();
    if granted.device != *device || name != device.as_str() {
        return Err(GrantError::Name(name.chars().take(80).collect()));
    }
    if info.organisation.as_deref() != Some(granted.tenant.as_str()) {
        return Err(GrantError::Name(info.organisation.unwrap_or_default().chars().take(80).collect()));
    }
    if info.public_key != public_key {
        return Err(GrantError::Key);
    }
    let chain = |e: &dyn std::fmt::Display| GrantError::Chain(e.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(ca_der).map_err(|e| chain(&e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| chain(&e))?;
    verifier.verify_client_cert(&der, &[], UnixTime::now()).map_err(|e| chain(&e))?;
    Ok(())
}
