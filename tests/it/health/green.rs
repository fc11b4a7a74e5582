//! A sound installation is healthy, also in cron's environment, and health changes nothing in it.

use std::process::Command;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::moto::Moto;
use uzima_testkit::read_all::read_all;
use uzima_testkit::s3_server::{BUCKET, S3Server};

use super::support::{ALL, Health, in_bucket, objects, server, snapshot};
use crate::cli::support::{Home, files, run};

/// Checks a new installation, and then one with a backup. Both stay unchanged.
fn before_and_after(mut tool: impl FnMut() -> Command, extra: &[&str]) -> Health {
    let new = Health::of(&mut tool(), &["--skip", "freshness"]).green();
    let names: Vec<&str> =
        new.report["checks"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ALL);
    assert_eq!(
        (new.row("freshness")["outcome"].as_str(), new.detail("freshness")),
        (Some("skipped"), "by --skip")
    );
    let never = Health::of(&mut tool(), &[]);
    never.only("freshness", &["no backup of the job", "--skip freshness", "uzima-backup backup"], &[]);
    run(tool().arg("backup")).ends(0);
    let after = Health::of(&mut tool(), &[]).green();
    assert!(after.detail("freshness").contains("min old, 30 h are allowed"), "{}", after.report);
    for name in extra {
        assert_ne!(after.row(name)["outcome"], "ok", "{}", after.report);
    }
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_green_with_a_directory() {
    let (server, home) = (server().await, Home::new());
    let uri = server.uri();
    let after = before_and_after(|| home.to_dir(&uri), &["clock"]);
    assert!(after.detail("mongodb").contains(&format!("standalone, {}", server.host())), "{}", after.report);
    assert!(after.detail("namespaces").contains("readable"), "{}", after.report);
    assert_eq!(after.detail("engine"), "native: engine = native");
    let dir = std::fs::canonicalize(home.backups()).unwrap();
    assert!(after.detail("store").contains(dir.to_str().unwrap()), "{}", after.report);
    assert!(
        after.detail("disk").contains("there is room for another backup as large as the last one"),
        "{}",
        after.report
    );
    assert_eq!(after.detail("clock"), "a directory has no clock of its own");
    assert!(after.detail("configuration").contains("kept for 30 days, until 20"), "{}", after.report);

    let client = server.client().await.unwrap();
    let (kept, state) = (snapshot(&home.backups()), snapshot(&home.state()));
    let held = read_all(&client).await.unwrap();
    Health::of(&mut home.to_dir(&uri), &[]).green();
    assert_eq!((snapshot(&home.backups()), snapshot(&home.state())), (kept, state));
    assert_eq!(held.diff(&read_all(&client).await.unwrap()), Vec::<String>::new());
}

/// The check creates neither the directory nor the state folder.
#[tokio::test(flavor = "multi_thread")]
async fn health_is_green_with_a_directory_that_does_not_exist_yet() {
    let (server, home) = (server().await, Home::new());
    std::fs::remove_dir(home.backups()).unwrap();
    let new = Health::of(&mut home.to_dir(&server.uri()), &["--skip", "freshness"]).green();
    for (name, path) in [("store", home.backups()), ("state", home.state())] {
        let want = format!("{} does not exist yet: the first backup creates it", path.display());
        assert_eq!(new.detail(name), want);
        assert!(!path.exists());
    }
    assert!(new.detail("disk").contains("there is no backup yet to compare with"), "{}", new.report);
    Health::of(&mut home.to_dir(&server.uri()), &[]).only("freshness", &["no backup of the job"], &[]);
    assert!(!home.backups().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_green_with_a_bucket() {
    let (server, home, bucket) = (server().await, Home::new(), S3Server::start());
    let (uri, endpoint) = (server.uri(), bucket.endpoint());
    let after = before_and_after(|| in_bucket(&home, &uri, &endpoint), &["disk"]);
    assert_eq!(after.row("disk")["outcome"], "not_configured");
    assert!(after.detail("clock").contains("this machine's clock is"), "{}", after.report);
    let place = format!("s3://{BUCKET}/daily-backups/");
    assert!(after.detail("store").starts_with(&place), "{}", after.report);
    let held = objects(&bucket);
    assert!(held.len() == 3 && held.keys().all(|key| !key.contains(".health")), "{:?}", held.keys());
    Health::of(&mut in_bucket(&home, &uri, &endpoint), &[]).green();
    assert_eq!(objects(&bucket), held);
    assert!(
        bucket.calls().iter().any(|call| call.operation == "PutObject" && call.key.contains("/.health/"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_green_with_moto() {
    let (server, home, moto) = (server().await, Home::new(), Moto::start());
    moto.create_bucket(BUCKET);
    let (uri, endpoint) = (server.uri(), moto.endpoint());
    before_and_after(|| in_bucket(&home, &uri, &endpoint), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_green_with_a_replica_set_and_the_role_backup() {
    let set = Mongod::builder().replica_set("rs7").start().await.expect("mongod");
    let home = Home::new();
    let health = Health::of(&mut home.to_dir(&set.uri()), &["--allow-empty", "--skip", "freshness"]).green();
    let words = format!("replica set rs7, {}", set.host());
    assert!(health.detail("mongodb").contains(&words), "{}", health.report);

    let server = server().await;
    server.create_user("nightly", "pw", &[("backup", "admin")]).await.unwrap();
    let uri = server.uri_as("nightly", "pw", "admin");
    Health::of(&mut home.to_dir(&uri), &["--skip", "freshness"]).green();
}

/// As cron starts it: an empty environment, the root folder, and all settings in a configuration file.
#[tokio::test(flavor = "multi_thread")]
async fn health_is_green_in_the_environment_of_cron() {
    let (server, home) = (server().await, Home::new());
    let config = home.path().join("config.toml");
    let text = format!(
        "mongo_uri = '{}'\ndir = '{}'\nmin_free = 0\nstate_dir = '{}'\nengine = 'native'\n",
        server.uri(),
        home.backups().display(),
        home.state().display()
    );
    std::fs::write(&config, text).unwrap();
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let tool = |args: &[&str]| run(crate::cli::support::bare().arg("--config").arg(&config).args(args));
    let ran = tool(&["health", "--skip", "freshness"]).ends(0);
    assert!(ran.stdout.ends_with("healthy: 8 ok, 3 skipped, 4 not configured\n"), "{}", ran.stdout);
    let quiet = tool(&["health", "--skip", "freshness", "--quiet"]).ends(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!((files(&home.backups()), files(&home.state())), (vec![], vec![]));
}
