//! `uzima-backup timeline`.

use anstyle::AnsiColor;
use chrono::{DateTime, Utc};

use super::args::TimelineArgs;
use super::identity::identities;
use super::output::{self, Output};
use super::restorable::wrap;
use super::styled::{Colour, StyledText};
use super::units;
use crate::base::error::Result;
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::keys::Identities;
use crate::catalog::ranges::{RestorableGap, RestorableRange};
use crate::notify::run::Run;
use crate::ops::places::Places;
use crate::ops::timeline::{
    self, NamespaceWrites, TimelineChange, TimelineOptions, TimelineReport, WritePeriod,
};
use crate::store::Store;

/// The most collections of a dropped database that are named.
const NAMED: usize = 5;
/// The width of the column with times and the gap after it.
const INDENT: usize = 10;
/// The width of a column with a number, without the gap before it.
const NUMBER: usize = 11;

pub async fn run(args: &TimelineArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let settings = run.config.job.as_ref()?;
    let places = Places::open_existing(run.config).await?;
    let options = TimelineOptions {
        job: settings.job.clone(),
        ns: args.ns.clone(),
        from: args.from,
        to: args.to,
        limit: args.limit.get(),
    };
    let keys = async || identities(run.config, run.cancel).await;
    let report = read(&places, &options, run, keys).await?;
    output.styled(&report, || text(&report, output.width(), output.colour));
    if output.quiet {
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    Ok(report.exit())
}

/// Reads the timeline from the first place that has oplog slices of the job.
pub(super) async fn read(
    places: &Places,
    options: &TimelineOptions,
    run: &Run<'_>,
    keys: impl AsyncFnOnce() -> Result<Option<Identities>>,
) -> Result<TimelineReport> {
    let reading = run.reading()?;
    let (place, passed_over) = places.with_job(&options.job, &reading).await?;
    let others: Vec<&dyn Store> =
        places.open.iter().filter(|other| other.name != place.name).map(|other| &*other.store).collect();
    let mut report = timeline::timeline(&*place.store, &others, options, &reading, keys).await?;
    report.problems.extend(passed_over);
    Ok(report)
}

/// Text that is wrapped at the width of the terminal.
struct Page {
    text: StyledText,
    width: usize,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push(line.trim_end());
        self.text.push("\n");
    }

    /// Appends a text with lines of at most the page's width. `first` and `rest` are the beginnings of the first line and of the
    /// others.
    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        wrap(first, rest, text, self.width).iter().for_each(|line| self.line(line));
    }

    /// Appends a line with a coloured beginning.
    fn painted(&mut self, before: &str, word: &str, colour: Option<AnsiColor>, after: &str) {
        self.text.push(before);
        self.text.paint(word, colour);
        self.text.push(&escape::line(after.trim_end()));
        self.text.push("\n");
    }

    /// Appends an argument at the right end of a line of its own.
    fn argument(&mut self, argument: &str, note: &str) {
        let length = argument.chars().count() + note.chars().count();
        self.text.push(&" ".repeat(self.width.saturating_sub(length)));
        self.text.paint(argument, Some(AnsiColor::Cyan));
        self.text.push(note);
        self.text.push("\n");
    }
}

pub(super) fn text(report: &TimelineReport, width: usize, colour: Colour) -> StyledText {
    let mut page = Page { text: StyledText::new(colour), width: width.max(60) };
    page.wrapped("", "  ", &format!("{} in {}, times in UTC", report.job, report.place));
    page.line("");
    push_ranges(&mut page, report);
    let (Some(from), Some(to)) = (report.from, report.to) else {
        page.line("there are no oplog slices: run `uzima-backup oplog` every few minutes");
        return page.text;
    };
    page.line("");
    let period = match report.period_seconds {
        60 => "minute",
        600 => "ten minutes",
        3600 => "hour",
        _ => "day",
    };
    page.line(&format!("{} to {}, by {period}", second(from), second(to)));
    push_events(&mut page, report, to);
    if report.changes_left_out > 0 {
        let changes = units::several(report.changes_left_out, "more change");
        page.line(&format!("{changes} (--limit)"));
    }
    if report.period_seconds > 60 && !report.periods.is_empty() {
        page.line("");
        page.line("--from and --to show a shorter time in more detail");
    }
    if !report.changes.is_empty() {
        page.line("the state before a change: uzima-backup restore --before T:I --dry-run");
    }
    for problem in &report.problems {
        page.wrapped("needs a look: ", "  ", problem);
    }
    page.text
}

