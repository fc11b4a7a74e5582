//! The check of the keys of an encrypted job: that they exist twice, were tried, and are not where the backups are made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Context, Finding, blocking};
use crate::base::error::Result;
use crate::base::units::{self, several};

/// A danger, and the next step.
type Danger = (String, String);

/// Warns about a single recipient, about keys that were not tried for long, and about an identity file that others can read or
/// that lies on the machine that makes backups.
pub(super) async fn key(context: &Context) -> Result<Finding> {
    let recipients = context.subject.settings.recipients.as_ref().map(|keys| keys.fingerprints());
    let mut dangers: Vec<Danger> = Vec::new();
    if recipients.as_ref().is_some_and(|all| all.len() == 1) {
        dangers.push((
            "the backups have one recipient only: if its secret key is lost, nobody can restore them".into(),
            "Make a second key on another machine, keep it offline, and add its recipient to BACKUP_RECIPIENTS".into(),
        ));
    }
    if let Some(file) = context.subject.identity_file.clone() {
        let makes_backups = recipients.is_some();
        dangers.extend(blocking(move || Ok(identity_dangers(&file, makes_backups))).await?);
    }
    let Some(recipients) = recipients else {
        return match dangers.into_iter().next() {
            Some((what, step)) => Finding::warning(what, step),
            None => Finding::not_configured("the backups are not encrypted (BACKUP_RECIPIENTS)"),
        };
    };
    let tried = match newest_trial(context).await? {
        Ok(tried) => tried,
        Err(danger) => {
            dangers.push(danger);
            String::new()
        }
    };
    let Some((_, step)) = dangers.first().cloned() else {
        let all = several(recipients.len() as u64, "recipient");
        return Finding::ok(format!("{all} ({}){tried}", recipients.join(", ")));
    };
    let all: Vec<String> = dangers.into_iter().map(|(what, _)| what).collect();
    Finding::warning(all.join("; "), step)
}

/// The dangers of an identity file. A file that is not there is none: it may be on a disk that a person brings.
fn identity_dangers(file: &Path, makes_backups: bool) -> Vec<Danger> {
    let Ok(meta) = fs::metadata(file) else { return Vec::new() };
    let (mut dangers, path) = (Vec::new(), file.display());
    if meta.permissions().mode() & 0o077 != 0 {
        dangers.push((
            format!("other users can read or change the identity file {path}"),
            format!("chmod 600 {path}, and think about new keys: somebody may have a copy"),
        ));
    }
    if makes_backups {
        dangers.push((
            format!("the identity file {path} lies on the machine that makes the backups: an intruder there can read all of them"),
            format!("Move {path} to another machine, and remove BACKUP_IDENTITY_FILE (identity_file) from the settings of this one"),
        ));
    }
    dangers
}

/// The newest verify or drill that needed the key, for the report. Inner errors are dangers.
async fn newest_trial(context: &Context) -> Result<Result<String, Danger>> {
    let allowed = context.subject.settings.keyed_max_age;
    let Some(state) = context.state().await? else { return Ok(Ok("; there is no backup yet".into())) };
    if state.manifests().all(|manifest| manifest.encryption.is_none()) {
        return Ok(Ok("; there is no encrypted backup yet".into()));
    }
    let step = || {
        "On the machine with the key, run `uzima-backup verify latest --identity FILE`, or a drill with it; try the second key as well"
            .to_string()
    };
    let Some((id, at)) = state.newest_keyed() else {
        let what = "no stored backup was ever verified or drilled with its key, so nobody knows that it can be decrypted";
        return Ok(Err((what.into(), step())));
    };
    let old = (context.time() - at).to_std().unwrap_or_default();
    let tried = format!("the newest verify with a key, of {id}, is {} old", units::age(old));
    Ok(match old > allowed {
        true => Err((format!("{tried}, {} are allowed (keyed_max_age)", units::age(allowed)), step())),
        false => Ok(format!("; {tried}")),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn an_identity_file_is_dangerous_if_others_read_it_or_backups_are_made_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("a.key");
        let count = |makes_backups| identity_dangers(&file, makes_backups).len();
        assert_eq!(count(true), 0, "it is not there");
        fs::write(&file, "x").unwrap();
        for (mode, alone, with_backups) in [(0o600, 0, 1), (0o640, 1, 2), (0o604, 1, 2)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!((count(false), count(true)), (alone, with_backups), "{mode:o}");
        }
    }
}
