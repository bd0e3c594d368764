//! Signature schemes. What is made here is ed25519; ECDSA and RSA are checked, since other tools sign with them.

use ed25519_dalek::{
    Signature, VerifyingKey,
    pkcs8::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef},
};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::Value;

/// `id-ecPublicKey` (RFC 5480).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `prime256v1`.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `secp384r1`.
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// `rsaEncryption` (RFC 8017).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-RSASSA-PSS` (RFC 4055).
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// What a key can check.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    Ed25519(VerifyingKey),
    /// ECDSA (the key is an uncompressed point) or RSA (the key is a PKCS#1 `RSAPublicKey`).
    Provider {
        algorithm: Algorithm,
        key: Vec<u8>,
    },
    /// Of a type this build does not know, or not usable: such a key signs nothing, but may stand in a root.
    Unknown,
}

/// A scheme that the TLS provider's crypto checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    EcdsaP256,
    EcdsaP384,
    RsaPssSha256,
    RsaPssSha384,
    RsaPssSha512,
    RsaPkcs1Sha256,
    RsaPkcs1Sha384,
    RsaPkcs1Sha512,
}

impl Algorithm {
    /// The algorithm of a key type and scheme as securesystemslib names them.
    fn of(keytype: &str, scheme: &str) -> Option<Self> {
        Some(match (keytype, scheme) {
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => Self::EcdsaP256,
            ("ecdsa" | "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384") => Self::EcdsaP384,
            ("rsa", "rsassa-pss-sha256") => Self::RsaPssSha256,
            ("rsa", "rsassa-pss-sha384") => Self::RsaPssSha384,
            ("rsa", "rsassa-pss-sha512") => Self::RsaPssSha512,
            ("rsa", "rsa-pkcs1v15-sha256") => Self::RsaPkcs1Sha256,
            ("rsa", "rsa-pkcs1v15-sha384") => Self::RsaPkcs1Sha384,
            ("rsa", "rsa-pkcs1v15-sha512") => Self::RsaPkcs1Sha512,
            _ => return None,
        })
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384 => &ECDSA_P384_SHA384_ASN1,
            Self::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            Self::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
            Self::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
            Self::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::RsaPkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        }
    }

    /// Whether a public key of this type and, for ECDSA, on this curve is for the algorithm.
    fn takes(self, key: &SubjectPublicKeyInfoRef<'_>) -> bool {
        let kind = key.algorithm.oid;
        let curve = key.algorithm.parameters_oid().ok();
        match self {
            Self::EcdsaP256 => kind == EC && curve == Some(P256),
            Self::EcdsaP384 => kind == EC && curve == Some(P384),
            Self::RsaPssSha256 | Self::RsaPssSha384 | Self::RsaPssSha512 => kind == RSA || kind == RSA_PSS,
            Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512 => kind == RSA,
        }
    }
}

impl Scheme {
    /// The scheme of a TUF key object's parts; [`Scheme::Unknown`] for what cannot be used.
    pub(super) fn read(keytype: &str, scheme: &str, keyval: &Value) -> Self {
        let Some(public) = keyval.get("public").and_then(Value::as_str) else { return Self::Unknown };
        let known = match (keytype, scheme) {
            ("ed25519", "ed25519") => ed25519(public).map(Self::Ed25519),
            _ => Algorithm::of(keytype, scheme).and_then(|algorithm| {
                provider_key(algorithm, public).map(|key| Self::Provider { algorithm, key })
            }),
        };
        known.unwrap_or(Self::Unknown)
    }

    pub(super) fn is_usable(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Whether `signature` over `message` is good.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => {
                Signature::from_slice(signature).is_ok_and(|s| key.verify_strict(message, &s).is_ok())
            }
            Self::Provider { algorithm, key } => {
                UnparsedPublicKey::new(algorithm.verification(), key).verify(message, signature).is_ok()
            }
            Self::Unknown => false,
        }
    }

    /// Whether both check with the same key material. The same RSA key under two schemes is one key: whoever holds it
    /// makes both signatures.
    pub(super) fn is_same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ed25519(a), Self::Ed25519(b)) => a == b,
            (Self::Provider { key: a, .. }, Self::Provider { key: b, .. }) => a == b,
            _ => false,
        }
    }
}

fn ed25519(public: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(public, &mut bytes).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

/// The key as the provider takes it, from a PEM `SubjectPublicKeyInfo`.
fn provider_key(algorithm: Algorithm, pem: &str) -> Option<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let key = SubjectPublicKeyInfoRef::try_from(der.as_ref()).ok()?;
    algorithm.takes(&key).then(|| key.subject_public_key.raw_bytes().to_vec())
}
