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
use crate::base::{files, keys};
use crate::notify::run::Run;

/// A new key. Serializes as docs/json.md describes it.
#[derive(JsonSchema, Serialize)]
pub(super) struct KeygenReport<'a> {
    version: u32,
    /// The public key.
    recipient: String,
    /// The digits that identify the key in manifests.
    fingerprint: String,
    /// The file with the secret key.
    file: &'a Path,
}

pub async fn run(args: &KeygenArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let (secret, recipient) = keys::generate(run.clock.now());
    let file = args.out.as_path();
    files::create(file, secret.expose_secret().as_bytes(), 0o600).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Error::usage(format!("{} exists already", file.display()))
            .hint("Name another file with --out: a replaced key could not decrypt its backups any more"),
        _ => Error::failed(format!("cannot write {}", file.display()))
            .caused_by(e)
            .hint("Name a file in an existing folder that this user may write to with --out"),
    })?;
    let fingerprint = recipient.fingerprint();
    let report = KeygenReport { version: 1, recipient: recipient.to_string(), fingerprint, file };
    output.result(&report, || {
        format!(
            "{recipient}\n\
             {} has the secret key. Keep it, and a copy of it, where the machine that makes backups cannot read it: without \
             the secret key, nobody can restore an encrypted backup\n",
            file.display()
        )
    });
    Ok(Exit::Done)
}
