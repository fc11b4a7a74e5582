//! Missing, wrong and protected keys, and keys in the wrong place.

use std::process::Command;

use uzima_testkit::mongod::Mongod;

use super::support::{Encrypted, Key, server, stock};
use crate::cli::support::{Home, NOWHERE, Ran, bare, run};
use crate::cli::terminal::Terminal;

/// `list latest` with this identity, which reads the encrypted index.
fn list(encrypted: &Encrypted, identity: &std::path::Path) -> Command {
    let mut command = encrypted.tool(NOWHERE);
    command.args(["list", "latest", "--identity"]).arg(identity);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_key_nothing_is_read_or_changed() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let target = Mongod::builder().start().await.expect("mongod");
    let rows = target.client().await.expect("a client").database("canaryshop").collection("canaryrows");
    rows.insert_one(bson::doc! {"_id": "kept"}).await.expect("a row");
    let manifest = encrypted.backup(&server.uri(), &[]);
    let stranger = Key::new(encrypted.home.path(), "stranger.key");
    let restore = |identity: &[&str]| {
        let mut command = encrypted.tool(NOWHERE);
        command
            .env("RESTORE_URI", target.uri())
            .args(["restore", "latest", "--yes", "--drop"])
            .args(identity);
        run(&mut command)
    };
    let fingerprint = &manifest.encryption.as_ref().unwrap().recipients[0];
    restore(&[]).ends(6).says(&["is encrypted, and no identity file is named", fingerprint]);
    let file = stranger.file.to_str().unwrap();
    restore(&["--identity", file]).ends(6).says(&["no identity in", file, fingerprint, "next step: "]);
    restore(&["--identity", "/nonexistent.key"])
        .ends(6)
        .says(&["cannot read the identity file /nonexistent.key"]);
    let all = run(encrypted.tool(NOWHERE).args(["verify", "--all", "--identity", file])).ends(6);
    assert!(all.stdout.contains("no key ") && all.stdout.contains("no identity in"), "{}", all.stdout);
    for args in [&["verify"][..], &["list", "latest"]] {
        let ran = run(encrypted.tool(NOWHERE).args(args).args(["--identity", file]));
        ran.ends(6).says(&["no identity in"]);
    }
    let json = run(encrypted.tool(NOWHERE).args(["list", "latest", "--json", "--identity", file])).ends(6);
    assert!(json.stderr.lines().last().unwrap().contains(r#""kind":"key""#), "{}", json.stderr);
    assert_eq!(rows.count_documents(bson::doc! {"_id": "kept"}).await.expect("a count"), 1);
    // The commands that need no key work without one.
    for args in [&["list"][..], &["stats"], &["cleanup"], &["verify"], &["pin", "latest"]] {
        run(encrypted.tool(NOWHERE).args(args)).ends(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_key_among_ten_decrypts() {
    let (server, encrypted) = (server().await, Encrypted::new());
    encrypted.backup(&server.uri(), &[]);
    let strangers = (0..9).map(|n| Key::new(encrypted.home.path(), &format!("{n}.key")).file);
    let files = strangers.chain([encrypted.offline.file.clone()]);
    let all: String = files.map(|file| std::fs::read_to_string(file).expect("a key")).collect();
    let ten = encrypted.file("ten.key");
    std::fs::write(&ten, all).expect("a file");
    assert!(run(&mut list(&encrypted, &ten)).ends(0).stdout.contains("canaryrows"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_is_asked_for_on_a_terminal_only_and_not_shown() {
    let (server, encrypted) = (server().await, Encrypted::new());
    encrypted.backup(&server.uri(), &[]);
    let protected = encrypted.protected("protected.key", "correct horse");
    let answered = |answer: &str| {
        let mut terminal = Terminal::start(list(&encrypted, &protected), 100);
        terminal.until("protected.key: ");
        terminal.types(format!("{answer}\n").as_bytes());
        terminal.ends()
    };
    let (code, screen) = answered("correct horse");
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("horse"), "{screen}");
    let (code, screen) = answered("wrong horse");
    assert_eq!(code, Some(6), "{screen}");
    assert!(screen.contains("the passphrase is wrong") && !screen.contains("horse"), "{screen}");
    run(&mut list(&encrypted, &protected))
        .ends(6)
        .says(&["there is no terminal to ask for it", "next step: "]);
    // A signal ends the question.
    let mut terminal = Terminal::start(list(&encrypted, &protected), 100);
    terminal.until("protected.key: ");
    terminal.signals(libc::SIGTERM);
    assert_eq!(terminal.ends().0, Some(128 + libc::SIGTERM));
}

/// A file that stock `age -p` encrypted is read as well; `ssh-keygen` makes keys of SSH, with and without a passphrase.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_ssh_and_of_stock_age_are_read() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let mut recipients = vec![encrypted.key.recipient.clone()];
    for (name, passphrase) in [("open", ""), ("closed", "correct horse")] {
        let file = encrypted.file(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", passphrase, "-C", "a comment", "-f"])
            .arg(&file)
            .status();
        assert!(made.expect("ssh-keygen is needed: apt-get install openssh-client").success());
        recipients
            .push(std::fs::read_to_string(file.with_extension("pub")).expect("a public key").trim().into());
    }
    // A file with a recipient in each line.
    let list_of_keys = encrypted.file("recipients.txt");
    std::fs::write(&list_of_keys, format!("# who may restore\n\n{}\n", recipients.join("\n")))
        .expect("a file");
    let mut backup = encrypted.tool(&server.uri());
    run(backup.env_remove("BACKUP_RECIPIENTS").env("BACKUP_RECIPIENTS_FILE", &list_of_keys).arg("backup"))
        .ends(0);
    let sealed = encrypted.home.artifact(&encrypted.home.manifests()[0]);
    let opened = stock("age", &["-d", "-i", encrypted.file("open").to_str().unwrap()], &sealed);
    assert!(opened.starts_with(&[0x1f, 0x8b]));
    run(&mut list(&encrypted, &encrypted.file("open"))).ends(0);
    let mut terminal = Terminal::start(list(&encrypted, &encrypted.file("closed")), 100);
    terminal.until("closed: ");
    terminal.types(b"correct horse\n");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(0), "{screen}");
    let (plain, protected) = (&encrypted.key.file, encrypted.file("by-age.key"));
    let mut by_age = Command::new("age");
    by_age.arg("-p").arg("-o").arg(&protected).arg(plain);
    let mut terminal = Terminal::start(by_age, 100);
    terminal.until("Enter passphrase");
    terminal.types(b"correct horse\n");
    terminal.until("Confirm passphrase");
    terminal.types(b"correct horse\n");
    assert_eq!(terminal.ends().0, Some(0));
    let mut terminal = Terminal::start(list(&encrypted, &protected), 100);
    terminal.until("by-age.key: ");
    terminal.types(b"correct horse\n");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(0), "{screen}");
}

#[test]
fn a_secret_key_among_the_recipients_is_refused_and_never_shown() {
    let home = Home::new();
    let key = Key::new(home.path(), "a.key");
    let text = std::fs::read_to_string(&key.file).expect("a key");
    let secret = text.lines().last().expect("a secret key");
    let hidden = |ran: Ran| {
        let output = format!("{}{}", ran.stdout, ran.stderr);
        let (lower, secret) = (output.to_lowercase(), secret.to_lowercase());
        assert!(!lower.contains(&secret) && !lower.contains(&secret[20..40]), "{output}");
        ran
    };
    let both = format!("{},{secret}", key.recipient);
    let file = home.path().join("config.toml");
    std::fs::write(&file, format!("recipients = [\"{}\", \"{secret}\"]\n", key.recipient)).expect("a file");
    let wrong = home.path().join("wrong.toml");
    std::fs::write(&wrong, format!("recipients = \"{secret}\"\n")).expect("a file");
    for args in [&["backup"][..], &["backup", "-vv"], &["config"], &["config", "--json"], &["health"]] {
        let by_variable = |name: &str, value: &str| {
            let mut command = home.to_dir(NOWHERE);
            command.args(args).env(name, value);
            hidden(run(&mut command))
        };
        let ran = by_variable("BACKUP_RECIPIENTS", &both);
        if args[0] == "backup" {
            ran.ends(2).says(&["recipients", "BACKUP_RECIPIENTS", "recipient 2: it is a secret key"]);
        }
        by_variable("BACKUP_RECIPIENTS", &secret.to_lowercase());
        by_variable("BACKUP_RECIPIENTS_FILE", key.file.to_str().unwrap());
        for file in [&file, &wrong] {
            let mut command = bare();
            command.args(args).arg("--config").arg(file).env("BACKUP_DIR", home.backups());
            let ran = hidden(run(&mut command));
            if args[0] == "backup" {
                ran.ends(2);
            }
        }
    }
    let shown = run(home.to_dir(NOWHERE).arg("config").env("BACKUP_RECIPIENTS", &key.recipient)).ends(0);
    assert!(shown.stdout.contains(&key.recipient), "{}", shown.stdout);
    assert!(home.files().is_empty(), "{:?}", home.files());
}
