//! The JSON Schemas of all documents that the tool prints, posts or stores, generated from their types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::config::ConfigReport;
use super::init;
use super::keygen::KeygenReport;
use super::notify::NotifyReport;
use super::output::FailureDocument;
use crate::catalog::marks::{FailedRun, Mark, Tombstone};
use crate::catalog::records;
use crate::catalog::scheduled::ScheduledMails;
use crate::catalog::verdict::Verdict;
use crate::model::index::Index;
use crate::model::manifest::Manifest;
use crate::model::slice::{EventsFile, StoredSlice};
use crate::notify::signals;
use crate::ops::backup::{BackupPlan, BackupReport};
use crate::ops::cleanup::CleanupReport;
use crate::ops::copy::CopyReport;
use crate::ops::diff::DiffReport;
use crate::ops::health::HealthReport;
use crate::ops::list::ListReport;
use crate::ops::list::details::BackupDetails;
use crate::ops::oplog::OplogReport;
use crate::ops::pin::PinReport;
use crate::ops::restore::{AsideReport, KeptReport, RestorePlan, RestoreReport};
use crate::ops::stats::StatsReport;
use crate::ops::timeline::TimelineReport;
use crate::ops::verify::VerifyReport;

/// A way to generate the schema of a document.
type Generate = fn(&mut SchemaGenerator) -> Schema;

/// Every document by the name of its file in docs/schema, with its title.
const DOCUMENTS: &[(&str, &str, Generate)] = &[
    ("backup", "The output of `backup --json`", BackupReport::json_schema),
    ("backup-dry-run", "The output of `backup --dry-run --json`", BackupPlan::json_schema),
    ("cleanup", "The output of `cleanup --json`", CleanupReport::json_schema),
    ("config", "The output of `config --json`", ConfigReport::json_schema),
    ("copy", "The output of `copy --json`", CopyReport::json_schema),
    ("diff", "The output of `diff --json`", DiffReport::json_schema),
    ("failure", "The last line on standard error of a failure with `--json`", FailureDocument::json_schema),
    ("health", "The output of `health --json`", HealthReport::json_schema),
    ("init", "The output of `init --json`", init::schema),
    ("keygen", "The output of `keygen --json`", KeygenReport::json_schema),
    ("list", "The output of `list --json`", ListReport::json_schema),
    ("list-backup", "The output of `list ID --json`", BackupDetails::json_schema),
    ("notify", "The output of `notify --json`", NotifyReport::json_schema),
    ("oplog", "The output of `oplog --json`", OplogReport::json_schema),
    ("pin", "The output of `pin --json` and `unpin --json`", PinReport::json_schema),
    ("restore", "The output of `restore --json`", RestoreReport::json_schema),
    ("restore-dry-run", "The output of `restore --dry-run --json`", RestorePlan::json_schema),
    ("restore-kept", "The output of `restore --kept --json`", KeptReport::json_schema),
    (
        "restore-aside",
        "The output of `restore --undo --json` and `restore --discard --json`",
        AsideReport::json_schema,
    ),
    ("stats", "The output of `stats --json`", StatsReport::json_schema),
    ("timeline", "The output of `timeline --json`", TimelineReport::json_schema),
    ("verify", "The output of `verify --json`", VerifyReport::json_schema),
    ("webhook", "The document that WEBHOOK_URL gets", signals::webhook_schema),
    ("stored-manifest", "A backup's manifest.json", <Manifest as JsonSchema>::json_schema),
    ("stored-index", "A backup's index.json.zst, decompressed", Index::json_schema),
    ("stored-failed", "The failed.json of a run", FailedRun::json_schema),
    ("stored-mark", "The pin.json or accepted.json of a backup", Mark::json_schema),
    ("stored-record", "The record of a run in MongoDB, as Extended JSON (relaxed)", records::schema),
    ("stored-tombstone", "The tombstone.json of a backup", Tombstone::json_schema),
    ("stored-scheduled", "The .scheduled/<job>.json of a job", ScheduledMails::json_schema),
    ("stored-slice", "The slice.json of an oplog slice", StoredSlice::json_schema),
    ("stored-slice-events", "The events of an oplog slice, decompressed", EventsFile::json_schema),
    ("stored-verified", "A verified-<time>.json of a backup", Verdict::json_schema),
];

/// The JSON Schema (draft 2020-12) of each document, by the name of its file in docs/schema without `.json`.
pub fn schemas() -> impl Iterator<Item = (&'static str, Schema)> {
    DOCUMENTS.iter().map(|(name, title, generate)| {
        let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        let mut schema = generate(&mut generator);
        schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        schema.insert("title".into(), (*title).into());
        let definitions = generator.take_definitions(true);
        if !definitions.is_empty() {
            schema.insert("$defs".into(), definitions.into());
        }
        (*name, schema)
    })
}
