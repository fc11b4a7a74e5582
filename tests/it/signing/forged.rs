//! Backups that anybody may have written count for nothing: they are never the latest, and no cleanup deletes or heeds them.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use super::support::{Signer, statuses};
use crate::cleanup::support::{JOB, Place, hold, ids, manifest, of_time, with};
use crate::cli::support::run;

fn bytes(manifest: &Manifest) -> Vec<u8> {
    manifest.encode().expect("JSON")
}

/// Signed backups of these days ago.
fn signed(place: &Place, signer: &Signer, days: std::ops::Range<i64>) -> Vec<Manifest> {
    let manifests: Vec<Manifest> = days.map(|days| manifest(JOB, days)).collect();
    manifests.iter().for_each(|manifest| signer.add(place, manifest));
    manifests
}

/// The status of these backups.
#[track_caller]
fn assert_status(statuses: &BTreeMap<String, String>, manifests: &[Manifest], status: &str) {
    for manifest in manifests {
        assert_eq!(statuses[manifest.id.as_str()], status, "{}", manifest.id);
    }
}

/// Backups that are newer, from the future, much smaller, of another server, of another job, old, pinned, damaged and unreadable.
fn plant(place: &Place) -> Vec<Manifest> {
    let mut planted: Vec<Manifest> = [0, -400, 3, 50, 90, 5]
        .into_iter()
        .map(|days| of_time("x", Utc::now() - TimeDelta::hours(1) - TimeDelta::days(days)))
        .collect();
    for manifest in &mut planted {
        manifest.job = JOB.into();
        hold(manifest, 1);
        manifest.source.member = "evil:27017".into();
        place.add(manifest);
    }
    place.put(&layout::pin(&planted[3].id), b"{}");
    place.put(&layout::accepted(&planted[0].id), b"{}");
    place.put(&format!("{}verified-20261101T000000Z.json", layout::folder(&planted[4].id)), b"{");
    place.put(&planted[4].artifact.key, b"");
    place.put(&layout::manifest(&planted[5].id), b"{");
    planted
}

#[test]
fn a_forged_backup_is_shown_and_counts_for_nothing() {
    let (signer, place) = (Signer::new(), Place::dir());
    let manifests = signed(&place, &signer, 1..35);
    let planted = plant(&place);
    let mut other = manifest("other", 0);
    other.job = "evil".into();
    place.add(&other);
    for _ in 0..2 {
        // The second time from the cache.
        let shown = statuses(&signer.run(&place, &["list", "--json"]).ends(0));
        assert_status(&shown, &manifests, "completed");
        assert_status(&shown, &planted, "untrusted");
    }
    let only = signer.run(&place, &["list", "--json", "--status", "untrusted"]).ends(0);
    assert_eq!(statuses(&only).len(), planted.len() + 1);
    let details = signer.run(&place, &["list", planted[0].id.as_str()]).ends(0);
    assert!(details.stdout.contains("it is not signed"), "{}", details.stdout);
    // The planted job does not make the latest backup ambiguous.
    let mut latest = place.command();
    latest
        .env_remove("BACKUP_JOB")
        .env("BACKUP_TRUSTED_KEYS", &signer.public)
        .args(["list", "latest", "--json"]);
    let latest = run(&mut latest).ends(0);
    assert_eq!(latest.json()["backup"]["id"], manifests[0].id.as_str());
    assert!(latest.stderr.contains("untrusted: it is not signed"), "{}", latest.stderr);
    let fresh = signer.run(&place, &["health", "--only", "freshness"]).ends(0);
    let words = format!("{} is 25 h old", manifests[0].id);
    assert!(
        fresh.stdout.contains(&words) && fresh.stdout.contains("untrusted: it is not signed"),
        "{}",
        fresh.stdout
    );
    let health = signer.run(&place, &["health", "--only", "backups"]).ends(5);
    let text = health.stdout + &health.stderr;
    assert!(text.contains("untrusted: it is not signed") && text.contains("--allow-unsigned"), "{text}");
    let stats = signer.run(&place, &["stats", "--json"]).ends(0).json();
    assert_eq!(stats["backups_not_good"], 5, "{stats}");
    assert_eq!(stats["standing"]["frozen"].as_array().map(Vec::len).unwrap_or_default(), 0, "{stats}");
    for refused in
        [&["verify", planted[0].id.as_str()][..], &["restore", planted[0].id.as_str(), "--dry-run"]]
    {
        let ran = signer.run(&place, refused).ends(4);
        ran.says(&["is untrusted: it is not signed", "--allow-unsigned"]);
    }
    // The cleanup does what it would do without the planted backups.
    let report = signer.run(&place, &["cleanup", "--json"]).ends(3).json();
    crate::docs::schema::check("cleanup", &report);
    assert_eq!(report["frozen"].as_array().map(Vec::len), Some(0), "{report}");
    assert_eq!(with(&report, "deleted"), ids(&manifests[29..]));
    let keys = place.keys();
    for manifest in &planted {
        assert!(keys.contains(&layout::manifest(&manifest.id)), "{}", manifest.id);
    }
    let left = |m: &Manifest| keys.iter().filter(|key| key.contains(m.id.as_str())).count();
    assert_eq!((left(&manifests[0]), left(&manifests[33])), (4, 0), "with its signature");
    // Without trusted keys, the planted backups freeze it.
    let frozen = place.run(&["cleanup", "--json"]).ends(3).json();
    assert!(!frozen["frozen"].as_array().expect("a list").is_empty(), "{frozen}");
}

