//! The JSON form of a plan.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use super::super::namespaces::{NamespaceKey, Planned, full_name};
use super::super::replay::SliceSurvey;
use super::super::report::{ChosenCounts, RestoreFacts};
use super::RestorePlan;
use crate::model::namespace::Type;
use crate::model::optime::OpTime;

/// The JSON form of a plan.
#[derive(JsonSchema, Serialize)]
struct PlanDocument<'a> {
    #[serde(flatten)]
    facts: &'a RestoreFacts,
    drop: bool,
    namespaces: Vec<PlannedDocument>,
    extra: Vec<String>,
    users: Option<usize>,
    roles: Option<usize>,
    replay: Option<ReplayDocument>,
    refused: Vec<String>,
    rest: Option<&'a [String]>,
    unproved: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    counted: &'a [CountedNamespace],
    warnings: &'a [String],
}

/// What a restore with `--filter` or `--merge` would do with the documents of a namespace, as a `--dry-run` counts it.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct CountedNamespace {
    /// The name at the target.
    pub to: String,
    #[serde(flatten)]
    pub chosen: ChosenCounts,
    /// True if documents that the oplog slice writes are not counted, because that needs its replay.
    pub without_oplog: bool,
}

#[derive(JsonSchema, Serialize)]
struct PlannedDocument {
    from: String,
    to: String,
    #[serde(rename = "type")]
    kind: Type,
    documents: u64,
    raw_bytes: u64,
    existing_documents: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
struct ReplayDocument {
    entries: u64,
    from: Option<OpTime>,
    to: Option<OpTime>,
    operations: u64,
    left_out: u64,
    in_the_way: Vec<String>,
}

impl JsonSchema for RestorePlan {
    fn schema_name() -> Cow<'static, str> {
        "RestorePlan".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        PlanDocument::json_schema(generator)
    }
}

impl Serialize for RestorePlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = |keys: &[NamespaceKey]| keys.iter().map(full_name).collect();
        let namespace = |planned: &Planned| PlannedDocument {
            from: planned.source.name(),
            to: planned.chosen.name(),
            kind: planned.source.kind,
            documents: planned.source.documents,
            raw_bytes: planned.source.raw_bytes,
            existing_documents: planned.existing.and_then(|existing| existing.documents),
        };
        let replay = |survey: &SliceSurvey| ReplayDocument {
            entries: survey.read.entries,
            from: survey.read.first,
            to: survey.read.last,
            operations: survey.operations,
            left_out: survey.read.left_out,
            in_the_way: names(&self.in_the_way),
        };
        let (users, roles) = self.user_counts().unzip();
        let document = PlanDocument {
            facts: &self.facts,
            drop: self.drop,
            namespaces: self.namespaces.iter().map(namespace).collect(),
            extra: names(&self.extra),
            users,
            roles,
            replay: self.oplog.survey().map(replay),
            refused: self.refused(),
            rest: self.rest.as_ref().map(|flags| &flags.add[..]),
            unproved: &self.unproved,
            counted: &self.counted,
            warnings: &self.warnings,
        };
        document.serialize(serializer)
    }
}
