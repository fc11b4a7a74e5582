//! Describes the differences of two servers.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use super::{Namespace, Snapshot};

/// Options of the comparison.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// Documents must come in the same natural order.
    pub order: bool,
    /// Collections must have the same UUIDs.
    pub uuids: bool,
    /// Users and roles must be the same.
    pub users: bool,
    /// `database.user` of the user with which the test connects, which is not compared.
    pub ignore_users: Vec<String>,
    /// Options and indexes may differ in the order of their fields, in number types and in the version of an index,
    /// as they do between two versions of the server. The options of `system.buckets.` collections, which each
    /// version chooses itself, are not compared.
    pub by_meaning: bool,
}

impl Default for DiffOptions {
    fn default() -> Self {
        DiffOptions { order: false, uuids: false, users: true, ignore_users: Vec::new(), by_meaning: false }
    }
}

/// The most `_id`s that a line shows.
const SHOWN: usize = 3;

pub(super) fn diff(left: &Snapshot, right: &Snapshot, options: &DiffOptions) -> Vec<String> {
    let mut out = Vec::new();
    let keys: BTreeSet<_> = left.namespaces.keys().chain(right.namespaces.keys()).collect();
    for key in keys {
        let name = format!("{}.{}", key.0, key.1.escape_debug());
        match (left.namespaces.get(key), right.namespaces.get(key)) {
            (Some(a), Some(b)) => namespace(&name, a, b, options, &mut out),
            (Some(a), None) => out.push(format!("{name} is missing ({})", what(a))),
            (None, Some(b)) => out.push(format!("{name} is new ({})", what(b))),
            (None, None) => unreachable!("the key comes from one of the two"),
        }
    }
    if options.users {
        named("user", &left.users, &right.users, &options.ignore_users, &mut out);
        named("role", &left.roles, &right.roles, &[], &mut out);
    }
    out
}

fn what(namespace: &Namespace) -> String {
    match namespace.kind.as_str() {
        "collection" => format!("a collection of {} documents", namespace.documents.len()),
        kind => format!("a {kind}"),
    }
}

fn namespace(name: &str, a: &Namespace, b: &Namespace, options: &DiffOptions, out: &mut Vec<String>) {
    if a.kind != b.kind {
        out.push(format!("{name} was a {} and is a {}", a.kind, b.kind));
    }
    let own = options.by_meaning && name.contains(".system.buckets.");
    if !own && form(&a.options, options) != form(&b.options, options) {
        out.push(format!("{name}: options were {:?} and are {:?}", text(&a.options), text(&b.options)));
    }
    if options.uuids && a.uuid != b.uuid {
        out.push(format!("{name}: the UUID was {:02x?} and is {:02x?}", a.uuid, b.uuid));
    }
    indexes(name, a, b, options, out);
    documents(name, a, b, options, out);
}

fn indexes(name: &str, a: &Namespace, b: &Namespace, options: &DiffOptions, out: &mut Vec<String>) {
    let by_name = |namespace: &Namespace| -> BTreeMap<String, Vec<u8>> {
        let name = |index: &RawDocumentBuf| index.get_str("name").unwrap_or("(no name)").to_owned();
        namespace.indexes.iter().map(|index| (name(index), form(index, options))).collect()
    };
    named(&format!("{name}: index"), &by_name(a), &by_name(b), &[], out);
}

/// Options or an index, as the bytes to compare.
fn form(document: &RawDocument, options: &DiffOptions) -> Vec<u8> {
    match (options.by_meaning, Document::try_from(document)) {
        (true, Ok(decoded)) => {
            let fields: BTreeMap<_, _> = decoded.into_iter().filter(|(key, _)| key != "v").collect();
            let fields: Document = fields.into_iter().map(|(key, value)| (key, as_doubles(value))).collect();
            fields.to_vec().unwrap_or_else(|_| document.as_bytes().to_vec())
        }
        _ => document.as_bytes().to_vec(),
    }
}

fn as_doubles(value: Bson) -> Bson {
    match value {
        Bson::Int32(n) => Bson::Double(n.into()),
        Bson::Int64(n) => Bson::Double(n as f64),
        Bson::Array(items) => Bson::Array(items.into_iter().map(as_doubles).collect()),
        Bson::Document(fields) => {
            Bson::Document(fields.into_iter().map(|(key, value)| (key, as_doubles(value))).collect())
        }
        other => other,
    }
}

fn named(
    what: &str,
    a: &BTreeMap<String, Vec<u8>>,
    b: &BTreeMap<String, Vec<u8>>,
    ignored: &[String],
    out: &mut Vec<String>,
) {
    let names: BTreeSet<_> = a.keys().chain(b.keys()).filter(|name| !ignored.contains(name)).collect();
    for name in names {
        match (a.get(name), b.get(name)) {
            (Some(x), Some(y)) if x != y => {
                out.push(format!("{what} {name:?} was {} and is {}", bytes_text(x), bytes_text(y)));
            }
            (Some(_), None) => out.push(format!("{what} {name:?} is missing")),
            (None, Some(_)) => out.push(format!("{what} {name:?} is new")),
            _ => {}
        }
    }
}

fn documents(name: &str, a: &Namespace, b: &Namespace, options: &DiffOptions, out: &mut Vec<String>) {
    let (lost, gained) = multiset_difference(&a.documents, &b.documents);
    let of = a.documents.len();
    if !lost.is_empty() {
        let (count, shown) = (lost.len(), ids(&lost));
        out.push(format!("{name}: {count} of {of} documents are missing or changed: {shown}"));
    }
    if !gained.is_empty() {
        let (count, shown) = (gained.len(), ids(&gained));
        out.push(format!("{name}: {count} documents are new or changed: {shown}"));
    }
    if options.order && lost.is_empty() && gained.is_empty() && a.documents != b.documents {
        let at = a.documents.iter().zip(&b.documents).position(|(x, y)| x != y).unwrap_or(0);
        out.push(format!("{name}: the order differs from document {at} on"));
    }
}

/// The documents that the left has more often than the right, and the reverse.
fn multiset_difference<'a>(left: &'a [Vec<u8>], right: &'a [Vec<u8>]) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    let sorted = |documents: &'a [Vec<u8>]| {
        let mut out: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        out.sort_unstable();
        out
    };
    let (a, b) = (sorted(left), sorted(right));
    let (mut i, mut j) = (0, 0);
    let (mut lost, mut gained) = (Vec::new(), Vec::new());
    while i < a.len() || j < b.len() {
        let order = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.cmp(y),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        if order.is_lt() {
            lost.push(a[i]);
        } else if order.is_gt() {
            gained.push(b[j]);
        }
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
    (lost, gained)
}

fn ids(documents: &[&[u8]]) -> String {
    let id = |bytes: &&[u8]| {
        let document = RawDocument::from_bytes(*bytes).ok()?;
        Some(format!("_id {:?}", document.get("_id").ok()??))
    };
    let shown: Vec<_> =
        documents.iter().take(SHOWN).map(|d| id(d).unwrap_or_else(|| bytes_text(d))).collect();
    shown.join(", ") + if documents.len() > SHOWN { ", …" } else { "" }
}

fn bytes_text(bytes: &[u8]) -> String {
    RawDocument::from_bytes(bytes).map_or_else(|_| format!("{bytes:02x?}"), text)
}

/// The document as Extended JSON if it can be decoded, else as hex.
fn text(document: &RawDocument) -> String {
    bson::Document::try_from(document)
        .map_or_else(|_| format!("{:02x?}", document.as_bytes()), |document| document.to_string())
}
