//! A certificate authority for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A key and its certificate.
pub(crate) struct Certified {
    /// The private key, PEM.
    pub(crate) key_pem: String,
    /// The private key.
    pub(crate) key: PrivateKeyDer<'static>,
    /// The certificate, PEM.
    pub(crate) certificate_pem: String,
    /// The certificate.
    pub(crate) certificate: CertificateDer<'static>,
}

impl Ca {
    /// A new authority of that name.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("makes a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signs itself"))
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Its certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate.
    pub(crate) fn server(&self, host: &str) -> Certified {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.certify(&params)
    }

    /// A device's certificate, with a key of its own.
    pub(crate) fn device(&self, device: &str, tenant: &str) -> Certified {
        self.certify(&device_params(device, tenant))
    }

    /// A device's certificate for the key of a request.
    pub(crate) fn device_for(&self, csr_pem: &str, device: &str, tenant: &str) -> String {
        let mut csr = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
        csr.params = device_params(device, tenant);
        csr.signed_by(&self.0).expect("signs").pem()
    }

    fn certify(&self, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().expect("makes a key");
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        Certified {
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
        }
    }
}

fn device_params(device: &str, tenant: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, device);
    params.distinguished_name.push(DnType::OrganizationName, tenant);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
