//! The page of made-up nights, which docs/stats.html shows, and pages of unusual jobs.
//! `UPDATE_GENERATED=1 cargo test --lib page` writes docs/stats.html and docs/stats.svg.

mod picture;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use chrono::TimeDelta;

use super::*;
use crate::base::exit::Exit;
use crate::base::waits::TimeSpent;
use crate::catalog::compare::{Amount, Contents};
use crate::catalog::marks::Pin;
use crate::catalog::ranges::{ObstacleKind, RangeObstacle, Restorable, RestorableGap, RestorableRange};
use crate::catalog::run::BackupRun;
use crate::catalog::slowdown::{BackupSpeed, slowdown};
use crate::catalog::state::{RetainedBackup, RetainedOplog};
use crate::config::choices::Policy;
use crate::model::manifest::SourceServer;
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::model::slice::ChainId;
use crate::model::timing::DataTiming;
use crate::ops::stats::{JobHistory, StatsOptions, report};
use crate::retention::{PlanContext, plan};

const JOB: &str = "all@db1";
const NIGHTS: i64 = 100;
/// How many nights ago the slow night was.
const SLOW_NIGHT: i64 = 7;

/// The time of the reports: two hours after the last backup.
fn now() -> DateTime<Utc> {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

fn options() -> StatsOptions {
    let policy = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 8, monthly: 12, yearly: 0 };
    StatsOptions { job: JOB.into(), policy, max_age: Duration::from_secs(30 * 3600), oplog_days: 7 }
}

fn started(ago: i64) -> DateTime<Utc> {
    now() - TimeDelta::hours(2) - TimeDelta::days(ago)
}

fn id(ago: i64) -> BackupId {
    // The letters differ between nights, but not between test runs.
    let letters: Vec<char> = "0123456789abcdefghjkmnpqrstvwxyz".chars().collect();
    let suffix: String = (0..6).map(|n| letters[random(ago * 6 + n) as usize % 32]).collect();
    format!("{}-{suffix}", started(ago).format("%Y%m%dT%H%M%SZ")).parse().unwrap()
}

/// A reproducible random number (the mixer of SplitMix64).
fn random(n: i64) -> u64 {
    let mut z = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 33
}

/// A reproducible random number from -1 to 1.
fn wobble(n: i64) -> f64 {
    (random(n) % 201) as f64 / 100.0 - 1.0
}

/// The amount and the times of the backup `ago` nights ago.
fn speed(ago: i64) -> BackupSpeed {
    let raw = (23.6e9 - ago as f64 * 0.041e9 + wobble(ago) * 0.06e9).max(0.0);
    let data = raw / 180e6 * (1.0 + 0.12 * wobble(ago + 1000));
    // In one night, the bucket was slow.
    let held = if ago == SLOW_NIGHT { 318.4 } else { 0.0 };
    let parts = [data * 0.7, data * (0.16 + 0.04 * wobble(ago + 2000)), data * 0.04 + held, data * 0.06];
    let [mongodb, compression, store, other] = parts.map(Duration::from_secs_f64);
    let timing = DataTiming::from(TimeSpent { mongodb, compression, store, other });
    BackupSpeed { raw_bytes: raw as u64, timing }
}

/// The note of the slow night.
fn slow_note() -> String {
    let before: Vec<BackupSpeed> = (1..=10).map(|n| speed(SLOW_NIGHT + n)).collect();
    slowdown(&speed(SLOW_NIGHT), &before).unwrap().to_string()
}

/// A run that made a backup, `ago` nights ago.
fn made(ago: i64) -> BackupRun {
    let BackupSpeed { raw_bytes, timing } = speed(ago);
    let took = TimeDelta::milliseconds(((timing.seconds + 4.0) * 1000.0) as i64);
    BackupRun {
        status: Status::Completed,
        finished_at: Some(started(ago) + took),
        documents: Some(raw_bytes / 1284),
        raw_bytes: Some(raw_bytes),
        stored_bytes: Some((raw_bytes as f64 * 0.3455) as u64),
        timing: Some(timing),
        slow: (ago == SLOW_NIGHT).then(slow_note),
        ..BackupRun::begun(id(ago), JOB, "backup1", "s3://my-backups/daily-backups/", started(ago))
    }
}

