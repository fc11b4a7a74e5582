//! The questions of the first installation: encryption, signatures, a copy, and the oplog.

use super::{UNCHANGED, wrapped};
use crate::base::error::{Kind, Result};
use crate::cli::args::InitArgs;
use crate::cli::ask::{self, at_terminal};
use crate::config::table::COPY;
use crate::config::{Config, Raw};
use crate::notify::run::Run;
use crate::ops::init::oplog::{self, OplogOffer};
use crate::ops::init::{InitOptions, signing_key_file};

/// Decides whether a job stores the oplog, and asks on a terminal before the first installation. Returns the offer if the
/// decision depends on the server.
///
/// # Errors
/// Returns an error if the job is wanted, and the server has no oplog that can be stored.
pub(super) async fn choose_oplog(
    args: &InitArgs,
    options: &InitOptions,
    nightly: &Config,
    run: &Run<'_>,
) -> Result<(bool, Option<OplogOffer>)> {
    let (installed, kept) =
        options.installed.as_ref().map_or((false, false), |before| (before.nightly, before.oplog));
    let asks = args.install.is_some() && !(args.yes || args.dry_run || installed) && at_terminal();
    if args.no_oplog || !(args.oplog || asks) {
        return Ok((kept && !args.no_oplog, None));
    }
    let offer = match run.cancel.or(oplog::look(nightly.job.as_ref()?)).await {
        Ok(Ok(offer)) => offer,
        Ok(Err(obstacle)) if args.oplog => return Err(oplog::refused(obstacle)),
        Err(e) if matches!(e.kind(), Kind::Signal(_)) => {
            return Err(run.cancel.error_with(UNCHANGED).unwrap_or(e));
        }
        // The trial of the settings reports a server that does not answer.
        _ => return Ok((args.oplog || kept, None)),
    };
    let question = || {
        let words: String = offer.words().iter().map(|words| wrapped(words)).collect();
        format!("{words}Add this job? [y/N] ")
    };
    let scheduled = args.oplog || ask::agrees(&question(), UNCHANGED, run.cancel).await?;
    Ok((scheduled, Some(OplogOffer { scheduled, ..offer })))
}

/// Where the secret keys must be.
pub(super) const KEYS: &str = "Make two keys on another machine (uzima-backup keygen --out first.key), and keep the secret keys there, one of \
                    them offline. This machine needs the public keys only, so it cannot read its own backups. Without a secret \
                    key, nobody can restore them.";

/// Asks for public keys on a terminal before the first installation, unless there are some. Returns the settings with them, if any
/// were named.
///
/// # Errors
/// Returns an error if the answer is no public key.
pub(super) async fn ask_recipients(
    args: &InitArgs,
    options: &InitOptions,
    run: &Run<'_>,
) -> Result<Option<Config>> {
    let config = run.config;
    let installed = options.installed.as_ref().is_none_or(|before| before.nightly);
    let asks = !(installed || args.yes || args.dry_run || args.no_encryption) && at_terminal();
    if !asks || config.layers.is_set("recipients") {
        return Ok(None);
    }
    let question = format!(
        "{}{}Public keys (age1… or ssh-ed25519 …), with commas; Enter for no encryption: ",
        wrapped("Backups can be encrypted: then a reader of the store cannot read the data."),
        wrapped(KEYS)
    );
    let answer = ask::line(&question, UNCHANGED, run.cancel).await?;
    let keys: Vec<String> = answer.split(',').map(|key| key.trim().to_string()).collect();
    match answer.is_empty() {
        true => Ok(None),
        false => {
            let config = config.with_flag("recipients", Raw::List(keys));
            config.job.as_ref()?;
            Ok(Some(config))
        }
    }
}

/// Where the public key of signatures goes.
pub(super) const TRUST: &str = "Give the public key to every machine that lists, restores or cleans up, as BACKUP_TRUSTED_KEYS \
                    (trusted_keys), on another way than through the store of the backups. There, only signed backups count.";

/// Decides whether the backups are signed with a new key, and asks on a terminal before the first installation, unless there is a key.
/// Returns the settings with the key.
///
/// # Errors
/// Returns an error if a signal comes first.
pub(super) async fn ask_signing(
    args: &InitArgs,
    options: &mut InitOptions,
    config: &Config,
    run: &Run<'_>,
) -> Result<Option<Config>> {
    if args.no_signing || config.layers.is_set("signing_key_file") {
        return Ok(None);
    }
    let installed = options.installed.as_ref().is_none_or(|before| before.nightly);
    let asks = !(args.signing || installed || args.yes || args.dry_run) && at_terminal();
    if asks {
        let question = format!(
            "{}{}Make a signing key on this machine? [y/N] ",
            wrapped(
                "Backups can be signed: then a person who can write to the store cannot plant or change a backup."
            ),
            wrapped(TRUST)
        );
        options.signing = ask::agrees(&question, UNCHANGED, run.cancel).await?;
    } else {
        options.signing = args.signing;
    }
    let file = signing_key_file(&options.file);
    Ok(options.signing.then(|| config.with_flag("signing_key_file", Raw::Text(file.display().to_string()))))
}

/// Asks for a second place on a terminal before the first installation, unless there is one. Returns the settings with it, if one was
/// named.
///
/// # Errors
/// Returns an error if the answer is neither an absolute path nor an address `s3://BUCKET/PREFIX`.
pub(super) async fn ask_copy(
    args: &InitArgs,
    options: &InitOptions,
    config: &Config,
    run: &Run<'_>,
) -> Result<Option<Config>> {
    let installed = options.installed.as_ref().is_none_or(|before| before.nightly);
    let asks = !(installed || args.yes || args.dry_run || args.no_copy) && at_terminal();
    if !asks || config.layers.copy_names().next().is_some() {
        return Ok(None);
    }
    let question = format!(
        "{}A directory, or s3://BUCKET/PREFIX; Enter for no copy: ",
        wrapped(
            "Every backup can be copied to a second place, on another disk or in another account: then the loss of one place loses no \
             backup."
        )
    );
    let answer = ask::line(&question, UNCHANGED, run.cancel).await?;
    let values: Vec<(&'static str, &str)> = match answer.strip_prefix("s3://") {
        _ if answer.is_empty() => return Ok(None),
        None => vec![("dir", answer.as_str())],
        Some(address) => match address.split_once('/').filter(|(_, prefix)| !prefix.is_empty()) {
            Some((bucket, prefix)) => vec![("s3.bucket", bucket), ("s3.prefix", prefix)],
            None => vec![("s3.bucket", address.trim_end_matches('/'))],
        },
    };
    let values = values.into_iter().map(|(key, text)| (key, Raw::Text(text.into())));
    let config = config.with_copy(values.collect());
    config.at(COPY)?.place?;
    Ok(Some(config))
}
