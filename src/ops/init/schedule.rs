//! What cron or systemd needs to start the tool every night: lines for a crontab, and settings, folders and access for the
//! services. The jobs and their times are those of crontab.example, in which the job for the oplog is a comment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::LeftOut;
use crate::base::escape::quoted;
use crate::config::machine::STATE_DIR;

const CRONTAB: &str = include_str!("../../../crontab.example");
/// The user of the services, whom the Debian package creates.
pub(super) const USER: &str = "uzima-backup";
/// The settings of this installation for all services. Files whose names sort later, such as an administrator's
/// `local.conf`, take precedence (systemd.unit(5)).
pub(super) const DROP_IN: &str = "/etc/systemd/system/uzima-backup-.service.d/50-init.conf";
/// Makes the health service run without mails; its failures are shown by `systemctl --failed` and the journal.
pub(super) const WITHOUT_MAIL: &str = "/etc/systemd/system/uzima-backup-health.service.d/without-mail.conf";
/// The path of the tool in the units of the package.
pub(super) const PACKAGED: &str = "/usr/bin/uzima-backup";
/// Directories that units with `ProtectHome=yes` do not see (systemd.exec(5)).
pub(super) const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// An installation, as far as its schedule depends on it.
#[derive(Debug)]
pub struct Schedule {
    /// The path of the tool.
    pub binary: PathBuf,
    /// The configuration file, if it is not the default one.
    pub config: Option<PathBuf>,
    /// The directory of the backups; `None` for a bucket.
    pub dir: Option<ServicePath>,
    /// The folder of the metrics file, which each run replaces.
    pub metrics: Option<ServicePath>,
    /// The log file, to which runs append.
    pub log_file: Option<ServicePath>,
    /// The secrets that are not in the configuration file.
    pub secrets: Vec<LeftOut>,
    /// The profile of the AWS tools that the bucket needs.
    pub profile: Option<String>,
    /// True if mails are set up.
    pub mails: bool,
    /// True if a job stores the oplog.
    pub oplog: bool,
    /// True if the settings have copies: a job copies what they lack.
    pub copies: bool,
    /// The directories of copies.
    pub copy_dirs: Vec<ServicePath>,
    /// A new signing key, which the services read.
    pub new_key: Option<ServicePath>,
}