#[test]
fn wrong_signatures_end_list_with_4_and_freeze_nothing() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let replaced = |change: &dyn Fn(&Place, &[Manifest])| {
        let place = Place::dir();
        let manifests = signed(&place, &signer, 1..35);
        change(&place, &manifests);
        let list = signer.run(&place, &["list", "--json"]).ends(4);
        let wrong = statuses(&list).into_iter().filter(|(_, status)| status == "wrong_signature");
        let wrong: Vec<String> = wrong.map(|(id, _)| id).collect();
        let report = signer.run(&place, &["cleanup", "--json"]).ends(3).json();
        assert_eq!(report["frozen"].as_array().map(Vec::len), Some(0), "{report}");
        assert!(with(&report, "deleted").len() >= 3, "{report}");
        assert!(wrong.iter().all(|id| place.listed().contains(id)), "{report}");
        let latest = signer.run(&place, &["list", "latest", "--json"]).ends(0).json();
        assert!(!wrong.contains(&latest["backup"]["id"].as_str().expect("an id").to_string()));
        (wrong, manifests)
    };
    let signature = |place: &Place, m: &Manifest| {
        let key = layout::signature(&layout::manifest(&m.id));
        std::fs::read(place.home.backups().join(key)).expect("a signature")
    };
    let sign_as = |place: &Place, m: &Manifest, bytes: &[u8]| {
        place.put(&layout::signature(&layout::manifest(&m.id)), bytes);
    };
    // Two signatures are exchanged.
    let (wrong, of) = replaced(&|place, m| {
        let (one, two) = (signature(place, &m[0]), signature(place, &m[1]));
        sign_as(place, &m[0], &two);
        sign_as(place, &m[1], &one);
    });
    assert_eq!(wrong, [of[1].id.to_string(), of[0].id.to_string()]);
    // The manifest is another one, or is damaged.
    let (wrong, of) = replaced(&|place, m| {
        let mut changed = m[0].clone();
        changed.artifact.size = 1;
        place.put(&layout::manifest(&m[0].id), &bytes(&changed));
        place.put(&layout::manifest(&m[2].id), b"{");
    });
    assert_eq!(wrong, [of[2].id.to_string(), of[0].id.to_string()]);
    // Somebody signs with a key of their own, or writes nonsense.
    let (wrong, of) = replaced(&|place, m| {
        stranger.sign(place, &layout::manifest(&m[0].id), &bytes(&m[0]));
        sign_as(place, &m[1], b"untrusted comment: x\n");
        sign_as(place, &m[2], &[b'x'; 100_000]);
    });
    assert_eq!(wrong.len(), 3, "{wrong:?} {}", of[0].id);
    // A signed object of another kind is put in its place.
    let (wrong, of) = replaced(&|place, m| {
        let acceptance =
            br#"{"format":1,"id":"20261123T030000Z-7k3q9d","at":"2026-11-23T03:00:00Z","host":"x"}"#;
        signer.sign(place, &layout::manifest(&m[0].id), acceptance);
    });
    assert_eq!(wrong, [of[0].id.to_string()]);
    // A signed manifest of a newer version is no forgery, and may be the newest good backup.
    let place = Place::dir();
    let mut future = signed(&place, &signer, 0..1).remove(0);
    future.format = 2;
    signer.add(&place, &future);
    let shown = statuses(&signer.run(&place, &["list", "--json"]).ends(4));
    assert_eq!(shown[future.id.as_str()], "unreadable_manifest");
    // An old signed manifest is put into the folder of a newer backup.
    let newer = manifest(JOB, 0);
    let (wrong, _) = replaced(&|place, m| {
        place.add(&newer);
        place.put(&layout::manifest(&newer.id), &bytes(&m[20]));
        sign_as(place, &newer, &signature(place, &m[20]));
    });
    assert_eq!(wrong, [newer.id.to_string()]);
}

/// A wrong signature is checked in each run, and all others once.
#[test]
fn signatures_are_read_once() {
    let (signer, place) = (Signer::new(), Place::s3());
    let manifests = signed(&place, &signer, 1..21);
    place.nightly([30]);
    let reads = || {
        let before = place.bucket().count("GetObject");
        signer.run(&place, &["list"]).ends(0);
        place.bucket().count("GetObject") - before
    };
    assert_eq!(reads(), 2 * manifests.len() + 2);
    assert_eq!(reads(), 0);
    place.put(&layout::signature(&layout::manifest(&manifests[3].id)), b"x");
    signer.run(&place, &["list"]).ends(4);
    signer.add(&place, &manifests[3]);
    assert_eq!((reads(), reads()), (2, 0));
}

