//! The fleet's own certificate authority: ECDSA P-256 throughout.
//!
//! | certificate | lives | names |
//! |---|---|---|
//! | the CA | 10 years | common name `Whimbrel fleet CA` |
//! | the server's | 1 year, made anew at start when fewer than 30 days are left or the names changed | subject alternative names |
//! | a device's | `device_certificate_days` (365) | common name = device, organisation = tenant |
//!
//! A device's certificate lives a year, because a device cannot renew it yet other than by enrolling again.

use crate::{
    bus::{Address, acl},
    files::{FileError, Readable, read_private, write_whole},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use whimbrel_wire::Digest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const CA_DAYS: i64 = 3650;
const SERVER_DAYS: i64 = 365;
const SERVER_RENEW_DAYS: i64 = 30;
/// Clocks of devices may be late.
const BACKDATE: Duration = Duration::days(1);
/// Longest certificate request.
pub(crate) const CSR_BYTES_MAX: usize = 8 << 10;

/// Why the CA could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// One of its files could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// One of its files does not hold what it should.
    #[error("read {path}: {reason}; restore it from a backup")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("make the certificate of {subject}")]
    Sign {
        /// For whom.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A device asked for something that is not certified.
    #[error("certificate request: {0}")]
    Request(String),
}

/// A device's new certificate.
pub(crate) struct DeviceCertificate {
    /// PEM.
    pub(crate) pem: String,
    /// Lower-case hexadecimal.
    pub(crate) serial: String,
    /// End of its life.
    pub(crate) not_after: OffsetDateTime,
}

/// The CA and where its files are.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    dir: PathBuf,
}

