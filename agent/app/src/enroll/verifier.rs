//! Accepts exactly the chain whose CA has the fingerprint that the token names.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_updater::hash::sha256;
use whimbrel_wire::Digest;

/// Why the server's chain was not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ChainError {
    /// No certificate that the server sent has the fingerprint.
    #[error(
        "no certificate that the server sent is the fleet CA of the token (fingerprint {expected}): it is another \
         server, or someone is in between"
    )]
    Fingerprint {
        /// What the token says.
        expected: Digest,
    },
    /// The CA is the right one, but does not vouch for this server.
    #[error("the fleet CA does not vouch for this server under this name: {0}")]
    Chain(Error),
}

/// Verifies a server for one enrolment.
#[derive(Debug)]
pub(crate) struct TokenVerifier {
    ca: Digest,
    provider: Arc<CryptoProvider>,
    /// What the HTTP client's own error does not carry to its caller.
    refused: Mutex<Option<ChainError>>,
}

impl TokenVerifier {
    /// Accepts the chain whose CA certificate has this SHA-256.
    pub(crate) fn new(ca: Digest, provider: Arc<CryptoProvider>) -> Self {
        Self { ca, provider, refused: Mutex::default() }
    }

    /// Why the last chain was refused, if it was.
    pub(crate) fn refused(&self) -> Option<ChainError> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, ChainError> {
        let ca = std::iter::once(end_entity).chain(intermediates).find(|der| sha256(der) == self.ca);
        let ca = ca.ok_or(ChainError::Fingerprint { expected: self.ca })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned()).map_err(ChainError::Chain)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|e| ChainError::Chain(Error::General(e.to_string())))?;
        verifier
            .verify_server_cert(end_entity, intermediates, server_name, &[], now)
            .map_err(ChainError::Chain)
    }
}

impl ServerCertVerifier for TokenVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, server_name, now).map_err(|refusal| {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            CertificateError::ApplicationVerificationFailure.into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    fn verify(token_ca: &Ca, chain: &[CertificateDer<'static>], name: &str) -> Result<(), ChainError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = TokenVerifier::new(sha256(&token_ca.der()), provider);
        let name = ServerName::try_from(name).expect("a name").to_owned();
        let result = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now());
        match (result, verifier.refused()) {
            (Ok(_), None) => Ok(()),
            (Err(_), Some(refusal)) => Err(refusal),
            (result, refusal) => panic!("{result:?} and {refusal:?} disagree"),
        }
    }

    #[test]
    fn only_the_chain_of_the_tokens_ca_is_accepted() {
        let (ours, theirs) = (Ca::new("fleet"), Ca::new("fleet"));
        let server = ours.server("fleet.test");
        let chain = [server.certificate.clone(), ours.der()];
        assert_eq!(verify(&ours, &chain, "fleet.test"), Ok(()));
        let fingerprint = |result| matches!(result, Err(ChainError::Fingerprint { .. }));
        assert!(fingerprint(verify(&theirs, &chain, "fleet.test")), "another CA of the same name");
        assert!(fingerprint(verify(&ours, &chain[..1], "fleet.test")), "the CA is not in the chain");
    }

    #[test]
    fn showing_the_right_ca_beside_a_strangers_certificate_is_of_no_use() {
        let (ours, theirs) = (Ca::new("fleet"), Ca::new("fleet"));
        let stranger = theirs.server("fleet.test");
        for chain in [
            vec![stranger.certificate.clone(), ours.der()],
            vec![stranger.certificate, theirs.der(), ours.der()],
            vec![ours.der()],
        ] {
            assert!(matches!(verify(&ours, &chain, "fleet.test"), Err(ChainError::Chain(_))));
        }
    }

    #[test]
    fn the_certificate_must_be_for_the_host_that_was_called() {
        let ours = Ca::new("fleet");
        let chain = [ours.server("fleet.test").certificate, ours.der()];
        assert!(matches!(verify(&ours, &chain, "other.test"), Err(ChainError::Chain(_))));
    }
}
