//! Backups in a bucket, configured by environment variables only.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::moto::Moto;
use uzima_testkit::read_all::read_all;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, Fault, Rule, S3Server, SECRET_KEY};
use uzima_testkit::wire_proxy::WireProxy;

use super::contents::contents;
use super::support::{Home, Ran, files, run};

/// The tool that backs `uri` up to a bucket in this process.
pub fn to_s3(home: &Home, uri: &str, bucket: &S3Server) -> Command {
    let mut command = home.tool();
    command.env("MONGO_URI", uri).envs(variables(&bucket.endpoint()));
    command
}

pub fn variables(endpoint: &str) -> BTreeMap<&'static str, String> {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", "us-east-1"),
        ("S3_ENDPOINT_URL", endpoint),
        ("S3_BACKUP_BUCKET", BUCKET),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

async fn server() -> Mongod {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..500).map(|n| bson::doc! {"_id": n, "text": "x".repeat(n as usize)}))
        .await
        .expect("rows");
    server
}

#[tokio::test]
async fn a_backup_stores_three_objects_in_the_bucket() {
    let (server, home, bucket) = (server().await, Home::new(), S3Server::start());
    let report = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json"])).ends(0).json();
    let objects = bucket.objects();
    let id = report["id"].as_str().expect("an id");
    let folder = format!("daily-backups/{}/{}/{id}/", &id[..4], &id[4..6]);
    let names: Vec<&str> = objects.keys().filter_map(|key| key.strip_prefix(&folder)).collect();
    assert_eq!((names, objects.len()), (vec!["dump.tar.gz", "index.json.zst", "manifest.json"], 3));
    assert_eq!(report["place"], json!(format!("s3://{BUCKET}/{folder}dump.tar.gz")));
    let manifest = Manifest::decode(&objects[&format!("{folder}manifest.json")]).expect("a manifest");
    same_documents(&server, &manifest, &objects[&format!("{folder}dump.tar.gz")]).await;
    assert_eq!((bucket.open_uploads(), files(&home.state())), (vec![], vec![]));
    let listed = run(to_s3(&home, "mongodb://127.0.0.1:1", &bucket).args(["list", "--json"])).ends(0).json();
    assert_eq!(
        (&listed["backups"][0]["id"], &listed["place"]),
        (&json!(id), &json!(format!("s3://{BUCKET}/daily-backups/")))
    );
}

async fn same_documents(server: &Mongod, manifest: &Manifest, artifact: &[u8]) {
    let truth = read_all(&server.client().await.expect("a client")).await.expect("a snapshot");
    let got = contents(manifest, artifact);
    assert_eq!(got.documents["shop.rows"], truth.get("shop", "rows").expect("rows").documents);
    let users: Vec<Vec<u8>> = truth.users.into_values().collect();
    assert_eq!(got.documents["admin.system.users"], users);
}

/// moto is an independent implementation of S3: the test reads the object's metadata from it.
#[tokio::test]
async fn a_backup_to_moto_succeeds() {
    let (server, home) = (server().await, Home::new());
    let moto = tokio::task::spawn_blocking(Moto::start).await.expect("moto");
    moto.create_bucket(BUCKET);
    let tool = |args: &[&str]| {
        let mut command = home.tool();
        run(command.env("MONGO_URI", server.uri()).envs(variables(&moto.endpoint())).args(args)).ends(0)
    };
    let report = tool(&["backup", "--json", "--job", "nightly"]).json();
    let id = report["id"].as_str().expect("an id");
    let key = format!("daily-backups/{}/{}/{id}/dump.tar.gz", &id[..4], &id[4..6]);
    let head = head(&moto, &key);
    for line in [
        format!("x-amz-meta-backup-id: {id}"),
        "x-amz-meta-job: nightly".into(),
        "x-amz-meta-tool: uzima-backup".into(),
    ] {
        assert!(head.to_ascii_lowercase().contains(&line.to_ascii_lowercase()), "no {line:?} in:\n{head}");
    }
    let listed = tool(&["list", "--json"]).json();
    assert_eq!(listed["backups"][0]["id"], json!(id));
    assert_eq!(moto.open_uploads(BUCKET), 0);
}

