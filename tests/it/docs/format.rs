//! docs/format.md describes every field of the stored objects.

use std::collections::BTreeSet;

use uzima_backup::catalog::marks::FailedRun;

use super::{keys, read};

/// A manifest in which every optional field is set.
fn full_manifest() -> serde_json::Value {
    use uzima_backup::model::losses::{Losses, NamespaceLoss};
    use uzima_backup::model::manifest::*;
    use uzima_backup::model::namespace::Type;
    use uzima_backup::model::optime::OpTime;
    use uzima_backup::model::selection::SelectionAsked;
    use uzima_backup::model::server::Topology;
    let now = "2026-11-23T03:00:00Z".parse().unwrap();
    let text = || String::from("x");
    let namespace = NamespaceEntry {
        db: text(),
        collection: text(),
        kind: Type::Collection,
        uuid: Some(text()),
        options_blake3: text(),
        indexes: vec![IndexEntry { name: text(), blake3: text() }],
        documents: 1,
        raw_bytes: 1,
        stored_bytes: 1,
        xxh3_sum: text(),
        dropped: true,
    };
    let at = OpTime { t: 1, i: 1 };
    let slice =
        OplogSlice { start: at, end: at, entries: 1, raw_bytes: 1, stored_bytes: 1, xxh3_sum: text() };
    let losses = Losses {
        since: "20261122T030000Z-7k3q9d".parse().unwrap(),
        count: 1,
        namespaces: vec![NamespaceLoss {
            namespace: text(),
            documents_before: 2,
            documents: Some(1),
            raw_bytes_before: 2,
            raw_bytes: Some(1),
        }],
    };
    let manifest = Manifest {
        format: FORMAT,
        id: "20261123T030000Z-7k3q9d".parse().unwrap(),
        job: text(),
        tool: text(),
        host: text(),
        started_at: now,
        finished_at: now,
        source: SourceServer {
            topology: Topology::ReplicaSet,
            member: text(),
            version: text(),
            feature_compatibility_version: Some("6.0".parse().unwrap()),
            set_name: Some(text()),
            set_id: Some(text()),
        },
        engine: EngineUsed { name: text(), version: Some(text()), why: text() },
        consistency: ConsistencyAchieved {
            achieved: text(),
            why: text(),
            at: Some(at),
            oplog: Some(slice),
            base: Some(ChainBase { from: at, term: 1, blake3: Some(text()) }),
        },
        selection: SelectionAsked::default(),
        partial: true,
        artifact: ArtifactObject {
            key: text(),
            format: text(),
            level: 1,
            mean_level: Some(1.5),
            size: 1,
            crc64nvme: text(),
            part_size: 1,
            blake3: Some(text()),
        },
        index: IndexObject { key: text(), size: 1, blake3: text() },
        encryption: Some(Encryption {
            header_length: 1,
            content_size: 1,
            recipients: vec![text()],
            selection_mark: Some(text()),
        }),
        totals: Totals { namespaces: 1, documents: 1, raw_bytes: 1 },
        timing: Some(uzima_backup::model::timing::DataTiming::default()),
        namespaces: vec![namespace],
        warnings: vec![],
        notes: vec![],
        losses: Some(losses),
        signature: Some(ManifestSignature {
            key: text(),
            previous: Some("20261122T030000Z-7k3q9d".parse().unwrap()),
        }),
    };
    serde_json::to_value(manifest).unwrap()
}

#[test]
fn manifests_without_a_mean_level_are_read_and_a_planted_one_can_be_shown() {
    use uzima_backup::model::manifest::Manifest;
    let mut json = full_manifest();
    let compression = |json: &serde_json::Value| {
        let manifest = Manifest::decode(json.to_string().as_bytes()).unwrap();
        (manifest.artifact.mean_level, manifest.artifact.compression())
    };
    assert_eq!(compression(&json), (Some(1.5), "x, level 1.5 on average".into()));
    json["artifact"]["mean_level"] = 1e300.into();
    assert_eq!(compression(&json), (Some(100.0), "x, level 100.0 on average".into()));
    json["artifact"].as_object_mut().unwrap().remove("mean_level");
    assert_eq!(compression(&json), (None, "x, level 1".into()));
}

#[test]
fn manifests_from_before_the_oplog_slice_are_read() {
    use uzima_backup::model::manifest::Manifest;
    let mut json = full_manifest();
    json["consistency"] = serde_json::json!({"achieved": "none", "why": "x"});
    let manifest = Manifest::decode(json.to_string().as_bytes()).unwrap();
    assert_eq!((manifest.consistency.at, manifest.consistency.oplog.as_ref()), (None, None));
    assert_eq!((manifest.slice_place(), manifest.name(1)), (None, None));
    assert_eq!(serde_json::to_value(&manifest).unwrap(), json);
}

/// A `failed.json` with every optional field.
pub fn failure() -> FailedRun {
    let now = "2026-11-23T03:00:00Z".parse().unwrap();
    FailedRun {
        format: 1,
        id: "20261123T030000Z-7k3q9d".parse().unwrap(),
        job: "x".into(),
        tool: "x".into(),
        host: "x".into(),
        started_at: now,
        failed_at: now,
        exit: 1,
        partial: Some("x".into()),
        error: "x".into(),
        next_step: Some("x".into()),
        notes: vec!["x".into()],
    }
}

