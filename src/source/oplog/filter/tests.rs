use std::slice::from_ref;

use bson::{Bson, Document, Timestamp, doc};

use super::*;

const READY: OpTime = OpTime { t: 100, i: 1 };

fn shop() -> Selection {
    Selection { databases: vec!["shop".into()], ..Selection::default() }
}

fn orders() -> Selection {
    Selection { include: vec!["shop.orders".parse().unwrap()], ..Selection::default() }
}

fn raw(entry: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(entry).unwrap()
}

fn take(selection: &Selection, entry: &Document) -> Result<KeptEntry> {
    OplogFilter::new(selection, READY).take(&raw(entry))
}

#[track_caller]
fn keeps(selection: &Selection, entry: &Document, want: bool) {
    let kept = take(selection, entry).unwrap();
    assert_eq!(kept, if want { KeptEntry::Whole } else { KeptEntry::Nothing }, "{selection:?} {entry}");
}

fn write(op: &str, ns: &str) -> Document {
    doc! {"op": op, "ns": ns, "o": {"_id": 1}, "o2": {"_id": 1}, "ts": Timestamp { time: 1, increment: 1 }}
}

fn command(ns: &str, o: Document) -> Document {
    doc! {"op": "c", "ns": ns, "o": o, "ts": Timestamp { time: 1, increment: 1 }}
}

fn apply(operations: &[Document]) -> Document {
    command("admin.$cmd", doc! {"applyOps": operations})
}

/// An entry of transaction 7, with the time of the previous entry and further fields of its command.
fn of_transaction(previous: u32, more: Document, operations: &[Document]) -> Document {
    let mut entry = apply(operations);
    entry.get_document_mut("o").unwrap().extend(more);
    in_transaction(previous, entry)
}

fn in_transaction(previous: u32, mut entry: Document) -> Document {
    let previous = doc! {"ts": Timestamp { time: previous, increment: previous }, "t": -1_i64};
    entry.extend(doc! {"lsid": {"id": "session"}, "txnNumber": 7_i64, "prevOpTime": previous});
    entry
}

/// The namespaces of the operations that are kept of an `applyOps`.
fn namespaces(kept: &KeptEntry) -> Vec<String> {
    let KeptEntry::Part(part) = kept else { panic!("{kept:?}") };
    let operations = part.get_document("o").unwrap().get_array("applyOps").unwrap();
    let ns = |o: bson::error::Result<RawBsonRef<'_>>| {
        o.unwrap().as_document().unwrap().get_str("ns").unwrap().to_string()
    };
    operations.into_iter().map(ns).collect()
}

#[test]
fn writes_belong_to_their_collection() {
    let all = Selection::default();
    for op in ["i", "u", "d"] {
        keeps(&shop(), &write(op, "shop.orders"), true);
        keeps(&shop(), &write(op, "shop.system.buckets.weather"), true);
        keeps(&shop(), &write(op, "shop.system.profile"), false);
        keeps(&shop(), &write(op, "other.orders"), false);
        keeps(&orders(), &write(op, "shop.orders"), true);
        keeps(&orders(), &write(op, "shop.orders2"), false);
        keeps(&all, &write(op, "admin.system.users"), true);
        for never in ["uzima_backup.runs", "config.transactions", "local.x", "admin.system.keys"] {
            keeps(&all, &write(op, never), false);
        }
    }
    keeps(&all, &doc! {"op": "n", "ns": "", "o": {"msg": "periodic noop"}}, false);
    let config = Selection { databases: vec!["config".into()], ..Selection::default() };
    keeps(&config, &write("i", "config.settings"), true);
    keeps(&config, &write("i", "config.system.indexBuilds"), false);
}

#[test]
fn writes_to_system_views_belong_to_the_view() {
    let view =
        |op: &str, o: Document, o2: Document| doc! {"op": op, "ns": "shop.system.views", "o": o, "o2": o2};
    for (name, want) in [("shop.orders", true), ("shop.other", false)] {
        keeps(&orders(), &view("i", doc! {"_id": name, "viewOn": "x"}, doc! {"_id": name}), want);
        keeps(&orders(), &view("u", doc! {"$v": 2, "diff": {}}, doc! {"_id": name}), want);
        keeps(&orders(), &doc! {"op": "d", "ns": "shop.system.views", "o": {"_id": name}}, want);
    }
    for (selection, create, drop) in [(shop(), true, true), (orders(), true, false)] {
        keeps(&selection, &command("shop.$cmd", doc! {"create": "system.views"}), create);
        keeps(&selection, &command("shop.$cmd", doc! {"drop": "system.views"}), drop);
        keeps(&selection, &command("other.$cmd", doc! {"create": "system.views"}), false);
    }
}

