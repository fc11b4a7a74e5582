//! Commands that have systemd's timers do it.

use std::path::Path;

use super::words::{literal, unit_word};
use super::{LeftOut, Schedule};
use crate::base::escape::quoted;
use crate::config::machine::STATE_DIR;
use crate::ops::init::standing::{Standing, USER, Written};

/// What a machine adds to all four services.
const OWN: &str = "/etc/systemd/system/uzima-backup-.service.d/local.conf";
/// Has the health looked at where it cannot be mailed: `systemctl --failed` and the journal tell.
const WITHOUT_MAIL: &str = "/etc/systemd/system/uzima-backup-health.service.d/without-mail.conf";
/// The tool in the units.
const PACKAGED: &str = "/usr/bin/uzima-backup";
/// What they do not see with `ProtectHome=yes` (systemd.exec(5)).
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

impl Schedule {
    /// Commands for root: what this installation needs beside the units, a first backup, the timers switched
    /// on. For a directory that somebody else uses there are none, but comments that say why.
    pub fn systemd(&self) -> Vec<String> {
        if let Some(dir) = self.dir.as_ref().filter(|dir| dir.standing == Standing::Shared) {
            return shared(&dir.path);
        }
        let mut commands = self.owned();
        let settings = self.settings();
        if !settings.is_empty() {
            let words: Vec<String> = settings.iter().map(|line| quoted(line)).collect();
            commands.push(format!("printf '%s\\n' '[Service]' {} |", words.join(" ")));
            commands.push(format!("  install -D -m 0644 /dev/stdin {OWN} && systemctl daemon-reload"));
        }
        if !self.mails {
            commands.push(format!("printf '%s\\n' '[Service]' ExecStart= 'ExecStart={PACKAGED} health' |"));
            commands
                .push(format!("  install -D -m 0644 /dev/stdin {WITHOUT_MAIL} && systemctl daemon-reload"));
        }
        commands.push("systemctl start uzima-backup-backup.service".into());
        let stats = if self.mails { " uzima-backup-stats.timer" } else { "" };
        commands.push(format!(
            "systemctl enable --now uzima-backup-backup.timer uzima-backup-cleanup.timer{stats} \
             uzima-backup-health.timer"
        ));
        commands
    }

    /// What the services write beside the backups, but for what they may write anyway.
    fn beside(&self) -> impl Iterator<Item = &Written> {
        self.metrics.iter().chain(&self.log_file).filter(|written| !written.path.starts_with(STATE_DIR))
    }

