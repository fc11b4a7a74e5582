//! Shows the whole life of a backup in a minute, on this machine, without installing anything:
//! `cargo run --release --example quickstart`.
//!
//! Starts a throw-away mongod, fills it, backs it up to a directory, lists and verifies the backup, restores it
//! into a second mongod and compares the two.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, ensure};
use uzima_backup::base::units::count;
use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::torture;

fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    run(&Load::default())
}

/// The quickstart with this much data.
pub fn run(load: &Load) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::tempdir()?;

    step("1. a throw-away mongod (fetched once, then cached under target/)");
    let source = runtime.block_on(Mongod::builder().replica_set("quickstart").start())?;
    println!("   {}", source.uri());

    step("2. fill it with a shop's data and every special case of BSON");
    let filled = runtime.block_on(async {
        let client = source.client().await?;
        torture::fill_with(&client, torture::Options { big: false, users: false }).await?;
        load::fill(&client, load).await?;
        read_all(&client).await
    })?;
    let documents = count(filled.documents() as u64);
    println!("   {documents} documents; a backup holds the server's own admin.system.version as well");

    let config = folder.path().join("config.toml");
    let backups = folder.path().join("backups");
    // Without records, because a record of the run would be a difference between the two servers.
    let text = format!(
        "mongo_uri = '{}'\ndir = '{}'\nmin_free = 0\nrecords = 'off'\nstate_dir = '{}'\n",
        source.uri(),
        backups.display(),
        folder.path().join("state").display()
    );
    std::fs::write(&config, text)?;

    step("3. uzima-backup backup");
    command(&config, &["backup"])?;
    step("4. uzima-backup list");
    command(&config, &["list"])?;

    step("5. uzima-backup verify");
    command(&config, &["verify"])?;

    step("6. uzima-backup restore latest, into a second, empty mongod");
    let target = runtime.block_on(Mongod::builder().start())?;
    command(&config, &["restore", "latest", "--yes", "--to-uri", &target.uri()])?;

    step("7. compare the two servers, byte for byte");
    let restored = runtime.block_on(async { read_all(&target.client().await?).await })?;
    let differences = filled.diff(&restored);
    for difference in &differences {
        println!("   {difference}");
    }
    ensure!(differences.is_empty(), "the restored server differs");
    println!("   each of {} documents, every option and index is equal", count(restored.documents() as u64));
    Ok(())
}

fn step(text: &str) {
    println!("\n{text}");
}

/// Runs the tool with these arguments.
fn command(config: &Path, words: &[&str]) -> Result<()> {
    let mut args: Vec<OsString> = vec!["uzima-backup".into(), "--config".into(), config.into()];
    args.extend(words.iter().map(OsString::from));
    let exit = uzima_backup::cli::run(args);
    ensure!(exit == uzima_backup::base::exit::Exit::Done, "{words:?} ended with exit code {}", exit.code());
    Ok(())
}
