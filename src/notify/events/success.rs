//! A backup was made.

use chrono::{DateTime, Utc};

use super::{Occasion, between, time};
use crate::base::units;
use crate::config::notify::Event;
use crate::model::manifest::Manifest;
use crate::notify::message::{Message, Sender, Tone};

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Success {
    /// When the run began.
    pub started: DateTime<Utc>,
    /// When the artifact was complete.
    pub finished: DateTime<Utc>,
    /// Where the artifact is.
    pub place: String,
    /// What read.
    pub engine: String,
    /// To what time the documents belong.
    pub consistency: String,
    /// How many namespaces.
    pub namespaces: u64,
    /// How many documents.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// The size of the artifact in bytes.
    pub stored_bytes: u64,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// What went wrong on the way and was mended.
    pub notes: Vec<String>,
}

impl Success {
    /// The backup of a manifest, whose artifact is at `place`.
    pub fn of(manifest: &Manifest, place: &str) -> Success {
        Success {
            started: manifest.started_at,
            finished: manifest.finished_at,
            place: place.into(),
            engine: manifest.engine.name.clone(),
            consistency: manifest.consistency.achieved.clone(),
            namespaces: manifest.totals.namespaces,
            documents: manifest.totals.documents,
            raw_bytes: manifest.totals.raw_bytes,
            stored_bytes: manifest.artifact.size,
            warnings: manifest.warnings.clone(),
            notes: manifest.notes.clone(),
        }
    }
}

/// The mail about it.
pub fn success(of: &Occasion, s: &Success, sender: &Sender) -> Message {
    let (tone, status, headline) = match s.warnings.len() {
        0 => (Tone::Good, "backup done", format!("{} is backed up", of.job)),
        _ => (
            Tone::Warning,
            "backup done, needs a look",
            format!("{} is backed up, but something needs a look", of.job),
        ),
    };
    let took = between(s.started, s.finished);
    let mut message =
        Message::new(Event::Success, tone, &format!("{status}: {}", of.named()), &headline, sender)
            .fact("Backup", &of.run)
            .fact("Job", &of.job)
            .fact(
                "Size",
                format!("{} raw, {} stored", units::bytes(s.raw_bytes), units::bytes(s.stored_bytes)),
            )
            .fact(
                "Content",
                format!(
                    "{} in {}",
                    units::several(s.documents, "document"),
                    units::several(s.namespaces, "namespace")
                ),
            )
            .fact("Began", time(s.started))
            .fact("Took", units::duration(took))
            .fact("Engine", format!("{}, consistency {}", s.engine, s.consistency))
            .fact("Place", &s.place);
    message.paragraphs.extend(s.warnings.iter().map(|warning| format!("Needs a look: {warning}")));
    message.facts.extend(s.notes.iter().map(|note| ("Note".into(), note.clone())));
    message
}
