//! The lines of `crontab.example` work on an installation with a bucket and a mail service.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uzima_testkit::mongod::Mongod;
use uzima_testkit::moto::Moto;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, SECRET_KEY};

use super::support::{Home, TOOL, run};
use crate::night::support::{Nights, sending_only};
use crate::notify::support::KEY;
use crate::records::support::{guarded, of_each};
use crate::signals::support::Signalled;

/// `crontab.example`: its variables, and its lines, each as five fields and a command.
struct Crontab {
    variables: Vec<(String, String)>,
    jobs: Vec<(String, String)>,
}

impl Crontab {
    /// Reads the file, and enables the lines that name files of secrets, with `etc` as their folder.
    fn of(etc: &Path) -> Crontab {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crontab.example");
        let text = std::fs::read_to_string(path).expect("crontab.example");
        let on = |line: &str| match line.strip_prefix('#') {
            Some(setting) if setting.contains("_FILE=/") && !setting.starts_with(' ') => setting.to_string(),
            _ => line.to_string(),
        };
        let lines = text.lines().map(on).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut crontab = Crontab { variables: Vec::new(), jobs: Vec::new() };
        for line in lines {
            let fields: Vec<&str> = line.splitn(6, ' ').collect();
            if let ([.., command], Ok(_)) = (fields.as_slice(), fields[0].parse::<u8>()) {
                crontab.jobs.push((fields[..5].join(" "), command.to_string()));
                continue;
            }
            let (name, value) = line.split_once('=').expect("a variable");
            assert!(!value.contains(['$', '~']), "cron expands nothing: {line}");
            let value = value.replace("/etc/uzima-backup", etc.to_str().expect("a path"));
            crontab.variables.push((name.to_string(), value));
        }
        crontab
    }

    fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("{name} is not set"))
    }

    /// Starts a line's command as cron does; `home` is the user's home directory.
    fn start(&self, command: &str, home: &Path) -> Command {
        let percents = command.matches('%').count();
        assert_eq!(percents, command.matches("\\%").count(), "cron takes % for a new line");
        let command = command.replace("\\%", "%").replacen("uzima-backup", TOOL, 1);
        let mut cron = Command::new("/bin/sh");
        cron.args(["-c", &command]).env_clear().current_dir(home).stdin(Stdio::null());
        cron.env("SHELL", "/bin/sh").env("LOGNAME", "root").env("HOME", home);
        cron.envs(self.variables.iter().map(|(name, value)| (name, value)));
        cron
    }
}

/// An installation in `etc`: the settings in one file, and each secret in its own.
async fn installed(
    etc: &Path,
    server: &Mongod,
    endpoint: &str,
    (mails, monitor): (&str, &str),
    state: &Path,
) {
    let roles = [("backup", "admin"), ("readWrite", "uzima_backup")];
    server.create_user("backup", "p@ss/word", &roles).await.expect("a user");
    let toml = format!(
        "state_dir = '{}'\nengine = 'native'\njob = 'nightly'\n
[mail]\nto = ['ops@example.com']\nbase_url = '{mails}'\n
[s3]\nbucket = '{BUCKET}'\nregion = 'us-east-1'\nendpoint_url = '{endpoint}'\naccess_key_id = '{ACCESS_KEY}'\n",
        state.display()
    );
    std::fs::create_dir(etc).expect("a folder");
    for (name, text, mode) in [
        ("config.toml", toml.as_str(), 0o644),
        ("mongo_uri", &server.uri_as("backup", "p@ss/word", "admin"), 0o600),
        ("s3_secret", SECRET_KEY, 0o600),
        ("resend_key", KEY, 0o600),
        ("ping_url", monitor, 0o600),
    ] {
        std::fs::write(etc.join(name), format!("{text}\n")).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(etc.join(name), mode).expect("its mode");
    }
}

/// Runs each line, in the order of the week and in cron's environment.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_example_crontab_runs() {
    let ((server, _client), home) = (guarded().await, Home::new());
    let moto = tokio::task::spawn_blocking(Moto::start).await.expect("moto");
    moto.create_bucket(BUCKET);
    let nights = Nights::new().await;
    nights.keys(sending_only()).await;
    let etc = home.path().join("etc");
    let monitor = Signalled::new().await;
    let services = (&nights.service.uri()[..], &monitor.ping_url()[..]);
    installed(&etc, &server, &moto.endpoint(), services, &home.state()).await;
    let crontab = Crontab::of(&etc);
    let search = crontab.variable("PATH");
    assert!(search.split(':').all(|folder| folder.starts_with('/')), "{search}");
    assert!(!crontab.variable("MAILTO").is_empty(), "a failure must reach somebody");
    let wanted = [
        ("0 3 * * *", "backup --quiet"),
        ("0 4 * * *", "cleanup --quiet"),
        ("0 5 * * 0", "stats --email --quiet"),
        ("0 6 1 * *", "health --email --quiet"),
    ];
    let wanted = wanted.map(|(when, what)| (when.to_string(), format!("uzima-backup {what}")));
    assert_eq!(crontab.jobs, wanted);
    for (_, command) in &crontab.jobs {
        let mut cron = crontab.start(command, home.path());
        // Only the path of the configuration file differs from a real installation.
        let ran = run(cron.env("UZIMA_BACKUP_CONFIG", etc.join("config.toml"))).ends(0);
        // Cron mails every output, so a good night must print nothing.
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{command}");
    }
    let subjects = nights.subjects().await;
    let starts: Vec<&str> = subjects.iter().map(|s| s.split(" (").next().expect("a start")).collect();
    assert_eq!(starts, ["backup done: nightly", "stats: nightly", "health: healthy: nightly"]);
    assert_eq!(monitor.paths().await, ["/start", ""]);
    let client = server.client().await.expect("a client");
    assert_eq!(of_each(&client, "status").await, ["completed"]);
}
