//! The points in time that can be restored, in words.

use chrono::{DateTime, Utc};

use crate::base::escape;
use crate::base::units;
use crate::catalog::ranges::{Restorable, RestorableRange};

/// `any second from … to …, 12 min ago, except 2 gaps`. Without such a time, the text says so.
pub(super) fn restorable_text(restorable: &Restorable, now: DateTime<Utc>) -> String {
    let mut ranges = restorable.continuous();
    let Some(first) = ranges.next() else {
        return "the instants of its backups only: no oplog slice continues one of them".into();
    };
    let last = ranges.next_back().unwrap_or(first);
    let gaps = closed_gaps(restorable, first);
    let gaps = match gaps {
        0 => String::new(),
        n => format!(", except {}", units::several(n, "gap")),
    };
    let ago = units::age((now - last.to.date()).to_std().unwrap_or_default());
    format!("any second from {} to {}, {ago} ago{gaps}", first.from.second(), last.to.second())
}

/// The number of gaps since the first range.
pub(super) fn closed_gaps(restorable: &Restorable, first: &RestorableRange) -> u64 {
    restorable.gaps.iter().filter(|gap| gap.to.is_some() && gap.from >= first.from).count() as u64
}

/// Why nothing after the newest range can be restored, and the next step; `None` if there is no open gap.
pub(super) fn open_gap_text(restorable: &Restorable) -> Option<String> {
    let gap = restorable.open_gap()?;
    let why: Vec<String> = gap
        .obstacles
        .iter()
        .take(SHOWN)
        .map(|obstacle| format!("{} at {}: {}", obstacle.kind.word(), obstacle.at.second(), obstacle.why))
        .collect();
    let step = gap.next_step.as_ref().map(|step| format!("; {step}")).unwrap_or_default();
    Some(format!("no time after {} can be restored: {}{step}", gap.from.second(), why.join("; ")))
}

/// The most obstacles of a gap that are named.
pub(super) const SHOWN: usize = 2;

/// Breaks a text into lines of at most `width` characters. `first` and `rest` are the beginnings of the first line and of the
/// others. A longer word is broken, too.
pub(super) fn wrap(first: &str, rest: &str, text: &str, width: usize) -> Vec<String> {
    let text = escape::line(text);
    let (mut lines, mut line, mut empty) = (Vec::new(), first.to_string(), true);
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, rest.to_string()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        empty = false;
        for c in word.chars() {
            if line.chars().count() >= width {
                lines.push(std::mem::replace(&mut line, rest.to_string()));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ranges::{ObstacleKind, RangeObstacle, RestorableGap};
    use crate::model::optime::OpTime;
    use crate::model::slice::ChainId;

    #[test]
    fn ranges_and_gaps_are_one_sentence() {
        let at = |t| OpTime { t: 1_795_402_800 + t, i: 1 };
        let chain = ChainId::new("6563a1b2c3d4e5f60718293a", at(0)).unwrap();
        let id = |n| format!("2026112{n}T030000Z-7k3q9d").parse().unwrap();
        let range =
            |from, to, chains| RestorableRange { from: at(from), to: at(to), bases: vec![id(3)], chains };
        let gap = |from, to: Option<u32>| RestorableGap {
            from: at(from),
            to: to.map(at),
            obstacles: vec![RangeObstacle {
                kind: ObstacleKind::Gap,
                at: at(from),
                why: "it overflowed".into(),
            }],
            closed_by: None,
            next_step: to.is_none().then(|| "make a new backup now".into()),
        };
        let text = |found: &Restorable| restorable_text(found, at(4000).date());
        let mut found = Restorable {
            ranges: vec![range(0, 0, vec![]), range(10, 400, vec![chain.clone()])],
            gaps: vec![],
        };
        assert_eq!(text(&found), "any second from 2026-11-23T03:00:10Z to 2026-11-23T03:06:40Z, 1 h ago");
        assert_eq!(open_gap_text(&found), None);
        found.ranges.push(range(600, 700, vec![chain]));
        // A gap before the first range is none of it.
        found.gaps = vec![gap(5, Some(10)), gap(400, Some(600)), gap(700, None)];
        assert_eq!(
            text(&found),
            "any second from 2026-11-23T03:00:10Z to 2026-11-23T03:11:40Z, 55 min ago, except 1 gap"
        );
        assert_eq!(
            open_gap_text(&found).unwrap(),
            "no time after 2026-11-23T03:11:40Z can be restored: gap at 2026-11-23T03:11:40Z: it overflowed; make a new backup now"
        );
        found.ranges.truncate(1);
        assert!(text(&found).contains("no oplog slice continues"));
    }
}
