//! The checks of the settings, the files on this machine, and the servers except the store.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;

use super::{Context, Finding, blocking};
use crate::base::error::{Error, Result};
use crate::base::lock::{self, Locked};
use crate::base::room;
use crate::base::units::several;
use crate::catalog::records::{PATIENCE, Records};
use crate::config::RecordsAt;
use crate::config::signing::UNSIGNED;
use crate::config::warnings::Exposed;
use crate::model::versions::{self, Support};
use crate::notify::mailer::Mailer;
use crate::source::{describe, engine, oplog};

/// The time limit of the request to the mail service.
const MAIL_LIMIT: Duration = Duration::from_secs(30);

/// Shows the resolved settings, and warns about misspelt and exposed ones.
pub(super) async fn configuration(context: &Context) -> Result<Finding> {
    let subject = &context.subject;
    let signing = &subject.settings.signing;
    signing.key()?;
    let days = subject.settings.retention.days;
    let (span, min) =
        (several(days.into(), "day"), several(subject.settings.retention.min as u64, "good backup"));
    let kept = TimeDelta::try_days(days.into()).and_then(|days| context.time().checked_add_signed(days));
    let until = kept.map(|date| format!(", until {}", date.format("%F"))).unwrap_or_default();
    let misspelt: String = subject.misspelt.iter().map(|misspelt| format!("; {misspelt}")).collect();
    let exposed: String = subject.exposed.iter().map(|file| format!("; {file}")).collect();
    let detail = format!(
        "job {}, {}; today's backup is kept for {span}{until}, and longer while it is among the newest \
         {min}{misspelt}{exposed}",
        subject.settings.job, subject.settings.format
    );
    if signing.key_file.is_none() && !signing.trusted.is_empty() {
        return Finding::warning(
            format!("{detail}; {UNSIGNED}"),
            "Set BACKUP_SIGNING_KEY_FILE (signing_key_file) if this machine makes backups",
        );
    }
    if signing.trusted_before.is_some_and(|before| before > context.time()) {
        return Finding::warning(
            format!("{detail}; trusted_before is in the future, so that every unsigned backup is trusted"),
            "Set BACKUP_TRUSTED_BEFORE (trusted_before) to the day on which signing began",
        );
    }
    // Another program may need to read the file, but no other user needs to write the settings.
    match subject.exposed.iter().find(|file| matches!(file, Exposed::Configuration(_))) {
        Some(writable) => Finding::warning(detail, writable.remedy()),
        None => Finding::ok(detail),
    }
}

/// Checks that the server can be reached, and accepts the login.
pub(super) async fn mongodb(context: &Context) -> Result<Finding> {
    let server = context.server().await?;
    let version = server.version().await?;
    let fcv = server.feature_compatibility().await?;
    let fcv = fcv.map(|fcv| format!(", feature compatibility version {fcv}")).unwrap_or_default();
    let found = format!("{version}{fcv}, {}", server.hello.words());
    match versions::support(&version) {
        Support::Tested | Support::Unknown => Finding::ok(found),
        Support::Expected => {
            Finding::ok(format!("{found}; this version is expected to work, but was not tested"))
        }
        Support::Newer => Finding::warning(
            format!(
                "{found}; this version is newer than {}, the newest that this uzima-backup knows",
                versions::NEWEST
            ),
            "Look for a newer uzima-backup, and test a backup with `uzima-backup verify latest --drill`",
        ),
        Support::TooOld => Err(Error::failed(format!("{found}; this version is too old"))
            .hint(format!("MongoDB {} or later is needed", versions::OLDEST))),
    }
}