    /// Commands that let the services' user write where it must. Nothing that others use changes hands.
    fn owned(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        for folder in self.dir.iter().chain(self.beside()).flat_map(|written| &written.closed) {
            let command = format!("setfacl -m u:{USER}:x {}", word(folder));
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        let create = format!("-o {USER} -g {USER} -m");
        if let Some(dir) = self.dir.as_ref().filter(|dir| dir.standing != Standing::Own) {
            commands.push(format!("install -d {create} 0750 {}", word(&dir.path)));
        }
        for written in self.beside() {
            let (path, log) = (word(&written.path), Some(written) == self.log_file.as_ref());
            commands.push(match (written.standing, log) {
                (Standing::Own, _) => continue,
                (Standing::Missing, false) => format!("install -d {create} 0755 {path}"),
                // Between then and now somebody may have logged.
                (Standing::Missing, true) => {
                    format!("test -e {path} || install -D {create} 0640 /dev/null {path}")
                }
                (_, false) => format!("setfacl -m u:{USER}:rwx {path}"),
                (_, true) => format!("setfacl -m u:{USER}:rw {path}"),
            });
        }
        commands
    }

    /// Lines for `[Service]`.
    fn settings(&self) -> Vec<String> {
        let credential = |left_out: &LeftOut| left_out.variable.trim_end_matches("_FILE").to_lowercase();
        let mut settings = Vec::new();
        if let Some(dir) = &self.dir {
            settings.push(format!("ReadWritePaths={}", unit_word(&literal(&dir.path.display().to_string()))));
        }
        for written in self.beside() {
            // One that is missing must not keep a backup from starting (systemd.exec(5)).
            let word = format!("-{}", literal(&written.path.display().to_string()));
            settings.push(format!("ReadWritePaths={}", unit_word(&word)));
        }
        let at_home = |written: &Written| HOMES.iter().any(|home| written.path.starts_with(home));
        if self.dir.iter().chain(self.beside()).any(at_home) {
            settings.push("ProtectHome=no".into());
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
        settings
    }
}

fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn shared(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string().escape_debug().to_string();
    let own = dir.join("mongodb").display().to_string().escape_debug().to_string();
    vec![
        format!("# {name} is shared: it belongs to another user than {USER}, and is not empty."),
        format!("# Take a folder of its own, e.g. {own}: this `init` again, with it and --force."),
        format!("# (If only backups are in it: chown -R {USER}: {}, and init again.)", quoted(&name)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{left_out, schedule};
    use super::*;

    fn written(path: &str, standing: Standing) -> Option<Written> {
        Some(Written { path: path.into(), standing, closed: vec![] })
    }

    #[test]
    fn what_is_not_in_the_file_is_named() {
        let schedule = Schedule {
            config: Some("/srv/b.toml".into()),
            dir: written("/srv/my 100%", Standing::Missing),
            metrics: written("/var/lib/prometheus/node", Standing::Shared),
            log_file: written("/var/lib/uzima-backup/log", Standing::Missing),
            secrets: vec![left_out()],
            profile: Some("backups".into()),
            ..schedule()
        };
        let systemd = schedule.systemd();
        assert_eq!(systemd[0], "install -d -o uzima-backup -g uzima-backup -m 0750 '/srv/my 100%'");
        assert_eq!(systemd[1], "setfacl -m u:uzima-backup:rwx /var/lib/prometheus/node");
        for word in [
            r#"'ReadWritePaths="/srv/my 100%%"'"#,
            " ReadWritePaths=-/var/lib/prometheus/node LoadCredential=config.toml:/srv/b.toml ",
            " LoadCredential=mongo_uri:/etc/uzima-backup/mongo_uri ",
            " Environment=AWS_PROFILE=backups ",
            " Environment=MONGO_URI_FILE=%d/mongo_uri ",
        ] {
            assert!(systemd[2].contains(word), "{word} in {systemd:?}");
        }
        assert!(systemd[5].ends_with("-cleanup.timer uzima-backup-stats.timer uzima-backup-health.timer"));
    }

    #[test]
    fn the_health_is_looked_at_without_mails() {
        let lines = Schedule { mails: false, ..schedule() }.systemd();
        assert_eq!(
            lines[0],
            "printf '%s\\n' '[Service]' ExecStart= 'ExecStart=/usr/bin/uzima-backup health' |"
        );
        assert!(lines[1].contains("/uzima-backup-health.service.d/without-mail.conf && "), "{lines:?}");
        assert!(lines[3].ends_with("-cleanup.timer uzima-backup-health.timer"), "{lines:?}");
    }

    #[test]
    fn the_log_is_opened_alone_and_made_for_the_services() {
        let lines = |standing| {
            let log_file = written("/var/log/uzima.log", standing);
            Schedule { log_file, ..schedule() }.systemd()
        };
        let missing = lines(Standing::Missing);
        assert_eq!(
            missing[0],
            "test -e /var/log/uzima.log || \
             install -D -o uzima-backup -g uzima-backup -m 0640 /dev/null /var/log/uzima.log"
        );
        assert!(missing[1].contains(" ReadWritePaths=-/var/log/uzima.log "), "{missing:?}");
        assert_eq!(lines(Standing::Shared)[0], "setfacl -m u:uzima-backup:rw /var/log/uzima.log");
        assert!(lines(Standing::Own)[0].starts_with("printf "));
    }

    #[test]
    fn a_folder_that_others_use_keeps_its_owner() {
        let lines = Schedule { dir: written("/var/backups", Standing::Shared), ..schedule() }.systemd();
        assert!(lines.iter().all(|line| line.starts_with("# ")), "{lines:?}");
        assert!(lines[0].contains("/var/backups is shared") && lines[1].contains("/var/backups/mongodb"));
        let own = Schedule { dir: written("/srv/b", Standing::Own), ..schedule() }.systemd();
        assert!(own[0].starts_with("printf "), "{own:?}");
        let missing = Schedule { metrics: written("/srv/m", Standing::Missing), ..schedule() }.systemd();
        assert_eq!(missing[0], "install -d -o uzima-backup -g uzima-backup -m 0755 /srv/m");
    }

    #[test]
    fn homes_are_seen_where_something_is_written_there() {
        for (dir, seen) in [
            ("/home/ann/b", true),
            ("/root/b", true),
            ("/run/user/0/b", true),
            ("/rooted", false),
            ("/srv/home", false),
        ] {
            let lines = Schedule { dir: written(dir, Standing::Missing), ..schedule() }.systemd();
            assert_eq!(lines[1].contains(" ProtectHome=no "), seen, "{lines:?}");
        }
        let closed = vec!["/root".into()];
        let dir = Some(Written { path: "/root/b".into(), standing: Standing::Missing, closed });
        let lines = Schedule { dir: dir.clone(), log_file: dir, ..schedule() }.systemd();
        assert_eq!(lines[0], "setfacl -m u:uzima-backup:x /root");
        assert!(lines[1].starts_with("install -d "), "once: {lines:?}");
    }
}