/// A file or folder that the services write. It decides which commands root runs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePath {
    path: PathBuf,
    standing: Standing,
    /// Folders above that only their owner or group may pass, the topmost first.
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

    /// The command that installs this schedule.
    pub fn install_command(&self) -> String {
        let config = self.config.iter().map(|config| format!("--config {}", word(config)));
        let install = if self.oplog { "init --install --oplog" } else { "init --install" };
        let words = [word(&self.binary)].into_iter().chain(config).chain([install.into()]);
        words.collect::<Vec<_>>().join(" ")
    }

    /// The jobs of a crontab. Each has its variables in its own line: a variable in a line of its own would change the
    /// jobs below it, and a shell other than `sh` needs `env`.
    pub fn crontab(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.profile.iter().map(|profile| format!("AWS_PROFILE={}", quoted(profile))));
        words.extend(self.secrets.iter().map(|secret| format!("{}={}", secret.variable, word(&secret.file))));
        if !words.is_empty() {
            words.insert(0, "env".into());
        }
        words.push(word(&self.binary));
        words.extend(self.config.iter().map(|config| format!("--config {}", word(config))));
        // Cron turns a % into a line break.
        let tool = words.join(" ").replace('%', "\\%");
        let is_job = |line: &str| line.starts_with(|c: char| c.is_ascii_digit() || c == '*');
        let is_wanted =
            |job: &&str| self.oplog && job.contains(" oplog ") || self.copies && job.contains(" copy ");
        let wanted = |line: &'static str| line.strip_prefix('#').filter(is_wanted).unwrap_or(line);
        let jobs = CRONTAB.lines().map(wanted).filter(|line| is_job(line));
        jobs.filter(|job| self.mails || !job.contains(" stats "))
            .map(|job| {
                // Without mails of the tool, cron mails the output of a failed health check.
                let job = if self.mails { job.to_string() } else { job.replace(" --email", "") };
                job.replace(" uzima-backup ", &format!(" {tool} "))
            })
            .collect()
    }

    /// Commands for root: they prepare this machine for the units, make a first backup, and enable the timers. For a
    /// directory that another user uses there are comments with the reason instead.
    pub fn systemd(&self) -> Vec<String> {
        let shared = self.shared();
        if !shared.is_empty() {
            return shared.iter().map(|line| format!("# {line}")).collect();
        }
        let drop_in = |lines: &[String], file: &str| {
            let lines: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
            [
                format!("printf '%s\\n' '[Service]' {} |", lines.join(" ")),
                format!("  install -D -m 0644 /dev/stdin {file} && systemctl daemon-reload"),
            ]
        };
        let mut commands: Vec<String> = self.grants().iter().map(Grant::shell).collect();
        let settings = self.settings();
        if !settings.is_empty() {
            commands.extend(drop_in(&settings, DROP_IN));
        }
        if !self.mails {
            commands.extend(drop_in(&without_mail(PACKAGED), WITHOUT_MAIL));
        }
        commands.push("systemctl start uzima-backup-backup.service".into());
        commands.push(format!("systemctl enable --now {}", self.timers().join(" ")));
        commands
    }

    /// The timers to enable. The statistics are of no use without mails.
    pub(super) fn timers(&self) -> Vec<&'static str> {
        let mut timers = vec![BACKUP, "uzima-backup-cleanup.timer"];
        timers.extend(self.copies.then_some(COPY));
        timers.extend(self.mails.then_some(STATISTICS));
        timers.push("uzima-backup-health.timer");
        timers.extend(self.oplog.then_some(OPLOG));
        timers
    }

    /// The timers that must not be enabled.
    pub(super) fn unwanted_timers(&self) -> Vec<&'static str> {
        let wanted = self.timers();
        [COPY, STATISTICS, OPLOG].into_iter().filter(|timer| !wanted.contains(timer)).collect()
    }

    /// Why the services cannot use the directory of the backups, and what to do; empty if they can.
    pub fn shared(&self) -> Vec<String> {
        match self.dirs().find(|dir| dir.standing == Standing::Shared) {
            Some(dir) => shared(&dir.path),
            None => Vec::new(),
        }
    }

    /// The paths that the services write.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.dirs().chain(self.beside()).map(|written| written.path.as_path())
    }

    /// The directories of all places.
    fn dirs(&self) -> impl Iterator<Item = &ServicePath> {
        self.dir.iter().chain(&self.copy_dirs)
    }

    /// The paths beside the backups that the services need permission to write.
    fn beside(&self) -> impl Iterator<Item = &ServicePath> {
        self.metrics.iter().chain(&self.log_file).filter(|written| !written.path.starts_with(STATE_DIR))
    }

    /// What lets the services' user write its paths. No file of another user changes its owner.
    pub(super) fn grants(&self) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        for folder in
            self.dirs().chain(self.beside()).chain(&self.new_key).flat_map(|written| &written.closed)
        {
            let grant = Grant::Access(folder.clone(), "x");
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
        grants.extend(self.new_key.iter().map(|key| Grant::Access(key.path.clone(), "r")));
        let foreign = self.dirs().filter(|dir| dir.standing != Standing::Own);
        grants.extend(foreign.map(|dir| Grant::Folder(dir.path.clone(), "0750")));
        for written in self.beside() {
            let (path, log) = (written.path.clone(), Some(written) == self.log_file.as_ref());
            grants.push(match (written.standing, log) {
                (Standing::Own, _) => continue,
                (Standing::Missing, false) => Grant::Folder(path, "0755"),
                (Standing::Missing, true) => Grant::Log(path),
                (_, false) => Grant::Access(path, "rwx"),
                (_, true) => Grant::Access(path, "rw"),
            });
        }
        grants
    }

    /// Lines for `[Service]`.
    pub(super) fn settings(&self) -> Vec<String> {
        let credential = |left_out: &LeftOut| left_out.variable.trim_end_matches("_FILE").to_lowercase();
        let writable = |sign: &str, written: &ServicePath| {
            format!("ReadWritePaths={}", unit_word(&format!("{sign}{}", literal(&written.path))))
        };
        let mut settings: Vec<String> = self.dir.iter().map(|dir| writable("", dir)).collect();
        // With a -, a missing path does not keep a backup from starting (systemd.exec(5)).
        settings.extend(self.copy_dirs.iter().chain(self.beside()).map(|written| writable("-", written)));
        let at_home = |written: &ServicePath| HOMES.iter().any(|home| written.path.starts_with(home));
        if self.dirs().chain(self.beside()).any(at_home) {
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

/// The timer of the statistics.
const STATISTICS: &str = "uzima-backup-stats.timer";
/// The timer of the copies.
const COPY: &str = "uzima-backup-copy.timer";
/// The timer of the slices.
pub(super) const OPLOG: &str = "uzima-backup-oplog.timer";
/// The timer of the backups.
pub(super) const BACKUP: &str = "uzima-backup-backup.timer";

/// A right on a path that the services' user gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// These permissions on an existing path.
    Access(PathBuf, &'static str),
    /// A folder of its own, with this mode.
    Folder(PathBuf, &'static str),
    /// An empty log file of its own.
    Log(PathBuf),
}

impl Grant {
    /// The command that grants it.
    pub(super) fn argv(&self) -> Vec<String> {
        let (program, path) = match self {
            Grant::Access(path, rights) => (format!("setfacl -m u:{USER}:{rights}"), path),
            Grant::Folder(path, mode) => (format!("install -d -o {USER} -g {USER} -m {mode}"), path),
            Grant::Log(path) => (format!("install -D -o {USER} -g {USER} -m 0640 /dev/null"), path),
        };
        program.split(' ').map(String::from).chain([path.display().to_string()]).collect()
    }

    /// The command that takes it back.
    pub(super) fn undo(&self) -> String {
        match self {
            Grant::Access(path, _) => format!("setfacl -x u:{USER} {}", word(path)),
            Grant::Folder(path, _) => format!("rmdir {}", word(path)),
            Grant::Log(path) => format!("rm {}", word(path)),
        }
    }

    fn shell(&self) -> String {
        let command = self.argv().iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        match self {
            // A run may have created the log in the meantime.
            Grant::Log(path) => format!("test -e {} || {command}", word(path)),
            _ => command,
        }
    }
}

/// Lines for `[Service]` of the health service.
pub(super) fn without_mail(binary: &str) -> [String; 2] {
    ["ExecStart=".into(), format!("ExecStart={binary} health")]
}

fn shared(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string().escape_debug().to_string();
    let own = dir.join("mongodb").display().to_string().escape_debug().to_string();
    vec![
        format!("{name} is shared: it belongs to another user than {USER}, and is not empty."),
        format!("Use a folder of its own, e.g. {own}: run this `init` again with that folder and --force."),
        format!("(If only backups are in it: chown -R {USER}: {}, and run `init` again.)", quoted(&name)),
    ]
}

/// A path as a word of a shell.
fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A text in a unit, where % begins a specifier.
pub(super) fn literal(text: &Path) -> String {
    text.display().to_string().replace('%', "%%")
}

/// A word in a unit's setting that takes several words (systemd.syntax(7)).
pub(super) fn unit_word(text: &str) -> String {
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
            oplog: false,
            copies: false,
            copy_dirs: vec![],
            new_key: None,
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
        assert_eq!(lines[0], "0 3 * * * /usr/bin/uzima-backup backup --quiet");
        assert_eq!(lines.len(), 4);
        let odd = Schedule { binary: "/opt/my 100%/it's".into(), mails: false, ..schedule() }.crontab();
        assert_eq!(odd.len(), 3);
        assert_eq!(odd[2], "0 6 1 * * '/opt/my 100\\%/it'\\''s' health --quiet");
    }

    #[test]
    fn the_job_for_the_oplog_is_added_on_request() {
        let with = Schedule { oplog: true, ..schedule() };
        assert_eq!(with.crontab()[4], "*/10 * * * * /usr/bin/uzima-backup oplog --quiet");
        assert!(
            with.systemd()[1].ends_with("-health.timer uzima-backup-oplog.timer"),
            "{:?}",
            with.systemd()
        );
        assert_eq!(with.unwanted_timers(), [COPY]);
        assert_eq!(Schedule { mails: false, ..schedule() }.unwanted_timers(), [COPY, STATISTICS, OPLOG]);
    }

    #[test]
    fn the_job_for_copies_is_added_if_there_are_copies() {
        let copy_dirs = written("/mnt/nas/b", Standing::Missing).into_iter().collect();
        let with = Schedule { copies: true, copy_dirs, ..schedule() };
        assert_eq!(with.crontab()[2], "30 4 * * * /usr/bin/uzima-backup copy --missing --quiet");
        assert!(with.timers().contains(&COPY) && !with.unwanted_timers().contains(&COPY));
        let commands = with.systemd().join("\n");
        assert!(
            commands.contains("install -d -o uzima-backup -g uzima-backup -m 0750 /mnt/nas/b"),
            "{commands}"
        );
        assert!(commands.contains("ReadWritePaths=-/mnt/nas/b"), "{commands}");
        let shared = written("/mnt/nas/b", Standing::Shared).into_iter().collect();
        assert!(!Schedule { copy_dirs: shared, ..with }.shared().is_empty());
    }

    #[test]
    fn the_services_may_read_a_new_signing_key() {
        let new_key = written("/etc/uzima-backup/signing.key", Standing::Missing);
        let commands = Schedule { new_key, ..schedule() }.systemd();
        assert_eq!(commands[0], "setfacl -m u:uzima-backup:r /etc/uzima-backup/signing.key");
        assert!(!commands.join("\n").contains("ReadWritePaths"), "{commands:?}");
    }

    #[test]
    fn commands_and_crontab_name_what_the_file_lacks() {
        let schedule = Schedule {
            config: Some("/srv/b.toml".into()),
            secrets: vec![left_out()],
            profile: Some("backups".into()),
            ..schedule()
        };
        assert_eq!(
            schedule.crontab()[0],
            "0 3 * * * env AWS_PROFILE=backups MONGO_URI_FILE=/etc/uzima-backup/mongo_uri \
             /usr/bin/uzima-backup --config /srv/b.toml backup --quiet"
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
