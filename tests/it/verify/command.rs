//! `verify` through the real binary, and the use of its results by other commands.

use crate::cli::support::{Home, run, server_with_rows};

fn backup(home: &Home, uri: &str, job: &str) -> String {
    run(home.to_dir(uri).args(["backup", "--job", job])).ends(0);
    home.manifests().pop().expect("a manifest").id.to_string()
}

/// Flips a byte in the middle of a backup's artifact.
fn damage(home: &Home, id: &str) {
    let manifest = home.manifests().into_iter().find(|m| m.id.as_str() == id).expect("the manifest");
    let path = home.backups().join(&manifest.artifact.key);
    let mut bytes = std::fs::read(&path).expect("the artifact");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("a file");
}

#[tokio::test]
async fn damaged_backups_are_reported_by_verify_list_stats_cleanup_and_health() {
    let (server, home) = (server_with_rows(200, 300).await, Home::new());
    let (first, second) = (backup(&home, &server.uri(), "nightly"), backup(&home, &server.uri(), "nightly"));
    let tool = |args: &[&str]| run(home.to_dir(&server.uri()).args(args));
    let sound = tool(&["verify"]).ends(0);
    assert!(sound.stdout.starts_with(&format!("sound    {second} of nightly: 2")), "{}", sound.stdout);
    damage(&home, &first);
    let damaged = tool(&["verify", &first]).ends(4);
    assert!(damaged.stdout.starts_with("DAMAGED"), "{}", damaged.stdout);
    assert!(
        damaged.stdout.contains("shop.rows") && damaged.stdout.contains("(at byte "),
        "{}",
        damaged.stdout
    );
    let quiet = tool(&["verify", &first, "--quiet"]).ends(4);
    assert!(quiet.stdout.is_empty() && quiet.stderr.contains("shop.rows"), "{}", quiet.stderr);
    let list = tool(&["list", "--json"]).ends(4).json();
    let verified = |at: usize| list["backups"][at]["verified"]["sound"].as_bool();
    assert_eq!((verified(0), verified(1)), (Some(true), Some(false)), "{list}");
    // `list` and `stats` show the backup as damaged, although its run succeeded.
    let stats = tool(&["stats", "--json", "--job", "nightly"]).ends(0).json();
    for rows in [&list["backups"], &stats["last"]] {
        assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&"completed".into(), &"damaged".into()));
        assert!(rows[1]["error"].as_str().is_some_and(|why| why.starts_with("verify found it damaged: ")));
    }
    assert_eq!((&stats["backups_not_good"], &stats["success"][2]["percent"]), (&1.into(), &100.0.into()));
    // A damaged backup does not count as good any more.
    let plan = tool(&["cleanup", "--dry-run", "--json", "--job", "nightly"]).ends(3).json();
    let problem = plan["problems"][0].as_str().expect("a text");
    let step = format!("put it back; `uzima-backup verify {first}` then makes the backup count again");
    for words in ["verify found it damaged: ", "; it does not count, and is deleted by age after 20", &step] {
        assert!(problem.contains(words), "{words}: {problem}");
    }
    let fresh = tool(&["health", "--only", "freshness", "--job", "nightly"]).ends(0);
    assert!(fresh.stdout.contains(&second), "{}", fresh.stdout);
    damage(&home, &second);
    tool(&["verify", &second]).ends(4);
    let stale = tool(&["health", "--only", "freshness", "--job", "nightly"]).ends(5);
    let words = format!(
        "no good backup of the job nightly; 2 backups do not count, the newest is {second}: verify found it damaged"
    );
    assert!(stale.stdout.contains(&words), "{}", stale.stdout);
    // The same flip repairs the backup. After another verification the newest result counts.
    damage(&home, &second);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    tool(&["verify", &second]).ends(0);
    tool(&["health", "--only", "freshness", "--job", "nightly"]).ends(0);
}