fn second(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn push_ranges(page: &mut Page, report: &TimelineReport) {
    let (mut ranges, mut gaps) = (report.ranges.iter().peekable(), report.gaps.iter().peekable());
    if report.ranges.is_empty() {
        page.line("no point in time can be restored yet");
    }
    loop {
        match (ranges.peek(), gaps.peek()) {
            (Some(range), Some(gap)) if gap.from < range.from => push_gap(page, gap),
            (Some(range), _) => {
                push_range(page, range);
                ranges.next();
                continue;
            }
            (None, Some(gap)) => push_gap(page, gap),
            (None, None) => break,
        }
        gaps.next();
    }
}

fn push_range(page: &mut Page, range: &RestorableRange) {
    let (from, to) = (second(range.from.date()), second(range.to.date()));
    let time = match range.chains.is_empty() {
        true => format!("  {from}"),
        false => format!("  {from} to {to}"),
    };
    page.painted("", "restorable", Some(AnsiColor::Green), &time);
    let Some(base) = range.bases.first() else { return };
    let more = match range.bases.len() - 1 {
        0 => String::new(),
        n => format!(" and {}", units::several(n as u64, "later backup")),
    };
    let chains = match range.chains.as_slice() {
        [] => "; no oplog slice continues it".to_string(),
        [chain] => format!(", chain {chain}"),
        several => format!(", {}", units::several(several.len() as u64, "chain")),
    };
    page.wrapped("            from ", "            ", &format!("{base}{more}{chains}"));
}

fn push_gap(page: &mut Page, gap: &RestorableGap) {
    let to = gap.to.map_or("now".to_string(), |to| second(to.date()));
    let time = format!("  {} to {to} cannot be restored", second(gap.from.date()));
    page.painted("", "gap       ", Some(AnsiColor::Red), &time);
    for obstacle in &gap.obstacles {
        let at = second(obstacle.at.date());
        let why = format!("{} at {at}: {}", obstacle.kind.word(), obstacle.why);
        page.wrapped("            ", "            ", &why);
    }
    if let Some(base) = &gap.closed_by {
        page.wrapped("            ", "            ", &format!("closed by {base}"));
    }
    if let Some(step) = &gap.next_step {
        page.wrapped("            next step: ", "            ", step);
    }
}

/// A period, or a change between the periods.
enum Event<'a> {
    Period(&'a WritePeriod),
    Change(&'a TimelineChange),
}

fn push_events(page: &mut Page, report: &TimelineReport, end: DateTime<Utc>) {
    let step = i64::from(report.period_seconds);
    let periods = report.periods.iter().map(|period| (period.start, 0, Event::Period(period)));
    let changes = report.changes.iter().map(|change| (change.time, 1, Event::Change(change)));
    let mut events: Vec<_> = periods.chain(changes).collect();
    events.sort_by_key(|(time, order, _)| (*time, *order));
    if events.is_empty() {
        return page.line("nothing was written");
    }
    let mut day = None;
    // The end of what was shown, in seconds.
    let begin = report.from.map_or(0, |from| from.timestamp());
    let mut shown = begin - begin.rem_euclid(step);
    for (time, _, event) in events {
        let start = time.timestamp() - time.timestamp().rem_euclid(step);
        quiet(page, &mut day, &mut shown, start);
        heading(page, &mut day, time);
        match event {
            Event::Period(period) => push_period(page, period),
            Event::Change(change) => push_change(page, change),
        }
        shown = shown.max(start + step);
    }
    quiet(page, &mut day, &mut shown, end.timestamp() + 1 - step);
}

/// A line about a time without events, up to `start`.
fn quiet(page: &mut Page, day: &mut Option<String>, shown: &mut i64, start: i64) {
    if start <= *shown {
        return;
    }
    let Some(from) = DateTime::from_timestamp(*shown, 0) else { return };
    heading(page, day, from);
    page.line(&format!("  {:8}quiet", from.format("%H:%M")));
    *shown = start;
}

/// The day and the columns, if the day is another one.
fn heading(page: &mut Page, day: &mut Option<String>, time: DateTime<Utc>) {
    let of_time = time.format("%Y-%m-%d").to_string();
    if day.as_ref() == Some(&of_time) {
        return;
    }
    let name = page.width - INDENT - 3 * (NUMBER + 1);
    let (insert, update, delete) = ("INSERTS", "UPDATES", "DELETES");
    page.line(&format!(
        "{of_time}{:name$} {insert:>NUMBER$} {update:>NUMBER$} {delete:>NUMBER$}",
        "",
        name = name + INDENT - of_time.len(),
    ));
    *day = Some(of_time);
}

fn push_period(page: &mut Page, period: &WritePeriod) {
    let mut time = period.start.format("%H:%M").to_string();
    for row in &period.namespaces {
        push_writes(page, &std::mem::take(&mut time), row);
    }
    if let Some(others) = &period.others {
        let what = match period.namespaces.is_empty() {
            true => units::several(others.namespaces, "namespace"),
            false => units::several(others.namespaces, "more namespace"),
        };
        let line = row_text(page, &time, &what, [others.inserts, others.updates, others.deletes]);
        page.line(&line);
    }
}

fn push_writes(page: &mut Page, time: &str, row: &NamespaceWrites) {
    let line = row_text(page, time, &row.ns, [row.inserts, row.updates, row.deletes]);
    match &row.before {
        Some(before) => {
            page.painted("", &line, Some(AnsiColor::Yellow), "");
            let note = "  (the minute in which the deletes began)";
            page.argument(&format!("--before {before}"), note);
        }
        None => page.line(&line),
    }
}

fn row_text(page: &Page, time: &str, name: &str, counts: [u64; 3]) -> String {
    let room = page.width - INDENT - 3 * (NUMBER + 1);
    let name = units::brief_text(&escape::line(name), room);
    let counts = counts.map(|count| match count {
        0 => String::new(),
        n => units::count(n),
    });
    let [inserts, updates, deletes] = counts;
    let line = format!("  {time:8}{name:room$} {inserts:>NUMBER$} {updates:>NUMBER$} {deletes:>NUMBER$}");
    line.trim_end().to_string()
}

fn push_change(page: &mut Page, change: &TimelineChange) {
    let what = format!("{} {}", change.time.format("%H:%M:%S"), change_text(change));
    let mut wrapped = wrap("  ", "            ", &what, page.width);
    // An argument that fits is on the last line of the change.
    let argument = format!("--before {}", change.before);
    let note = if change.restorable { "" } else { " (not restorable)" };
    let end = argument.chars().count() + note.chars().count();
    let colour = change.is_loss().then_some(AnsiColor::Red);
    let last = wrapped.pop().unwrap_or_default();
    for line in &wrapped {
        page.painted("", line, colour, "");
    }
    let length = last.chars().count();
    page.text.paint(&last, colour);
    match length + 2 + end <= page.width {
        true => {
            page.text.push(&" ".repeat(page.width - length - end));
            page.text.paint(&argument, Some(AnsiColor::Cyan));
            page.text.push(note);
            page.text.push("\n");
        }
        false => {
            page.text.push("\n");
            page.argument(&argument, note);
        }
    }
}

/// What happened, in one line without control characters.
pub(super) fn change_text(change: &TimelineChange) -> String {
    let lost = match change.documents {
        Some(documents) => format!(", about {}", units::several(documents, "document")),
        None => String::new(),
    };
    let indexes = change.indexes.join(", ");
    let ns = &change.ns;
    let text = match (change.command.as_str(), &change.to) {
        ("drop", _) => format!("DROP {ns}{lost}"),
        ("dropDatabase", _) => {
            let count = change.collections.len();
            let named = change.collections.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = if count > NAMED { ", …" } else { "" };
            match count {
                0 => format!("DROP of the database {ns}"),
                n => format!(
                    "DROP of the database {ns}: {} ({named}{more}){lost}",
                    units::several(n as u64, "collection")
                ),
            }
        }
        ("renameCollection", Some(to)) if change.is_loss() => {
            format!("rename {ns} to {to}, REPLACED{}", lost.replacen(", about", " about", 1))
        }
        ("renameCollection", Some(to)) => format!("rename {ns} to {to}"),
        ("createIndexes", _) => format!("create index {indexes} of {ns}"),
        ("dropIndexes", _) => format!("drop index {indexes} of {ns}"),
        ("create", _) => format!("create {ns}"),
        ("emptycapped", _) => format!("EMPTY the capped collection {ns}"),
        (command, _) => format!("{command} {ns}"),
    };
    escape::line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::catalog::ranges::{ObstacleKind, RangeObstacle};
    use crate::model::optime::OpTime;
    use crate::model::slice::ChainId;
    use crate::ops::timeline::OtherWrites;

    fn at(time: &str) -> OpTime {
        let time: DateTime<Utc> = format!("2026-11-{time}Z").parse().unwrap();
        OpTime { t: time.timestamp().try_into().unwrap(), i: 5 }
    }

    fn writes(ns: &str, counts: [u64; 3], before: Option<OpTime>) -> NamespaceWrites {
        let [inserts, updates, deletes] = counts;
        let mass_delete = before.is_some();
        let before = before.map(OpTime::argument);
        NamespaceWrites { ns: ns.into(), inserts, updates, deletes, mass_delete, before }
    }

    fn change(time: &str, command: &str, ns: &str) -> TimelineChange {
        TimelineChange {
            at: at(time),
            time: at(time).date(),
            command: command.into(),
            ns: ns.into(),
            to: None,
            indexes: Vec::new(),
            collections: Vec::new(),
            documents: None,
            before: at(time).argument(),
            restorable: true,
        }
    }

    fn sample() -> TimelineReport {
        let base = |day: u32| format!("202611{day}T030000Z-7k3q9d").parse().unwrap();
        let chain = ChainId::new("6563a1b2c3d4e5f60718293a", at("23T03:00:12")).unwrap();
        let period =
            |start: &str, namespaces, others| WritePeriod { start: at(start).date(), namespaces, others };
        let others = OtherWrites { namespaces: 12, inserts: 340, updates: 2, deletes: 0 };
        let long = "shop.a_collection_with_a_name_that_is_much_too_long_for_a_table\u{1b}";
        TimelineReport {
            from: Some(at("23T03:00:12").date()),
            to: Some(at("24T14:20:00").date()),
            ranges: vec![
                RestorableRange {
                    from: at("23T03:00:14"),
                    to: at("24T02:10:07"),
                    bases: vec![base(23)],
                    chains: vec![chain.clone()],
                },
                RestorableRange {
                    from: at("24T03:00:09"),
                    to: at("24T14:20:00"),
                    bases: vec![base(24), base(25)],
                    chains: vec![chain],
                },
            ],
            gaps: vec![RestorableGap {
                from: at("24T02:10:07"),
                to: Some(at("24T03:00:09")),
                obstacles: vec![RangeObstacle {
                    kind: ObstacleKind::Barrier,
                    at: at("24T02:10:08"),
                    why: "the feature compatibility version changed from 5.0 to 6.0, which no restore can repeat".into(),
                }],
                closed_by: Some(base(24)),
                next_step: None,
            }],
            period_seconds: 3600,
            periods: vec![
                period("23T04:00:00", vec![writes("shop.orders", [1_204_331, 310, 2], None), writes(long, [9, 0, 0], None)], Some(others.clone())),
                period("23T05:00:00", vec![], Some(others)),
                period("24T13:00:00", vec![writes("shop.carts", [12, 0, 55_673], Some(OpTime { t: at("24T13:41:00").t, i: 0 }))], None),
            ],
            changes: vec![
                TimelineChange { indexes: vec!["x_1".into(), "y_1".into()], ..change("23T04:10:00", "createIndexes", "shop.orders") },
                TimelineChange { to: Some("shop.report".into()), documents: Some(90), ..change("23T05:00:01", "renameCollection", "shop.tmp") },
                TimelineChange { documents: Some(1_234_567), restorable: false, ..change("24T02:30:00", "drop", long) },
                TimelineChange {
                    collections: ["orders", "carts", "items", "users", "logs", "more"].map(String::from).to_vec(),
                    documents: Some(139_796),
                    ..change("24T14:02:51", "dropDatabase", "shop")
                },
            ],
            changes_left_out: 7,
            problems: vec!["the events from 2026-11-23T06:00:00Z to 2026-11-23T06:10:00Z cannot be shown: x was changed".into()],
            ..TimelineReport::empty("nightly", "s3://backups/prod/".into())
        }
    }

    #[test]
    fn the_text_fits_80_columns() {
        let shown = text(&sample(), 80, Colour::Never).into_string();
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert_snapshot!(shown, @r"
        nightly in s3://backups/prod/, times in UTC

        restorable  2026-11-23 03:00:14 to 2026-11-24 02:10:07
                    from 20261123T030000Z-7k3q9d, chain
                    6563a1b2c3d4e5f60718293a-1795402812.0000000005
        gap         2026-11-24 02:10:07 to 2026-11-24 03:00:09 cannot be restored
                    barrier at 2026-11-24 02:10:08: the feature compatibility version
                    changed from 5.0 to 6.0, which no restore can repeat
                    closed by 20261124T030000Z-7k3q9d
        restorable  2026-11-24 03:00:09 to 2026-11-24 14:20:00
                    from 20261124T030000Z-7k3q9d and 1 later backup, chain
                    6563a1b2c3d4e5f60718293a-1795402812.0000000005

        2026-11-23 03:00:12 to 2026-11-24 14:20:00, by hour
        2026-11-23                                       INSERTS     UPDATES     DELETES
          03:00   quiet
          04:00   shop.orders                          1,204,331         310           2
                  shop.a_collection_with_a_name_tha…           9
                  12 more namespaces                         340           2
          04:10:00 create index x_1, y_1 of shop.orders            --before 1795407000:5
          05:00   12 namespaces                              340           2
          05:00:01 rename shop.tmp to shop.report, REPLACED about 90 documents
                                                                   --before 1795410001:5
          06:00   quiet
        2026-11-24                                       INSERTS     UPDATES     DELETES
          02:30:00 DROP
                    shop.a_collection_with_a_name_that_is_much_too_long_for_a_table\u{1b
                    }, about 1,234,567 documents  --before 1795487400:5 (not restorable)
          03:00   quiet
          13:00   shop.carts                                  12                  55,673
                          --before 1795527660:0  (the minute in which the deletes began)
          14:02:51 DROP of the database shop: 6 collections (orders, carts, items,
                    users, logs, …), about 139,796 documents       --before 1795528971:5
        7 more changes (--limit)

        --from and --to show a shorter time in more detail
        the state before a change: uzima-backup restore --before T:I --dry-run
        needs a look: the events from 2026-11-23T06:00:00Z to 2026-11-23T06:10:00Z
          cannot be shown: x was changed
        ");
    }

    #[test]
    fn losses_and_arguments_are_coloured() {
        let shown = text(&sample(), 80, Colour::Always).into_string().replace('\u{1b}', "^");
        for coloured in [
            "^[31m  14:02:51 DROP of the database shop",
            "^[36m--before 1795",
            "^[32mrestorable",
            "^[33m  13:00   shop.carts",
        ] {
            assert!(shown.contains(coloured), "{coloured}: {shown}");
        }
        assert!(!shown.contains("too_long_for_a_table^"));
    }

    #[test]
    fn a_quiet_time_is_one_line() {
        let report = TimelineReport {
            from: Some(at("23T03:00:00").date()),
            to: Some(at("24T14:20:00").date()),
            period_seconds: 3600,
            changes: vec![change("24T02:30:00", "create", "a.b")],
            ..TimelineReport::empty("nightly", "/backups".into())
        };
        let shown = text(&report, 80, Colour::Never).into_string();
        assert_eq!(shown.matches("quiet").count(), 2, "{shown}");
        let nothing = TimelineReport { changes: Vec::new(), ..report };
        assert!(text(&nothing, 80, Colour::Never).into_string().contains("nothing was written"));
    }
}
