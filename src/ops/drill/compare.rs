//! A restored namespace against its backup.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf};

use crate::base::units;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::mongo::meaning;
use crate::ops::restore::{Problem, Trouble};
use crate::restore_target::Version;

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Documents: they are the same on every server.
    Data(String),
    /// Options, indexes, users: a server of another version may not hold them in the same form.
    Form(String),
}

impl Difference {
    /// That of what a restore says of itself.
    pub fn of(problem: Problem) -> Difference {
        match problem.trouble {
            Trouble::Index => Difference::Form(problem.text),
            Trouble::Documents | Trouble::Count | Trouble::Incomplete => Difference::Data(problem.text),
        }
    }
}

/// What of a namespace is compared, beside that it is there and has its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aspects {
    /// Its documents.
    pub documents: bool,
    /// Its indexes.
    pub indexes: bool,
}

/// What differs of a namespace. `wanted`: options and indexes of the backup.
pub fn namespace(
    aspects: Aspects,
    wanted: &Namespace,
    expected: &Tally,
    found: Option<(&Namespace, &Tally)>,
) -> Vec<Difference> {
    let Some((there, tally)) = found else {
        // A system collection comes into being with its first document.
        let never = wanted.collection.starts_with("system.") && expected.documents == 0;
        return if never { Vec::new() } else { vec![Difference::Data("it is missing".into())] };
    };
    let mut out = Vec::new();
    if aspects.documents {
        out.extend(documents(expected, tally).map(Difference::Data));
    }
    if wanted.kind != there.kind {
        out.push(Difference::Data(format!("it was a {:?} and is a {:?}", wanted.kind, there.kind)));
    }
    if !meaning::same_options(&wanted.options, &there.options) {
        out.push(Difference::Form("its options are not those of the backup".into()));
    }
    if aspects.indexes {
        out.extend(indexes(wanted, &there.indexes).into_iter().map(Difference::Form));
    }
    out
}

/// How documents differ, if they do.
pub fn documents(expected: &Tally, found: &Tally) -> Option<String> {
    if (expected.documents, expected.raw_bytes) != (found.documents, found.raw_bytes) {
        return Some(format!(
            "{} of {} came back, the backup has {} of {}",
            units::several(found.documents, "document"),
            units::several(found.raw_bytes, "byte"),
            units::count(expected.documents),
            units::count(expected.raw_bytes)
        ));
    }
    (expected.sum != found.sum).then(|| "the hash of its documents is not that of the backup".into())
}

fn indexes(namespace: &Namespace, found: &[RawDocumentBuf]) -> Vec<String> {
    let (wanted, found) = (by_name(&namespace.indexes), by_name(found));
    let missing = wanted.iter().filter_map(|(name, index)| match found.get(name) {
        None => Some(format!("its index '{name}' is missing")),
        Some(there) if !meaning::same_index(index, there) => {
            Some(format!("its index '{name}' is not that of the backup"))
        }
        Some(_) => None,
    });
    let more = found.iter().filter(|(name, index)| {
        !wanted.contains_key(*name) && !comes_with_time_series(&namespace.options, index)
    });
    missing
        .chain(more.map(|(name, _)| format!("it has an index '{name}', which the backup does not have")))
        .collect()
}

fn by_name(indexes: &[RawDocumentBuf]) -> BTreeMap<&str, &RawDocument> {
    indexes.iter().map(|index| (index.get_str("name").unwrap_or("?"), index.as_ref())).collect()
}

/// Returns true for the index on `metaField` and `timeField` that MongoDB 6.3 and later build for every new time
/// series.
fn comes_with_time_series(options: &RawDocument, index: &RawDocument) -> bool {
    let Ok(series) = options.get_document("timeseries") else { return false };
    let (Ok(meta), Ok(time)) = (series.get_str("metaField"), series.get_str("timeField")) else {
        return false;
    };
    let mut key = bson::RawDocumentBuf::new();
    for field in [meta, time] {
        let Ok(field) = bson::raw::CString::try_from(field) else { return false };
        key.append(field, 1);
    }
    meaning::same_index(index, &bson::rawdoc! {"key": key, "name": format!("{meta}_1_{time}_1")})
}