fn head(moto: &Moto, key: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(moto.address()).expect("moto answers");
    let request =
        format!("HEAD /{BUCKET}/{key} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", moto.address());
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Asserts that no object, no open upload and no state is left.
fn assert_nothing_left(home: &Home, bucket: &S3Server) {
    let keys: Vec<String> = bucket.objects().into_keys().collect();
    assert_eq!((keys, bucket.open_uploads(), files(&home.state())), (vec![], vec![], vec![]));
}

/// A bucket that does not exist or may not be used is reported before MongoDB is asked anything.
#[tokio::test]
async fn an_unusable_bucket_is_reported_before_mongodb_is_asked() {
    let server = server().await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let uri = proxy.uri(&server.uri());
    for (fault, words) in [
        (Fault::Answer(403, "AccessDenied"), ["AccessDenied", "s3:ListBucket"]),
        (Fault::Answer(404, "NoSuchBucket"), ["NoSuchBucket", "S3_BACKUP_BUCKET"]),
        (Fault::Answer(403, "InvalidAccessKeyId"), ["InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"]),
    ] {
        let (home, bucket) = (Home::new(), S3Server::start());
        bucket.faults().add(Rule::always("*", fault));
        let ran = run(to_s3(&home, &uri, &bucket).arg("backup")).ends(1).says(&words);
        // The failure cannot be recorded in that bucket either, which needs no message of its own.
        assert!(!ran.stderr.contains("could not be recorded"), "{}", ran.stderr);
        assert!(!bucket.calls().is_empty());
        assert_nothing_left(&home, &bucket);
        // An unreadable bucket is not taken for an empty one.
        let listed = run(to_s3(&home, &uri, &bucket).arg("list")).ends(1).says(&words[..1]);
        assert_eq!(listed.stdout, "");
    }
    assert_eq!(proxy.log().len(), 0);
    // The proxy does see a run that may use its bucket.
    let (home, bucket) = (Home::new(), S3Server::start());
    run(to_s3(&home, &uri, &bucket).arg("backup")).ends(0);
    assert!(!proxy.log().is_empty());
}

/// The configured source of credentials is named, not the machine's metadata service.
#[test]
fn credentials_that_cannot_be_had_are_named_by_their_source() {
    let (home, bucket) = (Home::new(), S3Server::start());
    for (variables, words) in [
        (vec![("AWS_PROFILE", "nowhere")], vec!["the profile nowhere (AWS_PROFILE)"]),
        (
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token"),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
            ],
            vec!["/nonexistent/token (AWS_WEB_IDENTITY_TOKEN_FILE)"],
        ),
    ] {
        let mut tool = to_s3(&home, "mongodb://127.0.0.1:1", &bucket);
        tool.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        tool.env("AWS_EC2_METADATA_DISABLED", "true").envs(variables).env("BACKUP_PATIENCE", "2");
        run(tool.arg("list")).ends(2).says(&words);
    }
    assert_eq!(bucket.calls().len(), 0);
}

/// A key that may write but not read would upload everything, fail at the comparison and leave an orphan
/// every night.
#[tokio::test]
async fn a_key_that_may_not_read_is_found_before_mongodb_is_asked() {
    let server = server().await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let (home, bucket) = (Home::new(), S3Server::start());
    for operation in ["GetObject", "HeadObject"] {
        bucket.faults().add(Rule::always(operation, Fault::Answer(403, "AccessDenied")));
    }
    run(to_s3(&home, &proxy.uri(&server.uri()), &bucket).arg("backup"))
        .ends(1)
        .says(&["HTTP 403: access denied", "Allow s3:GetObject"]);
    assert_eq!((proxy.log().len(), bucket.count("CreateMultipartUpload")), (0, 0));
}

/// A wrong address or a name in the wrong place can only be noticed on the network, so the run fails with
/// exit code 1.
#[tokio::test]
async fn a_wrong_endpoint_is_named() {
    let (server, home) = (server().await, Home::new());
    let began = Instant::now();
    let mut closed = home.tool();
    closed.env("MONGO_URI", server.uri()).envs(variables("http://127.0.0.1:1")).arg("backup");
    run(&mut closed).ends(2).says(&["connection refused", "S3_ENDPOINT_URL (http://127.0.0.1:1)"]);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let bucket = S3Server::start();
    bucket.faults().add(Rule::always("*", Fault::WebPage));
    run(to_s3(&home, &server.uri(), &bucket).arg("backup"))
        .ends(2)
        .says(&["S3_ENDPOINT_URL", "S3_FORCE_PATH_STYLE"]);
    bucket.faults().clear();
    let mut style = to_s3(&home, &server.uri(), &bucket);
    style.env("S3_ENDPOINT_URL", bucket.endpoint().replace("127.0.0.1", "localhost"));
    run(style.env("S3_FORCE_PATH_STYLE", "false").arg("backup")).ends(2).says(&["S3_FORCE_PATH_STYLE"]);
    let mut tls = to_s3(&home, &server.uri(), &bucket);
    tls.env("S3_ENDPOINT_URL", bucket.endpoint().replace("http:", "https:")).arg("list");
    run(&mut tls).ends(1).says(&["The service at S3_ENDPOINT_URL (https://", "does not speak TLS"]);
    let mut nobody = to_s3(&home, &server.uri(), &bucket);
    nobody.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    nobody.env("AWS_EC2_METADATA_DISABLED", "true").arg("backup");
    run(&mut nobody).ends(2).says(&["there are no credentials\nnext step: Set AWS_ACCESS_KEY_ID"]);
    assert_nothing_left(&home, &bucket);
}

