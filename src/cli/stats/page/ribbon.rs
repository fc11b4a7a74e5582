//! The ribbon of the time that can be restored, with its gaps. `ribbon.html` draws it with positions in percent, so that it
//! fits every width; the list below it says the same in words.

use chrono::{DateTime, TimeDelta, Utc};

use super::shortened;
use crate::base::units;
use crate::catalog::ranges::{RangeObstacle, Restorable, RestorableGap, RestorableRange};
use crate::cli::restorable::restorable_text;
use crate::model::id::BackupId;

/// The most ranges and gaps that are listed, and drawn.
const LISTED: usize = 8;
const DRAWN: usize = 200;
/// The most obstacles of a gap that are listed.
const OBSTACLES: usize = 5;

/// A part of the ribbon, in percent of its width.
#[derive(Debug, PartialEq)]
pub struct Band {
    pub gap: bool,
    pub left: String,
    pub width: String,
    /// The tooltip.
    pub label: String,
}

/// A mark on the ribbon or below it.
#[derive(Debug, PartialEq)]
pub struct Mark {
    pub left: String,
    pub label: String,
}

/// A range or a gap in words.
#[derive(Debug)]
pub struct Span {
    pub gap: bool,
    pub word: &'static str,
    pub time: String,
    pub lines: Vec<String>,
}

#[derive(Debug)]
pub struct Ribbon {
    /// The ribbon as text, for screen readers.
    pub description: String,
    pub bands: Vec<Band>,
    /// The backups at which restores begin.
    pub bases: Vec<Mark>,
    pub ticks: Vec<Mark>,
    /// Newest first.
    pub spans: Vec<Span>,
    /// The number of earlier ranges and gaps.
    pub left_out: usize,
}

/// A range or a gap.
enum Part<'a> {
    Range(&'a RestorableRange),
    Gap(&'a RestorableGap),
}

impl Part<'_> {
    fn from(&self) -> DateTime<Utc> {
        match self {
            Part::Range(range) => range.from.date(),
            Part::Gap(gap) => gap.from.date(),
        }
    }

    fn to(&self) -> Option<DateTime<Utc>> {
        match self {
            Part::Range(range) => Some(range.to.date()),
            Part::Gap(gap) => gap.to.map(|to| to.date()),
        }
    }
}

impl Ribbon {
    /// Draws the time since the first range or gap. Returns `None` if there is neither.
    pub fn of(found: &Restorable, now: DateTime<Utc>, clean: impl Fn(&str) -> String) -> Option<Ribbon> {
        let ranges = found.continuous().map(|range| range.from.date());
        let from = ranges.chain(found.gaps.iter().map(|gap| gap.from.date())).min()?;
        // A server's clock may be ahead of this machine's.
        let to = found.ranges.iter().map(|range| range.to.date()).fold(now, DateTime::max);
        let within = |at: DateTime<Utc>| at >= from;
        let mut parts: Vec<Part<'_>> = found.gaps.iter().map(Part::Gap).collect();
        parts.extend(found.ranges.iter().filter(|range| within(range.from.date())).map(Part::Range));
        // A gap begins at the end of the range before it.
        parts.sort_by_key(|part| (part.from(), matches!(part, Part::Gap(_))));
        parts.reverse();
        let percent = |at: DateTime<Utc>| {
            let whole = (to - from).num_seconds().max(1) as f64;
            (at - from).num_seconds() as f64 / whole * 100.0
        };
        let band = |part: &Part<'_>| {
            let (begin, end) = (percent(part.from()), percent(part.to().unwrap_or(to)));
            Band {
                gap: matches!(part, Part::Gap(_)),
                left: format!("{begin:.2}"),
                width: format!("{:.2}", (end - begin).max(0.0)),
                label: label(part),
            }
        };
        let starts = found.ranges.iter().flat_map(|range| &range.bases).filter(|id| within(id.started()));
        let base = |id: &BackupId| Mark {
            left: format!("{:.2}", percent(id.started())),
            label: format!("the backup {id}"),
        };
        let bases: Vec<Mark> = starts.rev().take(DRAWN).map(base).collect();
        Some(Ribbon {
            description: description(found, from, now),
            bands: parts.iter().take(DRAWN).map(band).collect(),
            bases,
            ticks: ticks(from, to),
            spans: parts.iter().take(LISTED).map(|part| span(part, &clean)).collect(),
            left_out: parts.len().saturating_sub(LISTED),
        })
    }
}