fn failed(ago: i64, minutes: i64, error: &str) -> BackupRun {
    let run = BackupRun::begun(id(ago), JOB, "backup1", "s3://my-backups/daily-backups/", started(ago));
    let finished_at = Some(started(ago) + TimeDelta::minutes(minutes));
    BackupRun { status: Status::Failed, finished_at, error: Some(error.into()), ..run }
}

fn night(ago: i64) -> BackupRun {
    match ago {
        2 => failed(
            ago,
            4,
            "cannot read shop.orders: connection to db1.example.com:27017 was lost 5 times: timed out waiting for \
             an answer (next step: See whether the server is up and not overloaded: mongosh \
             mongodb://db1.example.com:27017)",
        ),
        5 => BackupRun {
            warnings: vec![
                "the collection shop.carts was dropped while it was read".into(),
                "the database legacy, with 12 % of the documents of the last good backup, is gone".into(),
            ],
            ..made(ago)
        },
        41 | 42 => failed(
            ago,
            1,
            "cannot write to s3://my-backups/daily-backups/: 403 AccessDenied: s3:PutObject is not allowed \
             (next step: Allow s3:PutObject on the bucket my-backups for these credentials)",
        ),
        63 => BackupRun { status: Status::Interrupted, finished_at: None, ..failed(ago, 0, "") },
        _ => made(ago),
    }
}

/// The backup of a run, as retention sees it.
fn backup(run: &BackupRun) -> RetainedBackup {
    let documents = run.documents.unwrap_or_default();
    let amount = Amount { documents, raw_bytes: run.raw_bytes.unwrap_or_default() };
    RetainedBackup {
        id: run.id.clone(),
        job: run.job.clone(),
        started: run.started_at,
        contents: Contents {
            total: amount,
            namespaces: [("shop.orders".into(), amount)].into_iter().collect(),
            ..Contents::default()
        },
        source: SourceServer {
            topology: Topology::Standalone,
            member: "db1.example.com:27017".into(),
            version: "7.0.14".into(),
            feature_compatibility_version: None,
            set_name: None,
            set_id: None,
        },
        pinned: (run.id == id(75)).then(Pin::default),
        accepted: false,
        partial: None,
        unsound: None,
        untrusted: None,
    }
}

fn drill(ago: i64, seconds: f64) -> (BackupId, Drill) {
    let run = made(ago);
    let drill = Drill {
        at: started(ago) + TimeDelta::hours(4),
        target: "mongod".into(),
        version: "7.0.14".into(),
        recovery_seconds: seconds,
        index_seconds: seconds * 0.2,
        compare_seconds: seconds * 0.7,
        namespaces: 214,
        documents: run.documents.unwrap(),
        oplog_entries: 0,
        raw_bytes: run.raw_bytes.unwrap(),
        findings: vec![],
        notes: vec![],
        point: None,
    };
    (run.id, drill)
}

/// The runs of this number of nights, and the backups that the last cleanup kept.
fn history(nights: i64) -> JobHistory {
    let mut runs: Vec<BackupRun> = (0..nights).map(night).collect();
    let completed = |run: &&BackupRun| run.status == Status::Completed;
    let mut backups: Vec<RetainedBackup> = runs.iter().filter(completed).map(backup).collect();
    let (options, now) = (options(), now());
    let context = PlanContext {
        job: JOB.into(),
        now,
        store_clock: now,
        force: true,
        unreadable: vec![],
        oplog: RetainedOplog::default(),
        oplog_days: 7,
    };
    let plan = plan(&backups, &options.policy, &context);
    let gone: BTreeSet<BackupId> = plan.deletions().map(|decision| decision.id.clone()).collect();
    backups.retain(|backup| !gone.contains(&backup.id));
    runs.iter_mut().filter(|run| gone.contains(&run.id)).for_each(|run| run.status = Status::Deleted);
    JobHistory { place: "s3://my-backups/daily-backups/".into(), runs, backups, ..JobHistory::default() }
}

/// The report that docs/stats.html shows.
fn sample() -> StatsReport {
    let drills = vec![drill(8, 742.0), drill(39, 701.0), drill(68, 688.0)];
    let restorable = Some(restorable(Some(7)));
    report(&JobHistory { drills, restorable, ..history(NIGHTS) }, &options(), now())
}

