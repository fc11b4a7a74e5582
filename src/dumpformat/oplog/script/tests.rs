use bson::Timestamp;

use super::*;
use crate::ops::restore::RestoreFilter;
use crate::ops::restore::filter::ReplayFilter;

fn script() -> Script<ReplayFilter> {
    Script::new(
        ReplayFilter { filter: RestoreFilter::default(), users: true, staged: None },
        vec!["admin.me".into()],
        None,
    )
}

fn entry(op: &str, ns: &str, o: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {"ts": Timestamp { time: 9, increment: 1 }, "ui": "a uuid", "wall": 5, "v": 2_i64, "op": op, "ns": ns, "o": o}
}

fn taken(script: &mut Script<ReplayFilter>, entry: &RawDocumentBuf) -> Result<Vec<ReplayStep>> {
    let mut actions = Vec::new();
    script.take(entry.as_bytes(), &mut |action| {
        actions.push(action);
        Ok(())
    })?;
    Ok(actions)
}

fn actions(op: &str, ns: &str, o: RawDocumentBuf) -> Vec<ReplayStep> {
    taken(&mut script(), &entry(op, ns, o)).unwrap()
}

#[test]
fn a_write_loses_the_fields_that_concern_its_server() {
    let actions = actions("i", "shop.orders", rawdoc! {"_id": 1});
    let [ReplayStep::Write { operation, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*operation, rawdoc! {"op": "i", "ns": "shop.orders", "v": 2_i64, "o": {"_id": 1}});
    let update = rawdoc! {"op": "u", "ns": "a.b", "o2": {"_id": 1}, "o": {"$v": 2, "diff": {}}, "b": true};
    let actions = taken(&mut script(), &update).unwrap();
    let [ReplayStep::Write { operation, .. }] = &actions[..] else { panic!("{actions:?}") };
    let want = rawdoc! {"op": "u", "ns": "a.b", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 1}, "b": true};
    assert_eq!(*operation, want);
}

