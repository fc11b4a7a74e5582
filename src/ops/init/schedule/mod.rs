//! What starts the tool every night: lines for a crontab, or settings for systemd's units. The jobs and their
//! times are those of crontab.example.

mod systemd;
mod words;

use std::path::{Path, PathBuf};

use super::LeftOut;
use super::standing::Written;
use crate::base::escape::quoted;

const CRONTAB: &str = include_str!("../../../../crontab.example");
/// The tool in crontab.example.
const THERE: &str = " uzima-backup ";

/// An installation, as far as its schedule is concerned.
#[derive(Debug)]
pub struct Schedule {
    /// The binary.
    pub binary: PathBuf,
    /// The configuration file, if it is not the default one.
    pub config: Option<PathBuf>,
    /// The directory that backups go to, if they do.
    pub dir: Option<Written>,
    /// The folder of the metrics file, which is replaced there at each run.
    pub metrics: Option<Written>,
    /// The log file, which is appended to.
    pub log_file: Option<Written>,
    /// The secrets that the configuration file does not hold.
    pub secrets: Vec<LeftOut>,
    /// The profile of the AWS tools that the bucket needs.
    pub profile: Option<String>,
    /// Whether mails are set up.
    pub mails: bool,
}

impl Schedule {
    /// A command of the tool as a shell starts it by this configuration, with the variables that it needs.
    pub fn command(&self, command: &str) -> String {
        let path = |path: &Path| quoted(&path.display().to_string());
        let mut words = Vec::new();
        // A secret that this shell exports would be set twice, which is refused.
        for secret in self.secrets.iter().filter(|secret| !secret.there) {
            words.push(format!("-u {}", secret.variable.trim_end_matches("_FILE")));
        }
        if !words.is_empty() {
            words.insert(0, "env".into());
        }
        words.extend(self.profile.iter().map(|profile| format!("AWS_PROFILE={}", quoted(profile))));
        words.extend(self.secrets.iter().map(|secret| format!("{}={}", secret.variable, path(&secret.file))));
        words.push(path(&self.binary));
        words.extend(self.config.iter().map(|config| format!("--config {}", path(config))));
        words.push(command.into());
        words.join(" ")
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
        let jobs = jobs
            .into_iter()
            .filter_map(|line| self.job(line))
            .map(|line| line.replace(THERE, &format!(" {binary} ")));
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

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn schedule() -> Schedule {
        Schedule {
            binary: "/usr/bin/uzima-backup".into(),
            config: None,
            dir: None,
            metrics: None,
            log_file: None,
            secrets: vec![],
            profile: None,
            mails: true,
        }
    }

    pub fn left_out() -> LeftOut {
        LeftOut {
            key: "mongo_uri",
            variable: "MONGO_URI_FILE".into(),
            file: "/etc/uzima-backup/mongo_uri".into(),
            there: false,
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
        let schedule = Schedule {
            config: Some("/srv/b.toml".into()),
            secrets: vec![left_out()],
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
        assert_eq!(
            schedule.command("backup"),
            "env -u MONGO_URI AWS_PROFILE=backups MONGO_URI_FILE=/etc/uzima-backup/mongo_uri \
             /usr/bin/uzima-backup --config /srv/b.toml backup"
        );
    }
}
