//! A run as a document. Fields are only ever added: a reader leaves alone what it does not know.

use bson::{Bson, DateTime as BsonTime, Document, doc};
use chrono::{DateTime, Utc};

use crate::base::clock;
use crate::catalog::run::{BackupRun, Verified};

/// The version of a record's format.
pub const FORMAT: i64 = 1;

/// The update that makes a record say this of a run. What is not known is taken out; fields of newer
/// versions stay.
pub fn update(run: &BackupRun) -> Document {
    let mut set = doc! {
        "format": FORMAT,
        "job": &run.job,
        "status": run.status.word(),
        "host": &run.host,
        "place": &run.place,
        "started_at": time(run.started_at),
        "warnings": &run.warnings,
    };
    let mut unset = Document::new();
    let mut optional = |key: &str, value: Option<Bson>| match value {
        Some(value) => drop(set.insert(key, value)),
        None => drop(unset.insert(key, "")),
    };
    let text = |text: &Option<String>| text.clone().map(Bson::String);
    optional("finished_at", run.finished_at.map(|at| time(at).into()));
    optional("engine", text(&run.engine));
    optional("consistency", text(&run.consistency));
    for (key, number) in [
        ("namespaces", run.namespaces),
        ("documents", run.documents),
        ("raw_bytes", run.raw_bytes),
        ("stored_bytes", run.stored_bytes),
    ] {
        optional(key, number.map(|n| Bson::Int64(i64::try_from(n).unwrap_or(i64::MAX))));
    }
    optional("key", text(&run.key));
    optional("error", text(&run.error));
    let verified = run.verified.as_ref();
    optional("verified", verified.map(|v| of_verified(v).into()));
    match unset.is_empty() {
        true => doc! {"$set": set},
        false => doc! {"$set": set, "$unset": unset},
    }
}

/// What a record says.
///
/// # Errors
/// What is wrong with it, or that a newer version wrote it.
pub fn read(document: &Document) -> Result<BackupRun, String> {
    let format = number(document, "format")?.ok_or("it has no format")?;
    if format != FORMAT as u64 {
        return Err(format!("it is of the format {format}, this version knows {FORMAT}"));
    }
    let required = |key: &str| text(document, key)?.ok_or(format!("{key} is missing"));
    let started_at = when(document, "started_at")?.ok_or("started_at is missing")?;
    let id = required("_id")?.parse()?;
    let warnings = match document.get("warnings") {
        None | Some(Bson::Null) => Vec::new(),
        Some(Bson::Array(items)) => items.iter().filter_map(Bson::as_str).map(str::to_string).collect(),
        Some(_) => return Err("warnings are no list".into()),
    };
    Ok(BackupRun {
        finished_at: when(document, "finished_at")?,
        engine: text(document, "engine")?,
        consistency: text(document, "consistency")?,
        namespaces: number(document, "namespaces")?,
        documents: number(document, "documents")?,
        raw_bytes: number(document, "raw_bytes")?,
        stored_bytes: number(document, "stored_bytes")?,
        key: text(document, "key")?,
        error: text(document, "error")?,
        verified: verified(document)?,
        warnings,
        status: required("status")?.parse()?,
        ..BackupRun::begun(id, &required("job")?, &required("host")?, &required("place")?, started_at)
    })
}

/// Whether records of the two would say the same.
pub fn same(a: &BackupRun, b: &BackupRun) -> bool {
    a.id == b.id && update(a) == update(b)
}

/// To the millisecond: a date has no more.
pub(super) fn time(at: DateTime<Utc>) -> BsonTime {
    BsonTime::from_millis(at.timestamp_millis())
}

fn text(document: &Document, key: &str) -> Result<Option<String>, String> {
    match document.get(key) {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{key} is no text")),
    }
}

/// A shell writes numbers as doubles.
fn number(document: &Document, key: &str) -> Result<Option<u64>, String> {
    let found = match document.get(key) {
        None | Some(Bson::Null) => return Ok(None),
        Some(Bson::Int64(n)) => u64::try_from(*n).ok(),
        Some(Bson::Int32(n)) => u64::try_from(*n).ok(),
        Some(Bson::Double(n)) if n.fract() == 0.0 && *n >= 0.0 => Some(*n as u64),
        Some(_) => None,
    };
    found.map(Some).ok_or(format!("{key} is no count"))
}

