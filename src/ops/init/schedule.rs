//! The nightly schedule: lines for a crontab, or commands for systemd's timers. The jobs and their times are the same
//! as in crontab.example.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::LeftOut;
use crate::base::escape::quoted;
use crate::config::machine::STATE_DIR;

const CRONTAB: &str = include_str!("../../../crontab.example");
/// The user of the services, whom the Debian package creates.
const USER: &str = "uzima-backup";
/// The drop-in file with the settings of this machine for all four services.
const DROP_IN: &str = "/etc/systemd/system/uzima-backup-.service.d/local.conf";
/// Makes the health service run without mails; its failures are shown by `systemctl --failed` and the journal.
const WITHOUT_MAIL: &str = "/etc/systemd/system/uzima-backup-health.service.d/without-mail.conf";
/// The path of the tool in the units.
const PACKAGED: &str = "/usr/bin/uzima-backup";
/// Directories that units with `ProtectHome=yes` do not see (systemd.exec(5)).
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// The properties of an installation that its schedule depends on.
#[derive(Debug)]
pub struct Schedule {
    /// The path of the tool.
    pub binary: PathBuf,
    /// The configuration file, if it is not the default one.
    pub config: Option<PathBuf>,
    /// The directory of the backups; `None` for a bucket.
    pub dir: Option<ServicePath>,
    /// The folder of the metrics file. Each run replaces the file.
    pub metrics: Option<ServicePath>,
    /// The log file, to which runs append.
    pub log_file: Option<ServicePath>,
    /// The secrets that are not in the configuration file.
    pub secrets: Vec<LeftOut>,
    /// The profile of the AWS tools that the bucket needs.
    pub profile: Option<String>,
    /// True if mails are set up.
    pub mails: bool,
}

/// A file or folder that the services write to. Its state decides which commands root runs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePath {
    path: PathBuf,
    standing: Standing,
    /// The folders above that only their owner or group may enter, from the top.
    closed: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Missing,
    /// It belongs to the services' user.
    Own,
    /// An empty folder of another user.
    Empty,
    /// Another user uses it.
    Shared,
}

impl ServicePath {
    /// Looks at a path. `user` is the id of the services' user, if there is one. A path that cannot be read counts as
    /// missing.
    pub fn look(path: &Path, user: Option<u32>) -> ServicePath {
        let standing = match fs::metadata(path) {
            Err(_) => Standing::Missing,
            Ok(meta) if Some(meta.uid()) == user => Standing::Own,
            Ok(_) if fs::read_dir(path).is_ok_and(|mut folder| folder.next().is_none()) => Standing::Empty,
            Ok(_) => Standing::Shared,
        };
        let closed = |folder: &&Path| {
            fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 == 0 && Some(meta.uid()) != user)
        };
        let mut closed: Vec<PathBuf> =
            path.ancestors().skip(1).filter(closed).map(Path::to_path_buf).collect();
        closed.reverse();
        ServicePath { path: path.to_path_buf(), standing, closed }
    }
}

/// The id of the services' user in the text of `/etc/passwd`.
pub fn service_user(passwd: &str) -> Option<u32> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields[0] == USER)?.get(2)?.parse().ok()
}

impl Schedule {
    /// A command of the tool for a shell, with the configuration and the variables that it needs.
    pub fn command(&self, command: &str) -> String {
        let mut words = Vec::new();
        // A secret that the shell exports would be set twice, which is an error.
        for secret in self.secrets.iter().filter(|secret| !secret.there) {
            words.push(format!("-u {}", secret.variable.trim_end_matches("_FILE")));
        }
        if !words.is_empty() {
            words.insert(0, "env".into());
        }
        words.extend(self.profile.iter().map(|profile| format!("AWS_PROFILE={}", quoted(profile))));
        words.extend(self.secrets.iter().map(|secret| format!("{}={}", secret.variable, word(&secret.file))));
        words.push(word(&self.binary));
        words.extend(self.config.iter().map(|config| format!("--config {}", word(config))));
        words.push(command.into());
        words.join(" ")
    }