#[test]
fn commands_belong_to_the_collection_that_they_name() {
    for name in
        ["create", "drop", "collMod", "createIndexes", "startIndexBuild", "commitIndexBuild", "dropIndexes"]
    {
        for (collection, want) in [("orders", true), ("system.buckets.orders", true), ("other", false)] {
            keeps(&orders(), &command("shop.$cmd", doc! {name: collection, "more": 1}), want);
        }
        keeps(&shop(), &command("other.$cmd", doc! {name: "orders"}), false);
    }
    // If only a part of a database was chosen, a restore must not drop the rest.
    for (selection, want) in [(shop(), true), (orders(), false), (Selection::default(), true)] {
        keeps(&selection, &command("shop.$cmd", doc! {"dropDatabase": 1}), want);
    }
    keeps(&Selection::default(), &command("uzima_backup.$cmd", doc! {"dropDatabase": 1}), false);
}

#[test]
fn only_the_wanted_operations_of_an_apply_ops_are_kept() {
    let (ours, theirs) = (write("i", "shop.orders"), write("i", "other.orders"));
    keeps(&shop(), &apply(&[ours.clone(), ours.clone()]), true);
    keeps(&shop(), &apply(from_ref(&theirs)), false);
    let inner = apply(&[theirs.clone(), ours.clone()]);
    let kept = take(&shop(), &apply(&[theirs.clone(), ours.clone(), inner, ours.clone()])).unwrap();
    assert_eq!(namespaces(&kept), ["shop.orders", "admin.$cmd", "shop.orders"]);

    // The rest stays as it is: duplicate keys, NaNs, and the other fields, in their order.
    let nan = Bson::Double(f64::from_bits(0x7ff8_0000_dead_beef));
    let odd = doc! {"op": "i", "ns": "shop.orders", "o": {"_id": 1, "nan": nan}};
    let mut entry = apply(&[theirs, odd.clone()]);
    entry.get_document_mut("o").unwrap().insert("count", 2);
    entry.insert("wall", "x");
    let KeptEntry::Part(part) = take(&shop(), &entry).unwrap() else { panic!("a part") };
    let mut want = entry.clone();
    want.get_document_mut("o").unwrap().insert("applyOps", [odd]);
    assert_eq!(part.as_bytes(), raw(&want).as_bytes());
}

#[test]
fn a_transaction_stays_whole() {
    let (ours, theirs) = (write("i", "shop.orders"), write("i", "other.orders"));
    let selection = shop();
    let partial = || doc! {"partialTxn": true};
    // A single entry without wanted operations is left out.
    let mut filter = OplogFilter::new(&selection, READY);
    let alone = of_transaction(0, doc! {}, from_ref(&theirs));
    assert_eq!(filter.take(&raw(&alone)).unwrap(), KeptEntry::Nothing);
    // Every entry of a larger transaction stays.
    let chain = [
        (of_transaction(0, partial(), from_ref(&theirs)), 0),
        (of_transaction(1, partial(), &[theirs.clone(), ours.clone()]), 1),
        (of_transaction(2, doc! {"count": 4}, from_ref(&theirs)), 0),
    ];
    for (entry, want) in &chain {
        assert_eq!(namespaces(&filter.take(&raw(entry)).unwrap()).len(), *want, "{entry}");
    }
    // The transaction is over: a further entry of the same name belongs to none.
    assert_eq!(filter.take(&raw(&chain[2].0)).unwrap(), KeptEntry::Nothing);
    for end in ["commitTransaction", "abortTransaction"] {
        let prepared = of_transaction(0, doc! {"prepare": true}, from_ref(&theirs));
        assert_eq!(namespaces(&filter.take(&raw(&prepared)).unwrap()).len(), 0);
        let end = in_transaction(1, command("admin.$cmd", doc! {end: 1}));
        assert_eq!(filter.take(&raw(&end)).unwrap(), KeptEntry::Whole);
        assert_eq!(filter.take(&raw(&end)).unwrap(), KeptEntry::Nothing);
    }
    // Retryable inserts are not a transaction, even if they are chained.
    let mut inserts = of_transaction(3, doc! {}, &[ours]);
    inserts.insert("multiOpType", 1);
    keeps(&selection, &inserts, true);
}