fn when(document: &Document, key: &str) -> Result<Option<DateTime<Utc>>, String> {
    let millis = match document.get(key) {
        None | Some(Bson::Null) => return Ok(None),
        Some(Bson::DateTime(at)) => at.timestamp_millis(),
        Some(_) => return Err(format!("{key} is no date")),
    };
    DateTime::from_timestamp_millis(millis)
        .map(|at| Some(clock::clamped(at)))
        .ok_or(format!("{key} is no date that exists"))
}

/// What is written of a verify; of the drill only if there was one.
pub fn of_verified(verified: &Verified) -> Document {
    let mut document = doc! {"at": time(verified.at), "sound": verified.sound};
    if let Some(drilled) = verified.drilled {
        document.insert("drilled_at", time(drilled));
    }
    document
}

fn verified(document: &Document) -> Result<Option<Verified>, String> {
    match document.get("verified") {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::Document(inner)) => {
            let at = when(inner, "at")?.ok_or("verified.at is missing")?;
            let sound = inner.get_bool("sound").map_err(|_| "verified.sound is missing")?;
            Ok(Some(Verified { at, sound, drilled: when(inner, "drilled_at")? }))
        }
        Some(_) => Err("verified is no document".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::run::Status;

    fn run() -> BackupRun {
        let id = "20261123T030000Z-7k3q9d".parse().unwrap();
        let at = "2026-11-23T03:00:00.123Z".parse().unwrap();
        BackupRun {
            status: Status::Completed,
            finished_at: Some("2026-11-23T03:05:00Z".parse().unwrap()),
            engine: Some("native".into()),
            consistency: Some("none".into()),
            namespaces: Some(3),
            documents: Some(u64::from(u32::MAX) + 1),
            raw_bytes: Some(1 << 50),
            stored_bytes: Some(0),
            key: Some("k".into()),
            error: Some("e".into()),
            verified: Some(Verified { at, sound: false, drilled: Some(at) }),
            warnings: vec!["look".into()],
            ..BackupRun::begun(id, "job", "host", "place", at)
        }
    }

    fn document(run: &BackupRun) -> Document {
        let mut document = update(run).get_document("$set").unwrap().clone();
        document.insert("_id", run.id.as_str());
        document
    }

    #[test]
    fn what_is_written_reads_back() {
        let full = run();
        assert!(!update(&full).contains_key("$unset"));
        let bare = BackupRun::begun(full.id.clone(), "job", "host", "place", full.started_at);
        assert_eq!(update(&bare).get_document("$unset").unwrap().len(), 10);
        for run in [full, bare] {
            let document = document(&run);
            assert_eq!(read(&document), Ok(run));
            assert!(matches!(document.get("started_at"), Some(Bson::DateTime(_))));
        }
        assert!(matches!(document(&run()).get("documents"), Some(Bson::Int64(_))));
    }

    #[test]
    fn fields_of_newer_versions_are_no_reason_to_refuse() {
        let mut document = document(&run());
        document.insert("mood", doc! {"good": true});
        document.insert("namespaces", 3.0);
        assert_eq!(read(&document), Ok(run()));
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        for (key, value, word) in [
            ("_id", Bson::from(7), "_id"),
            ("_id", "latest".into(), "not a backup id"),
            ("format", 2_i64.into(), "format 2"),
            ("format", Bson::Null, "no format"),
            ("status", "asleep".into(), "a status is one of"),
            ("started_at", "2026".into(), "started_at"),
            ("started_at", BsonTime::from_millis(i64::MAX).into(), "started_at"),
            ("job", Bson::Null, "job"),
            ("documents", (-1).into(), "documents"),
            ("documents", 0.5.into(), "documents"),
            ("warnings", "x".into(), "warnings"),
            ("verified", doc! {"sound": true}.into(), "verified.at"),
        ] {
            let mut document = document(&run());
            document.insert(key, value);
            let why = read(&document).unwrap_err();
            assert!(why.contains(word), "{key}: {why}");
        }
    }
}
