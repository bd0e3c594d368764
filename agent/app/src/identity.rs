//! Who this device is to its fleet: `identity/` in the state folder.

use crate::certificate::{self, CertificateError, CertificateInfo, PEM_BYTES_MAX};
use reqwest::Url;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use whimbrel_updater::disk::{Disk as _, DiskError, Files, create_dirs, write_atomically};
use whimbrel_wire::{DeviceId, TenantId};

const DIR: &str = "identity";
const KEY: &str = "key.pem";
const CERT: &str = "cert.pem";
const CA: &str = "ca.pem";
/// Written last and removed first: while it is there, the other files are whole and belong together.
const IDENTITY: &str = "identity.json";
const IDENTITY_BYTES_MAX: u64 = 16 << 10;

/// What `identity.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// The device's name.
    pub(crate) device: DeviceId,
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// The fleet server, `https://HOST:PORT`.
    #[serde(with = "url_text")]
    pub(crate) server: Url,
    /// The MQTT port on the same host.
    pub(crate) mqtt_port: u16,
}

/// What enrolment obtained, in PEM.
pub(crate) struct Credentials<'a> {
    /// The private key.
    pub(crate) key_pem: &'a str,
    /// The device's certificate.
    pub(crate) certificate_pem: &'a str,
    /// The fleet CA's certificate.
    pub(crate) ca_pem: &'a str,
}

/// A device's enrolment.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Who it is, and to whom.
    pub(crate) membership: Membership,
    /// Its certificate.
    pub(crate) certificate: CertificateDer<'static>,
    /// What the certificate says.
    pub(crate) info: CertificateInfo,
    /// The only CA that it trusts.
    pub(crate) ca: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Why an identity could not be read, written or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The disk said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file is gone while the device counts as enrolled.
    #[error("read {}: it is missing although the device is enrolled", .0.display())]
    Missing(PathBuf),
    /// A file is not what it should be.
    #[error("read {}: {reason}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Others can read the private key.
    #[error("read {}: other users have access (mode {mode:03o}), expected 600", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// TLS does not accept key, certificate or CA.
    #[error("set up TLS with the device's certificate: {0}")]
    Tls(#[from] rustls::Error),
}

impl IdentityError {
    /// What to do about any of them.
    pub(crate) const HINT: &str =
        "put the files back, or enrol again with `whimbrel-agent enroll --force` and a new token";
}

impl Identity {
    /// The folder of a state folder's identity.
    pub(crate) fn dir(state_dir: &Path) -> PathBuf {
        state_dir.join(DIR)
    }

    /// Whether the device is enrolled, whatever state its files are in.
    ///
    /// # Errors
    /// That cannot be told.
    pub(crate) fn exists(state_dir: &Path) -> Result<bool, IdentityError> {
        Ok(Files.size_bytes(&Self::dir(state_dir).join(IDENTITY))?.is_some())
    }

    /// Reads the identity; `None` when the device is not enrolled.
    ///
    /// # Errors
    /// A file cannot be read, is missing or damaged, or others can read the key: never taken for `not enrolled`.
    pub(crate) fn load(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let dir = Self::dir(state_dir);
        let path = dir.join(IDENTITY);
        let Some(bytes) = Files.read(&path, IDENTITY_BYTES_MAX)? else { return Ok(None) };
        let membership: Membership =
            serde_json::from_slice(&bytes).map_err(|e| malformed(&path, &e.to_string()))?;
        check_mode(&dir.join(KEY))?;
        let (certificate, info) = read_certificate(&dir.join(CERT))?;
        let key_path = dir.join(KEY);
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
            .map_err(|e| malformed(&key_path, &format!("not a PEM private key: {e}")))?;
        Ok(Some(Self { membership, certificate, info, ca: read_certificate(&dir.join(CA))?.0, key }))
    }

    /// TLS that trusts the fleet CA alone and shows the device's certificate. No protocol is negotiated.
    ///
    /// # Errors
    /// Key, certificate and CA are not usable.
    pub(crate) fn tls_config(&self) -> Result<ClientConfig, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?)
    }
}

/// Writes an identity so that at any moment either all of it is there or the device is not enrolled.
///
/// # Errors
/// The disk said no.
pub(crate) fn save(
    state_dir: &Path,
    membership: &Membership,
    credentials: &Credentials<'_>,
) -> Result<(), IdentityError> {
    let dir = Identity::dir(state_dir);
    create_dirs(&Files, &dir)?;
    forget(state_dir)?;
    write_private(&dir.join(KEY), credentials.key_pem.as_bytes())?;
    write_atomically(&Files, &dir.join(CERT), credentials.certificate_pem.as_bytes())?;
    write_atomically(&Files, &dir.join(CA), credentials.ca_pem.as_bytes())?;
    let path = dir.join(IDENTITY);
    let json = serde_json::to_vec_pretty(membership).map_err(|e| malformed(&path, &e.to_string()))?;
    Ok(write_atomically(&Files, &path, &json)?)
}

