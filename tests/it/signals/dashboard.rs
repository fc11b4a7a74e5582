//! The example dashboard and the pages name only metrics that the tool writes.

use std::collections::BTreeSet;

use serde_json::Value;
use uzima_backup::notify::metrics::{LABEL, METRICS};

fn shipped(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The metrics of this tool in a text, recognized by their prefix.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("uzima_backup_")).collect()
}

fn queries(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match (&key[..], value) {
            ("expr" | "definition", Value::String(text)) => into.push(text.clone()),
            _ => queries(value, into),
        }),
        Value::Array(items) => items.iter().for_each(|item| queries(item, into)),
        _ => {}
    }
}

#[test]
fn each_query_of_the_dashboard_uses_written_metrics() {
    let written: BTreeSet<&str> = METRICS.iter().map(|(name, _)| *name).collect();
    let dashboard: Value = serde_json::from_str(&shipped("examples/grafana-dashboard.json")).expect("JSON");
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    assert!(asked.len() > 8, "{asked:?}");
    for query in &asked {
        let named = metrics(query);
        assert!(!named.is_empty() && named.is_subset(&written), "{query}");
        // A selector of `job` would match the job label of the scrape.
        let mut selectors = query.split('{').skip(1).filter_map(|rest| rest.split_once('='));
        assert!(query.contains("backup_job") && selectors.all(|(label, _)| label == LABEL), "{query}");
    }
    for of_oplog in [
        "oplog_end_timestamp_seconds",
        "oplog_chain_start_timestamp_seconds",
        "oplog_barrier_timestamp_seconds",
    ] {
        assert!(asked.iter().any(|query| query.contains(of_oplog)), "no panel shows {of_oplog}");
    }
    let shown: BTreeSet<&str> = asked.iter().flat_map(|query| metrics(query)).collect();
    assert!(shown.len() > 9, "{shown:?}");
    let panels = dashboard["panels"].as_array().expect("a list");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        assert!(
            panel["title"].is_string() && panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{panel}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
    }
}

#[test]
fn the_pages_name_only_written_metrics() {
    let pages = shipped("docs/monitoring.md");
    let named = metrics(&pages);
    // Some are named by a prefix.
    let written = |name: &str| {
        METRICS.iter().any(|(metric, _)| match name.strip_suffix('_') {
            Some(_) => metric.starts_with(name),
            None => *metric == name,
        })
    };
    assert!(named.len() > 3 && named.iter().all(|name| written(name)), "{named:?}");
}
