//! The check `key` of `health`, and the offer of encryption by `init`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::support::{Encrypted, Key, standalone};
use crate::cli::support::{Home, NOWHERE, bare, run};
use crate::cli::terminal::Terminal;
use crate::health::support::Health;
use crate::init_install::support::Programs;

/// The outcome, the detail and the next step of the check with these variables. An empty one is removed.
fn checked(encrypted: &Encrypted, variables: &[(&str, &str)]) -> (String, String, String) {
    let mut command = encrypted.tool(NOWHERE);
    for (name, value) in variables {
        match *value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    let health = Health::of(&mut command, &["--only", "key"]);
    assert_eq!(health.ran.code, Some(0), "{}", health.report);
    let row = health.row("key");
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_string();
    (text("outcome"), text("detail"), text("next_step"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dangers_of_keys_are_warnings() {
    let (server, encrypted) = (standalone().await, Encrypted::new());
    let outcome = |variables: &[(&str, &str)]| checked(&encrypted, variables).0;
    assert_eq!(outcome(&[]), "ok", "there is no backup yet");
    assert_eq!(outcome(&[("BACKUP_RECIPIENTS", "")]), "not_configured");
    let manifest = encrypted.backup(&server.uri(), &[]);
    let (never, detail, step) = checked(&encrypted, &[]);
    assert!(never == "warning" && detail.contains("was ever verified or drilled with its key"), "{detail}");
    assert!(step.contains("uzima-backup verify latest --identity FILE"), "{step}");
    // A verify without the key is none.
    run(encrypted.tool(NOWHERE).arg("verify")).ends(0);
    assert_eq!(outcome(&[]), "warning");
    run(encrypted.tool(NOWHERE).args(["verify", "--identity"]).arg(&encrypted.offline.file)).ends(0);
    let (tried, detail, _) = checked(&encrypted, &[]);
    let newest = format!("2 recipients ({})", manifest.encryption.as_ref().unwrap().recipients.join(", "));
    assert!(tried == "ok" && detail.starts_with(&newest) && detail.contains("0 min old"), "{detail}");
    // The result is as old as its name says.
    let verdicts = encrypted.home.files().into_iter().filter(|file| file.contains("/verified-"));
    for file in verdicts {
        let old = encrypted.home.backups().join(&file);
        let text = std::fs::read_to_string(&old).expect("a result");
        std::fs::remove_file(&old).expect("removed");
        let at = manifest.finished_at - chrono::TimeDelta::days(31);
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["at"] = at.format("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        let name = format!("verified-{}.json", at.format("%Y%m%dT%H%M%SZ"));
        if json["without_key"].is_null() {
            std::fs::write(old.with_file_name(name), json.to_string()).expect("a result");
        }
    }
    let (late, detail, _) = checked(&encrypted, &[]);
    assert!(
        late == "warning" && detail.contains("31 d 0 h old, 30 d 0 h are allowed (keyed_max_age)"),
        "{detail}"
    );
    assert_eq!(outcome(&[("BACKUP_KEYED_MAX_AGE", "40")]), "ok");
    let allowed = ("BACKUP_KEYED_MAX_AGE", "40");
    let (single, detail, _) =
        checked(&encrypted, &[allowed, ("BACKUP_RECIPIENTS", &encrypted.key.recipient)]);
    assert!(single == "warning" && detail.contains("one recipient only"), "{detail}");
    let identity = ("BACKUP_IDENTITY_FILE", encrypted.key.file.to_str().unwrap());
    let (beside, detail, _) = checked(&encrypted, &[allowed, identity]);
    assert!(beside == "warning" && detail.contains("lies on the machine that makes the backups"), "{detail}");
    assert!(!detail.contains("other users"), "{detail}");
    std::fs::set_permissions(&encrypted.key.file, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let (open, detail, step) = checked(&encrypted, &[("BACKUP_RECIPIENTS", ""), identity]);
    assert!(open == "warning" && detail.contains("other users can read"), "{detail}");
    assert!(step.starts_with("chmod 600 "), "{step}");
}

/// `init --install=cron` for a server that cannot be reached.
fn init(home: &Home, config: &Path, args: &[&str]) -> std::process::Command {
    let mut init = bare();
    init.env("PATH", Programs::new(home.path()).folder());
    init.env("UZIMA_BACKUP_STATE_DIR", home.state()).env("BACKUP_MIN_FREE", "0");
    init.args(["init", "--install=cron", "--mongo-uri", NOWHERE, "--config"]).arg(config);
    init.args(["--no-signing", "--no-copy", "--dir"]).arg(home.backups()).args(args);
    init
}

#[test]
fn init_asks_for_public_keys_and_says_where_the_secret_keys_belong() {
    let home = Home::new();
    let (key, config) = (Key::new(home.path(), "a.key"), home.path().join("config.toml"));
    let asked = |answer: &str| {
        let mut terminal = Terminal::start(init(&home, &config, &[]), 80);
        terminal.until("Enter for no encryption: ");
        let screen = terminal.taken();
        assert!(screen.contains("Make two keys on another machine"), "{screen}");
        terminal.types(answer.as_bytes());
        terminal
    };
    let (code, screen) = asked("age1nonsense\n").ends();
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("recipient 1: it is neither age1"), "{screen}");
    for (answer, encrypts) in [(format!("{}\n", key.recipient), true), ("\n".into(), false)] {
        let mut terminal = asked(&answer);
        terminal.until("Do this? [y/N] ");
        let screen = terminal.taken();
        assert_eq!(screen.contains("+ recipients = ["), encrypts, "{screen}");
        terminal.types(b"n\n");
        assert_eq!(terminal.ends().0, Some(1));
        assert!(!config.exists());
    }
    // Without a terminal.
    let plan =
        run(&mut init(&home, &config, &["--dry-run", "--json", "--recipients", &key.recipient])).ends(0);
    let plan = plan.json();
    assert!(plan["settings"].as_array().unwrap().contains(&"recipients".into()), "{plan}");
    assert_eq!(plan["recipients"], 1);
    let secret = std::fs::read_to_string(&key.file).expect("a key");
    let secret = secret.lines().last().expect("a secret key");
    let refused = run(&mut init(&home, &config, &["--dry-run", "--recipients", secret])).ends(2);
    assert!(refused.stderr.contains("recipient 1: it is a secret key") && !refused.stderr.contains(secret));
    run(&mut init(&home, &config, &["--recipients", &key.recipient, "--no-encryption"])).ends(2);
}