/// Makes the device count as not enrolled.
///
/// # Errors
/// The disk said no.
pub(crate) fn forget(state_dir: &Path) -> Result<(), IdentityError> {
    let dir = Identity::dir(state_dir);
    let path = dir.join(IDENTITY);
    if Files.size_bytes(&path)?.is_some() {
        Files.remove_file(&path)?;
        Files.sync_dir(&dir)?;
    }
    Ok(())
}

/// Writes a file that never was readable by others, not even for a moment.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let dir = path.parent().unwrap_or(path);
    let write = || {
        // Made with mode 600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| DiskError { attempted: "write", path: path.to_owned(), source })
}

fn check_mode(path: &Path) -> Result<(), IdentityError> {
    match std::fs::metadata(path) {
        Ok(metadata) => match metadata.permissions().mode() & 0o777 {
            mode if mode & 0o077 == 0 => Ok(()),
            mode => Err(IdentityError::Exposed { path: path.to_owned(), mode }),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(IdentityError::Missing(path.to_owned())),
        Err(source) => Err(DiskError { attempted: "look at", path: path.to_owned(), source }.into()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    Files.read(path, PEM_BYTES_MAX)?.ok_or_else(|| IdentityError::Missing(path.to_owned()))
}

fn read_certificate(path: &Path) -> Result<(CertificateDer<'static>, CertificateInfo), IdentityError> {
    let fail = |e: CertificateError| malformed(path, &e.to_string());
    let der = certificate::from_pem(&read(path)?).map_err(fail)?;
    let info = CertificateInfo::read(&der).map_err(fail)?;
    Ok((der, info))
}

mod url_text {
    //! An address as its text.

    use reqwest::Url;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::config::server_url(&text).ok_or_else(|| D::Error::custom("server: expected https://HOST:PORT"))
    }
}

fn malformed(path: &Path, reason: &str) -> IdentityError {
    IdentityError::Malformed { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    fn saved() -> (tempfile::TempDir, Membership) {
        let dir = tempfile::tempdir().expect("temp dir");
        let ca = Ca::new("fleet");
        let device = ca.device("cam-1", "acme");
        let membership = Membership {
            device: "cam-1".parse().expect("valid"),
            tenant: "acme".parse().expect("valid"),
            server: "https://fleet:8443".parse().expect("valid"),
            mqtt_port: 8883,
        };
        let credentials = Credentials {
            key_pem: &device.key_pem,
            certificate_pem: &device.certificate_pem,
            ca_pem: &ca.pem(),
        };
        save(dir.path(), &membership, &credentials).expect("saves");
        (dir, membership)
    }

    #[test]
    fn an_identity_comes_back_and_its_key_is_private() {
        let (dir, membership) = saved();
        let identity = Identity::load(dir.path()).expect("loads").expect("enrolled");
        assert_eq!(identity.membership, membership);
        assert_eq!(identity.info.common_name.as_deref(), Some("cam-1"));
        identity.tls_config().expect("usable");
        let mode =
            std::fs::metadata(dir.path().join("identity/key.pem")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_identity_json_the_device_is_not_enrolled() {
        let (dir, _) = saved();
        forget(dir.path()).expect("forgets");
        assert!(Identity::load(dir.path()).expect("readable").is_none());
        assert!(!Identity::exists(dir.path()).expect("can be told"));
    }

    #[test]
    fn a_damaged_identity_is_an_error_and_never_taken_for_a_first_start() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 4] = [
            ("identity.json", |path| std::fs::write(path, b"{").expect("writes")),
            ("cert.pem", |path| std::fs::write(path, b"x").expect("writes")),
            ("ca.pem", |path| std::fs::remove_file(path).expect("removes")),
            ("key.pem", |path| {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("sets");
            }),
        ];
        for (file, damage) in damages {
            let (dir, _) = saved();
            damage(&dir.path().join("identity").join(file));
            let error = Identity::load(dir.path()).expect_err(file).to_string();
            assert!(error.contains(file), "{error}");
            assert!(Identity::exists(dir.path()).expect("can be told"));
        }
    }
}
