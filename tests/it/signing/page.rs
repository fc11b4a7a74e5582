//! The commands of docs/signing.md, with stock `minisign`.

use std::process::Command;

use crate::cli::support::{Home, Ran, TOOL, run};
use crate::oplog::support::{one_chain, set, tool};
use crate::pages::{block, read};
use uzima_backup::catalog::layout;

/// Runs commands of the page with a shell in a folder.
fn shell(folder: &std::path::Path, code: &str, public: Option<&str>) -> Ran {
    let tool = std::path::Path::new(TOOL).parent().expect("a folder").display().to_string();
    let path = format!("{tool}:{}", std::env::var("PATH").expect("a PATH"));
    let mut sh = Command::new("sh");
    sh.arg("-ec").arg(code).current_dir(folder).env_clear();
    if let Some(public) = public {
        sh.env("BACKUP_TRUSTED_KEYS", public);
    }
    run(sh.env("PATH", path))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_prove_a_backup_and_a_slice() {
    let page = read("docs/signing.md");
    let (folder, home) = (tempfile::TempDir::new().expect("a folder"), Home::new());
    let made = shell(folder.path(), block(&page, "Set-up", "sh"), None).ends(0);
    let public = made.stdout.lines().next().expect("a key").to_string();
    let (server, client) = set().await;
    for (n, args) in [&["backup"][..], &["oplog"]].into_iter().enumerate() {
        let rows = client.database("live").collection("rows");
        rows.insert_one(bson::doc! {"_id": n as i64}).await.expect("a row");
        let mut command = tool(&home, &server.uri(), args);
        command.env("BACKUP_SIGNING_KEY_FILE", folder.path().join("signing.key"));
        run(command.env("BACKUP_TRUSTED_KEYS", &public)).ends(0);
    }
    let manifest = home.manifests().pop().expect("a manifest");
    let backup = home.backups().join(layout::folder(&manifest.id));
    let proved = shell(&backup, block(&page, "Check a backup", "sh"), Some(&public)).ends(0);
    assert!(proved.stdout.contains(manifest.id.as_str()), "{}", proved.stdout);
    let slice = one_chain(&home).pop().expect("a slice");
    let slice = home.backups().join(layout::slice_folder("nightly", &slice.chain, slice.start));
    shell(&slice, block(&page, "Check a slice", "sh"), Some(&public)).ends(0);
    std::fs::write(backup.join("manifest.json"), "{}").expect("a file");
    assert_ne!(shell(&backup, block(&page, "Check a backup", "sh"), Some(&public)).code, Some(0));
}
