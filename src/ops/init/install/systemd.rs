//! Systemd's timers: the units, if no package installed them, the user of the services, drop-ins, and access to paths.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::getxattr;

use super::{Host, Installed, Step, cron};
use crate::base::error::{Error, Result};
use crate::ops::init::schedule::{
    BACKUP, DROP_IN, Grant, HOMES, OPLOG, PACKAGED, Schedule, USER, WITHOUT_MAIL, literal, service_user,
    unit_word, without_mail,
};

/// Where a package has its units.
const PACKAGES: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where an administrator's units are.
const OWN: &str = "/etc/systemd/system";
const NOTE: &str =
    "# Written by `uzima-backup init --install`, which replaces this file. Your own settings: local.conf.\n";

macro_rules! unit {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../examples/systemd/", $name)))
    };
}

/// The units of examples/systemd.
const UNITS: [(&str, &str); 13] = [
    unit!("uzima-backup-.service.d/10-uzima-backup.conf"),
    unit!("uzima-backup-backup.service"),
    unit!("uzima-backup-backup.timer"),
    unit!("uzima-backup-cleanup.service"),
    unit!("uzima-backup-cleanup.timer"),
    unit!("uzima-backup-copy.service"),
    unit!("uzima-backup-copy.timer"),
    unit!("uzima-backup-stats.service"),
    unit!("uzima-backup-stats.timer"),
    unit!("uzima-backup-health.service"),
    unit!("uzima-backup-health.timer"),
    unit!("uzima-backup-oplog.service"),
    unit!("uzima-backup-oplog.timer"),
];

/// The steps in their order, and notes.
pub(super) async fn plan(host: &Host, schedule: &Schedule) -> Result<(Vec<Step>, Vec<String>)> {
    let shared = schedule.shared();
    if let [what, step, ..] = &shared[..] {
        return Err(Error::usage(what.trim_end_matches('.')).hint(step));
    }
    let packaged = is_packaged(host);
    let binary = if packaged { PACKAGED.to_string() } else { own_binary(schedule)? };
    let mut steps = Vec::new();
    let user = service_user(&host.read(Path::new("/etc/passwd"))?.unwrap_or_default());
    if user.is_none() {
        let words = [
            "useradd",
            "--system",
            "--user-group",
            "--home-dir",
            "/var/lib/uzima-backup",
            "--no-create-home",
        ];
        let words =
            words.into_iter().chain(["--shell", "/usr/sbin/nologin", "--comment", "MongoDB backups", USER]);
        steps.push(Step::command(words.map(String::from).collect(), format!("userdel {USER}")));
    }
    let grants = schedule.grants();
    let missing = grants.iter().filter(|grant| !is_granted(host, grant, user));
    steps.extend(missing.map(|grant| Step::command(grant.argv(), grant.undo())));
    let before = steps.len();
    if !packaged {
        for (name, text) in UNITS {
            let text = text.replace(PACKAGED, &binary);
            steps.extend(Step::file(host, &Path::new(OWN).join(name), Some(&text))?);
        }
    }
    let settings = schedule.settings();
    let drop_in = (!settings.is_empty()).then(|| service(&settings));
    steps.extend(owned_file(host, DROP_IN, drop_in.as_deref())?);
    let mails = (!schedule.mails).then(|| service(&without_mail(&binary)));
    steps.extend(owned_file(host, WITHOUT_MAIL, mails.as_deref())?);
    if steps.len() > before || needs_reload(host).await? {
        steps.push(Step::command(["systemctl", "daemon-reload"].map(String::from).to_vec(), String::new()));
    }
    steps.extend(timers(host, schedule).await?);
    Ok((steps, cron::also(host).await))
}

fn is_packaged(host: &Host) -> bool {
    PACKAGES.iter().any(|folder| host.at(folder).join("uzima-backup-backup.service").is_file())
}

/// The path of the tool for units of its own.
///
/// # Errors
/// Returns an error if the services, which do not see home directories, could not run it.
fn own_binary(schedule: &Schedule) -> Result<String> {
    let binary = &schedule.binary;
    if HOMES.iter().any(|home| binary.starts_with(home)) {
        return Err(Error::usage(format!(
            "{} is in a home directory, which the services of systemd do not see",
            binary.display()
        ))
        .hint(format!(
            "Copy it, `install -m 0755 {} /usr/local/bin`, and run /usr/local/bin/uzima-backup init --install; or use cron, \
             --install=cron",
            binary.display()
        )));
    }
    Ok(unit_word(&literal(binary)))
}

/// A drop-in with these lines.
fn service(lines: &[String]) -> String {
    format!("{NOTE}[Service]\n{}\n", lines.join("\n"))
}

/// As [`Step::file`], but a file that this tool did not write is not removed.
fn owned_file(host: &Host, path: &str, after: Option<&str>) -> Result<Option<Step>> {
    let is_ours = host.read(Path::new(path))?.is_some_and(|text| text.starts_with(NOTE));
    match after {
        None if !is_ours => Ok(None),
        after => Step::file(host, Path::new(path), after),
    }
}

