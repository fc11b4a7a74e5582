//! How a job stands, in words.

use crate::base::units;
use crate::notify::message::Tone;
use crate::ops::stats::StatsReport;
use crate::retention::outlook::{AHEAD, Pace};

/// How it looks at first sight.
#[derive(Debug)]
pub struct Look {
    pub tone: Tone,
    /// In one sentence.
    pub headline: String,
    /// What a person should look at, a line each.
    pub looks: Vec<String>,
}

/// How the job stands.
pub fn look(report: &StatsReport) -> Look {
    let standing = &report.standing;
    let mut looks: Vec<String> =
        standing.frozen.iter().map(|why| format!("A clean-up would delete nothing: {why}")).collect();
    // What freezes the clean-up is a problem, and told once.
    looks.extend(standing.problems.iter().filter(|problem| !standing.frozen.contains(problem)).cloned());
    for (id, why) in &standing.freshness.bad {
        if !looks.iter().any(|line| line.contains(id.as_str())) {
            looks.push(format!("The backup {id} does not count: {why}"));
        }
    }
    let age = standing.freshness.newest.as_ref().map(|(_, age)| *age);
    let (tone, how) = match age {
        None if report.runs.is_empty() => (Tone::Warning, "no run yet".to_string()),
        None => (Tone::Bad, "there is no good backup".into()),
        Some(age) if !standing.freshness.fresh => {
            let (age, allowed) = (units::duration(age), units::duration(standing.max_age));
            (Tone::Bad, format!("the newest good backup is {age} old, {allowed} are allowed"))
        }
        Some(_) if standing.failing => (Tone::Warning, "the last run made no backup".into()),
        Some(_) if !standing.frozen.is_empty() => (Tone::Warning, "clean-ups are frozen".into()),
        Some(_) if looks.len() == 1 => (Tone::Warning, "one thing needs a look".into()),
        Some(_) if !looks.is_empty() => (Tone::Warning, format!("{} things need a look", looks.len())),
        Some(_) => {
            let (kept, bytes) = report.kept;
            (Tone::Good, format!("{}, {}", units::several(kept as u64, "backup"), units::bytes(bytes)))
        }
    };
    Look { tone, headline: format!("{}: {how}", report.job), looks }
}

/// What will be stored; `None` without backups.
pub fn forecast(report: &StatsReport) -> Option<String> {
    let last = report.outlook.stored.get(AHEAD)?;
    Some(format!(
        "{} in {} on {}, if {}",
        units::bytes(last.bytes),
        units::several(last.backups as u64, "backup"),
        last.at.format("%F"),
        pace(&report.pace)
    ))
}

fn pace(pace: &Pace) -> String {
    let often = match pace.every.num_hours() {
        24 => "every day".to_string(),
        hours if hours % 24 == 0 => format!("every {} days", hours / 24),
        1 => "every hour".into(),
        hours => format!("every {hours} hours"),
    };
    let bytes = |n: f64| units::bytes(n.abs().round() as u64);
    let growth = match pace.per_day.round() {
        n if n >= 1.0 => format!(", {} larger by the day", bytes(n)),
        n if n <= -1.0 => format!(", {} smaller by the day", bytes(n)),
        _ => String::new(),
    };
    format!("one of {} is made {often}{growth}", bytes(pace.bytes))
}