#[tokio::test]
async fn verify_all_reports_orphans_and_unreadable_manifests() {
    let (server, home) = (server_with_rows(200, 300).await, Home::new());
    let ids = [backup(&home, &server.uri(), "a"), backup(&home, &server.uri(), "b")];
    let tool = |args: &[&str]| run(home.to_dir(&server.uri()).args(args));
    let several = tool(&["verify"]).ends(2);
    assert!(
        several.stderr.contains("several jobs: a, b") && several.stderr.contains("--job"),
        "{}",
        several.stderr
    );
    tool(&["verify", "latest", "--job", "a"]).ends(0);
    tool(&["verify", "--job", "none"]).ends(1);
    tool(&["verify", "20200101T000000Z-aaaaaa"]).ends(1);
    tool(&["verify", "yesterday"]).ends(2);
    tool(&["verify", "--sample", "10%"]).ends(2);
    let orphan = home.backups().join("2020/01/20200101T000000Z-bbbbbb");
    std::fs::create_dir_all(&orphan).expect("a folder");
    std::fs::write(orphan.join("dump.tar.gz"), "x").expect("a file");
    let all = tool(&["verify", "--all", "--json"]).ends(0).json();
    assert_eq!(all["backups"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["orphans"][0], "2020/01/20200101T000000Z-bbbbbb/dump.tar.gz");
    let half = tool(&["verify", "--all", "--sample", "50%", "--json"]).ends(0).json();
    assert_eq!(half["backups"].as_array().map(Vec::len), Some(1), "{half}");
    let broken = home.backups().join(format!("2020/01/20200101T000000Z-cccccc/{}", "manifest.json"));
    std::fs::create_dir_all(broken.parent().expect("a folder")).expect("a folder");
    std::fs::write(broken, "{").expect("a file");
    let all = tool(&["verify", "--all", "--json"]).ends(4).json();
    assert_eq!(all["damaged"][0]["id"], "20200101T000000Z-cccccc");
    assert!(ids.iter().all(|id| all.to_string().contains(id)));
}

/// The findings name the missing object and the next step, and give no figures of unread data.
#[tokio::test]
async fn a_missing_object_is_reported_with_the_next_step() {
    let (server, home) = (server_with_rows(200, 300).await, Home::new());
    let (first, second) = (backup(&home, &server.uri(), "nightly"), backup(&home, &server.uri(), "nightly"));
    let tool = |args: &[&str]| run(home.to_dir(&server.uri()).args(args));
    let manifests = home.manifests();
    let path = |id: &str, file: &str| {
        let manifest = manifests.iter().find(|m| m.id.as_str() == id).expect("the manifest");
        home.backups().join(&manifest.artifact.key).with_file_name(file)
    };
    let (manifest, artifact) = (path(&first, "manifest.json"), path(&first, "dump.tar.gz"));
    std::fs::remove_file(manifest).expect("it was there");
    let from = format!("restore --from {} --dry-run", artifact.display());
    for args in [&["verify", &first][..], &["restore", &first, "--dry-run"]] {
        tool(args).ends(1).says(&[
            "there is no backup",
            "its artifact",
            "but its manifest is missing",
            &from,
        ]);
    }
    let args = ["restore", "--from", artifact.to_str().expect("a path"), "--dry-run", "--drop"];
    assert!(tool(&args).ends(0).stdout.contains("shop.rows: 200 documents"));
    std::fs::remove_file(path(&second, "index.json.zst")).expect("it was there");
    let whole = path(&second, "dump.tar.gz");
    let from = format!("restore --from {} --dry-run", whole.display());
    tool(&["restore", &second, "--dry-run"]).ends(4).says(&["index.json.zst is missing", &from]);
    std::fs::remove_file(&whole).expect("it was there");
    let printed = tool(&["verify", &second]).ends(4).stdout;
    assert!(printed.starts_with(&format!("DAMAGED  {second} of nightly\n")), "{printed}");
}

/// A cleanup deletes the results with their backup, so that the folder is empty.
#[tokio::test]
async fn results_of_verify_are_deleted_with_their_backup() {
    let (server, home) = (server_with_rows(200, 300).await, Home::new());
    let first = backup(&home, &server.uri(), "nightly");
    let tool = |args: &[&str]| run(home.to_dir(&server.uri()).args(args));
    tool(&["verify", &first]).ends(0);
    let named = home.files().into_iter().find(|file| file.ends_with("/manifest.json")).expect("a manifest");
    let manifest = home.backups().join(named);
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    let year: i32 = first[..4].parse().expect("a year");
    let older =
        text.replace(&format!("\"started_at\": \"{year}"), &format!("\"started_at\": \"{}", year - 1));
    assert_ne!(older, text);
    std::fs::write(&manifest, older).expect("an older manifest");
    let second = backup(&home, &server.uri(), "nightly");
    run(home.to_dir(&server.uri()).env("BACKUP_KEEP_MIN", "1").args(["cleanup", "--job", "nightly"])).ends(0);
    let left: Vec<String> = home.files().into_iter().filter(|file| !file.contains(&second)).collect();
    assert_eq!(left, Vec::<String>::new());
}