/// Returns true if systemd has read older units than those on disk, as after a reload that failed.
async fn needs_reload(host: &Host) -> Result<bool> {
    let args = ["show", "--property=NeedDaemonReload", "--value", "uzima-backup-backup.service"];
    Ok(host.run("systemctl", &args, b"").await?.stdout.trim_ascii() == b"yes")
}

/// The steps that enable and start the timers that are not, and disable those that are not wanted.
async fn timers(host: &Host, schedule: &Schedule) -> Result<Vec<Step>> {
    let command = |verb: &str, undo: &str, timers: &[&str]| {
        let words = ["systemctl", verb, "--now"].into_iter().chain(timers.iter().copied());
        let undo = format!("systemctl {undo} --now {}", timers.join(" "));
        Step::command(words.map(String::from).collect(), undo)
    };
    let mut missing = Vec::new();
    for timer in schedule.timers() {
        if !is(host, "is-enabled", timer).await? || !is(host, "is-active", timer).await? {
            missing.push(timer);
        }
    }
    let mut steps = Vec::new();
    if !missing.is_empty() {
        steps.push(command("enable", "disable", &missing));
    }
    for timer in schedule.unwanted_timers() {
        if is(host, "is-enabled", timer).await? {
            steps.push(command("disable", "enable", &[timer]));
        }
    }
    Ok(steps)
}

/// Asks systemd about a timer: `is-enabled` or `is-active`.
async fn is(host: &Host, what: &str, timer: &str) -> Result<bool> {
    Ok(host.run("systemctl", &[what, timer], b"").await?.status.success())
}

/// Returns true if the services' user has this right already.
fn is_granted(host: &Host, grant: &Grant, user: Option<u32>) -> bool {
    match (grant, user) {
        (Grant::Access(path, rights), Some(user)) => {
            let mut acl = [0; 4096];
            let path = host.at(path);
            let read = getxattr(path.as_os_str().as_bytes(), "system.posix_acl_access", &mut acl[..]);
            read.is_ok_and(|length| grants(&acl[..length], user, rights))
        }
        (Grant::Log(path), _) => host.at(path).exists(),
        _ => false,
    }
}

/// Returns true if an access control list gives these rights to a user. The list is a version of 4 bytes, then entries of
/// tag, permissions and id (acl(5), linux/posix_acl_xattr.h).
fn grants(acl: &[u8], user: u32, rights: &str) -> bool {
    const ACL_USER: u16 = 0x02;
    const ACL_MASK: u16 = 0x10;
    let bits = rights.chars().map(|c| match c {
        'r' => 4,
        'w' => 2,
        _ => 1,
    });
    let wanted: u16 = bits.sum();
    let entries = acl.get(4..).unwrap_or_default().chunks_exact(8).map(|entry| {
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        (u16::from_le_bytes([entry[0], entry[1]]), u16::from_le_bytes([entry[2], entry[3]]), id)
    });
    let (mut given, mut mask) = (0, 7);
    for (tag, rights, id) in entries {
        match tag {
            ACL_USER if id == user => given = rights,
            ACL_MASK => mask = rights,
            _ => {}
        }
    }
    given & mask & wanted == wanted
}

/// The enabled timers, and the variables in the drop-in of an earlier installation.
pub(super) async fn installed(host: &Host) -> Result<Installed> {
    let text = host.read(Path::new(DROP_IN))?.unwrap_or_default();
    let mut variables = Vec::new();
    for line in text.lines() {
        let plain = |text: &str| text.replace("%%", "%");
        if let Some((id, file)) = line.strip_prefix("LoadCredential=").and_then(|line| line.split_once(':')) {
            variables.push((format!("{}_FILE", id.to_uppercase()), plain(file)));
        } else if let Some(value) = line.strip_prefix("Environment=")
            && let Some(profile) = value.trim_matches('"').strip_prefix("AWS_PROFILE=")
        {
            variables.push(("AWS_PROFILE".into(), plain(profile)));
        }
    }
    Ok(Installed {
        variables,
        nightly: is(host, "is-enabled", BACKUP).await?,
        oplog: is(host, "is-enabled", OPLOG).await?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_units_of_the_examples_are_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd");
        let names = |folder: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let files =
            names(&folder).into_iter().flat_map(|path| if path.is_dir() { names(&path) } else { vec![path] });
        assert_eq!(files.count(), UNITS.len());
    }

    #[test]
    fn a_list_grants_rights_within_its_mask() {
        let acl = |entries: &[(u16, u16, u32)]| {
            let mut bytes = vec![2, 0, 0, 0];
            for (tag, rights, id) in entries {
                bytes.extend_from_slice(&tag.to_le_bytes());
                bytes.extend_from_slice(&rights.to_le_bytes());
                bytes.extend_from_slice(&id.to_le_bytes());
            }
            bytes
        };
        let list = acl(&[(1, 7, u32::MAX), (2, 1, 997), (2, 7, 5), (0x10, 5, u32::MAX)]);
        assert!(grants(&list, 997, "x") && !grants(&list, 997, "rwx") && !grants(&list, 1, "x"));
        assert!(grants(&list, 5, "rx") && !grants(&list, 5, "rwx"), "the mask limits it");
        assert!(!grants(b"", 5, "x"));
    }
}