/// A slice and its events in which every optional field is set.
fn full_slice() -> (uzima_backup::model::slice::SliceManifest, uzima_backup::model::slice::EventsFile) {
    use uzima_backup::model::optime::OpTime;
    use uzima_backup::model::selection::SelectionAsked;
    use uzima_backup::model::slice::*;
    let (text, at) = (|| String::from("x"), OpTime { t: 1, i: 1 });
    let mark = EntryMark { at, term: 1, blake3: Some(text()) };
    let slice = SliceManifest {
        format: FORMAT,
        job: text(),
        chain: ChainId::new("6563a1b2c3d4e5f60718293a", at).unwrap(),
        start: at,
        after: Some(mark.clone()),
        end: mark,
        tool: text(),
        host: text(),
        stored_at: "2026-11-23T03:00:00Z".parse().unwrap(),
        member: text(),
        version: text(),
        set_name: Some(text()),
        selection: SelectionAsked::default(),
        encryption: Some(SliceEncryption {
            header_length: 1,
            recipients: vec![text()],
            selection_mark: text(),
        }),
        entries: 1,
        raw_bytes: 1,
        read_entries: 1,
        body: Some(SliceBody {
            key: text(),
            size: 1,
            crc64nvme: text(),
            blake3: text(),
            raw_blake3: Some(text()),
        }),
        events: Some(SliceEvents { key: text(), size: 1, blake3: text() }),
        barriers: vec![Barrier { at, why: text() }],
        gap: Some(OplogGap { from: at, why: text() }),
        signature: Some(text()),
    };
    let minute = MinuteWrites { minute: 0, ns: text(), inserts: 1, updates: 1, deletes: 1 };
    let change = NamespaceChange {
        at,
        command: text(),
        ns: text(),
        to: Some(text()),
        indexes: vec![text()],
        documents: Some(1),
    };
    let whole = Some(Box::new(slice.clone()));
    (slice, EventsFile { format: FORMAT, minutes: vec![minute], changes: vec![change], slice: whole })
}

#[test]
fn format_md_describes_every_field() {
    use uzima_backup::model::id::BackupId;
    use uzima_backup::model::index::{Index, NamespaceDescription, Segment};
    let segment =
        Segment { namespace: 0, documents: 1, raw_bytes: 1, blake3: "x".into(), offset: 0, length: 1 };
    let described = NamespaceDescription { options: "x".into(), indexes: vec!["x".into()] };
    let index = Index {
        format: 1,
        id: "x".into(),
        segments: vec![segment],
        namespaces: vec![described],
        manifest_blake3: Some("x".into()),
        manifest: Some(serde_json::from_value(full_manifest()).unwrap()),
    };
    let mut all = BTreeSet::new();
    keys(&full_manifest(), &mut all);
    keys(&serde_json::to_value(index).unwrap(), &mut all);
    use uzima_backup::catalog::marks::{Mark, Tombstone};
    keys(&serde_json::to_value(failure()).unwrap(), &mut all);
    let drill = uzima_backup::catalog::verdict::Drill {
        at: chrono::Utc::now(),
        target: "x".into(),
        version: "x".into(),
        oplog_entries: 1,
        recovery_seconds: 1.0,
        index_seconds: 1.0,
        compare_seconds: 1.0,
        namespaces: 1,
        documents: 1,
        raw_bytes: 1,
        findings: vec![],
        notes: vec![],
        point: Some(uzima_backup::catalog::verdict::DrilledPoint {
            at: uzima_backup::model::optime::OpTime { t: 1, i: 1 },
            slices: 1,
            findings: vec![],
        }),
    };
    let verdict = uzima_backup::catalog::verdict::Verdict {
        format: 1,
        id: failure().id,
        at: chrono::Utc::now(),
        host: "x".into(),
        tool: "x".into(),
        sound: true,
        findings: vec![],
        stored_bytes: 1,
        documents: 1,
        raw_bytes: 1,
        seconds: 1.0,
        without_key: true,
        drill: Some(drill),
    };
    keys(&serde_json::to_value(verdict).unwrap(), &mut all);
    let (id, at): (BackupId, _) = ("20261123T030000Z-7k3q9d".parse().unwrap(), chrono::Utc::now());
    let pin = Mark { format: 1, id: id.clone(), at, host: "x".into(), reason: Some("x".into()) };
    let tombstone =
        Tombstone { format: 1, id, job: "x".into(), at, reason: "x".into(), keys: vec!["x".into()] };
    keys(&serde_json::to_value(pin).unwrap(), &mut all);
    keys(&serde_json::to_value(tombstone).unwrap(), &mut all);
    let (slice, events) = full_slice();
    keys(&serde_json::to_value(slice).unwrap(), &mut all);
    keys(&serde_json::to_value(events).unwrap(), &mut all);
    assert!(all.len() > 40, "{all:?}");
    let page = read("docs/format.md");
    let missing: Vec<&String> = all.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/format.md does not describe {missing:?}");
    use uzima_backup::catalog::layout;
    for file in [layout::MANIFEST, layout::PIN, layout::ACCEPTED, layout::TOMBSTONE, layout::SLICE] {
        assert!(page.contains(file), "docs/format.md does not name {file}");
    }
}