/// A week with a gap, and a change that no restore can repeat. `newest` is the age of the last slice in minutes; without it, an
/// open gap began an hour ago.
fn restorable(newest: Option<i64>) -> Restorable {
    let at = |time: DateTime<Utc>| OpTime { t: u32::try_from(time.timestamp()).unwrap(), i: 1 };
    let instant = |ago: i64| at(started(ago) + TimeDelta::seconds(110));
    let (hour, end) = (at(now() - TimeDelta::hours(1)), newest.map(|m| at(now() - TimeDelta::minutes(m))));
    let chain = |ago: i64| ChainId::new("6563a1b2c3d4e5f60718293a", instant(ago)).unwrap();
    let range = |from: i64, to: OpTime, bases: &[i64]| RestorableRange {
        from: instant(from),
        to,
        bases: bases.iter().map(|ago| id(*ago)).collect(),
        chains: vec![chain(from)],
    };
    let (overflow, changed) = (at(started(4) - TimeDelta::hours(5)), at(started(1) - TimeDelta::hours(12)));
    let gap = |from: OpTime, base: Option<i64>, kind, why: &str| RestorableGap {
        from,
        to: base.map(instant),
        obstacles: vec![RangeObstacle { kind, at: from, why: why.into() }],
        closed_by: base.map(id),
        next_step: base.is_none().then(|| "make a new backup now (`uzima-backup backup`)".into()),
    };
    let why = "the oplog of MongoDB at db1.example.com:27017 overflowed: it reaches back only to 2026-11-19T02:10:00Z";
    let version = "the feature compatibility version changed from 6.0 to 7.0";
    let mut gaps = vec![
        gap(overflow, Some(4), ObstacleKind::Gap, why),
        gap(changed, Some(1), ObstacleKind::Barrier, version),
    ];
    if end.is_none() {
        gaps.push(gap(hour, None, ObstacleKind::Barrier, version));
    }
    Restorable {
        ranges: vec![
            range(7, overflow, &[7, 6]),
            range(4, changed, &[4, 3]),
            range(1, end.unwrap_or(hour), &[1, 0]),
        ],
        gaps,
    }
}

#[test]
fn the_page_and_the_text_show_the_points_in_time_that_can_be_restored() {
    let known = JobHistory { restorable: Some(restorable(Some(7))), ..history(12) };
    let page = page_of(&known);
    is_whole(&page);
    for words in [
        "<h2 id=\"points\">Points in time</h2>",
        "role=\"img\" aria-label=\"3 ranges of time that can be restored and 2 gaps between 2026-11-16 03:01:50 and",
        "<dd class=\"value good\">7 min ago</dd>",
        "any second since 2026-11-16 03:01 UTC, except 2 gaps",
        "gap at 2026-11-18 22:00:00: the oplog of MongoDB at db1.example.com:27017 overflowed",
    ] {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
    assert_eq!(
        (page.matches("<i class=\"span\" style").count(), page.matches("<i class=\"hole\" style").count()),
        (3, 2)
    );
    let text = |known: &JobHistory| crate::cli::stats::text(&report(known, &options(), now()));
    let line = "restorable   any second from 2026-11-16T03:01:50Z to 2026-11-23T04:53:00Z, 7 min ago, except 2 gaps\n";
    assert!(text(&known).contains(line), "{}", text(&known));
    let open = JobHistory { restorable: Some(restorable(None)), ..history(12) };
    let page = page_of(&open);
    is_whole(&page);
    let looks = "no time after 2026-11-23T04:00:00Z can be restored: barrier at 2026-11-23T04:00:00Z: ";
    assert!(page.contains(looks) && page.contains("<dd class=\"value bad\">1 h ago</dd>"), "{page}");
    assert!(page.contains("one thing needs a look"), "{page}");
    assert!(text(&open).contains(&format!("needs a look: {looks}")), "{}", text(&open));
    // A job without slices has no ribbon, and no line.
    let without = history(12);
    assert!(!page_of(&without).contains("Points in time") && !text(&without).contains("restorable"));
}

fn page_of(known: &JobHistory) -> String {
    render(&report(known, &options(), now()), &Sender::here("backup1"), &Redactor::default())
}

/// Asserts that tags match and entities exist, so that no browser has to repair the page. Empty elements are closed, so that
/// the page is XML, too.
#[track_caller]
fn is_whole(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("the type of the document");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        assert!(!text.contains('>'), "a > in {text:?}");
        for entity in text.split('&').skip(1) {
            assert!(entity.starts_with('#') && entity.contains(';'), "&{entity}");
        }
        let end = tag.find('>').expect("a tag's end");
        let (inner, after) = (&tag[1..end], &tag[end + 1..]);
        assert!(inner.matches('"').count() % 2 == 0 && !inner.contains('<'), "<{inner}>");
        let acts = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!inner.split(' ').any(acts), "<{inner}> runs a script");
        let name = inner.split([' ', '/']).find(|part| !part.is_empty()).expect("a name");
        match (inner.strip_prefix('/'), inner.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name), "before {}", &after[..after.len().min(80)]),
            (None, true) => {}
            (None, false) => open.push(name),
        }
        // The style sheet contains characters that are special in text.
        rest = match name {
            "style" if !inner.starts_with('/') => &after[after.find("</style>").expect("its end")..],
            _ => after,
        };
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
    let unique: BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    assert!(!page.contains("<script") && !page.contains("javascript:"), "a script");
    for word in ["src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(word), "{word} refers to the network");
    }
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