/// Four evenly spaced times, with the first and the last.
fn ticks(from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Mark> {
    let span = to - from;
    let format = if span >= TimeDelta::days(3) { "%-d %b" } else { "%-d %b %H:%M" };
    let tick = |n: i32| {
        let at = from + span * n / 3;
        Mark { left: format!("{:.2}", f64::from(n) * 100.0 / 3.0), label: at.format(format).to_string() }
    };
    let mut ticks: Vec<Mark> = (0..=3).map(tick).collect();
    ticks.dedup_by(|a, b| a.label == b.label);
    ticks
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %H:%M:%S").to_string()
}

fn label(part: &Part<'_>) -> String {
    match (part, part.to()) {
        (Part::Range(range), _) if range.chains.is_empty() => format!("only {}", time(range.from.date())),
        (_, Some(to)) => format!("{} to {}", time(part.from()), time(to)),
        (_, None) => format!("{} to now", time(part.from())),
    }
}

fn span(part: &Part<'_>, clean: &impl Fn(&str) -> String) -> Span {
    let mut lines = Vec::new();
    match part {
        Part::Range(range) => {
            let more = match range.bases.len().saturating_sub(1) {
                0 => String::new(),
                n => format!(" and {}", units::several(n as u64, "later backup")),
            };
            lines.extend(range.bases.first().map(|base| format!("from the backup {base}{more}")));
        }
        Part::Gap(gap) => {
            let obstacle =
                |one: &RangeObstacle| format!("{} at {}: {}", one.kind.word(), time(one.at.date()), one.why);
            lines.extend(gap.obstacles.iter().take(OBSTACLES).map(obstacle));
            lines.extend(gap.closed_by.as_ref().map(|base| format!("closed by the backup {base}")));
            lines.extend(gap.next_step.iter().map(|step| format!("next step: {step}")));
        }
    }
    let gap = matches!(part, Part::Gap(_));
    Span {
        gap,
        word: if gap { "gap" } else { "restorable" },
        time: label(part),
        lines: lines.iter().map(|line| shortened(&clean(line))).collect(),
    }
}

fn description(found: &Restorable, from: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ranges = units::several(found.continuous().count() as u64, "range");
    let gaps = units::several(found.gaps.len() as u64, "gap");
    format!(
        "{ranges} of time that can be restored and {gaps} between {} and {} UTC: {}",
        time(from),
        time(now),
        restorable_text(found, now)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ranges::ObstacleKind;
    use crate::model::optime::OpTime;
    use crate::model::slice::ChainId;

    fn at(hours: u32) -> OpTime {
        OpTime { t: 1_795_402_800 + hours * 3600, i: 1 }
    }

    /// A day with a gap of six hours in its middle, an open gap of an hour at its end, and an older backup.
    fn found() -> Restorable {
        let chain = ChainId::new("6563a1b2c3d4e5f60718293a", at(0)).unwrap();
        let id = |hours: u32| {
            let time = at(hours).date().format("%Y%m%dT%H%M%SZ");
            format!("{time}-7k3q9d").parse::<BackupId>().unwrap()
        };
        let range =
            |from, to, chains| RestorableRange { from: at(from), to: at(to), bases: vec![id(from)], chains };
        let gap = |from, to: Option<u32>| RestorableGap {
            from: at(from),
            to: to.map(at),
            obstacles: vec![RangeObstacle {
                kind: ObstacleKind::Gap,
                at: at(from),
                why: "<it> overflowed".into(),
            }],
            closed_by: to.map(id),
            next_step: to.is_none().then(|| "make a new backup".into()),
        };
        Restorable {
            ranges: vec![range(0, 0, vec![]), range(24, 33, vec![chain.clone()]), range(39, 47, vec![chain])],
            gaps: vec![gap(33, Some(39)), gap(47, None)],
        }
    }

    #[test]
    fn ranges_and_gaps_fill_the_ribbon_from_the_first_to_now() {
        let ribbon = Ribbon::of(&found(), at(48).date(), |text| text.replace('<', "(")).unwrap();
        let bands: Vec<_> =
            ribbon.bands.iter().rev().map(|one| (one.gap, one.left.as_str(), one.width.as_str())).collect();
        assert_eq!(
            bands,
            [
                (false, "0.00", "37.50"),
                (true, "37.50", "25.00"),
                (false, "62.50", "33.33"),
                (true, "95.83", "4.17")
            ]
        );
        let bases: Vec<&str> = ribbon.bases.iter().map(|base| base.left.as_str()).collect();
        assert_eq!(bases, ["62.50", "0.00"], "the backup before the ribbon is not on it");
        let ticks: Vec<&str> = ribbon.ticks.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(ticks, ["24 Nov 03:00", "24 Nov 11:00", "24 Nov 19:00", "25 Nov 03:00"]);
        let spans: Vec<_> = ribbon.spans.iter().map(|span| (span.word, span.time.as_str())).collect();
        assert_eq!(spans[0], ("gap", "2026-11-25 02:00:00 to now"));
        assert_eq!(spans[3], ("restorable", "2026-11-24 03:00:00 to 2026-11-24 12:00:00"));
        assert_eq!(ribbon.spans[0].lines[0], "gap at 2026-11-25 02:00:00: (it> overflowed");
        assert!(ribbon.description.starts_with("2 ranges of time that can be restored and 2 gaps between "));
    }

    #[test]
    fn many_gaps_are_counted_and_none_is_no_ribbon() {
        let mut many = found();
        let gap = many.gaps[0].clone();
        many.gaps = (0..30)
            .map(|n| RestorableGap { from: at(60 + 2 * n), to: Some(at(61 + 2 * n)), ..gap.clone() })
            .collect();
        let ribbon = Ribbon::of(&many, at(200).date(), str::to_string).unwrap();
        assert_eq!((ribbon.spans.len(), ribbon.left_out, ribbon.bands.len()), (8, 24, 32));
        assert!(Ribbon::of(&Restorable::default(), at(0).date(), str::to_string).is_none());
    }
}
