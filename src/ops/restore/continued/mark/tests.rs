use bson::rawdoc;

use super::*;

const ID: &str = "20261201T163949Z-abc123";

fn data() -> RestoredData {
    RestoredData { backup: Some("b".into()), contents: "c".into(), point: None, selection: Vec::new() }
}

fn mark() -> RawDocumentBuf {
    let at = bson::DateTime::from_millis(0);
    let mark = LoadMark {
        id: ID.parse().unwrap(),
        format: MarkFormat::Load as u32,
        from: "backup".into(),
        data: data(),
        command: vec!["--continue".into()],
        started_at: at,
        changed_at: at,
        run: ObjectId::from_bytes([1; 12]),
        pid: 7,
        space: "s".into(),
        state: LoadState::Loading,
    };
    bson::serialize_to_raw_document_buf(&mark).unwrap()
}

fn namespaces(of: &str, all: &[(&str, &str, Option<i64>)]) -> RawDocumentBuf {
    let all: bson::RawArrayBuf = all
        .iter()
        .map(|(name, identity, complete)| {
            let complete = complete.map_or(bson::RawBson::Null, bson::RawBson::Int64);
            rawdoc! {"db": "shop", "name": *name, "identity": *identity, "created": true, "complete": complete}
        })
        .collect();
    rawdoc! {"_id": ObjectId::from_bytes([2; 12]), "format": 3, "of": of, "namespaces": all}
}

fn found(all: &[(&str, &str)]) -> BTreeMap<String, Identities> {
    let all = all.iter().map(|(name, identity)| (name.to_string(), identity.to_string())).collect();
    [("shop".to_string(), all)].into()
}

fn names(made: &[MarkedNamespace]) -> Vec<(&str, Option<i64>)> {
    made.iter().map(|one| (one.name.as_str(), one.complete)).collect()
}

#[test]
fn a_mark_reads_back_and_a_database_updates_it() {
    let mut documents = vec![mark()];
    assert_eq!(WholeMark::all(&documents)[0].mark.data, data());
    // A server keeps numbers as it gets them, in any of these types.
    for pid in [bson::RawBson::Int32(7), bson::RawBson::Int64(7)] {
        let mut other = RawDocumentBuf::new();
        for (key, value) in documents[0].iter().flatten() {
            match key.as_str() {
                "pid" => other.append(key, pid.clone()),
                _ => other.append(key, value),
            }
        }
        documents[0] = other;
        assert_eq!(WholeMark::all(&documents)[0].mark.pid, 7);
    }
}

#[test]
fn only_a_namespace_with_the_marked_identity_is_known() {
    let documents = [
        mark(),
        namespaces(ID, &[("a", "1", None), ("b", "2", None), ("c", "3", None), ("d", "4", None)]),
        namespaces(ID, &[("a", "1", Some(5)), ("b", "old", Some(6))]),
    ];
    let all = WholeMark::all(&documents);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].databases(), BTreeSet::from(["shop"]));
    let there = found(&[("a", "1"), ("b", "2"), ("c", "other"), ("e", "4")]);
    assert_eq!(names(&all[0].existing(&there)), [("a", Some(5)), ("b", None)]);
    assert!(all[0].existing(&BTreeMap::new()).is_empty());
}