/// Checks that the user may read everything that a backup reads.
pub(super) async fn namespaces(context: &Context) -> Result<Finding> {
    let server = context.server().await?;
    let settings = &context.subject.settings;
    let description = describe::describe_for_backup(server, &settings.selection, context.allow_empty).await?;
    describe::prove_readable(server, &description.namespaces).await?;
    let size = description.raw_bytes.map(|n| format!(", {}", bytesize::ByteSize(n).display().iec()));
    let shortfall = oplog::shortfall(server, settings.consistency).await?;
    let own_time = shortfall.map(|why| format!("; each collection is read at its own time: {why}"));
    let readable = format!(
        "{} readable{}{}",
        description.namespaces.len(),
        size.unwrap_or_default(),
        own_time.unwrap_or_default()
    );
    let mut warnings = description.warnings;
    if description.of_restores > 0 {
        let kept = several(description.of_restores, "collection");
        warnings.push(format!(
            "{kept} of restores with --swap, --filter or --merge, which are in no backup; `uzima-backup restore --kept` lists them, and --discard drops them"
        ));
    }
    match warnings.split_first() {
        None => Finding::ok(readable),
        Some((first, _)) => {
            let (_, step) = first.rsplit_once("; ").unwrap_or(("", first));
            Finding::warning(format!("{readable}; {}", warnings.join("; ")), step)
        }
    }
}

/// Shows the engine that would read the server.
pub(super) async fn engine(context: &Context) -> Result<Finding> {
    Finding::ok(engine::choose(&context.subject.settings).await?.words())
}

/// Checks that records can be read and written.
pub(super) async fn records(context: &Context) -> Result<Finding> {
    let RecordsAt::Server(uri) = &context.subject.settings.records else {
        return Finding::not_configured("BACKUP_RECORDS is off");
    };
    let records = Records::connect(uri, PATIENCE).await?;
    let job = &context.subject.settings.job;
    let asked = async {
        let found = records.all(Some(job)).await?;
        records.prove().await?;
        Ok(found.runs.len())
    };
    let asked: Result<usize> = asked.await;
    records.close().await;
    let runs = several(asked? as u64, "run");
    Finding::ok(format!("{runs} of {job} recorded; writing works"))
}

/// Checks that the mail service accepts the key, that the mail server accepts the login, or that sendmail can be run.
pub(super) async fn mail(context: &Context) -> Result<Finding> {
    let Some(options) = &context.subject.mail else {
        return Finding::not_configured(
            "neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed",
        );
    };
    let may = Mailer::new(options.clone()).check(MAIL_LIMIT).await?;
    Finding::ok(format!("{may}; to {}", options.to.join(", ")))
}

/// Checks that the state directory and the metrics file can be written.
pub(super) async fn state(context: &Context) -> Result<Finding> {
    let (dir, metrics) = (context.subject.settings.state_dir.clone(), context.subject.metrics.clone());
    blocking(move || {
        metrics.map_or(Ok(()), |file| replaced(&file))?;
        match dir {
            Some(dir) => written(&dir),
            None => Finding::not_configured(
                "neither state_dir nor HOME is set: unfinished uploads are not remembered",
            ),
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
                "{} (its file system has no locks (flock): files with a heartbeat replace them)",
                dir.display()
            )),
            Locked::Yes | Locked::ByAnother => Finding::ok(dir.display().to_string()),
        });
    }
    // The first backup creates the directory, with its parents.
    let above = dir.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(Path::new("/"));
    let created = match above.is_dir() {
        true => creatable(above),
        false => Err(rustix::io::Errno::NOTDIR.into()),
    };
    created.map_err(|e| failed(dir.to_path_buf(), e)).and_then(|()| {
        Finding::ok(format!("{} does not exist yet: the first backup creates it", dir.display()))
    })
}

/// Checks that this process can create a directory in a folder, by creating one and deleting it. Permissions are not
/// enough: root has them in `/proc`, where nothing can be created.
pub(super) fn creatable(folder: &Path) -> io::Result<()> {
    let probe = probe_in(folder);
    DirBuilder::new().mode(0o700).create(&probe)?;
    fs::remove_dir(probe)
}

fn probe_in(folder: &Path) -> PathBuf {
    folder.join(format!(".health-{:016x}", rand::random::<u64>()))
}
