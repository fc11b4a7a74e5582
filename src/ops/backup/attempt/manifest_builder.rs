//! Builds the manifest of a complete artifact.

use chrono::{DateTime, Utc};

use super::Work;
use crate::artifact::writer::WrittenArtifact;
use crate::catalog::layout;
use crate::config::selection::Pattern;
use crate::model::manifest;
use crate::model::manifest::Manifest;
use crate::model::manifest::TOOL;
use crate::ops::backup::BackupOptions;
use crate::ops::backup::changes::Change;
use crate::source::oplog::SliceBounds;

/// What was written, and what is wrong with it.
pub struct Checked {
    /// What was written.
    pub written: WrittenArtifact,
    /// Of what time its oplog slice is.
    pub bounds: Option<SliceBounds>,
    /// What happened to collections while they were read, by places in the list of namespaces.
    pub changes: Vec<(usize, Change)>,
}

/// The manifest of a complete artifact, whose index object is still to be written.
pub fn manifest(work: &Work<'_>, checked: &Checked, started: DateTime<Utc>) -> Manifest {
    let (options, known, written) = (work.options, &work.known, &checked.written);
    let hello = &known.server.hello;
    let namespaces = entries(written, &checked.changes);
    let changes = checked.changes.iter();
    let changes = changes.map(|(at, change)| change.warning(&written.namespaces[*at]));
    Manifest {
        format: manifest::FORMAT,
        id: work.id.clone(),
        job: options.settings.job.clone(),
        tool: TOOL.into(),
        host: options.settings.host.clone(),
        started_at: started,
        finished_at: work.resources.clock.now(),
        source: manifest::SourceServer {
            topology: hello.topology,
            member: hello.address.clone(),
            version: known.version.clone(),
            feature_compatibility_version: known.description.feature_compatibility,
            set_name: hello.set_name.clone(),
            set_id: known.set_id.clone(),
        },
        engine: work.engine.entry(),
        consistency: consistency(work, checked),
        selection: selection(options),
        artifact: artifact(work, written),
        index: manifest::IndexObject::default(),
        totals: manifest::Totals {
            namespaces: namespaces.len() as u64,
            documents: namespaces.iter().map(|n| n.documents).sum(),
            raw_bytes: namespaces.iter().map(|n| n.raw_bytes).sum(),
        },
        namespaces,
        warnings: work.less.iter().cloned().chain(changes).collect(),
        notes: work.notes.lines(),
    }
}

fn consistency(work: &Work<'_>, checked: &Checked) -> manifest::ConsistencyAchieved {
    let known = &work.known.consistency;
    let slice = checked.written.slice.as_ref().zip(checked.bounds);
    manifest::ConsistencyAchieved {
        achieved: match (&slice, known.at) {
            (Some(_), _) => "oplog",
            (None, Some(_)) => "snapshot",
            (None, None) => "none",
        }
        .into(),
        why: known.beside.iter().fold(known.why.clone(), |why, beside| format!("{why}; {beside}")),
        at: checked.bounds.map(|bounds| bounds.end).or(known.at),
        oplog: slice.map(|(tally, bounds)| manifest::OplogSlice {
            start: bounds.start,
            end: bounds.end,
            entries: tally.documents,
            raw_bytes: tally.raw_bytes,
            stored_bytes: tally.stored_bytes,
            xxh3_sum: format!("{:032x}", tally.sum),
        }),
    }
}

fn selection(options: &BackupOptions) -> manifest::SelectionAsked {
    let strings = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect();
    manifest::SelectionAsked {
        databases: options.settings.selection.databases.clone(),
        include: strings(&options.settings.selection.include),
        exclude: strings(&options.settings.selection.exclude),
    }
}

fn artifact(work: &Work<'_>, written: &WrittenArtifact) -> manifest::ArtifactObject {
    let format = work.options.settings.format;
    manifest::ArtifactObject {
        key: layout::artifact(&work.id, format),
        format: format.to_string(),
        level: format.codec.level(),
        size: written.whole.size,
        crc64nvme: format!("{:016x}", written.whole.crc64nvme),
        part_size: work.upload.part_size,
    }
}

fn entries(written: &WrittenArtifact, changes: &[(usize, Change)]) -> Vec<manifest::NamespaceEntry> {
    let pairs = written.namespaces.iter().zip(&written.tallies).enumerate();
    pairs
        .map(|(at, (namespace, tally))| manifest::NamespaceEntry {
            db: namespace.db.clone(),
            collection: namespace.collection.clone(),
            kind: namespace.kind,
            uuid: namespace.uuid.clone(),
            options_blake3: blake3::hash(namespace.options.as_bytes()).to_hex().to_string(),
            indexes: namespace
                .indexes
                .iter()
                .map(|index| manifest::IndexEntry {
                    name: index.get_str("name").unwrap_or_default().to_string(),
                    blake3: blake3::hash(index.as_bytes()).to_hex().to_string(),
                })
                .collect(),
            documents: tally.documents,
            raw_bytes: tally.raw_bytes,
            stored_bytes: tally.stored_bytes,
            xxh3_sum: format!("{:032x}", tally.sum),
            dropped: changes.contains(&(at, Change::Dropped)),
        })
        .collect()
}