/// Fields of MongoDB 8.0 to 9.0, alone and inside an `applyOps`.
#[test]
fn fields_of_newer_servers_are_dropped() {
    let context = || rawdoc! {"OFCV": "8.2"};
    let insert =
        || rawdoc! {"op": "i", "ns": "a.b", "o": {"_id": 1}, "rid": 5_i64, "versionContext": context()};
    let want = rawdoc! {"op": "i", "ns": "a.b", "o": {"_id": 1}};
    let mut nested = entry("c", "admin.$cmd", rawdoc! {"applyOps": [insert()]});
    // A vectored insert looks like a transaction, but is not one.
    for (key, value) in
        [("lsid", rawdoc! {"id": 1}.into()), ("txnNumber", 3_i64.into()), ("multiOpType", 1.into())]
    {
        let value: bson::RawBson = value;
        nested.append(bson::raw::CString::try_from(key).unwrap(), value);
    }
    nested.append(bson::raw::cstr!("prevOpTime"), rawdoc! {"ts": Timestamp { time: 1, increment: 1 }});
    for raw in [insert(), nested] {
        let actions = taken(&mut script(), &raw).unwrap();
        let [ReplayStep::Write { operation, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(*operation, want);
    }
    let mut create = entry("c", "shop.$cmd", rawdoc! {"create": "c", "recordIdsReplicated": true});
    create.append(bson::raw::cstr!("o2"), rawdoc! {"ident": "collection-1", "catalogId": 7_i64});
    create.append(bson::raw::cstr!("versionContext"), context());
    let actions = taken(&mut script(), &create).unwrap();
    let [ReplayStep::Create { form: ChangeForm::Operation(made), .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*made, rawdoc! {"op": "c", "ns": "shop.$cmd", "o": {"create": "c"}});
}

#[test]
fn a_conversion_of_time_series_is_a_barrier() {
    let o = rawdoc! {"upgradeDowngradeViewlessTimeseries": "w"};
    let error = taken(&mut script(), &entry("c", "shop.$cmd", o)).unwrap_err();
    assert!(error.to_string().contains("'upgradeDowngradeViewlessTimeseries'"), "{error}");
    assert!(error.next_step().unwrap().contains("--no-replay"));
}

#[test]
fn entries_that_change_no_data_are_left_out() {
    let mut script = script();
    for (op, ns, o) in [
        ("n", "", rawdoc! {"msg": "periodic noop"}),
        ("km", "a.b", rawdoc! {}),
        ("ci", "", rawdoc! {"k": 1_i64}),
        ("cu", "", rawdoc! {"k": 1_i64}),
        ("cd", "", rawdoc! {"k": 1_i64}),
        ("c", "admin.$cmd", rawdoc! {"dropIdent": "collection-1"}),
        ("c", "config.$cmd", rawdoc! {"createDatabaseMetadata": "shop", "db": {}}),
        ("c", "config.$cmd", rawdoc! {"dropDatabaseMetadata": "shop"}),
        ("c", "a.$cmd", rawdoc! {"startIndexBuild": "b", "indexes": []}),
        ("c", "a.$cmd", rawdoc! {"abortIndexBuild": "b"}),
        ("c", "a.$cmd", rawdoc! {"dbCheck": "b"}),
        ("c", "a.$cmd", rawdoc! {"create": "system.views"}),
        ("c", "admin.$cmd", rawdoc! {"createIndexes": "system.users", "key": {"user": 1}}),
        ("i", "config.transactions", rawdoc! {"_id": 1}),
        ("u", "admin.system.version", rawdoc! {"_id": 1}),
        ("i", "a.system.views", rawdoc! {"_id": "a.w", "viewOn": "system.buckets.w", "pipeline": []}),
        ("d", "admin.system.users", rawdoc! {"_id": "admin.me"}),
    ] {
        assert_eq!(taken(&mut script, &entry(op, ns, o)).unwrap(), []);
    }
    assert_eq!((script.read.entries, script.read.left_out), (17, 17));
}

#[test]
fn commands_become_steps() {
    let command = |o: RawDocumentBuf| actions("c", "shop.$cmd", o);
    let [ReplayStep::Create { form: ChangeForm::Operation(made), collated: true, .. }] = &command(rawdoc! {
        "create": "c", "collation": {"locale": "fr"}, "recordIdsReplicated": true, "idIndex": {"v": 2},
    })[..] else {
        panic!()
    };
    let want = rawdoc! {"create": "c", "collation": {"locale": "fr"}, "idIndex": {"v": 2}};
    assert_eq!(*made, rawdoc! {"op": "c", "ns": "shop.$cmd", "o": want});
    let [ReplayStep::Create { to, form: ChangeForm::Command(made), .. }] = &command(rawdoc! {
        "create": "system.buckets.w", "validator": {"a": 1}, "clusteredIndex": true, "timeseries": {"timeField": "t"},
    })[..] else {
        panic!()
    };
    assert_eq!((to.collection.as_str(), to.buckets), ("w", true));
    assert_eq!(*made, rawdoc! {"create": "w", "timeseries": {"timeField": "t"}});
    let both = command(rawdoc! {"collMod": "c", "index": {"name": "a", "hidden": true}, "validator": {}});
    assert!(matches!(
        &both[..],
        [ReplayStep::Index { edit: IndexEdit::Change(_), .. }, ReplayStep::Modify { .. }]
    ));
    let index = command(rawdoc! {"collMod": "c", "index": {"name": "a", "hidden": true}, "noPadding": true});
    assert!(matches!(&index[..], [ReplayStep::Index { .. }]));
    let [ReplayStep::Index { edit: IndexEdit::Put(specs), .. }] =
        &command(rawdoc! {"createIndexes": "c", "v": 2, "key": {"a": 1}, "name": "a"})[..]
    else {
        panic!()
    };
    assert_eq!(*specs, [rawdoc! {"v": 2, "key": {"a": 1}, "name": "a"}]);
    let build =
        rawdoc! {"commitIndexBuild": "c", "indexes": [{"key": {"a": 1}, "name": "a"}, {"key": {"b": 1}}]};
    let actions = command(build);
    assert!(
        matches!(&actions[..], [ReplayStep::Index { edit: IndexEdit::Put(specs), .. }] if specs.len() == 2)
    );
    let view = rawdoc! {"_id": "shop.v", "viewOn": "c", "pipeline": []};
    let made = super::tests::actions("i", "shop.system.views", view);
    let [ReplayStep::Create { form: ChangeForm::Command(made), view: true, .. }] = &made[..] else {
        panic!()
    };
    assert_eq!(*made, rawdoc! {"create": "v", "viewOn": "c", "pipeline": []});
}

#[test]
fn nested_operations_become_single_steps() {
    let inner = rawdoc! {"applyOps": [{"op": "i", "ns": "a.b", "o": {"_id": 2}}]};
    let o = rawdoc! {"applyOps": [
        {"op": "i", "ns": "a.b", "o": {"_id": 1}},
        {"op": "n", "ns": "", "o": {}},
        {"op": "c", "ns": "admin.$cmd", "o": inner},
    ]};
    assert_eq!(actions("c", "admin.$cmd", o).len(), 2);
    let mut deep = rawdoc! {"applyOps": []};
    for _ in 0..DEPTH + 1 {
        deep = rawdoc! {"applyOps": [{"op": "c", "ns": "admin.$cmd", "o": deep}]};
    }
    assert!(taken(&mut script(), &entry("c", "admin.$cmd", deep)).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, at in 0_usize..400, byte: u8) {
        let mut script = script();
        let _ = script.take(&bytes, &mut |_| Ok(()));
        let o = rawdoc! {"applyOps": [
            {"op": "u", "ns": "a.b", "o2": {"_id": 1}, "o": {"$v": 2, "diff": {}}},
            {"op": "c", "ns": "a.$cmd", "o": {"collMod": "b", "index": {"name": "x", "hidden": true}}},
            {"op": "c", "ns": "a.$cmd", "o": {"createIndexes": "b", "key": {"x": 1}, "name": "x"}},
            {"op": "d", "ns": "a.system.views", "o": {"_id": "a.v"}},
        ]};
        let mut entry = entry("c", "admin.$cmd", o).into_bytes();
        let at = at % entry.len();
        entry[at] = byte;
        let _ = script.take(&entry, &mut |_| Ok(()));
    }
}
