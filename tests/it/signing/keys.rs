//! `keygen --signing`, the settings, and stock `minisign`.

use std::os::unix::fs::PermissionsExt;

use uzima_backup::base::minisign::{PublicKey, verify};

use super::support::{Signer, minisign};
use crate::cleanup::support::Place;
use crate::cli::support::{bare, run};

#[test]
fn keys_and_signatures_are_those_of_stock_minisign() {
    let signer = Signer::new();
    let (mode, text) = (
        std::fs::metadata(&signer.file).expect("a file").permissions().mode(),
        std::fs::read_to_string(&signer.file).expect("a key"),
    );
    assert_eq!(mode & 0o7777, 0o600);
    let secret = text.lines().nth(1).expect("a secret key");
    let folder = signer.folder();
    std::fs::write(folder.join("file"), "content").expect("a file");
    // minisign signs with our key, in both of its ways, and we verify.
    let key: PublicKey = signer.public.parse().expect("a public key");
    for way in
        [&["-S", "-s", "signing.key", "-m", "file"][..], &["-S", "-l", "-s", "signing.key", "-m", "file"]]
    {
        assert!(minisign(folder, way), "{way:?}");
        let signature = std::fs::read(folder.join("file.minisig")).expect("a signature");
        assert_eq!(verify(std::slice::from_ref(&key), b"content", &signature), Ok(&key));
    }
    // We sign, and minisign verifies.
    std::fs::write(folder.join("file.minisig"), signer.key().sign(b"content", "a comment")).expect("a file");
    let check = ["-V", "-P", &signer.public, "-m", "file"];
    assert!(minisign(folder, &check));
    std::fs::write(folder.join("file"), "Content").expect("a file");
    assert!(!minisign(folder, &check));
    // A key of minisign signs as well.
    assert!(minisign(folder, &["-G", "-W", "-f", "-p", "their.pub", "-s", "their.key"]));
    let theirs = uzima_backup::base::minisign::SigningKey::read(&folder.join("their.key")).expect("a key");
    let public = std::fs::read_to_string(folder.join("their.pub")).expect("a key");
    assert_eq!(theirs.public().to_string(), public.lines().nth(1).expect("a key"));
    let other = folder.join("other.key");
    let ran = run(bare().args(["keygen", "--signing", "--json", "--out"]).arg(&other)).ends(0);
    let report = ran.json();
    crate::docs::schema::check("keygen", &report);
    assert_ne!(report["trusted_key"], signer.public.as_str());
    let before = std::fs::read(&other).expect("a key");
    run(bare().args(["keygen", "--signing", "--out"]).arg(&other)).ends(2).says(&["exists already"]);
    assert_eq!(std::fs::read(&other).expect("a key"), before);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(secret));
}

#[test]
fn wrong_settings_are_named_and_a_secret_key_is_never_shown() {
    let (signer, other, place) = (Signer::new(), Signer::new(), Place::dir());
    let text = std::fs::read_to_string(&signer.file).expect("a key");
    let secret = text.lines().nth(1).expect("a secret key");
    let with =
        |env: &[(&str, &str)], args: &[&str]| run(place.command().envs(env.iter().copied()).args(args));
    for args in [&["list"][..], &["config"], &["cleanup"], &["verify"], &["backup"]] {
        let ran = with(&[("BACKUP_TRUSTED_KEYS", secret)], args).ends(2);
        let ran = ran.says(&["trusted_keys", "key 1: it is a secret key", "next step: "]);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(&secret[10..]), "{args:?}");
    }
    let listed = signer.folder().join("trusted.txt");
    std::fs::write(&listed, format!("# ours\nuntrusted comment: minisign public key\n{}\n", signer.public))
        .expect("a file");
    let shown = with(&[("BACKUP_TRUSTED_KEYS_FILE", listed.to_str().expect("UTF-8"))], &["config"]).ends(0);
    assert!(shown.stdout.contains(&signer.public), "{}", shown.stdout);
    let file = signer.file.to_str().expect("UTF-8");
    with(&[("BACKUP_SIGNING_KEY_FILE", file), ("BACKUP_TRUSTED_KEYS", &other.public)], &["backup"])
        .ends(2)
        .says(&["is not among the trusted keys", &signer.public]);
    with(&[("BACKUP_SIGNING_KEY_FILE", "/nonexistent.key")], &["backup"])
        .ends(6)
        .says(&["cannot use the signing key /nonexistent.key", "next step: "]);
    let trusting = [("BACKUP_TRUSTED_KEYS", signer.public.as_str())];
    with(&trusting, &["backup"]).ends(2).says(&["no key signs, so that new backups would be untrusted"]);
    let health = with(&trusting, &["health", "--only", "configuration"]);
    assert!(health.stdout.contains("no key signs"), "{}", health.stdout);
    let future = [("BACKUP_SIGNING_KEY_FILE", file), trusting[0], ("BACKUP_TRUSTED_BEFORE", "2999-01-01")];
    let health = with(&future, &["health", "--only", "configuration"]);
    assert!(health.stdout.contains("trusted_before is in the future"), "{}", health.stdout);
    with(&[("BACKUP_TRUSTED_BEFORE", "2026-12-01")], &["list"])
        .ends(2)
        .says(&["no effect without trusted_keys"]);
}