    /// The lines of a crontab: variables, then jobs.
    pub fn crontab(&self) -> Vec<String> {
        let (jobs, variables): (Vec<&str>, Vec<&str>) = CRONTAB
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .partition(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        let mut lines: Vec<String> = variables.into_iter().map(String::from).collect();
        lines.extend(self.config.iter().map(|config| format!("UZIMA_BACKUP_CONFIG={}", config.display())));
        lines.extend(self.profile.iter().map(|profile| format!("AWS_PROFILE={profile}")));
        let secrets = self.secrets.iter();
        lines.extend(secrets.map(|secret| format!("{}={}", secret.variable, secret.file.display())));
        // Cron turns a % into a line break.
        let binary = word(&self.binary).replace('%', "\\%");
        for job in jobs.into_iter().filter(|job| self.mails || !job.contains(" stats ")) {
            // Without mails of the tool, cron mails the output of a failed health check.
            let job = if self.mails { job.to_string() } else { job.replace(" --email", "") };
            lines.push(job.replace(" uzima-backup ", &format!(" {binary} ")));
        }
        lines
    }

    /// Commands for root: they prepare this machine for the units, make a first backup, and enable the timers. For a
    /// directory that another user uses, comments with the reason replace the commands.
    pub fn systemd(&self) -> Vec<String> {
        if let Some(dir) = self.dir.as_ref().filter(|dir| dir.standing == Standing::Shared) {
            return shared(&dir.path);
        }
        let drop_in = |lines: &str, file: &str| {
            [
                format!("printf '%s\\n' '[Service]' {lines} |"),
                format!("  install -D -m 0644 /dev/stdin {file} && systemctl daemon-reload"),
            ]
        };
        let mut commands = self.owned();
        let settings: Vec<String> = self.settings().iter().map(|line| quoted(line)).collect();
        if !settings.is_empty() {
            commands.extend(drop_in(&settings.join(" "), DROP_IN));
        }
        if !self.mails {
            commands.extend(drop_in(&format!("ExecStart= 'ExecStart={PACKAGED} health'"), WITHOUT_MAIL));
        }
        commands.push("systemctl start uzima-backup-backup.service".into());
        let stats = if self.mails { " uzima-backup-stats.timer" } else { "" };
        commands.push(format!(
            "systemctl enable --now uzima-backup-backup.timer uzima-backup-cleanup.timer{stats} \
             uzima-backup-health.timer"
        ));
        commands
    }

    /// The paths, apart from the backups, that the services need permission to write.
    fn beside(&self) -> impl Iterator<Item = &ServicePath> {
        self.metrics.iter().chain(&self.log_file).filter(|written| !written.path.starts_with(STATE_DIR))
    }

    /// Commands that let the services' user write its paths. No file of another user changes its owner.
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
                // A run may have created the log in the meantime.
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
        let writable = |sign: &str, written: &ServicePath| {
            format!("ReadWritePaths={}", unit_word(&format!("{sign}{}", literal(&written.path))))
        };
        let mut settings: Vec<String> = self.dir.iter().map(|dir| writable("", dir)).collect();
        // With a -, a missing path does not keep a backup from starting (systemd.exec(5)).
        settings.extend(self.beside().map(|written| writable("-", written)));
        let at_home = |written: &ServicePath| HOMES.iter().any(|home| written.path.starts_with(home));
        if self.dir.iter().chain(self.beside()).any(at_home) {
            settings.push("ProtectHome=no".into());
        }
        let config = self.config.iter().map(|config| ("config.toml".to_string(), config));
        let secrets = self.secrets.iter().map(|left_out| (credential(left_out), &left_out.file));
        for (id, file) in config.chain(secrets) {
            settings.push(format!("LoadCredential={id}:{}", literal(file)));
        }
        if let Some(profile) = &self.profile {
            let variable = format!("AWS_PROFILE={profile}");
            settings.push(format!("Environment={}", unit_word(&literal(Path::new(&variable)))));
        }
        for left_out in &self.secrets {
            settings.push(format!("Environment={}=%d/{}", left_out.variable, credential(left_out)));
        }
        settings
    }
}

fn shared(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string().escape_debug().to_string();
    let own = dir.join("mongodb").display().to_string().escape_debug().to_string();
    vec![
        format!("# {name} is shared: it belongs to a user other than {USER}, and is not empty."),
        format!("# Use a separate folder, e.g. {own}: run this `init` again with that folder and --force."),
        format!("# (If it contains only backups: chown -R {USER}: {}, and run `init` again.)", quoted(&name)),
    ]
}

/// Quotes a path for a shell.
fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Escapes a text for a unit, where % begins a specifier.
fn literal(text: &Path) -> String {
    text.display().to_string().replace('%', "%%")
}

