//! A run of `backup`, as records, `list` and `stats` show it. Most of it is known from the store. Only records know
//! that a run is under way, that it was killed, or that its backup was deleted.

use std::time::Duration;

use bson::Bson;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::marks::FailedRun;
use super::verdict::Verdict;
use crate::base::units;
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::model::timing::DataTiming;

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The run is under way.
    Running,
    /// The backup exists.
    Completed,
    /// The run failed, so there is no backup.
    Failed,
    /// The run or its machine was killed, and left no result.
    Interrupted,
    /// A cleanup deleted the backup.
    Deleted,
}

/// All states, in the order in which they are shown.
pub const STATUSES: [Status; 5] =
    [Status::Running, Status::Completed, Status::Failed, Status::Interrupted, Status::Deleted];

impl Status {
    /// The name in records, JSON and `--status`.
    pub fn word(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
            Status::Deleted => "deleted",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// A run. JSON and records have the same fields. Unknown values are null in JSON; a record has the id as `_id`, BSON
/// dates, and no field for an unknown value.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct BackupRun {
    /// The id of the run's backup, even if no backup was made.
    #[serde(rename(deserialize = "_id"))]
    pub id: BackupId,
    pub status: Status,
    pub job: String,
    /// The machine that made the backup.
    pub host: String,
    /// The store, as shown to people.
    pub place: String,
    #[serde(with = "date")]
    #[schemars(with = "DateTime<Utc>")]
    pub started_at: DateTime<Utc>,
    #[serde(default, serialize_with = "date::serialize", deserialize_with = "date::optional")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub finished_at: Option<DateTime<Utc>>,
    #[serde(default, with = "count")]
    #[schemars(with = "Option<u64>")]
    pub namespaces: Option<u64>,
    #[serde(default, with = "count")]
    #[schemars(with = "Option<u64>")]
    pub documents: Option<u64>,
    /// The length of the documents in bytes.
    #[serde(default, with = "count")]
    #[schemars(with = "Option<u64>")]
    pub raw_bytes: Option<u64>,
    /// The size of the artifact in bytes.
    #[serde(default, with = "count")]
    #[schemars(with = "Option<u64>")]
    pub stored_bytes: Option<u64>,
    /// `native` or `mongodump`.
    pub engine: Option<String>,
    /// The consistency that was achieved.
    pub consistency: Option<String>,
    /// The key of the artifact.
    pub key: Option<String>,
    /// The selection in words if the backup has only a part of its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// `None` if no backup was made, or if a version before 0.2.0 made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<DataTiming>,
    /// The note that the backup was much slower than usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<String>,
    /// The names of the places that did not have the backup when the run ended.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub missing_from: Vec<String>,
    /// The failure, its causes and the next step.
    pub error: Option<String>,
    /// The last verify.
    pub verified: Option<Verified>,
    #[serde(default, deserialize_with = "texts")]
    pub warnings: Vec<String>,
}

/// The result of a verify.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Verified {
    /// When the verify ended.
    #[serde(with = "date")]
    #[schemars(with = "DateTime<Utc>")]
    pub at: DateTime<Utc>,
    /// Every byte was as the manifest says, and the drill found no difference.
    pub sound: bool,
    /// When a drill last restored the backup.
    #[serde(default, rename = "drilled_at")]
    #[serde(serialize_with = "date::serialize", deserialize_with = "date::optional")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub drilled: Option<DateTime<Utc>>,
}

impl From<&Verdict> for Verified {
    fn from(verdict: &Verdict) -> Verified {
        let drilled = verdict.drill.as_ref().map(|drill| drill.at);
        Verified { at: verdict.at, sound: verdict.sound, drilled }
    }
}

impl BackupRun {
    /// A run that begins.
    pub fn begun(id: BackupId, job: &str, host: &str, place: &str, at: DateTime<Utc>) -> BackupRun {
        BackupRun {
            id,
            status: Status::Running,
            job: job.into(),
            host: host.into(),
            place: place.into(),
            started_at: at,
            finished_at: None,
            namespaces: None,
            documents: None,
            raw_bytes: None,
            stored_bytes: None,
            engine: None,
            consistency: None,
            key: None,
            partial: None,
            timing: None,
            slow: None,
            missing_from: Vec::new(),
            error: None,
            verified: None,
            warnings: Vec::new(),
        }
    }

