//! Signed oplog slices, and slices that anybody may have written.

use std::path::PathBuf;
use std::process::Command;

use bson::doc;
use uzima_backup::catalog::layout;
use uzima_backup::model::optime::OpTime;
use uzima_backup::model::slice::SliceManifest;

use super::support::{Signer, minisign};
use crate::cli::support::{Home, NOWHERE, run};
use crate::oplog::support::{JOB, one_chain, set, slices, tool};

struct Stored {
    home: Home,
    signer: Signer,
}

impl Stored {
    fn command(&self, uri: &str, args: &[&str]) -> Command {
        let mut command = tool(&self.home, uri, args);
        self.signer.set(&mut command);
        command
    }

    fn folder(&self, slice: &SliceManifest) -> PathBuf {
        self.home.backups().join(layout::slice_folder(JOB, &slice.chain, slice.start))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_slices_are_ignored_and_the_signed_chain_is_restored() {
    let (server, client) = set().await;
    let stored = Stored { home: Home::new(), signer: Signer::new() };
    let rows = client.database("live").collection("rows");
    let uri = server.uri();
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    run(&mut stored.command(&uri, &["backup"])).ends(0);
    for n in 2..5 {
        rows.insert_one(doc! {"_id": n}).await.expect("a row");
        run(&mut stored.command(&uri, &["oplog"])).ends(0);
    }
    let chain = one_chain(&stored.home);
    assert!(chain.len() >= 3, "{}", chain.len());
    for slice in &chain {
        let file =
            slice.signature.as_ref().expect("it is signed").rsplit_once('/').expect("a folder").1.to_string();
        let check = ["-V", "-q", "-P", &stored.signer.public, "-m", "slice.json", "-x", &file];
        assert!(minisign(&stored.folder(slice), &check), "{}", slice.start);
    }
    // Somebody plants a slice after the newest one, and one of a newer chain, both without a valid signature.
    let newest = chain.last().expect("a slice");
    let mut planted = newest.clone();
    planted.start = newest.end.at;
    planted.after = Some(newest.end.clone());
    planted.end.at = OpTime { t: newest.end.at.t + 1000, i: 1 };
    (planted.body, planted.events, planted.entries, planted.raw_bytes) = (None, None, 0, 0);
    planted.signature =
        Some(format!("{}signature-abcdef.minisig", layout::slice_folder(JOB, &planted.chain, planted.start)));
    let folder = stored.folder(&planted);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("slice.json"), planted.encode().expect("JSON")).expect("a slice");
    let signature = stored.home.backups().join(newest.signature.as_ref().expect("a signature"));
    std::fs::copy(signature, folder.join("signature-abcdef.minisig")).expect("a copy");
    let mut unsigned = planted.clone();
    unsigned.chain.start = planted.end.at;
    (unsigned.start, unsigned.after, unsigned.signature) = (planted.end.at, None, None);
    unsigned.end.at = OpTime { t: planted.end.at.t + 1000, i: 1 };
    let other = stored.folder(&unsigned);
    std::fs::create_dir_all(&other).expect("a folder");
    std::fs::write(other.join("slice.json"), unsigned.encode().expect("JSON")).expect("a slice");
    assert_eq!(slices(&stored.home).len(), chain.len() + 2);
    let at_newest = ["restore", "--at", "newest", "--dry-run", "--drop"];
    let mut restore = stored.command(NOWHERE, &at_newest);
    let ran = run(restore.env("RESTORE_URI", &uri)).ends(0);
    assert!(
        ran.stderr.contains("is untrusted and ignored: ") && ran.stderr.contains("; 1 more"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains(&newest.end.at.second()), "{}", ran.stdout);
    for _ in 0..2 {
        let verified = run(&mut stored.command(NOWHERE, &["verify", "--oplog", "--json"])).ends(0);
        let chains = verified.json()["oplog"].as_array().expect("chains").clone();
        assert_eq!((chains.len(), chains[0]["slices"].as_u64()), (1, Some(chain.len() as u64)));
    }
    run(&mut stored.command(NOWHERE, &["cleanup"])).ends(3).says(&["is untrusted and ignored"]);
    assert_eq!(slices(&stored.home).len(), chain.len() + 2);
    // The planted slice has the name of the next one.
    rows.insert_one(doc! {"_id": 9}).await.expect("a row");
    let ran = run(&mut stored.command(&uri, &["oplog"])).ends(4);
    ran.says(&["has the name of the next slice, but is untrusted", "next step: "]);
    std::fs::remove_dir_all(&folder).expect("a folder");
    run(&mut stored.command(&uri, &["oplog"])).ends(0);
    assert_eq!(slices(&stored.home).len(), chain.len() + 2);
    // An acknowledged past: unsigned slices count if they are old enough.
    let mut before = stored.command(NOWHERE, &["verify", "--oplog", "--json"]);
    let verified = run(before.env("BACKUP_TRUSTED_BEFORE", "2999-01-01")).ends(0);
    assert_eq!(verified.json()["oplog"].as_array().map(Vec::len), Some(2));
}
