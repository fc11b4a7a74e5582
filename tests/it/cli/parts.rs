//! A service with a low limit of parts gets larger parts. A wrong estimate ends in an error.

use std::sync::Arc;
use std::time::Duration;

use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::error::Result;
use uzima_backup::base::exit::Exit;
use uzima_backup::base::progress::Meter;
use uzima_backup::base::retry::Patience;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::JobSettings;
use uzima_backup::config::choices::EngineChoice;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::store::{Limits, S3Options};
use uzima_backup::model::id::BackupId;
use uzima_backup::mongo::notes::Notes;
use uzima_backup::ops::backup;
use uzima_backup::ops::backup::{BackupOptions, BackupPlace, BackupReport, Resources};
use uzima_backup::store::S3Store;
use uzima_testkit::load::incompressible;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, Limits as ServerLimits, S3Server, SECRET_KEY};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Home, files};

const MIB: u64 = 1 << 20;

/// Backs up with the library to a service that accepts 20 parts.
async fn backed_up(uri: &str, bucket: &S3Server, home: &Home) -> Result<BackupReport> {
    let mut s3 = S3Options::new(BUCKET, "p/");
    s3.endpoint_url = Some(bucket.endpoint());
    s3.credentials = Some((ACCESS_KEY.into(), Secret::from(SECRET_KEY)));
    s3.limits = Limits { min_part: MIB, max_parts: 20, ..Limits::default() };
    let resources = Resources {
        places: vec![BackupPlace::only(Arc::new(S3Store::connect(s3).await?), 4)],
        away: Vec::new(),
        order: Vec::new(),
        clock: Clock::start(),
        new_id: Arc::new(|now| BackupId::new(now, &mut rand::rng())),
        meter: Arc::new(Meter::default()),
        cancel: Cancel::default(),
        notes: Notes::default(),
    };
    let machine = Machine { host: "test".into(), search_path: None, state_dir: Some(home.state()), cores: 2 };
    let mut settings = JobSettings::with_defaults(uri, "test", &machine).expect("valid settings");
    settings.engine = EngineChoice::Native;
    settings.check_compression = false;
    settings.stall = Duration::from_secs(60);
    settings.patience = Patience::new(Duration::from_secs(2));
    let options = BackupOptions::new(settings);
    backup::backup(&resources, &options).await
}

#[tokio::test]
async fn a_service_that_accepts_few_parts_gets_larger_ones() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let written =
        incompressible(&client.database("store"), "blobs", 1_350, 16 << 10, 24).await.expect("data");
    assert!(written.bytes > 21 * MIB && written.bytes < 36 * MIB);
    let limits = ServerLimits { parts: 20, ..ServerLimits::default() };
    let (home, bucket) = (Home::new(), S3Server::with(limits));
    let report = backed_up(&server.uri(), &bucket, &home).await.expect("larger parts");
    let parts = bucket.count("UploadPart");
    assert_eq!(report.manifest.artifact.part_size, 2 * MIB);
    assert!((10..=20).contains(&parts), "{parts}");

    // The built-in role `backup` may not ask for the data size, only for the size on disk.
    let walled = Mongod::builder().auth().start().await.expect("mongod");
    let client = walled.client().await.expect("a client");
    incompressible(&client.database("store"), "blobs", 1_350, 16 << 10, 24).await.expect("data");
    client.database("admin").run_command(bson::doc! {"fsync": 1}).await.expect("files as large as the data");
    walled.create_user("backup", "pw", &[("backup", "admin")]).await.expect("a user");
    let (home, bucket) = (Home::new(), S3Server::with(limits));
    let uri = walled.uri_as("backup", "pw", "admin");
    let report = backed_up(&uri, &bucket, &home).await.expect("larger parts");
    assert!(report.manifest.artifact.part_size > MIB);

    // A server whose estimate is far too low: with parts of 1 MiB, more than 20 are needed.
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let nothing =
        |answer: &[u8]| raw::rewrite(answer, &["dataSize"], &|_, _| Some((1, 0_f64.to_le_bytes().to_vec())));
    let lied = proxy.add(Rule::on("dbStats").then(Action::edit(nothing)));
    let (home, bucket) = (Home::new(), S3Server::with(limits));
    let error = backed_up(&proxy.uri(&server.uri()), &bucket, &home).await.expect_err("too many parts");
    assert!(proxy.hits(lied) > 0);
    assert_eq!(error.exit(), Exit::Failed);
    assert!(error.chain().contains("20 parts"), "{}", error.chain());
    let keys: Vec<String> = bucket.objects().into_keys().collect();
    assert_eq!((keys, bucket.open_uploads(), files(&home.state())), (vec![], vec![], vec![]));
    assert!(bucket.count("UploadPart") >= 15);
}
