//! Runs the commands of the pages as they are written, with paths and addresses of this test instead of the examples'.

use std::path::Path;

use uzima_testkit::mongod::{Mongod, binary};

use super::{block, read};
use crate::cli::support::Home;
use crate::notify::support::{accepted, service};
use crate::readme::{shell, small_server};

/// Shell commands that set the server and a backup directory in this home.
fn settings(home: &Home, server: &Mongod) -> String {
    let mongod = binary::find().expect("a mongod");
    format!(
        "export MONGO_URI='{}' BACKUP_DIR='{}' BACKUP_JOB=nightly MONGOD_PATH='{}'\n",
        server.uri(),
        home.backups().display(),
        mongod.display()
    )
}

fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_readme() {
    let (server, home, readme) = (small_server().await, Home::new(), read("README.md"));
    let run = |commands: &str| shell(&(settings(&home, &server) + commands), home.path());
    run("uzima-backup backup");
    says(&run(block(&readme, "Verify", "sh")), &["sound", "drilled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_mail() {
    let (home, page, mails) = (Home::new(), read("docs/monitoring.md"), service(vec![accepted()]).await);
    let (example, ours) = ("/etc/uzima-backup/resend.key", home.path().join("resend.key"));
    std::fs::write(&ours, "re_key\n").expect("a key");
    let commands = block(&page, "Mail", "sh");
    assert!(commands.contains(example));
    let commands = commands.replace(example, ours.to_str().expect("UTF-8"));
    let place = format!("export BACKUP_DIR={} RESEND_BASE_URL={}\n", home.backups().display(), mails.uri());
    says(&shell(&(place + &commands), home.path()), &["failure    sent", "health     sent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_operations_page() {
    let (server, home, page) = (small_server().await, Home::new(), read("docs/operations.md"));
    let run = |commands: &str| shell(&(settings(&home, &server) + commands), home.path());
    let settings = run(block(&read("docs/configuration.md"), "Configuration", "sh"));
    says(&settings, &["job = nightly  (environment, BACKUP_JOB)"]);
    run("uzima-backup backup");
    says(&run(block(&page, "Monthly", "sh")), &["completed", "drill"]);

    let new = home.path().join("new");
    std::fs::create_dir(&new).expect("a folder");
    let moving = block(&page, "Moving the store", "sh");
    let moving = moving.replace("/var/backups/mongodb", home.backups().to_str().expect("UTF-8"));
    let moving = moving.replace("/mnt/new", new.to_str().expect("UTF-8"));
    says(&run(&moving), &["completed", "sound"]);
    assert!(Path::new(&new.join("mongodb")).is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_changes() {
    let (before, after, home) = (small_server().await, small_server().await, Home::new());
    shell(&(settings(&home, &before) + "uzima-backup backup"), home.path());
    // Ids have a resolution of one second, so the second backup must begin later.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let here = settings(&home, &after);
    shell(&format!("{here}uzima-backup backup"), home.path());
    shell(&format!("{here}uzima-backup cleanup && exit 1 || test $? = 3"), home.path());
    let page = read("docs/operations.md");
    let accept = block(&page, "Changing the server", "sh");
    let newest = home.manifests().pop().expect("a manifest").id;
    let accept = accept.replace("20261123T030000Z-7k3q9d", newest.as_str());
    shell(&format!("{here}{accept}\nuzima-backup cleanup"), home.path());
}