#[test]
fn a_transaction_from_before_the_slice_is_over_or_an_error() {
    let mut end = of_transaction(1, doc! {"count": 4}, &[write("i", "shop.orders")]);
    keeps(&shop(), &end, false);
    end.insert("ts", Timestamp { time: 100, increment: 2 });
    assert_eq!(take(&shop(), &end).unwrap_err().kind(), Kind::Moved);
}

#[test]
fn operations_that_no_slice_can_hold_are_refused_in_the_backup() {
    let rename = |from: &str, to: &str| command("shop.$cmd", doc! {"renameCollection": from, "to": to});
    for (selection, entry, words) in [
        (shop(), rename("shop.a", "shop.b"), "shop.a was renamed to shop.b"),
        (orders(), rename("other.x", "shop.orders"), "other.x was renamed to shop.orders"),
        (shop(), rename("shop.system.resharding.1", "shop.a"), "shop.a was resharded"),
        (shop(), apply(&[write("i", "x.y"), rename("shop.a", "x.b")]), "shop.a was renamed to x.b"),
        (shop(), command("shop.$cmd", doc! {"importCollection": "shop.a"}), "shop.a was imported"),
        (
            shop(),
            command("shop.$cmd", doc! {"upgradeDowngradeViewlessTimeseries": "w"}),
            "the time series shop.w",
        ),
        (Selection::default(), write("u", "admin.system.version"), "admin.system.version was written to"),
        (
            shop(),
            doc! {"op": "i", "ns": "config.localReshardingOperations.donor", "o": {"_id": 1, "ns": "shop.a"}},
            "shop.a was resharded",
        ),
    ] {
        let error = take(&selection, &entry).unwrap_err();
        assert!(error.to_string().starts_with(words), "{error}");
        assert!(error.kind() == Kind::Moved && error.next_step().is_some(), "{error}");
    }
    for (selection, entry) in [
        (shop(), rename("other.a", "other.b")),
        (orders(), rename("shop.a", "shop.b")),
        (shop(), command("other.$cmd", doc! {"importCollection": "other.a"})),
        (shop(), write("u", "admin.system.version")),
    ] {
        keeps(&selection, &entry, false);
    }
}

/// Operations of MongoDB 8.3 and 9.0 on the server's own data (mongo-tools, `mongorestore/oplog.go`).
#[test]
fn entries_about_the_servers_own_data_are_left_out() {
    for entry in [
        command("admin.$cmd", doc! {"dropIdent": "collection-7-123"}),
        command("shop.$cmd", doc! {"dropIdent": "shop.orders"}),
        command("shop.$cmd", doc! {"createDatabaseMetadata": "shop", "metadata": {}}),
        command("shop.$cmd", doc! {"dropDatabaseMetadata": "shop"}),
        command("shop.$cmd", doc! {"dropDatabaseMetadata": 1}),
        doc! {"op": "ci", "ns": "shop.$container", "o": {"k": 1}},
        doc! {"op": "cu", "ns": "shop.$container", "o": {"k": 1}},
        doc! {"op": "cd", "ns": "shop.$container", "o": {"k": 1}},
        doc! {"op": "km", "ns": "admin.$cmd", "o": {"k": 1}},
    ] {
        keeps(&shop(), &entry, false);
        keeps(&Selection::default(), &entry, false);
    }
}

#[test]
fn fields_of_user_documents_are_not_commands() {
    for name in ["renameCollection", "importCollection", "applyOps", "commitTransaction", "dropDatabase"] {
        let mut entry = write("i", "shop.orders");
        entry.insert("o", doc! {name: "shop.orders", "to": "shop.b"});
        keeps(&shop(), &entry, true);
        keeps(&shop(), &in_transaction(5, entry), true);
    }
}

#[test]
fn malformed_entries_are_an_error() {
    for entry in [
        doc! {},
        doc! {"op": "i"},
        doc! {"op": "i", "ns": "shop"},
        doc! {"op": "c", "ns": "shop.$cmd", "o": {}},
        doc! {"op": "c", "ns": "shop.$cmd", "o": {"applyOps": [1]}},
    ] {
        let error = take(&Selection::default(), &entry).unwrap_err();
        assert!(error.to_string().contains("malformed"), "{error}");
    }
}