/// The faults at the end of an upload, as a whole backup meets them.
#[tokio::test]
async fn faults_at_the_end_of_an_upload_leave_a_whole_backup_or_none() {
    let server = server().await;
    let attempt = |rules: Vec<Rule>| -> (Ran, Home, S3Server) {
        let (home, bucket) = (Home::new(), S3Server::start());
        rules.into_iter().for_each(|rule| bucket.faults().add(rule));
        let ran = run(to_s3(&home, &server.uri(), &bucket).arg("backup"));
        (ran, home, bucket)
    };
    let good = [
        ("CompleteMultipartUpload", vec![Rule::first(1, "CompleteMultipartUpload", Fault::LoseAnswer)]),
        ("PutObject", vec![Rule::first(1, "PutObject", Fault::LoseAnswer).key("manifest.json")]),
        (
            "PutObject",
            vec![
                Rule::first(1, "PutObject", Fault::Answer(409, "ConditionalRequestConflict"))
                    .key("manifest.json"),
            ],
        ),
        ("UploadPart", vec![Rule::first(2, "UploadPart", Fault::Damage)]),
    ];
    for (operation, rules) in good {
        let said = format!("{rules:?}");
        let (ran, home, bucket) = attempt(rules);
        ran.ends(0);
        assert!(bucket.count(operation) >= 2, "{said}");
        assert_eq!(
            (bucket.objects().len(), bucket.open_uploads(), files(&home.state())),
            (3, vec![], vec![]),
            "{said}"
        );
        let listed = run(to_s3(&home, &server.uri(), &bucket).args(["list", "--json"])).ends(0).json();
        assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1), "{said}");
    }
    let bad = [
        ("dump.tar.gz", vec![Rule::always("CompleteMultipartUpload", Fault::Shorten(7))]),
        ("dump.tar.gz", vec![Rule::always("CompleteMultipartUpload", Fault::ErrorIn200("InternalError"))]),
        (
            "manifest.json",
            vec![Rule::always("PutObject", Fault::Answer(412, "PreconditionFailed")).key("manifest.json")],
        ),
        ("manifest.json", vec![Rule::always("PutObject", Fault::LoseRequest).key("manifest.json")]),
        (
            "index.json.zst",
            vec![Rule::always("PutObject", Fault::Answer(500, "InternalError")).key("index.json.zst")],
        ),
        ("dump.tar.gz", vec![Rule::always("UploadPart", Fault::Damage)]),
    ];
    for (file, rules) in bad {
        let said = format!("{rules:?}");
        let (ran, home, bucket) = attempt(rules);
        ran.ends(1).says(&[file]);
        bucket.faults().clear();
        let keys: Vec<String> = bucket.objects().into_keys().collect();
        assert!(keys.len() == 1 && keys[0].ends_with("/failed.json"), "{said}: {keys:?}");
        assert_eq!(bucket.open_uploads(), vec![], "{said}");
        assert_eq!(files(&home.state()), Vec::<String>::new(), "{said}");
    }
}

/// The database name is part of the default job name, which goes into a metadata header of the object.
#[tokio::test]
async fn a_job_named_after_an_odd_database_is_stored_in_the_metadata() {
    let (server, home, bucket) = (server().await, Home::new(), S3Server::start());
    let rows = server.client().await.expect("a client").database("bücher&漢").collection("rows");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let report = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json", "--db", "bücher&漢"]))
        .ends(0)
        .json();
    let job = report["job"].as_str().expect("a job");
    let listed =
        run(to_s3(&home, &server.uri(), &bucket).args(["list", "--json", "--job", job])).ends(0).json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1));
}
