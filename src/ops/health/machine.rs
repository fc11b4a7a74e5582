//! The checks of the settings and of the files on this machine.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::TimeDelta;

use super::context::{Context, Finding, blocking};
use crate::base::error::{Error, Result};
use crate::base::lock;
use crate::base::lock::Locked;
use crate::base::room;
use crate::base::units::several;
use crate::config::warnings::Exposed;

/// Shows the resolved settings, and warns about misspelt and exposed ones.
pub async fn configuration(around: &Context) -> Result<Finding> {
    let subject = &around.subject;
    let (days, min) =
        (subject.settings.retention.days, several(subject.settings.retention.min as u64, "good one"));
    let span = several(days.into(), "day");
    let kept = TimeDelta::try_days(days.into()).and_then(|days| around.time().checked_add_signed(days));
    let until = kept.map(|date| format!(", until {}", date.format("%F"))).unwrap_or_default();
    let misspelt: String = subject.misspelt.iter().map(|misspelt| format!("; {misspelt}")).collect();
    let exposed: String = subject.exposed.iter().map(|file| format!("; {file}")).collect();
    let detail = format!(
        "job {}, {}; a backup of today is kept for {span}{until}, and longer if it is among the newest \
         {min}{misspelt}{exposed}",
        subject.settings.job, subject.settings.format
    );
    // The file of another program may have to be readable, but nobody else has to write the settings.
    match subject.exposed.iter().find(|file| matches!(file, Exposed::Configuration(_))) {
        Some(writable) => Finding::warning(detail, writable.remedy()),
        None => Finding::ok(detail),
    }
}

/// Checks that the state directory and the metrics file can be written.
pub async fn state(around: &Context) -> Result<Finding> {
    let (dir, metrics) = (around.subject.settings.state_dir.clone(), around.subject.metrics.clone());
    blocking(move || {
        metrics.map_or(Ok(()), |file| replaced(&file))?;
        match dir {
            Some(dir) => written(&dir),
            None => {
                Finding::not_configured("no state_dir, and no HOME: uploads under way are not remembered")
            }
        }
    })
    .await
}

/// The metrics file is replaced by a new one, so its folder must be writable.
fn replaced(file: &Path) -> Result<()> {
    probe(file.parent().unwrap_or(Path::new("/"))).map(drop).map_err(|(_, e)| {
        Error::failed(format!("metrics_file: {} cannot be written", file.display()))
            .hint("Create its folder, or let this user write there (METRICS_FILE, metrics_file)")
            .caused_by(room::explained(e, file))
    })
}

/// Creates a file in a folder, writes and locks it, and deletes it.
fn probe(folder: &Path) -> std::result::Result<Locked, (PathBuf, io::Error)> {
    let probe = probe_in(folder);
    let mut open = OpenOptions::new();
    let file = open.write(true).create_new(true).mode(0o600).open(&probe);
    let outcome = file.and_then(|mut file| {
        file.write_all(b"a probe of `health`\n")?;
        lock::try_exclusive(&file)
    });
    // The file is deleted even if it could not be written.
    let removed = fs::remove_file(&probe);
    outcome.and_then(|locked| removed.map(|()| locked)).map_err(|e| (probe, e))
}

fn written(dir: &Path) -> Result<Finding> {
    let failed = |path: PathBuf, e: io::Error| {
        let full = room::cause(&e, &path);
        let hint = full.as_ref().map_or(
            "Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write",
            |cause| cause.hint,
        );
        let cause = full.as_ref().map_or_else(|| e.to_string(), |cause| cause.what.clone());
        Error::failed(format!("cannot write {}", path.display())).hint(hint).caused_by(cause)
    };
    if fs::symlink_metadata(dir).is_ok_and(|meta| !meta.is_file()) {
        return probe(dir).map_err(|(path, e)| failed(path, e)).and_then(|locked| match locked {
            Locked::Unsupported => Finding::ok(format!(
                "{} (its file system has no locks (flock): files with a heartbeat stand for them)",
                dir.display()
            )),
            Locked::Yes | Locked::ByAnother => Finding::ok(dir.display().to_string()),
        });
    }
    // A backup creates it, with the folders above.
    let above = dir.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(Path::new("/"));
    let created = match above.is_dir() {
        true => creatable(above),
        false => Err(rustix::io::Errno::NOTDIR.into()),
    };
    created.map_err(|e| failed(dir.to_path_buf(), e)).and_then(|()| {
        Finding::ok(format!("{} is not there yet: the first backup creates it", dir.display()))
    })
}

/// Checks that this process can create a directory in a folder, by creating one and deleting it. Permissions are not
/// enough: root has them in `/proc`, where nothing can be created.
pub fn creatable(folder: &Path) -> io::Result<()> {
    let probe = probe_in(folder);
    DirBuilder::new().mode(0o700).create(&probe)?;
    fs::remove_dir(probe)
}

fn probe_in(folder: &Path) -> PathBuf {
    folder.join(format!(".health-{:016x}", rand::random::<u64>()))
}
