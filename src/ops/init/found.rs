//! What is on this machine: mongodump, credentials, what cron mails with. Nothing here fails: what is not found is
//! said. What `health` finds out (the server, the store, the mail service) is for `health` to say.

use std::path::{Path, PathBuf};

use crate::base::error::Result;
use crate::config::Config;
use crate::config::Env;
use crate::source::mongodump;

/// What cron mails with: Debian's and others' name of it.
const SENDMAIL: [&str; 2] = ["/usr/sbin/sendmail", "/usr/lib/sendmail"];

/// What was found.
pub struct Found {
    /// A line each, for people.
    pub lines: Vec<String>,
    /// A mongodump that cron and systemd would not find.
    pub mongodump_path: Option<PathBuf>,
}

/// Looks around.
pub async fn look(config: &Config, env: Env<'_>) -> Result<Found> {
    let mut lines = Vec::new();
    let settings = config.job()?;
    let find = |search_path| mongodump::find(settings.mongodump_path.as_deref(), search_path);
    let by_path = find(settings.search_path.as_deref()).await;
    let by_folders = find(None).await;
    lines.push(match &by_path {
        Ok(found) => format!("mongodump {}, {}", found.version, found.path.display()),
        Err(missing) => format!("{missing}: the native engine reads"),
    });
    let mongodump_path = by_path.ok().filter(|_| by_folders.is_err()).map(|found| found.path);
    if config.is_set("s3.bucket") && config.is_set("dir") {
        lines.push("S3_BACKUP_BUCKET is set, and left out: backups go to --dir, and to one place".into());
    } else if config.is_set("s3.bucket") {
        lines.push(format!("credentials for the bucket: {}", credentials(config, env)));
    }
    if !config.is_set("mail.to") && !SENDMAIL.iter().any(|program| Path::new(program).exists()) {
        lines.push("no sendmail: what cron mails, as MAILTO says, reaches nobody".into());
    }
    Ok(Found { lines, mongodump_path })
}

/// Where the AWS tools would find a key, in the order in which they look.
fn credentials(config: &Config, env: Env<'_>) -> String {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if config.is_set("s3.access_key_id") {
        return "AWS_ACCESS_KEY_ID".into();
    }
    if let Some(profile) = set("AWS_PROFILE") {
        return format!("the profile {}", profile.display());
    }
    let own = set("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let file = set("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or(own);
    match file.filter(|file| file.is_file()) {
        Some(file) => file.display().to_string(),
        None => "no key; the role of the machine or the container, if it has one".into(),
    }
}
