//! Runs the conformance suite on every available backend. Standard error names the backends that it ran on.

use std::io::Write;
use std::sync::Arc;

use tempfile::TempDir;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::store::{DirOptions, Limits, S3Options};
use uzima_backup::store::DirStore;
use uzima_testkit::moto::Moto;
use uzima_testkit::s3_server::{Limits as ServerLimits, S3Server};

use super::conformance::{Backend, run};
use super::support::{PART, connect, options};

/// Prints a line past the test harness, which hides the output of passing tests.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "store conformance: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_passes_the_conformance_suite() {
    let folder = TempDir::new().expect("a folder");
    let mut options = DirOptions::new(folder.path().join("backups"));
    options.min_free = 0.0;
    options.limits = Limits { min_part: 1, max_parts: 20, ..Limits::default() };
    let store = Arc::new(DirStore::new(options).expect("a directory"));
    let root = folder.path().join("backups");
    let leftovers = Box::new(move || partials(&root));
    let ran = run(Backend { store, part: PART, many: 300, leftovers }).await;
    say(&format!("directory, {ran} checks"));
}

/// The number of files below a folder whose name begins with a dot.
fn partials(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.file_type().expect("its type").is_dir() {
            true => partials(&entry.path()),
            false => usize::from(entry.file_name().to_string_lossy().starts_with('.')),
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_s3_server_passes_the_conformance_suite() {
    let server = Arc::new(S3Server::with(ServerLimits { page: 7, ..ServerLimits::default() }));
    let mut options = options(&server);
    options.limits.max_parts = 20;
    let store = Arc::new(connect(options).await);
    let counted = Arc::clone(&server);
    let leftovers = Box::new(move || counted.open_uploads().len());
    let ran = run(Backend { store, part: PART, many: 100, leftovers }).await;
    say(&format!("S3 in this process, {ran} checks"));
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_passes_the_conformance_suite() {
    let moto = Arc::new(tokio::task::spawn_blocking(Moto::start).await.expect("moto"));
    moto.create_bucket("backups");
    let mut options = S3Options::new("backups", "daily-backups/");
    options.endpoint_url = Some(moto.endpoint());
    options.credentials = Some(("moto".into(), Secret::from("moto")));
    // moto refuses parts below 5 MiB, as Amazon does.
    options.limits = Limits { min_part: 5 << 20, max_parts: 20, ..Limits::default() };
    let store = Arc::new(connect(options).await);
    let counted = Arc::clone(&moto);
    let leftovers = Box::new(move || counted.open_uploads("backups"));
    let ran = run(Backend { store, part: 5 << 20, many: 1_005, leftovers }).await;
    say(&format!("moto, {ran} checks"));
}

/// A service such as MinIO, Versity Gateway or Amazon, which `UZIMA_TEST_S3_ENDPOINT` and
/// `UZIMA_TEST_S3_BUCKET` name, with the credentials of the environment.
#[tokio::test(flavor = "multi_thread")]
async fn the_s3_service_of_the_environment_passes_the_conformance_suite() {
    let Ok(endpoint) = std::env::var("UZIMA_TEST_S3_ENDPOINT") else {
        return say("not run on a real service: UZIMA_TEST_S3_ENDPOINT is not set");
    };
    let bucket = std::env::var("UZIMA_TEST_S3_BUCKET").expect("UZIMA_TEST_S3_BUCKET beside the endpoint");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let mut options = S3Options::new(bucket, format!("uzima-test-{}", now.as_nanos()));
    options.endpoint_url = Some(endpoint.clone());
    options.limits = Limits { min_part: 5 << 20, max_parts: 20, ..Limits::default() };
    let store = Arc::new(connect(options).await);
    let ran = run(Backend { store, part: 5 << 20, many: 1_005, leftovers: Box::new(|| 0) }).await;
    say(&format!("{endpoint}, {ran} checks"));
}
