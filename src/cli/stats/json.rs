//! The statistics for machines: docs/json.md describes each field.

use serde_json::json;

use crate::catalog::run::BackupRun;
use crate::catalog::verdict::Drill;
use crate::model::id::BackupId;
use crate::ops::stats::{JobStanding, StatsReport, Trend};
use crate::retention::outlook::{Stay, StoredForecast};

/// The report for machines.
pub fn json(report: &StatsReport) -> serde_json::Value {
    let trend = |trend: &Option<Trend>| {
        trend.map(|t| {
            json!({"first": t.first, "last": t.last, "least": t.least, "most": t.most, "median": t.median,
                   "per_day": t.per_day})
        })
    };
    let success: Vec<_> = report
        .success
        .iter()
        .map(|s| json!({"days": s.days, "made": s.made, "ended": s.ended, "percent": s.percent()}))
        .collect();
    let periods: Vec<_> = report
        .periods
        .iter()
        .map(|p| {
            json!({"unit": p.unit.word(), "start": p.start, "made": p.made, "failed": p.failed,
                   "stored_bytes": p.stored_bytes, "seconds": p.seconds})
        })
        .collect();
    let stored = |s: &StoredForecast| json!({"at": s.at, "backups": s.backups, "stored_bytes": s.bytes});
    let forecast: Vec<_> = report.outlook.stored.iter().map(stored).collect();
    let kept = |stay: &Stay| json!({"id": stay.id, "until": stay.until, "rule": stay.rule.word(), "not_good": stay.wrong});
    let kept: Vec<_> = report.outlook.stays.iter().map(kept).collect();
    let totals: serde_json::Map<String, serde_json::Value> =
        report.totals.iter().map(|(status, n)| (status.to_string(), json!(n))).collect();
    json!({
        "version": 1,
        "job": report.job,
        "place": report.place,
        "at": report.at,
        "runs": totals,
        "success": success,
        "backups": report.kept.0,
        "backups_not_good": report.not_good,
        "backups_lost": report.lost,
        "stored_bytes": report.kept.1,
        "raw_bytes": report.kept_raw,
        "newest": report.newest.as_ref().map(|run| run.id.clone()),
        "oldest_started_at": report.oldest,
        "size": trend(&report.size),
        "documents": trend(&report.documents),
        "seconds": trend(&report.duration),
        "raw_bytes_per_second": report.throughput,
        "periods": periods,
        "last": report.last().iter().map(|run| run_json(report, run)).collect::<Vec<_>>(),
        "standing": standing(&report.standing),
        "forecast": forecast,
        "kept": kept,
        "drill": report.drills.first().map(|(id, drill)| drill_json(id, drill)),
        "next_expiry": report.next_expiry.as_ref().map(|next| json!({"id": next.id, "at": next.at})),
    })
}

fn standing(standing: &JobStanding) -> serde_json::Value {
    let newest = standing.freshness.newest.as_ref();
    json!({
        "newest_good": newest.map(|(id, _)| id),
        "age_seconds": newest.map(|(_, age)| age.as_secs()),
        "max_age_seconds": standing.max_age.as_secs(),
        "fresh": standing.freshness.fresh,
        "frozen": standing.frozen,
        "problems": standing.problems,
    })
}

fn drill_json(id: &BackupId, drill: &Drill) -> serde_json::Value {
    json!({
        "id": id,
        "at": drill.at,
        "sound": drill.findings.is_empty(),
        "recovery_seconds": drill.recovery_seconds,
        "raw_bytes": drill.raw_bytes,
        "target": drill.target,
    })
}

fn run_json(report: &StatsReport, run: &BackupRun) -> serde_json::Value {
    json!({
        "id": run.id,
        "status": report.shown(run).code(),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "documents": run.documents,
        "raw_bytes": run.raw_bytes,
        "stored_bytes": run.stored_bytes,
        "error": report.faults.get(&run.id).map(|fault| &fault.why).or(run.error.as_ref()),
        "warnings": run.warnings,
    })
}
