//! What a certificate says.

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest accepted PEM text of one certificate.
pub(crate) const PEM_BYTES_MAX: u64 = 64 << 10;

/// What is used of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateInfo {
    /// The subject's common name: the device.
    pub(crate) common_name: Option<String>,
    /// The subject's organisation: the tenant.
    pub(crate) organisation: Option<String>,
    /// Start of its life.
    pub(crate) not_before: OffsetDateTime,
    /// End of its life.
    pub(crate) not_after: OffsetDateTime,
    /// The subject's public key without its algorithm, as the certificate has it.
    pub(crate) public_key: Vec<u8>,
}

/// Why a text or its bytes are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// Not a PEM text with one certificate.
    #[error("not a PEM certificate: {0}")]
    Pem(String),
    /// Not X.509.
    #[error("not an X.509 certificate: {0}")]
    Der(String),
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// There is none.
pub(crate) fn from_pem(pem: &[u8]) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem).map_err(|e| CertificateError::Pem(e.to_string()))
}

impl CertificateInfo {
    /// Reads what is used of a certificate.
    ///
    /// # Errors
    /// The bytes are not X.509.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|e| CertificateError::Der(e.to_string()))?;
        let (subject, validity) = (certificate.subject(), certificate.validity());
        Ok(Self {
            common_name: text(subject.iter_common_name().next()),
            organisation: text(subject.iter_organization().next()),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }
}

fn text(attribute: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>) -> Option<String> {
    attribute.and_then(|a| a.as_str().ok()).map(str::to_owned)
}