/// Findings, and what only needs a look because the server is of another version than the source (`same`: it
/// is not).
pub fn sorted(
    differences: Vec<(String, Difference)>,
    same: bool,
    version: &Version,
) -> (Vec<String>, Vec<String>) {
    let (mut findings, mut looks) = (Vec::new(), Vec::new());
    for (name, difference) in differences {
        match difference {
            Difference::Form(what) if !same => {
                looks.push(format!(
                    "{name}: {what}; the drill's server, MongoDB {version}, is not of the source's version"
                ));
            }
            Difference::Data(what) | Difference::Form(what) => findings.push(format!("{name}: {what}")),
        }
    }
    (findings, looks)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::dumpformat::metadata;

    fn orders(indexes: &str, options: &str) -> Namespace {
        let text = format!(r#"{{"options":{options},"indexes":[{indexes}]}}"#);
        metadata::parse("shop", "orders", &text).unwrap()
    }

    const ID: &str = r#"{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}"#;
    const A: &str = r#"{"v":{"$numberInt":"2"},"key":{"a":{"$numberInt":"1"}},"name":"a_1"}"#;
    const UNIQUE: &str =
        r#"{"v":{"$numberInt":"2"},"key":{"a":{"$numberInt":"1"}},"name":"a_1","unique":true}"#;
    const OLD: &str =
        r#"{"v":{"$numberInt":"1"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_","ns":"shop.orders"}"#;

    const ALL: Aspects = Aspects { documents: true, indexes: true };

    fn tally(documents: &[RawDocumentBuf]) -> Tally {
        let mut sum = Tally::default();
        for document in documents {
            sum += Tally::of(document.as_bytes());
        }
        sum
    }

    #[test]
    fn a_document_more_less_or_other_is_found() {
        let (one, two, other) = (rawdoc! {"_id": 1}, rawdoc! {"_id": 2}, rawdoc! {"_id": 3});
        let all = tally(&[one.clone(), two.clone()]);
        assert_eq!(documents(&all, &tally(&[two.clone(), one.clone()])), None, "the order does not matter");
        for found in [vec![one.clone()], vec![one.clone(), two, other.clone()], vec![one, other], vec![]] {
            assert!(documents(&all, &tally(&found)).is_some(), "{found:?}");
        }
    }

    #[test]
    fn options_and_indexes_are_those_of_the_backup() {
        let none = Tally::default();
        let of = |wanted: &Namespace, found: &Namespace| namespace(ALL, wanted, &none, Some((found, &none)));
        let both = orders(&format!("{ID},{A}"), "{}");
        assert_eq!(of(&both, &orders(&format!("{A},{OLD}"), r#"{"autoIndexId":true}"#)), []);
        for (found, word) in [
            (orders(ID, "{}"), "'a_1' is missing"),
            (orders(&format!("{ID},{UNIQUE}"), "{}"), "'a_1' is not that"),
            (orders(&format!("{ID},{A}"), r#"{"capped":true}"#), "options"),
        ] {
            let differences = of(&both, &found);
            let [Difference::Form(what)] = &differences[..] else { panic!("{differences:?}") };
            assert!(what.contains(word), "{what}");
        }
        let [Difference::Form(more)] = &of(&orders(ID, "{}"), &both)[..] else { panic!() };
        assert!(more.contains("does not have"), "{more}");
        assert_eq!(namespace(ALL, &both, &none, None), [Difference::Data("it is missing".into())]);
        let js = Namespace { collection: "system.js".into(), ..both };
        assert_eq!(namespace(ALL, &js, &none, None), []);
    }

    #[test]
    fn only_the_aspects_that_are_asked_for_are_compared() {
        let (wanted, found) = (orders(&format!("{ID},{A}"), "{}"), orders(ID, r#"{"capped":true}"#));
        let (some, none) = (tally(&[rawdoc! {"_id": 1}]), Tally::default());
        let of = |documents, indexes| {
            namespace(Aspects { documents, indexes }, &wanted, &some, Some((&found, &none))).len()
        };
        assert_eq!((of(true, true), of(true, false), of(false, true)), (3, 2, 2));
    }

    /// A restore tells it of a collection that came with the oplog slice with its name before it.
    #[test]
    fn an_index_is_one_however_it_is_told() {
        for text in ["the index 'a' cannot be built: x", "shop.new: the index 'a' cannot be built: x"] {
            assert_eq!(Difference::of(Trouble::Index.told(text.into())), Difference::Form(text.into()));
            assert_eq!(Difference::of(Trouble::Count.told(text.into())), Difference::Data(text.into()));
        }
    }

    #[test]
    fn a_newer_server_may_write_another_form_but_no_other_documents() {
        let differences = || {
            vec![("a.b".into(), Difference::Form("x".into())), ("a.c".into(), Difference::Data("y".into()))]
        };
        assert_eq!(sorted(differences(), true, &Version(6, 0, 5)).0, ["a.b: x", "a.c: y"]);
        let (findings, looks) = sorted(differences(), false, &Version(8, 0, 0));
        assert_eq!(findings, ["a.c: y"]);
        assert!(looks.len() == 1 && looks[0].contains("MongoDB 8.0.0"), "{looks:?}");
    }
}
