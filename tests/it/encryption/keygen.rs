//! `keygen`.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::support::{Key, stock};
use crate::cli::support::{bare, run};

#[test]
fn the_key_is_a_private_file_and_its_recipient_is_printed() {
    let folder = TempDir::new().expect("a folder");
    let key = Key::new(folder.path(), "backup.key");
    let mode = std::fs::metadata(&key.file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = std::fs::read_to_string(&key.file).expect("text");
    let secret = text.lines().last().expect("a secret key");
    assert!(secret.starts_with("AGE-SECRET-KEY-1"));
    // Stock age derives the same recipient.
    let file = key.file.to_str().expect("UTF-8");
    assert_eq!(String::from_utf8(stock("age-keygen", &["-y", file], b"")).unwrap().trim(), key.recipient);
    assert_eq!(key.identities().fingerprints().len(), 1);
    let other = folder.path().join("other.key");
    let ran = run(bare().args(["keygen", "--json", "--out"]).arg(&other)).ends(0);
    let report = ran.json();
    crate::docs::schema::check("keygen", &report);
    assert_eq!(report["file"], other.to_str().unwrap());
    assert_ne!(report["recipient"], key.recipient.as_str());
    let output = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!output.contains("SECRET") && !output.contains(secret), "{output}");
}

#[test]
fn a_file_is_never_replaced() {
    let folder = TempDir::new().expect("a folder");
    let key = Key::new(folder.path(), "backup.key");
    let before = std::fs::read(&key.file).expect("a key");
    run(bare().args(["keygen", "--out"]).arg(&key.file))
        .ends(2)
        .says(&["exists already", "next step: Name another"]);
    assert_eq!(std::fs::read(&key.file).expect("the key"), before);
    let nowhere = folder.path().join("missing/backup.key");
    run(bare().args(["keygen", "--out"]).arg(&nowhere)).ends(1).says(&["cannot write", "next step: "]);
    run(bare().arg("keygen")).ends(2).says(&["--out"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}
