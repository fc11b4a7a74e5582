use super::*;
use crate::cli::stats::page::fixture::{id, known, now, options};
use crate::ops::stats::report;

fn drawn(nights: i64) -> Vec<Month> {
    months(&report(&known(nights), &options(), now()))
}

fn day(months: &[Month], month: &str, number: u32) -> Day {
    let month = months.iter().find(|m| m.name == month).unwrap_or_else(|| panic!("no {month}"));
    let days = || month.weeks.iter().flatten().flatten();
    days().find(|day| day.number == number).expect("such a day").clone()
}

#[test]
fn months_begin_on_their_weekday_and_have_their_days() {
    let months = drawn(100);
    let names: Vec<&str> = months.iter().map(|month| month.name.as_str()).collect();
    assert_eq!(names, ["September 2026", "October 2026", "November 2026", "December 2026"]);
    let lengths: Vec<usize> = months.iter().map(|m| m.weeks.iter().flatten().flatten().count()).collect();
    assert_eq!(lengths, [30, 31, 30, 31]);
    // 2026-11-01 is a Sunday, 2026-12-01 a Tuesday.
    let first = |month: &Month| month.weeks[0].iter().position(Option::is_some).unwrap();
    assert_eq!((first(&months[2]), first(&months[3])), (6, 1));
    assert!(months.iter().all(|month| month.weeks.iter().all(|week| week.len() == 7)));
}

#[test]
fn a_day_says_what_became_of_its_runs() {
    let months = drawn(100);
    let at = |month, number| {
        let day = day(&months, month, number);
        (day.class, day.sign, day.says)
    };
    assert_eq!(at("November 2026", 23), ("kept", "●".into(), "2026-11-23: 1 made and kept".into()));
    assert_eq!(at("November 2026", 21), ("failed", "×".into(), "2026-11-21: 1 failed or interrupted".into()));
    // Older than 30 days, and not the newest of its week or month.
    assert_eq!(at("October 2026", 2), ("gone", "○".into(), "2026-10-02: 1 made, deleted since".into()));
    assert_eq!(at("September 2026", 21).0, "failed", "it was killed");
    assert_eq!(at("December 2026", 31).0, "");
    assert!(day(&months, "November 2026", 23).today);
    assert_eq!(months.iter().flat_map(|m| m.weeks.iter().flatten().flatten()).filter(|d| d.today).count(), 1);
}

#[test]
fn what_goes_stands_on_its_day() {
    let months = drawn(10);
    // Of ten nights, the first was on 2026-11-14, which 30 days keep until the clean-up of 12-14; the weeks
    // keep Sundays longer.
    assert_eq!(day(&months, "December 2026", 14).says, "2026-12-14: 1 to be deleted");
    assert_eq!(day(&months, "December 2026", 14).sign, "−1");
    assert_eq!(day(&months, "December 2026", 15).says, "2026-12-15", "2026-11-15 was a Sunday");
}

#[test]
fn a_night_without_a_run_is_seen_and_the_time_before_the_first_is_not() {
    let mut known = known(10);
    known.runs.retain(|run| run.id != id(4));
    let months = months(&report(&known, &options(), now()));
    assert_eq!(day(&months, "November 2026", 19).says, "2026-11-19: no run");
    assert_eq!(day(&months, "November 2026", 13).class, "");
    assert_eq!(months.len(), 2, "this month and the next");
    assert!(super::months(&report(&Default::default(), &options(), now())).is_empty());
}