    /// The run that made a backup.
    pub fn completed<N>(manifest: &Manifest<N>, place: &str) -> BackupRun {
        BackupRun {
            status: Status::Completed,
            finished_at: Some(manifest.finished_at),
            namespaces: Some(manifest.totals.namespaces),
            documents: Some(manifest.totals.documents),
            raw_bytes: Some(manifest.totals.raw_bytes),
            stored_bytes: Some(manifest.artifact.size),
            engine: Some(manifest.engine.name.clone()),
            consistency: Some(manifest.consistency.achieved.clone()),
            key: Some(manifest.artifact.key.clone()),
            partial: manifest.part(),
            timing: manifest.timing,
            slow: manifest.slow().map(str::to_string),
            warnings: manifest.warnings.clone(),
            ..BackupRun::begun(manifest.id.clone(), &manifest.job, &manifest.host, place, manifest.started_at)
        }
    }

    /// A failed run.
    pub fn failed(failure: &FailedRun, place: &str) -> BackupRun {
        let step = failure.next_step.as_ref().map(|step| format!(" (next step: {step})")).unwrap_or_default();
        BackupRun {
            status: Status::Failed,
            finished_at: Some(failure.failed_at),
            error: Some(format!("{}{step}", failure.error)),
            partial: failure.partial.clone(),
            ..BackupRun::begun(failure.id.clone(), &failure.job, &failure.host, place, failure.started_at)
        }
    }

    /// Returns the duration of the run if it has ended.
    pub fn took(&self) -> Option<Duration> {
        (self.finished_at? - self.started_at).to_std().ok()
    }

    /// Returns the speed in bytes of raw data per second, see [`raw_speed`].
    pub fn raw_speed(&self) -> Option<f64> {
        raw_speed(self.raw_bytes?, self.timing.as_ref(), self.took())
    }
}

/// Returns the speed of a backup in bytes of raw data per second: of its data phase, or of the whole run `took` if the data
/// phase was not measured. Returns `None` if the time is unknown or too short.
pub fn raw_speed(raw_bytes: u64, timing: Option<&DataTiming>, took: Option<Duration>) -> Option<f64> {
    match timing {
        Some(timing) => timing.raw_speed(raw_bytes),
        None => units::speed(raw_bytes, took?),
    }
}

/// Dates are RFC 3339 text in JSON, and BSON dates in records, which hold no more than milliseconds. Only records are
/// read back.
mod date {
    use super::*;
    use crate::base::clock;

    pub fn serialize<S: Serializer>(
        date: &(impl Into<Option<DateTime<Utc>>> + Copy),
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let date: Option<DateTime<Utc>> = (*date).into();
        match serializer.is_human_readable() {
            true => date.serialize(serializer),
            false => date.map(|at| bson::DateTime::from_millis(at.timestamp_millis())).serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        optional(deserializer)?.ok_or_else(|| de::Error::custom("the date is missing"))
    }

    pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        let millis = match Bson::deserialize(deserializer)? {
            Bson::Null => return Ok(None),
            Bson::DateTime(at) => at.timestamp_millis(),
            other => return Err(de::Error::custom(format!("{other} is not a date"))),
        };
        let date = DateTime::from_timestamp_millis(millis).map(clock::clamped);
        date.map(Some).ok_or_else(|| de::Error::custom("the date does not exist"))
    }
}

/// Counts are 64-bit integers in records, but the shell writes doubles. A planted manifest may hold a number that BSON
/// cannot.
pub(super) mod count {
    use super::*;

    pub fn serialize<S: Serializer>(count: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => count.serialize(serializer),
            false => count.map(|n| i64::try_from(n).unwrap_or(i64::MAX)).serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let value = Bson::deserialize(deserializer)?;
        let count = match value {
            Bson::Null => return Ok(None),
            Bson::Int64(n) => u64::try_from(n).ok(),
            Bson::Int32(n) => u64::try_from(n).ok(),
            Bson::Double(n) if n.fract() == 0.0 && n >= 0.0 => Some(n as u64),
            _ => None,
        };
        count.map(Some).ok_or_else(|| de::Error::custom(format!("{value} is not a count")))
    }
}

/// Reads a list of texts, without items of other types.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let items = Option::<Vec<Bson>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(items.iter().filter_map(Bson::as_str).map(str::to_string).collect())
}
