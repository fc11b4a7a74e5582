use std::fs;

use super::testing::pair;
use super::*;
use crate::base::exit::Exit;

/// An ed25519 key of SSH without a passphrase, from the tests of the crate `age`, and its public key.
const SSH: (&str, &str) = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n\
     b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
     QyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQAAAJCfEwtqnxML\n\
     agAAAAtzc2gtZWQyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQ\n\
     AAAEADBJvjZT8X6JRJI8xVq/1aU8nMVgOtVnmdwqWwrSlXG3sKLqeplhpW+uObz5dvMgjz\n\
     1OxfM/XXUB+VHtZ6isGNAAAADHN0cjRkQGNhcmJvbgE=\n\
     -----END OPENSSH PRIVATE KEY-----\n",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@rust",
);

fn read(content: &[u8], passphrase: Option<&str>) -> Result<Identities> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.txt");
    fs::write(&path, content).unwrap();
    let file = IdentityFile::read(&path)?;
    assert_eq!(file.needs_passphrase(), is_age(content));
    file.identities(passphrase.map(|text| Secret::from(text.to_string())))
}

/// Encrypts with a passphrase, at age's least cost.
fn with_passphrase(plain: &[u8], passphrase: &str) -> Vec<u8> {
    let mut recipient = age::scrypt::Recipient::new(Secret::from(passphrase.to_string()));
    recipient.set_work_factor(2);
    age::encrypt(&recipient, plain).unwrap()
}

#[test]
fn each_identity_unwraps_the_key_for_its_recipient() {
    let (text, recipients) = pair();
    let both = Recipients::parse(&[recipients.0[0].to_string(), SSH.1.into()]).unwrap().unwrap();
    let stanzas = both.wrap(&FileKey::new(Box::new([7; 16]))).unwrap();
    let mut fingerprints = Vec::new();
    for file in [text.as_str(), SSH.0] {
        let identities = read(file.as_bytes(), None).unwrap();
        assert_eq!(identities.unwrap(&stanzas).unwrap().expose_secret(), &[7; 16]);
        fingerprints.extend_from_slice(identities.fingerprints());
    }
    assert_eq!(both.fingerprints(), fingerprints);
    let stranger = read(pair().0.as_bytes(), None).unwrap();
    assert!(stranger.unwrap(&stanzas).is_none());
    // The right key among ten.
    let ten: String = (0..9).map(|_| pair().0).chain([text]).collect();
    let ten = read(ten.as_bytes(), None).unwrap();
    assert_eq!(ten.fingerprints().len(), 10);
    assert!(ten.unwrap(&stanzas).is_some());
}

/// `printf %s age1… | sha256sum` shows the same digits.
#[test]
fn a_fingerprint_is_the_beginning_of_a_sha_256() {
    let recipient: Recipient = SSH.1.parse().unwrap();
    let text = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
    assert_eq!((recipient.to_string().as_str(), recipient.fingerprint().len()), (text, 16));
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    assert_eq!(u64::from_str_radix(&recipient.fingerprint(), 16).unwrap().to_be_bytes(), hash.as_ref()[..8]);
}

#[test]
fn wrong_recipients_are_refused_and_not_shown() {
    let (secret, right) = pair();
    let secret = secret.lines().last().unwrap();
    let damaged = right.0[0].to_string().replace("age1", "age1q");
    for (text, why) in [
        (secret, "secret key"),
        (&secret.to_lowercase(), "secret key"),
        (SSH.0, "secret key"),
        (&damaged, "neither age1"),
        ("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "neither age1"),
        ("", "neither age1"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqep", "not a complete"),
    ] {
        let error = Recipients::parse(&[right.0[0].to_string(), text.into()]).unwrap_err();
        assert!(error.starts_with("recipient 2: ") && error.contains(why), "{error}");
        assert!(text.is_empty() || !error.contains(text), "{error}");
    }
    assert!(Recipients::parse(&[]).unwrap().is_none());
    let twice = [right.0[0].to_string(), format!(" {} ", right.0[0])];
    assert_eq!(Recipients::parse(&twice).unwrap().unwrap().0.len(), 1);
}

#[test]
fn a_passphrase_is_checked() {
    let (text, recipients) = pair();
    let stanzas = recipients.wrap(&FileKey::new(Box::new([7; 16]))).unwrap();
    let file = with_passphrase(text.as_bytes(), "correct horse");
    assert!(read(&file, Some("correct horse")).unwrap().unwrap(&stanzas).is_some());
    let ssh = with_passphrase(SSH.0.as_bytes(), "correct horse");
    assert_eq!(read(&ssh, Some("correct horse")).unwrap().fingerprints().len(), 1);
    let error = read(&file, Some("wrong")).unwrap_err();
    assert!(error.exit() == Exit::Key && error.chain().contains("the passphrase is wrong"), "{error:?}");
    assert!(read(&file, None).unwrap_err().chain().contains("needs a passphrase"));
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(read(&damaged, Some("correct horse")).is_err());
    // A file for a recipient is not an identity, although it is an age file.
    let PublicKey::X25519(key) = &recipients.0[0].key else { panic!("a new key is X25519") };
    let for_key = age::encrypt(key, text.as_bytes()).unwrap();
    let error = read(&for_key, Some("x")).unwrap_err();
    assert!(error.chain().contains("encrypted to a recipient"), "{error}");
}

#[test]
fn a_file_without_an_identity_is_refused_and_not_shown() {
    let (secret, recipients) = pair();
    let line = secret.lines().last().unwrap();
    let cut = &line[..line.len() - 1];
    for (content, why) in [
        ("", "has no identity"),
        ("# public key: age1\n\n", "has no identity"),
        (&recipients.0[0].to_string(), "line 1 is not an identity"),
        (&format!("# a comment\n{cut}\n"), "line 2 is not an identity"),
        (&SSH.0[..200], "not a complete key of SSH"),
    ] {
        let error = read(content.as_bytes(), None).unwrap_err();
        assert_eq!(error.exit(), Exit::Key);
        let text = error.chain_with_step();
        assert!(text.contains(why) && text.contains("key.txt") && !text.contains(cut), "{text}");
    }
    assert!(read(&[0xff, 0xfe], None).unwrap_err().chain().contains("not text"));
    let missing = IdentityFile::read(Path::new("/nonexistent/key.txt")).err().unwrap();
    assert!(missing.exit() == Exit::Key && missing.next_step().is_some(), "{missing:?}");
}

#[test]
fn a_new_identity_is_a_file_as_age_keygen_writes_it() {
    let (text, recipient) = generate("2026-11-23T03:00:00Z".parse().unwrap());
    let lines: Vec<&str> = text.expose_secret().lines().collect();
    assert_eq!(lines[0], "# created: 2026-11-23T03:00:00Z");
    assert_eq!(lines[1], format!("# public key: {recipient}"));
    assert!(lines[2].starts_with("AGE-SECRET-KEY-1") && lines.len() == 3);
    let identities = read(text.expose_secret().as_bytes(), None).unwrap();
    assert_eq!(identities.fingerprints(), [recipient.fingerprint()]);
    assert!(!format!("{identities:?}").contains("SECRET"));
}