#[test]
fn docs_stats_html_is_the_page_of_the_sample() {
    let sender = Sender { tool: "uzima-backup".into(), host: "backup1.example.com".into() };
    let page = render(&sample(), &sender, &Redactor::default());
    is_whole(&page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stats.html");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "docs/stats.html: UPDATE_GENERATED=1 cargo test --lib page");
}

#[test]
fn the_page_is_whole_without_runs_with_one_and_with_more_than_a_year_of_runs() {
    let none = page_of(&JobHistory::default());
    is_whole(&none);
    assert!(none.contains("no run yet") && !none.contains("<svg"), "{none}");
    let one = page_of(&history(1));
    is_whole(&one);
    assert_eq!(one.matches("<svg").count(), 5);
    let year = page_of(&history(800));
    is_whole(&year);
    assert_eq!(year.matches("class=\"dot\"").count(), 3 + 31, "a dot for each line, and all of the forecast");
    assert!(year.contains("Oct 2025"), "the last 400 nights are drawn");
}

#[test]
fn the_page_stays_whole_and_small_with_many_long_errors() {
    let mut known = history(800);
    for run in &mut known.runs {
        (run.error, run.status) = (Some("x<&".repeat(5000)), Status::Failed);
    }
    for backup in &mut known.backups {
        backup.unsound = Some("its artifact is missing".into());
    }
    let page = page_of(&known);
    is_whole(&page);
    assert!(page.contains("all@db1: no good backup"));
}

#[test]
fn names_are_escaped() {
    let evil = "<script>alert('x')</script>&\"\u{202e}\u{7}";
    let mut known = history(3);
    known.place = evil.into();
    (known.problems, known.unreadable) = (vec![format!("its {evil}")], vec![evil.into()]);
    known.runs[0].warnings = vec![evil.into()];
    known.runs[2].error = Some(evil.into());
    known.backups[0].unsound = Some(evil.into());
    let (id, mut drill) = sample().drills[0].clone();
    (drill.findings, drill.version) = (vec![evil.into()], evil.into());
    known.drills = vec![(id, drill)];
    let mut restorable = restorable(Some(7));
    restorable.gaps[0].obstacles[0].why = evil.into();
    known.restorable = Some(restorable);
    let page = page_of(&known);
    is_whole(&page);
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'), "control characters");
    // The place, three lines of the summary, the bad backup, a warning, an error, two texts of the drill, and the gap.
    assert_eq!(page.matches("&#60;script&#62;").count(), 10, "{page}");
}

#[test]
fn secrets_are_not_shown() {
    let mut known = history(3);
    known.runs[2].error = Some("mongodb://u:hunter22@db1 refused".into());
    let redactor = Redactor::new(&["mongodb://u:hunter22@db1"], &[]);
    let page = render(&report(&known, &options(), now()), &Sender::here("h"), &redactor);
    assert!(!page.contains("hunter22") && page.contains("mongodb://u:***@db1"));
}

#[test]
fn the_page_shows_the_state_of_the_job() {
    let shows = |known: &JobHistory, words: &[&str]| {
        let page = page_of(known);
        is_whole(&page);
        for word in words {
            assert!(page.contains(word), "no {word:?} in {page}");
        }
    };
    shows(&history(2), &["All is well", "all@db1: 2 backups", "<dd class=\"value good\">2 h old</dd>"]);
    let mut failing = history(4);
    (failing.runs[0].status, failing.runs[0].error) = (Status::Failed, Some("no".into()));
    failing.backups.retain(|backup| backup.id != id(0));
    shows(&failing, &["Needs a look", "the last run made no backup", "26 h old", "<p class=\"said\">no</p>"]);
    let mut stale = history(9);
    stale.runs.drain(..5);
    stale.backups.retain(|backup| backup.started < now() - TimeDelta::days(5));
    shows(&stale, &["Failed", "the newest good backup is 5 d 2 h old, 30 h are allowed"]);
    let mut frozen = history(9);
    frozen.unreadable = vec!["a manifest cannot be understood".into()];
    shows(&frozen, &["Needs a look", "cleanups are frozen", "A cleanup would delete nothing now"]);
    let mut missed = history(10);
    missed.runs.retain(|run| ![id(3), id(4)].contains(&run.id));
    shows(
        &missed,
        &[
            "Needs a look",
            "all@db1: one thing needs a look",
            "2 of the last 30 days had no run (2026-11-20, 2026-11-19): ",
            "<td class=\"missed\" title=\"2026-11-19: no run, though one was expected\">",
        ],
    );
    assert_eq!(sample().job, JOB);
}

#[test]
fn the_page_and_the_text_show_what_the_backups_waited_for() {
    let known = history(12);
    let page = page_of(&known);
    is_whole(&page);
    let text = crate::cli::stats::text(&report(&known, &options(), now()));
    assert!(page.contains("<title id=\"ts\">Where the time of a backup goes</title>"), "{page}");
    assert!(text.contains("RAW SPEED  MONGODB WAIT  COMPRESSION WAIT  STORE WAIT  OTHER\n"), "{text}");
    let slow = slow_note();
    assert!(slow.contains("the wait for the store grew most, by 5 min 17 s"), "{slow}");
    assert!(page.contains(&slow), "{page}");
    assert!(text.contains("slower than usual: "), "{text}");

    // Backups of older versions were not measured.
    let mut old = known;
    old.runs.iter_mut().for_each(|run| (run.timing, run.slow) = (None, None));
    assert!(!page_of(&old).contains("class=\"w0\""));
    let text = crate::cli::stats::text(&report(&old, &options(), now()));
    assert!(!text.contains("WAIT"), "{text}");
    old.runs[0].timing = made(0).timing;
    let text = crate::cli::stats::text(&report(&old, &options(), now()));
    let row = text.lines().rfind(|line| line.starts_with(id(1).as_str())).unwrap();
    assert_eq!(row.split_whitespace().rev().take(4).collect::<Vec<_>>(), ["-"; 4], "{text}");
}

fn months_of(nights: i64) -> Vec<Month> {
    calendar::months(&report(&history(nights), &options(), now()))
}

fn day(months: &[Month], month: &str, number: u32) -> calendar::Day {
    let month = months.iter().find(|m| m.name == month).unwrap_or_else(|| panic!("no {month}"));
    let days = || month.weeks.iter().flatten().flatten();
    days().find(|day| day.number == number).expect("such a day").clone()
}

#[test]
fn months_begin_on_their_weekday_and_have_their_days() {
    let months = months_of(100);
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
fn a_day_shows_the_outcome_of_its_runs() {
    let months = months_of(100);
    let at = |month, number| {
        let day = day(&months, month, number);
        (day.class, day.sign, day.text)
    };
    assert_eq!(at("November 2026", 23), ("kept", "●".into(), "2026-11-23: 1 made and kept".into()));
    assert_eq!(at("November 2026", 21), ("failed", "×".into(), "2026-11-21: 1 failed or interrupted".into()));
    // The backup was older than 30 days, and not the newest of its week or month.
    assert_eq!(at("October 2026", 2), ("gone", "○".into(), "2026-10-02: 1 made, deleted since".into()));
    assert_eq!(at("September 2026", 21).0, "failed", "the run was killed");
    assert_eq!(at("December 2026", 31).0, "");
    assert!(day(&months, "November 2026", 23).today);
    assert_eq!(months.iter().flat_map(|m| m.weeks.iter().flatten().flatten()).filter(|d| d.today).count(), 1);
}

#[test]
fn deletions_are_shown_on_their_days() {
    let months = months_of(10);
    // The first of ten nights was 2026-11-14. Its backup is kept for 30 days, until the cleanup on 12-14. Backups of Sundays
    // are kept longer, by weeks.
    assert_eq!(day(&months, "December 2026", 14).text, "2026-12-14: 1 to be deleted");
    assert_eq!(day(&months, "December 2026", 14).sign, "−1");
    assert_eq!(day(&months, "December 2026", 15).text, "2026-12-15", "2026-11-15 was a Sunday");
}

#[test]
fn a_missed_night_is_shown_but_not_the_time_before_the_first_run() {
    let mut known = history(10);
    known.runs.retain(|run| run.id != id(4));
    let months = calendar::months(&report(&known, &options(), now()));
    let missed = day(&months, "November 2026", 19);
    assert_eq!((missed.class, missed.sign.as_str()), ("missed", "–"));
    assert_eq!(missed.text, "2026-11-19: no run, though one was expected");
    assert_eq!(day(&months, "November 2026", 13).class, "");
    assert_eq!(months.len(), 2, "this month and the next");
    assert!(calendar::months(&report(&Default::default(), &options(), now())).is_empty());
}

#[test]
fn a_page_is_replaced_whole_and_links_stay() {
    let home = tempfile::tempdir().unwrap();
    let (file, link) = (home.path().join("stats.html"), home.path().join("link.html"));
    check_file(&file).unwrap();
    write_file(&file, "one").unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
    std::os::unix::fs::symlink("stats.html", &link).unwrap();
    check_file(&link).unwrap();
    write_file(&link, "two").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing is left beside it");
}

#[test]
fn a_path_that_is_no_file_is_refused_early() {
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("no/stats.html");
    for path in [home.path(), Path::new("/dev/null"), &missing, Path::new("..")] {
        let error = check_file(path).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    check_file(Path::new("stats.html")).unwrap();
    let error = write_file(&missing, "page").unwrap_err();
    assert!(error.chain().contains("No such file") && error.exit() == Exit::Failed);
}

#[test]
fn the_subject_of_the_mail_says_what_is_wrong() {
    let mail = |known: &JobHistory| crate::cli::stats::mail(&report(known, &options(), now()));
    assert_eq!(mail(&history(2)).subject, "stats: all@db1");
    let mut stale = history(9);
    stale.backups.retain(|backup| backup.started < now() - TimeDelta::days(2));
    let mailed = mail(&stale);
    assert_eq!(mailed.subject, "stats: all@db1: newest good backup is 3 d 2 h old");
    assert_eq!(mailed.headline, "all@db1: the newest good backup is 3 d 2 h old, 30 h are allowed");
    stale.backups.clear();
    assert_eq!(mail(&stale).subject, "stats: all@db1: no good backup");
    let mut failing = history(2);
    failing.runs[0].status = Status::Failed;
    assert_eq!(mail(&failing).subject, "stats: all@db1: last run made no backup");
    let mut frozen = history(9);
    frozen.unreadable = vec!["a manifest cannot be decoded".into()];
    assert_eq!(mail(&frozen).subject, "stats: all@db1: cleanups are frozen");
}

#[test]
fn an_age_just_above_the_limit_does_not_look_equal_to_the_limit() {
    let mut late = history(2);
    late.backups.iter_mut().for_each(|b| b.started = now() - TimeDelta::minutes(30 * 60 + 20));
    let page = page_of(&late);
    assert!(page.contains("the newest good backup is 30 h 20 min old, 30 h are allowed"), "{page}");
}
