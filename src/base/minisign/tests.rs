use super::*;

/// Made by minisign 0.11: `minisign -G -W`.
const PUBLIC: &str = "RWQFxvAx9IsY30EbYgk1nu+7jGcLZn/YWeqGtBK4XMK37WGipPT5Rc8C";
const SECRET: &str = "untrusted comment: minisign encrypted secret key\n\
    RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABcbwMfSLGN+pBbB9iDChYIfjF6DzGIAq+TorUa06tKp82RNJ0wvm\
    00EbYgk1nu+7jGcLZn/YWeqGtBK4XMK37WGipPT5Rc8CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
/// `minisign -S` of `hello\n`.
const HASHED_SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RUQFxvAx9IsY33FWGYCMlAA9Nu9SjU11Fvznc45SIn8D3xtf02rUS3DKeiD0+/o2fXWP/51atzDGZC7mN8M+u0kDF7fxNws2gQI=\n\
    trusted comment: timestamp:1796110946\tfile:f\thashed\n\
    71lx4tjHj1MU9U6vnRN/d1omuH88N+o9pEncwVVtSHY9NqL3/lb+u33PzNgO+OWX6oWumQV4u8yUYpbVzTpUDQ==\n";
/// `minisign -S -l` of `hello\n`.
const PURE_SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RWQFxvAx9IsY32cX+hxlG/9HTN6SEeaZLCIcbOAjeHmJJWpdK4KS1r6TQa6ltJxDGMskdr7oQtj6MK4BJ4UwFutDsLHRNe1kyg8=\n\
    trusted comment: timestamp:1796110946\tfile:f\n\
    jR2gEtUoOYTa5iP8hXQXF08zuvikqael+pSF/Kaiq484AxW7PocteWkX8JYQHECUq+nxuLQC9tLexNfcwCtRBw==\n";

#[test]
fn keys_and_signatures_of_minisign_are_read() {
    let key: PublicKey = PUBLIC.parse().unwrap();
    assert_eq!((key.to_string().as_str(), key.number().as_str()), (PUBLIC, "DF188BF431F0C605"));
    for signature in [HASHED_SIGNATURE, PURE_SIGNATURE] {
        assert_eq!(verify(std::slice::from_ref(&key), b"hello\n", signature.as_bytes()), Ok(&key));
        assert!(
            verify(std::slice::from_ref(&key), b"hello", signature.as_bytes())
                .unwrap_err()
                .contains("not of")
        );
    }
    let secret = SigningKey::parse(SECRET).unwrap();
    assert_eq!(secret.public(), key);
    assert_eq!(
        verify(&[key], b"x", secret.sign(b"x", "c").as_bytes()).map(PublicKey::number),
        Ok("DF188BF431F0C605".into())
    );
}

#[test]
fn a_generated_key_signs_and_one_of_several_keys_verifies() {
    let pairs: Vec<(Secret, PublicKey)> = (0..3).map(|_| generate().unwrap()).collect();
    let keys: Vec<PublicKey> = pairs.iter().map(|(_, key)| key.clone()).collect();
    for (text, public) in &pairs {
        let secret = SigningKey::parse(text.expose_secret()).unwrap();
        assert_eq!(&secret.public(), public);
        assert!(!format!("{secret:?}").contains(&text.expose_secret()[60..]));
        let signature = secret.sign(b"content", "a comment");
        assert_eq!(verify(&keys, b"content", signature.as_bytes()), Ok(public));
        let others: Vec<PublicKey> = keys.iter().filter(|key| *key != public).cloned().collect();
        let refused = verify(&others, b"content", signature.as_bytes()).unwrap_err();
        assert!(refused.contains(&public.number()), "{refused}");
        // The number names the key, but does not prove it.
        let imposter = PublicKey { number: public.number, key: others[0].key };
        assert!(verify(&[imposter], b"content", signature.as_bytes()).is_err());
    }
}

#[test]
fn each_changed_byte_of_a_file_or_its_signature_is_found() {
    let (text, key) = generate().unwrap();
    let secret = SigningKey::parse(text.expose_secret()).unwrap();
    let content = b"{\n  \"format\": 1,\n  \"id\": \"20261123T030000Z-7k3q9d\"\n}\n";
    let signature = secret.sign(content, "manifest");
    let keys = [key];
    for at in 0..content.len() {
        for bit in [0, 5, 7] {
            let mut changed = content.to_vec();
            changed[at] ^= 1 << bit;
            assert!(verify(&keys, &changed, signature.as_bytes()).is_err(), "byte {at} of the file");
        }
    }
    let untrusted = UNTRUSTED.len()..signature.find('\n').unwrap();
    for at in 0..signature.len() {
        for bit in [0, 5, 7] {
            let mut changed = signature.clone().into_bytes();
            changed[at] ^= 1 << bit;
            let is_text = std::str::from_utf8(&changed).is_ok_and(|text| text.lines().count() == 4);
            // Only the text of the untrusted comment means nothing.
            let harmless = untrusted.contains(&at) && is_text;
            assert_eq!(verify(&keys, content, &changed).is_ok(), harmless, "byte {at} of the signature");
        }
    }
    for length in 0..signature.len() - 1 {
        assert!(verify(&keys, content, &signature.as_bytes()[..length]).is_err(), "{length} bytes");
    }
    let other = secret.sign(b"other", "manifest");
    assert!(verify(&keys, content, other.as_bytes()).is_err());
    // The comment of another signature.
    let mixed: Vec<&str> = signature.lines().take(2).chain(other.lines().skip(2)).collect();
    assert!(verify(&keys, content, mixed.join("\n").as_bytes()).unwrap_err().contains("comment"));
}

#[test]
fn wrong_keys_are_explained_and_never_shown() {
    let secret_line = SECRET.lines().nth(1).unwrap();
    let age = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ";
    for secret in [secret_line, "untrusted comment: minisign encrypted secret key", age] {
        let why = secret.parse::<PublicKey>().unwrap_err();
        assert!(why.contains("secret key") && !why.contains(&secret[secret.len() - 20..]), "{why}");
    }
    for wrong in ["", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", &PUBLIC[..55], "RWQ"]
    {
        assert!(wrong.parse::<PublicKey>().unwrap_err().contains("not a public key"), "{wrong}");
    }
    let with = |begin: &[u8], at: usize, byte: u8| {
        let mut bytes = BASE64.decode(secret_line).unwrap();
        bytes[..begin.len()].copy_from_slice(begin);
        bytes[at] ^= byte;
        let text = format!("{UNTRUSTED}x\n{}\n", BASE64.encode(bytes));
        SigningKey::parse(&text).map(drop).unwrap_err()
    };
    assert!(with(b"EdScB2", 100, 0).contains("passphrase"));
    assert!(with(b"Ed", NUMBER + 8, 1).contains("damaged"), "the seed");
    assert!(with(b"Ed", SECRET_LENGTH - 1, 1).contains("damaged"), "the checksum");
    assert!(with(b"XX", 100, 0).contains("not a secret key"));
    assert!(SigningKey::parse(PUBLIC).is_err());
}
