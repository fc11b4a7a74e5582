//! `uzima-backup keygen`.

use std::io::ErrorKind;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::KeygenArgs;
use super::output::Output;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::secret::ExposeSecret;
use crate::base::{files, keys, minisign};
use crate::notify::run::Run;

/// A new key. Serializes as docs/json.md describes it.
#[derive(JsonSchema, Serialize)]
pub(super) struct KeygenReport<'a> {
    version: u32,
    #[serde(flatten)]
    public: PublicPart,
    /// The file with the secret key.
    file: &'a Path,
}

/// The public part of a key.
#[derive(JsonSchema, Serialize)]
#[serde(untagged)]
enum PublicPart {
    /// A key for encrypted backups.
    Encryption {
        /// The public key.
        recipient: String,
        /// The digits that identify the key in manifests.
        fingerprint: String,
    },
    /// A key that signs backups.
    Signing {
        /// The public key.
        trusted_key: String,
        /// The digits that identify the key in manifests and signatures.
        key: String,
    },
}

pub async fn run(args: &KeygenArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let (secret, public) = match args.signing {
        true => {
            let (secret, public) = minisign::generate()?;
            (secret, PublicPart::Signing { trusted_key: public.to_string(), key: public.number() })
        }
        false => {
            let (secret, recipient) = keys::generate(run.clock.now());
            let fingerprint = recipient.fingerprint();
            (secret, PublicPart::Encryption { recipient: recipient.to_string(), fingerprint })
        }
    };
    let file = args.out.as_path();
    files::create(file, secret.expose_secret().as_bytes(), 0o600).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Error::usage(format!("{} exists already", file.display()))
            .hint("Name another file with --out: backups may need the key that is there"),
        _ => Error::failed(format!("cannot write {}", file.display()))
            .caused_by(e)
            .hint("Name a file in an existing folder that this user may write to with --out"),
    })?;
    let report = KeygenReport { version: 1, public, file };
    output.result(&report, || text(&report));
    Ok(Exit::Done)
}

fn text(report: &KeygenReport<'_>) -> String {
    let file = report.file.display();
    match &report.public {
        PublicPart::Encryption { recipient, .. } => format!(
            "{recipient}\n\
             {file} has the secret key. Keep it, and a copy of it, where the machine that makes backups cannot read it: without \
             the secret key, nobody can restore an encrypted backup\n"
        ),
        PublicPart::Signing { trusted_key, .. } => format!(
            "{trusted_key}\n\
             {file} has the secret key: set it as BACKUP_SIGNING_KEY_FILE on the machine that makes backups. Give the public key \
             above to every machine that lists, restores or cleans up, as BACKUP_TRUSTED_KEYS, on another way than through the \
             store of the backups\n"
        ),
    }
}