impl Ca {
    /// Opens the CA of a state folder, or makes it at the first start.
    ///
    /// # Errors
    /// When only one of its two files is there, or one is damaged: a new CA would lock out every enrolled device.
    pub(crate) fn open(dir: &Path, now: OffsetDateTime) -> Result<Self, CaError> {
        let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        if !cert_path.exists() && !key_path.exists() {
            create(&cert_path, &key_path, now)?;
        }
        let damaged =
            |path: &Path, reason: String| CaError::Damaged { path: path.display().to_string(), reason };
        let key = read_private(&key_path)?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&key))
            .map_err(|e| damaged(&key_path, e.to_string()))?;
        let pem = std::fs::read_to_string(&cert_path).map_err(|e| FileError::new("read", &cert_path, e))?;
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| damaged(&cert_path, e.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| damaged(&cert_path, e.to_string()))?;
        Ok(Self { issuer, pem, der, dir: dir.to_owned() })
    }

    /// Its certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, DER.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Where its certificate is.
    pub(crate) fn certificate_path(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// SHA-256 of its certificate (DER): what enrolment tokens carry.
    pub(crate) fn fingerprint(&self) -> Digest {
        Digest::new(Sha256::digest(&self.der).into())
    }

    /// The server's certificate chain and key, as PEM files; made anew when near their end or for other names.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub(crate) fn server_identity(
        &self,
        hosts: &[String],
        now: OffsetDateTime,
    ) -> Result<ServerIdentity, CaError> {
        let identity =
            ServerIdentity { chain: self.dir.join("server.pem"), key: self.dir.join("server.key") };
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
        names.extend(hosts.iter().cloned());
        names.sort();
        names.dedup();
        if !usable(&identity, &names, now) {
            self.issue_server(&identity, &names, now)?;
        }
        Ok(identity)
    }

    /// Certifies a device's key. Only the key is taken from the request.
    ///
    /// # Errors
    /// [`CaError::Request`] for a request that is malformed, not self-signed, or for a key other than ECDSA P-256.
    pub(crate) fn certify_device(
        &self,
        who: &Address,
        csr_pem: &str,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<DeviceCertificate, CaError> {
        if csr_pem.len() > CSR_BYTES_MAX {
            return Err(CaError::Request(format!(
                "{} bytes, at most {CSR_BYTES_MAX} are accepted",
                csr_pem.len()
            )));
        }
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|e| CaError::Request(e.to_string()))?;
        // An uncompressed point of P-256 has 65 bytes: the signature's algorithm alone does not name the curve.
        let p256 =
            csr.public_key.algorithm() == &PKCS_ECDSA_P256_SHA256 && csr.public_key.der_bytes().len() == 65;
        if !p256 {
            return Err(CaError::Request("expected an ECDSA P-256 key, signed with SHA-256".into()));
        }
        let (serial, serial_text) = random_serial()?;
        let not_after = now + Duration::days(i64::from(days));
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, who.device.as_str());
        params.distinguished_name.push(DnType::OrganizationName, who.tenant.as_str());
        params.not_before = now - BACKDATE;
        params.not_after = not_after;
        params.serial_number = Some(serial);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        csr.params = params;
        let certificate = csr
            .signed_by(&self.issuer)
            .map_err(|source| CaError::Sign { subject: format!("device {}", who.device), source })?;
        Ok(DeviceCertificate { pem: certificate.pem(), serial: serial_text, not_after })
    }

    fn issue_server(
        &self,
        identity: &ServerIdentity,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<(), CaError> {
        let fail = |source| CaError::Sign { subject: "the server".into(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(fail)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Whimbrel fleet server");
        params.not_before = now - BACKDATE;
        params.not_after = now + Duration::days(SERVER_DAYS);
        params.serial_number = Some(random_serial()?.0);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(fail)?;
        // With the CA at its end: a device that enrols finds the CA in the chain by its fingerprint.
        let chain = format!("{}{}", certificate.pem(), self.pem);
        write_whole(&identity.key, key.serialize_pem().as_bytes(), Readable::ByOwner)?;
        write_whole(&identity.chain, chain.as_bytes(), Readable::ByAll)?;
        Ok(())
    }
}

/// The server's certificate chain and key, as PEM files.
pub(crate) struct ServerIdentity {
    /// The certificate, then the CA.
    pub(crate) chain: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// Who a peer's certificate says it is; `None` when it is not one that we issue to devices. Its signature was checked
/// during the handshake.
pub(crate) fn read_device(certificate: &CertificateDer<'_>) -> Option<(Address, String)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let common_name = subject.iter_common_name().next()?.as_str().ok()?;
    let organisation = subject.iter_organization().next()?.as_str().ok();
    let who = acl::identify(common_name, Some(common_name), organisation)?;
    Some((who, parsed.serial.to_str_radix(16)))
}

fn create(cert_path: &Path, key_path: &Path, now: OffsetDateTime) -> Result<(), CaError> {
    let fail = |source| CaError::Sign { subject: "the fleet CA".into(), source };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Whimbrel fleet CA");
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::days(CA_DAYS);
    params.serial_number = Some(random_serial()?.0);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(fail)?;
    // The certificate last: a key without it is an unfinished first start that the next start reports.
    write_whole(key_path, key.serialize_pem().as_bytes(), Readable::ByOwner)?;
    write_whole(cert_path, certificate.pem().as_bytes(), Readable::ByAll)?;
    Ok(())
}

/// 127 random bits; the first digit is never 0, so that every way of printing it agrees.
fn random_serial() -> Result<(SerialNumber, String), CaError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| CaError::Request(format!("no random numbers: {e}")))?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok((SerialNumber::from_slice(&bytes), hex::encode(bytes)))
}

fn usable(identity: &ServerIdentity, names: &[String], now: OffsetDateTime) -> bool {
    let Ok(chain) = std::fs::read(&identity.chain) else { return false };
    let Ok(der) = CertificateDer::from_pem_slice(&chain) else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
    let left_s = parsed.validity().not_after.timestamp() - now.unix_timestamp();
    read_private(&identity.key).is_ok()
        && left_s > Duration::days(SERVER_RENEW_DAYS).whole_seconds()
        && alternative_names(&parsed) == names
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let mut names: Vec<String> = extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            GeneralName::IPAddress(bytes) => {
                <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string())
            }
            _ => None,
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("valid")
    }

    fn who() -> Address {
        acl::identify("cam-1", Some("cam-1"), Some("acme")).expect("valid")
    }

    fn csr(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        let key = KeyPair::generate_for(algorithm).expect("key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "someone-else");
        params.serialize_request(&key).expect("request").pem().expect("pem")
    }

    #[test]
    fn it_stays_the_same_over_restarts_and_a_lost_half_is_an_error() {
        let dir = tempfile::tempdir().expect("temp dir");
        let first = Ca::open(dir.path(), now()).expect("made").fingerprint();
        assert_eq!(Ca::open(dir.path(), now()).expect("opened").fingerprint(), first);
        std::fs::remove_file(dir.path().join("ca.pem")).expect("removed");
        assert!(Ca::open(dir.path(), now()).is_err());
    }

    #[test]
    fn a_device_gets_its_own_name_whatever_it_asks_for() {
        let dir = tempfile::tempdir().expect("temp dir");
        let ca = Ca::open(dir.path(), now()).expect("made");
        let made = ca.certify_device(&who(), &csr(&PKCS_ECDSA_P256_SHA256), 90, now()).expect("signed");
        let der = CertificateDer::from_pem_slice(made.pem.as_bytes()).expect("pem");
        let (found, serial) = read_device(&der).expect("one of ours");
        assert_eq!((found, serial), (who(), made.serial));
    }

    #[test]
    fn other_keys_and_damaged_requests_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let ca = Ca::open(dir.path(), now()).expect("made");
        for bad in
            [csr(&rcgen::PKCS_ED25519), csr(&rcgen::PKCS_ECDSA_P384_SHA384), "x".into(), "x".repeat(9000)]
        {
            assert!(matches!(ca.certify_device(&who(), &bad, 90, now()), Err(CaError::Request(_))));
        }
    }

    #[test]
    fn the_servers_certificate_follows_names_and_time() {
        let dir = tempfile::tempdir().expect("temp dir");
        let ca = Ca::open(dir.path(), now()).expect("made");
        let read = |id: &ServerIdentity| std::fs::read(&id.chain).expect("chain");
        let first = read(&ca.server_identity(&[], now()).expect("made"));
        assert_eq!(read(&ca.server_identity(&[], now() + Duration::days(300)).expect("kept")), first);
        assert_ne!(read(&ca.server_identity(&[], now() + Duration::days(340)).expect("renewed")), first);
        let named = read(&ca.server_identity(&["fleet.example".into()], now()).expect("renamed"));
        assert_ne!(named, first);
    }
}