/// Quotes a word for a unit's setting that takes several words (systemd.syntax(7)).
fn unit_word(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"\"'\\".contains(c);
    if text.chars().all(plain) {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn schedule() -> Schedule {
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

    fn left_out() -> LeftOut {
        LeftOut {
            key: "mongo_uri",
            variable: "MONGO_URI_FILE".into(),
            file: "/etc/uzima-backup/mongo_uri".into(),
            there: false,
        }
    }

    #[test]
    fn a_crontab_runs_the_jobs_of_the_example_with_this_binary() {
        let lines = schedule().crontab();
        assert!(lines[0].starts_with("PATH=/") && lines[1].starts_with("MAILTO="), "{lines:?}");
        assert_eq!(lines[2], "0 3 * * * /usr/bin/uzima-backup backup --quiet");
        assert_eq!(lines.len(), 6);
        let odd = Schedule { binary: "/opt/my 100%/it's".into(), mails: false, ..schedule() }.crontab();
        assert_eq!(odd.len(), 5);
        assert_eq!(odd[4], "0 6 1 * * '/opt/my 100\\%/it'\\''s' health --quiet");
    }

    #[test]
    fn commands_and_crontab_name_what_the_file_lacks() {
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

    fn written(path: &str, standing: Standing) -> Option<ServicePath> {
        Some(ServicePath { path: path.into(), standing, closed: vec![] })
    }

    #[test]
    fn units_get_what_the_file_lacks() {
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
    fn the_health_service_runs_without_mails() {
        let lines = Schedule { mails: false, ..schedule() }.systemd();
        assert_eq!(
            lines[0],
            "printf '%s\\n' '[Service]' ExecStart= 'ExecStart=/usr/bin/uzima-backup health' |"
        );
        assert!(lines[1].contains("/uzima-backup-health.service.d/without-mail.conf && "), "{lines:?}");
        assert!(lines[3].ends_with("-cleanup.timer uzima-backup-health.timer"), "{lines:?}");
    }

    #[test]
    fn the_services_may_write_only_the_log_file_in_its_folder() {
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
    fn a_shared_folder_keeps_its_owner() {
        let lines = Schedule { dir: written("/var/backups", Standing::Shared), ..schedule() }.systemd();
        assert!(lines.iter().all(|line| line.starts_with("# ")), "{lines:?}");
        assert!(lines[0].contains("/var/backups is shared") && lines[1].contains("/var/backups/mongodb"));
        let own = Schedule { dir: written("/srv/b", Standing::Own), ..schedule() }.systemd();
        assert!(own[0].starts_with("printf "), "{own:?}");
        let missing = Schedule { metrics: written("/srv/m", Standing::Missing), ..schedule() }.systemd();
        assert_eq!(missing[0], "install -d -o uzima-backup -g uzima-backup -m 0755 /srv/m");
    }

    #[test]
    fn units_see_home_directories_only_if_they_write_there() {
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
        let dir = Some(ServicePath { path: "/root/b".into(), standing: Standing::Missing, closed });
        let lines = Schedule { dir: dir.clone(), log_file: dir, ..schedule() }.systemd();
        assert_eq!(lines[0], "setfacl -m u:uzima-backup:x /root");
        assert!(lines[1].starts_with("install -d "), "the command is there once: {lines:?}");
    }

    #[test]
    fn words_of_a_unit_are_quoted() {
        assert_eq!(unit_word(r#"a "b\c""#), r#""a \"b\\c\"""#);
    }

    #[test]
    fn the_standing_depends_on_owner_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let standing = |path: &Path, user| ServicePath::look(path, user).standing;
        assert_eq!(standing(&dir.path().join("none"), Some(me)), Standing::Missing);
        assert_eq!(standing(dir.path(), Some(me)), Standing::Own);
        assert_eq!(standing(dir.path(), None), Standing::Empty);
        let file = dir.path().join("dpkg.status.0");
        fs::write(&file, "").unwrap();
        assert_eq!(standing(dir.path(), Some(me + 1)), Standing::Shared);
        assert_eq!(standing(&file, None), Standing::Shared);
    }

    #[test]
    fn folders_that_the_services_cannot_pass_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let below = dir.path().join("a/b");
        let closed = |user| ServicePath::look(&below, user).closed;
        assert!(closed(Some(me + 1)).contains(&dir.path().to_path_buf()));
        assert!(!closed(Some(me)).contains(&dir.path().to_path_buf()));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!closed(None).contains(&dir.path().to_path_buf()));
    }

    #[test]
    fn the_user_is_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nuzima-backup:x:997:996:MongoDB backups:/var/lib/uzima-backup:\n";
        assert_eq!(service_user(passwd), Some(997));
        assert_eq!(service_user("root:x:0:0\n\n"), None);
    }
}
