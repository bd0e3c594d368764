//! Signatures made by another program: `data/signatures.json`, over the bytes `message`, made with python's `cryptography`.

use super::*;

#[test]
fn ecdsa_and_rsa_signatures_are_checked() {
    let cases: Vec<Value> = serde_json::from_slice(include_bytes!("data/signatures.json")).expect("JSON");
    assert_eq!(cases.len(), 8);
    for case in &cases {
        let key = Key::from_value(&case["key"]).expect("a key");
        let signature = hex::decode(case["sig"].as_str().expect("text")).expect("hexadecimal");
        let scheme = &case["key"]["scheme"];
        assert!(key.is_usable() && key.verify(b"message", &signature), "{scheme}");
        assert!(!key.verify(b"massage", &signature), "{scheme}");
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut bad = signature.clone();
            bad[at] ^= 1;
            assert!(!key.verify(b"message", &bad), "{scheme}");
        }
        assert!(!key.verify(b"message", b"") && !key.verify(b"message", &signature[1..]), "{scheme}");
    }
    let keys: Vec<Key> = cases.iter().map(|c| Key::from_value(&c["key"]).expect("a key")).collect();
    assert!(keys[2].is_same(&keys[3]), "one RSA key under two schemes is one key");
    assert!(!keys[0].is_same(&keys[1]) && !keys[1].is_same(&keys[2]));
}

#[test]
fn a_key_on_another_curve_or_of_another_type_is_not_usable() {
    let cases: Vec<Value> = serde_json::from_slice(include_bytes!("data/signatures.json")).expect("JSON");
    for (scheme, kind, public) in [
        ("ecdsa-sha2-nistp256", "ecdsa", &cases[1]["key"]["keyval"]["public"]),
        ("ecdsa-sha2-nistp256", "ecdsa", &cases[2]["key"]["keyval"]["public"]),
        ("rsassa-pss-sha256", "rsa", &cases[0]["key"]["keyval"]["public"]),
        ("ed25519", "ed25519", &cases[0]["key"]["keyval"]["public"]),
    ] {
        let value = json!({"keytype": kind, "scheme": scheme, "keyval": {"public": public}});
        assert!(!Key::from_value(&value).expect("kept").is_usable(), "{value}");
    }
}