#[test]
fn several_keys_and_unsigned_backups_from_before_signing_are_trusted() {
    let (place, older, newer) = (Place::dir(), Signer::new(), Signer::new());
    let unsigned: Vec<Manifest> = place.nightly(20..23);
    let first = signed(&place, &older, 10..13);
    let second = signed(&place, &newer, 1..4);
    let forged = place.nightly([0]);
    let before = (Utc::now() - TimeDelta::days(15)).format("%F").to_string();
    let both = format!("{},{}", older.public, newer.public);
    let list = |keys: &str, before: Option<&str>| {
        let mut command = place.command();
        command.env("BACKUP_TRUSTED_KEYS", keys).args(["list", "--json"]);
        if let Some(before) = before {
            command.env("BACKUP_TRUSTED_BEFORE", before);
        }
        run(&mut command)
    };
    let shown = statuses(&list(&both, Some(&before)).ends(0));
    for trusted in [&unsigned, &first, &second] {
        assert_status(&shown, trusted, "completed");
    }
    assert_status(&shown, &forged, "untrusted");
    // The same listing from the cache, with other settings.
    let shown = statuses(&list(&both, None).ends(0));
    assert_status(&shown, &unsigned, "untrusted");
    let shown = statuses(&list(&newer.public, Some(&before)).ends(4));
    assert_status(&shown, &unsigned, "completed");
    assert_status(&shown, &first, "wrong_signature");
    assert_status(&shown, &second, "completed");
    assert!(statuses(&place.run(&["list", "--json"]).ends(0)).values().all(|status| status == "completed"));
    // A date in the manifest does not make a new folder old.
    let mut lying = manifest(JOB, 2);
    lying.started_at = Utc::now() - TimeDelta::days(100);
    lying.id = format!("{}-zzzzzz", &lying.id.as_str()[..16]).parse().expect("an id");
    lying.artifact.key = layout::artifact(&lying.id, "tar.gz".parse().expect("a format"), false);
    lying.index.key = layout::index(&lying.id, false);
    place.add(&lying);
    assert_status(&statuses(&list(&both, Some(&before)).ends(0)), &[lying], "untrusted");
}

#[test]
fn only_signed_acceptances_and_verdicts_count() {
    let (place, signer) = (Place::dir(), Signer::new());
    let manifests = signed(&place, &signer, 1..4);
    let mut small = manifest(JOB, 0);
    hold(&mut small, 1);
    signer.add(&place, &small);
    let frozen = || {
        let report = signer.run(&place, &["cleanup", "--dry-run", "--json"]).json();
        !report["frozen"].as_array().expect("a list").is_empty()
    };
    let acceptance = |id: &str| {
        format!(r#"{{"format":1,"id":"{id}","at":"{}","host":"x"}}"#, Utc::now().to_rfc3339()).into_bytes()
    };
    let key = layout::accepted(&small.id);
    assert!(frozen());
    place.put(&key, &acceptance(small.id.as_str()));
    assert!(frozen(), "an acceptance without a signature");
    signer.sign(&place, &key, &acceptance(manifests[0].id.as_str()));
    assert!(frozen(), "the acceptance of another backup");
    let accept = ["cleanup", "--accept", small.id.as_str()];
    signer.run(&place, &accept).ends(2).says(&["does not count", "BACKUP_SIGNING_KEY_FILE"]);
    signer.run_signing(&place, &accept).ends(0);
    assert!(!frozen());
    // A planted result of a verify says that a good backup is damaged.
    let at = "2026-11-30T00:00:00Z";
    let verdict = format!(
        r#"{{"format":1,"id":"{}","at":"{at}","host":"x","tool":"x","sound":false,"findings":["x"],"stored_bytes":1,
            "documents":1,"raw_bytes":1,"seconds":1.0}}"#,
        manifests[0].id
    );
    let key = layout::verified(&manifests[0].id, at.parse().expect("a time"));
    place.put(&key, verdict.as_bytes());
    let status = |signer: &Signer| {
        statuses(&signer.run(&place, &["list", "--json"]))[manifests[0].id.as_str()].clone()
    };
    assert_eq!(statuses(&place.run(&["list", "--json"]))[manifests[0].id.as_str()], "damaged");
    assert_eq!(status(&signer), "completed", "from the cache, without a signature");
    signer.sign(&place, &key, verdict.as_bytes());
    assert_eq!(status(&signer), "damaged");
    assert_eq!(status(&signer), "damaged", "from the cache");
    // A planted object that cannot be read freezes nothing.
    place.put(&key.replace("30T", "29T"), b"{");
    place.put(&layout::tombstone(&manifest("other", 9).id), b"{");
    assert!(!frozen());
    assert!(
        !place.run(&["cleanup", "--dry-run", "--json"]).json()["frozen"]
            .as_array()
            .expect("a list")
            .is_empty()
    );
}
