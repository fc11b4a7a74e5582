//! What starts the tool every night: lines for a crontab, or settings for systemd's units. The jobs and their
//! times are those of crontab.example.

use std::path::PathBuf;

use super::LeftOut;

const CRONTAB: &str = include_str!("../../../crontab.example");
/// The tool in crontab.example.
const THERE: &str = "/usr/local/bin/uzima-backup";
/// What a machine adds to all four services.
const OWN: &str = "/etc/systemd/system/uzima-backup-.service.d/local.conf";

/// What the services may write anyway.
const STATE: &str = "/var/lib/uzima-backup";

/// An installation, as far as its schedule is concerned.
#[derive(Debug)]
pub struct Schedule {
    /// The binary.
    pub binary: PathBuf,
    /// The configuration file, if it is not the default one.
    pub config: Option<PathBuf>,
    /// The directory that backups go to, if they do.
    pub dir: Option<PathBuf>,
    /// Folders of files that signals and logs are written to.
    pub written: Vec<PathBuf>,
    /// The secrets that the configuration file does not hold.
    pub secrets: Vec<LeftOut>,
    /// The profile of the AWS tools that the bucket needs.
    pub profile: Option<String>,
    /// Whether mails are set up.
    pub mails: bool,
}

impl Schedule {
    /// The tool as a shell starts it by this configuration.
    pub fn command(&self) -> String {
        let words =
            [&self.binary].into_iter().chain(&self.config).map(|path| quoted(&path.display().to_string()));
        words.collect::<Vec<_>>().join(" --config ")
    }

    /// The lines of a crontab.
    pub fn crontab(&self) -> Vec<String> {
        let (jobs, mut lines): (Vec<&str>, Vec<&str>) = CRONTAB
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .partition(|line| is_job(line));
        let own = self.variables();
        lines.extend(own.iter().map(String::as_str));
        // A % would be a new line.
        let binary = quoted(&self.binary.display().to_string()).replace('%', "\\%");
        let jobs =
            jobs.into_iter().filter_map(|line| self.job(line)).map(|line| line.replace(THERE, &binary));
        lines.into_iter().map(String::from).chain(jobs).collect()
    }

    /// Without mails the health is looked at all the same: cron mails what failed.
    fn job(&self, line: &str) -> Option<String> {
        match self.mails {
            true => Some(line.into()),
            false if line.contains(" stats ") => None,
            false => Some(line.replace(" --email", "")),
        }
    }

    /// Commands for root that have systemd's timers do it: what this installation needs beside the units, and
    /// a first backup, the timers switched on.
    pub fn systemd(&self) -> Vec<String> {
        let credential = |left_out: &LeftOut| left_out.variable.trim_end_matches("_FILE").to_lowercase();
        let mut settings = Vec::new();
        if let Some(dir) = &self.dir {
            settings.push(format!("ReadWritePaths={}", unit_word(&literal(&dir.display().to_string()))));
        }
        for folder in self.written.iter().filter(|folder| !folder.starts_with(STATE)) {
            // One that is missing must not keep a backup from starting (systemd.exec(5)).
            let word = format!("-{}", literal(&folder.display().to_string()));
            settings.push(format!("ReadWritePaths={}", unit_word(&word)));
        }
        let config = self.config.iter().map(|config| ("config.toml".to_string(), config));
        let secrets = self.secrets.iter().map(|left_out| (credential(left_out), &left_out.file));
        for (id, file) in config.chain(secrets) {
            settings.push(format!("LoadCredential={id}:{}", literal(&file.display().to_string())));
        }
        if let Some(profile) = &self.profile {
            settings.push(format!("Environment={}", unit_word(&literal(&format!("AWS_PROFILE={profile}")))));
        }
        for left_out in &self.secrets {
            settings.push(format!("Environment={}=%d/{}", left_out.variable, credential(left_out)));
        }
        let mut commands = Vec::new();
        if let Some(dir) = &self.dir {
            let dir = quoted(&dir.display().to_string());
            commands.push(format!("install -d -o uzima-backup -g uzima-backup -m 0750 {dir}"));
        }
        if !settings.is_empty() {
            let words: Vec<String> = settings.iter().map(|line| quoted(line)).collect();
            commands.push(format!("printf '%s\\n' '[Service]' {} |", words.join(" ")));
            commands.push(format!("  install -D -m 0644 /dev/stdin {OWN} && systemctl daemon-reload"));
        }
        commands.push("systemctl start uzima-backup-backup.service".into());
        let mails = if self.mails { " uzima-backup-stats.timer uzima-backup-health.timer" } else { "" };
        commands.push(format!(
            "systemctl enable --now uzima-backup-backup.timer uzima-backup-cleanup.timer{mails}"
        ));
        commands
    }

