//! Drafts the manifest of a complete artifact.

use super::changes::Change;
use super::{CheckedArtifact, Work};
use crate::artifact::writer::WrittenArtifact;
use crate::catalog::layout;
use crate::model::manifest::{self, Manifest, TOOL};
use crate::model::selection::SelectionAsked;
use crate::source::oplog;

/// The manifest of a complete artifact, whose index object is still to be written.
pub(super) fn draft(work: &Work<'_>, checked: &CheckedArtifact) -> Manifest {
    let (settings, known, written) = (&work.options.settings, &work.known, &checked.written);
    let hello = &known.server.hello;
    let namespaces = entries(written, &checked.changes);
    let changes = checked.changes.iter();
    let changes = changes.map(|(at, change)| change.warning(&written.namespaces[*at]));
    Manifest {
        format: manifest::FORMAT,
        id: work.id.clone(),
        job: settings.job.clone(),
        tool: TOOL.into(),
        host: settings.host.clone(),
        started_at: work.started,
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
        selection: SelectionAsked::from(&settings.selection),
        partial: settings.partial,
        artifact: manifest::ArtifactObject {
            key: layout::artifact(&work.id, settings.format, work.sealed.is_some()),
            format: settings.format.to_string(),
            level: written.mean_level.map_or(settings.format.codec.level(), |mean| mean.round() as i32),
            mean_level: written.mean_level,
            size: written.whole.size,
            crc64nvme: format!("{:016x}", written.whole.crc64nvme),
            part_size: work.upload.part_size,
            blake3: written.blake3.map(|hash| hash.to_hex().to_string()),
        },
        index: manifest::IndexObject::default(),
        encryption: None,
        totals: manifest::Totals {
            namespaces: namespaces.len() as u64,
            documents: namespaces.iter().map(|n| n.documents).sum(),
            raw_bytes: namespaces.iter().map(|n| n.raw_bytes).sum(),
        },
        timing: Some(checked.timing),
        namespaces,
        warnings: work.warnings.iter().cloned().chain(changes).collect(),
        notes: work.resources.notes.lines(),
        losses: None,
        signature: work.signing.as_ref().map(|key| manifest::ManifestSignature {
            key: key.public().number(),
            previous: known.previous.clone(),
        }),
    }
}

fn consistency(work: &Work<'_>, checked: &CheckedArtifact) -> manifest::ConsistencyAchieved {
    let known = &work.known.consistency;
    let slice = checked.written.slice.as_ref().zip(checked.bounds.as_ref());
    manifest::ConsistencyAchieved {
        achieved: match (&slice, known.at) {
            (Some(_), _) => "oplog",
            (None, Some(_)) => "snapshot",
            (None, None) => "none",
        }
        .into(),
        why: known.beside.iter().fold(known.why.clone(), |why, beside| format!("{why}; {beside}")),
        at: slice.map(|(_, bounds)| bounds.end).or(known.at),
        base: match slice {
            Some((_, bounds)) => bounds.last.as_ref().map(|last| oplog::chain_base(bounds.start, last)),
            None => known.base.clone(),
        },
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