#[test]
fn documents_that_are_no_marks_name_no_namespace() {
    let there = found(&[("a", "1")]);
    let list = |one: RawDocumentBuf| {
        let mut all = bson::RawArrayBuf::new();
        all.push(one);
        all
    };
    let one = || rawdoc! {"db": "shop", "name": "a", "identity": "1", "created": true, "complete": 5_i64};
    let row = |of: &str, format: i32, all: bson::RawArrayBuf| {
        rawdoc! {"_id": ObjectId::from_bytes([2; 12]), "format": format, "of": of, "namespaces": all}
    };
    assert_eq!(WholeMark::all(&[mark(), row(ID, 3, list(one()))])[0].existing(&there).len(), 1);
    for hostile in [
        row("20261201T163949Z-abc124", 3, list(one())),
        row("x", 3, list(one())),
        row(ID, 4, list(one())),
        row(ID, 2, list(one())),
        row(
            ID,
            3,
            list(rawdoc! {"db": "shop", "name": "a", "identity": 1, "created": true, "complete": 5_i64}),
        ),
        row(ID, 3, list(rawdoc! {"db": "shop", "name": "a", "created": true})),
        row(
            ID,
            3,
            list(rawdoc! {"db": "shop", "name": "a", "identity": "1", "created": "yes", "complete": 5_i64}),
        ),
        row(ID, 3, list(rawdoc! {})),
        rawdoc! {"_id": 1, "format": 3, "of": ID, "namespaces": "a"},
        rawdoc! {"_id": ID, "format": 3},
        rawdoc! {},
    ] {
        let all = WholeMark::all(&[mark(), hostile.clone()]);
        assert!(all.len() == 1 && all[0].existing(&there).is_empty(), "{hostile:?}");
    }
    // Without the first document, the others mean nothing.
    assert!(WholeMark::all(&[row(ID, 3, list(one()))]).is_empty());
    assert!(WholeMark::all(&[rawdoc! {"_id": ID, "format": 2}, row(ID, 3, list(one()))]).is_empty());
}

#[test]
fn the_difference_from_another_restore_is_named() {
    let one = data();
    assert_eq!(one.differs(&one), None);
    for (other, why) in [
        (RestoredData { backup: Some("x".into()), ..data() }, "it restores the backup x"),
        (RestoredData { backup: None, ..data() }, "it restores a dump"),
        (RestoredData { point: Some("7:1".into()), ..data() }, "it has --at 7:1, and this one has no --at"),
        (RestoredData { contents: "d".into(), ..data() }, "the backup or dump has other contents than then"),
        (
            RestoredData { selection: vec!["--ns-include".into(), "a.*".into()], ..data() },
            "it has --ns-include 'a.*'",
        ),
    ] {
        assert_eq!(one.differs(&other).as_deref(), Some(why));
    }
    let narrow = RestoredData { selection: vec!["--no-indexes".into()], ..data() };
    assert_eq!(narrow.differs(&one).as_deref(), Some("it has no flags that choose or rename data"));
}

#[test]
fn words_of_a_mark_are_quoted() {
    let words = ["--ns-include", "a.*", "x; rm -rf /", ""].map(String::from);
    assert_eq!(command_text(&words), "uzima-backup restore --ns-include 'a.*' 'x; rm -rf /' ''");
}

#[test]
fn namespaces_that_no_restore_makes_are_left_out_of_a_mark() {
    for (db, name) in [("shop", "a"), ("shop", "system.js"), ("shop", "system.buckets.w"), ("admin", "own")] {
        assert!(may_be_made(db, name), "{db}.{name}");
    }
    let long = "x".repeat(64);
    let never = [
        ("admin", "system.users"),
        ("admin", "system.roles"),
        ("admin", "system.keys"),
        ("admin", "system.js"),
        ("config", "shards"),
        ("local", "oplog.rs"),
        ("uzima_backup", "restores"),
        ("uzima_backup", "records"),
        ("shop", "system.views"),
        ("shop", "system.profile"),
        ("shop", "$cmd"),
        ("shop", ""),
        ("", "a"),
        ("a.b $", "a"),
        (&long, "a"),
    ];
    let mut all = bson::RawArrayBuf::new();
    for (db, name) in never.into_iter().chain([("shop", "a")]) {
        all.push(rawdoc! {"db": db, "name": name, "identity": "1", "created": true, "complete": 5_i64});
    }
    let row = rawdoc! {"_id": ObjectId::from_bytes([2; 12]), "format": 3, "of": ID, "namespaces": all};
    let whole = WholeMark::all(&[mark(), row]).remove(0);
    let there = never.map(|(db, name)| (db.to_string(), Identities::from([(name.into(), "1".into())])));
    assert!(whole.existing(&there.into()).is_empty());
    assert_eq!(whole.databases(), BTreeSet::from(["shop"]));
    assert_eq!(names(&whole.existing(&found(&[("a", "1")]))), [("a", Some(5))]);
}