    /// What cron's environment has to hold.
    fn variables(&self) -> Vec<String> {
        let config = self.config.iter().map(|config| format!("UZIMA_BACKUP_CONFIG={}", config.display()));
        let profile = self.profile.iter().map(|profile| format!("AWS_PROFILE={profile}"));
        let secrets = self.secrets.iter();
        let secrets = secrets.map(|secret| format!("{}={}", secret.variable, secret.file.display()));
        config.chain(profile).chain(secrets).collect()
    }
}

fn is_job(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_digit())
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:=".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A text in a unit, where % begins a specifier.
fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word in a unit's setting that takes several (systemd.syntax(7)).
fn unit_word(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"\"'\\".contains(c);
    if text.chars().all(plain) {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            binary: "/usr/bin/uzima-backup".into(),
            config: None,
            dir: None,
            written: vec![],
            secrets: vec![],
            profile: None,
            mails: true,
        }
    }

    #[test]
    fn a_crontab_has_the_examples_jobs_for_this_binary() {
        let lines = schedule().crontab();
        assert!(lines[0].starts_with("PATH=/") && lines[1].starts_with("MAILTO="), "{lines:?}");
        assert_eq!(lines[2], "0 3 * * * /usr/bin/uzima-backup backup --quiet");
        assert_eq!(lines.len(), 6);
        let odd = Schedule { binary: "/opt/my 100%/it's".into(), mails: false, ..schedule() }.crontab();
        assert_eq!(odd.len(), 5);
        assert_eq!(odd[4], "0 6 1 * * '/opt/my 100\\%/it'\\''s' health --quiet");
    }

    #[test]
    fn what_is_not_in_the_file_is_named() {
        let secret = LeftOut {
            key: "mongo_uri",
            variable: "MONGO_URI_FILE".into(),
            file: "/etc/uzima-backup/mongo_uri".into(),
            there: false,
        };
        let schedule = Schedule {
            config: Some("/srv/b.toml".into()),
            dir: Some("/srv/my 100%".into()),
            written: vec!["/var/lib/prometheus/node".into(), "/var/lib/uzima-backup/log".into()],
            secrets: vec![secret],
            profile: Some("backups".into()),
            ..schedule()
        };
        let crontab = schedule.crontab();
        assert_eq!(
            crontab[2..5],
            [
                "UZIMA_BACKUP_CONFIG=/srv/b.toml",
                "AWS_PROFILE=backups",
                "MONGO_URI_FILE=/etc/uzima-backup/mongo_uri",
            ]
        );
        let systemd = schedule.systemd();
        assert_eq!(systemd[0], "install -d -o uzima-backup -g uzima-backup -m 0750 '/srv/my 100%'");
        for word in [
            r#"'ReadWritePaths="/srv/my 100%%"'"#,
            " ReadWritePaths=-/var/lib/prometheus/node LoadCredential=config.toml:/srv/b.toml ",
            " LoadCredential=mongo_uri:/etc/uzima-backup/mongo_uri ",
            " Environment=AWS_PROFILE=backups ",
            " Environment=MONGO_URI_FILE=%d/mongo_uri ",
        ] {
            assert!(systemd[1].contains(word), "{word} in {systemd:?}");
        }
        assert!(systemd[4].ends_with("-cleanup.timer uzima-backup-stats.timer uzima-backup-health.timer"));
    }

    #[test]
    fn words_come_through_the_shell() {
        for text in ["a", "it's 100%", "\"\\$x`", "ü ;|&"] {
            let echo = format!("printf %s {}", quoted(text));
            let said = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), text);
        }
        assert_eq!(unit_word(r#"a "b\c""#), r#""a \"b\\c\"""#);
    }
}
