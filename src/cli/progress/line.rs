//! The text of a progress display, from the counters of a run and the time.

use std::collections::VecDeque;
use std::time::Duration;

use console::measure_text_width;

use crate::base::escape;
use crate::base::progress::{Counters, Phase};
use crate::base::units;

/// Rates and estimates are made from this time before now.
const WINDOW: Duration = Duration::from_secs(30);
/// A rate is shown after this time, and an estimate after the second.
const RATE_AFTER: Duration = Duration::from_secs(1);
const ESTIMATE_AFTER: Duration = Duration::from_secs(5);
/// After this time without any movement, the display names what the run waits for.
const STILL: Duration = Duration::from_secs(5);
/// Names are shortened to this width before other parts of the line are left out, and then to the second.
const SHORT_NAME: usize = 12;
const SHORTEST_NAME: usize = 5;

/// The history that rates, estimates and waits need. Times are since the run began.
#[derive(Debug, Default)]
pub struct ProgressHistory {
    /// The number of the phase, and when it began.
    phase: Option<(u64, Duration)>,
    /// The amounts of the last [`WINDOW`], the oldest first.
    samples: VecDeque<(Duration, u64)>,
    /// The last movement, and the counter of movements then.
    moved: (Duration, u64),
    /// The oldest work beside the phase, and since when it is the oldest.
    beside: Option<((Phase, String), Duration)>,
}

impl ProgressHistory {
    /// Adds a reading of the counters, and describes the progress.
    pub fn line(&mut self, reading: &Counters, now: Duration) -> ProgressLine {
        self.note(reading, now);
        let mut line = ProgressLine {
            attempt: attempt(reading.attempt),
            verb: verb(reading.phase).into(),
            name: escape::line(&reading.current).into_owned(),
            ..ProgressLine::default()
        };
        if counts_namespaces(reading.phase) && reading.expected_namespaces > 0 {
            let all = units::several(reading.expected_namespaces, "namespace");
            line.part(3, format!("({}/{all})", units::count(reading.namespaces)));
        }
        let waited = now.saturating_sub(self.moved.0);
        let still = waited >= STILL;
        let amount = amount(reading);
        let complete = amount.is_some_and(|(done, total)| total > 0 && done >= total);
        if let Some(((work, name), began)) = self.beside.as_ref().filter(|_| still || complete) {
            line.verb = verb(*work).into();
            line.name = escape::line(name).into_owned();
            line.tail = so_far(now.saturating_sub(*began));
            return line;
        }
        if let Some((done, total)) = amount {
            line.amount = (done, total);
            figures(reading, (done, total), &mut line);
        }
        if still && let Some(side) = awaited(reading, complete) {
            line.tail = format!("waiting for {side} for {}", whole_seconds(waited));
            return line;
        }
        let Some((done, total)) = amount.filter(|_| !still) else {
            let began = self.phase.map_or(now, |(_, began)| began);
            line.tail = so_far(now.saturating_sub(began));
            return line;
        };
        if let Some((rate, span)) = self.rate().filter(|(_, span)| *span >= RATE_AFTER) {
            line.part(2, format!("{}/s", units::bytes(rate as u64)));
            // A time that no clock can hold is no estimate.
            let left = Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate);
            let left = left.unwrap_or_default();
            if span >= ESTIMATE_AFTER && left >= Duration::from_secs(1) {
                line.tail = format!("about {} left", whole_seconds(left));
            }
        }
        line
    }

    fn note(&mut self, reading: &Counters, now: Duration) {
        let (moved, moves) = self.moved;
        if self.phase.is_none_or(|(begun, _)| begun != reading.begun) {
            self.phase = Some((reading.begun, now));
            self.samples.clear();
            self.moved = (now, reading.moves);
        } else if moves != reading.moves {
            if now.saturating_sub(moved) >= STILL {
                // The wait must not count as slow work.
                self.samples.clear();
            }
            self.moved = (now, reading.moves);
        }
        self.samples.push_back((now, amount(reading).map_or(0, |(done, _)| done)));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let oldest = reading.beside.first();
        if self.beside.as_ref().map(|(work, _)| work) != oldest {
            self.beside = oldest.map(|work| (work.clone(), now));
        }
    }

    /// The amount per second in the window, and the length of the window. `None` if the amount did not grow.
    fn rate(&self) -> Option<(f64, Duration)> {
        let ((began, first), (ended, last)) = (self.samples.front()?, self.samples.back()?);
        let (span, grown) = (ended.saturating_sub(*began), last.checked_sub(*first)?);
        (grown > 0 && !span.is_zero()).then(|| (grown as f64 / span.as_secs_f64(), span))
    }
}

fn attempt(number: u32) -> String {
    match number {
        0 | 1 => String::new(),
        2 => "second attempt: ".into(),
        3 => "third attempt: ".into(),
        _ => format!("attempt {number}: "),
    }
}

fn so_far(elapsed: Duration) -> String {
    format!("{} so far", whole_seconds(elapsed))
}

/// `12 s`, `2 min 5 s`: a duration that a person watches.
fn whole_seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => units::duration(duration),
    }
}

fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::AskingStore => "checking the store",
        Phase::AskingServer => "examining the server",
        Phase::Reading => "reading",
        Phase::Uploading => "finishing the upload",
        Phase::Proving => "checking that the server stayed the same",
        Phase::Completing => "completing the backup",
        Phase::Recording => "recording the run",
        Phase::Hook => "running the hook",
        Phase::Checking => "checking",
        Phase::Writing | Phase::Loading => "restoring",
        Phase::Replaying => "replaying the oplog",
        Phase::Counting => "counting the documents of",
        Phase::Indexing => "building the indexes of",
        Phase::Finishing => "finishing the restore",
        Phase::Comparing => "comparing the restored data",
        Phase::Verifying => "verifying",
        Phase::Diffing => "comparing the backups",
    }
}

/// Returns true for the phases that complete namespaces one after the other.
fn counts_namespaces(phase: Phase) -> bool {
    matches!(phase, Phase::Reading | Phase::Writing | Phase::Loading | Phase::Indexing)
}

/// How much of the phase is done, and the whole (0 if it is unknown). `None` for phases without a measure.
fn amount(reading: &Counters) -> Option<(u64, u64)> {
    match reading.phase {
        Phase::Reading
        | Phase::Checking
        | Phase::Writing
        | Phase::Loading
        | Phase::Replaying
        | Phase::Comparing
        | Phase::Verifying
        | Phase::Diffing => Some((reading.raw_bytes, reading.expected_bytes)),
        Phase::Uploading => Some((reading.stored_bytes, reading.packed_bytes)),
        Phase::Preparing
        | Phase::AskingStore
        | Phase::AskingServer
        | Phase::Proving
        | Phase::Completing
        | Phase::Recording
        | Phase::Hook
        | Phase::Counting
        | Phase::Indexing
        | Phase::Finishing => None,
    }
}

/// What the run waits for when nothing moves. `None` if something works: the tool itself, or the server on an index.
fn awaited(reading: &Counters, complete: bool) -> Option<&'static str> {
    const SERVER: Option<&str> = Some("MongoDB");
    const STORE: Option<&str> = Some("the store");
    match reading.phase {
        Phase::AskingServer | Phase::Proving | Phase::Replaying => SERVER,
        Phase::AskingStore | Phase::Uploading | Phase::Completing => STORE,
        // Without a part to send, the run waits for documents.
        Phase::Reading => {
            if reading.under_way == 0 {
                SERVER
            } else {
                STORE
            }
        }
        Phase::Writing | Phase::Loading if reading.under_way > 0 || complete => SERVER,
        Phase::Writing => STORE,
        Phase::Loading => Some("the dump"),
        Phase::Checking | Phase::Verifying | Phase::Diffing => STORE.filter(|_| !complete),
        Phase::Comparing => SERVER.filter(|_| !complete),
        Phase::Preparing
        | Phase::Hook
        | Phase::Recording
        | Phase::Counting
        | Phase::Indexing
        | Phase::Finishing => None,
    }
}

fn figures(reading: &Counters, (done, total): (u64, u64), line: &mut ProgressLine) {
    let raw = if reading.phase == Phase::Verifying { "" } else { " raw" };
    match reading.phase {
        Phase::Uploading => {
            line.part(5, format!("{} of {} stored", units::bytes(done), units::bytes(total)));
        }
        _ => {
            if reading.phase == Phase::Replaying {
                let all = units::several(reading.expected_operations, "operation");
                line.part(1, format!("{} of {all}", units::count(reading.operations)));
            } else if reading.documents > 0 {
                line.part(1, units::several(reading.documents, "document"));
            }
            line.part(
                5,
                match total > done {
                    true => format!("{} of {}{raw}", units::bytes(done), units::bytes(total)),
                    false => format!("{}{raw}", units::bytes(done)),
                },
            );
        }
    }
    if reading.phase == Phase::Reading {
        line.part(4, format!("{} stored", units::bytes(reading.stored_bytes)));
    }
}

/// A progress line in parts, which are left out one after the other if they do not fit.
#[derive(Debug, Clone, Default)]
pub struct ProgressLine {
    attempt: String,
    verb: String,
    /// The namespace or backup, without control characters.
    name: String,
    /// Figures, each with its importance.
    parts: Vec<(u8, String)>,
    /// An estimate, a wait or an elapsed time.
    tail: String,
    amount: (u64, u64),
}

impl ProgressLine {
    fn part(&mut self, importance: u8, text: String) {
        self.parts.push((importance, text));
    }

    /// How much of the phase is done, and the whole; zeros if the phase has no measure.
    pub fn amount(&self) -> (u64, u64) {
        self.amount
    }

    /// The line in at most `columns` columns of a terminal. First the name is shortened, then the least important
    /// parts are left out.
    pub fn within(&self, columns: usize) -> String {
        let mut parts = self.parts.clone();
        loop {
            let nameless = self.text("", &parts);
            if self.name.is_empty() && measure_text_width(&nameless) <= columns {
                return nameless;
            }
            let others = measure_text_width(&self.text("x", &parts)) - 1;
            let short = if parts.is_empty() { SHORTEST_NAME } else { SHORT_NAME };
            let least = short.min(measure_text_width(&self.name));
            if !self.name.is_empty() && others + least <= columns {
                return self.text(&shortened(&self.name, columns - others), &parts);
            }
            let Some(at) = (0..parts.len()).min_by_key(|at| parts[*at].0) else { break };
            parts.remove(at);
        }
        let nameless = self.text("", &[]);
        match measure_text_width(&nameless) <= columns && !self.tail.is_empty() {
            true => nameless,
            false if self.tail.is_empty() => shortened(&self.text(&self.name, &[]), columns),
            false => shortened(&self.tail, columns),
        }
    }

    fn text(&self, name: &str, parts: &[(u8, String)]) -> String {
        let mut text = match name {
            "" => format!("{}{}", self.attempt, self.verb.trim_end_matches(" of")),
            name => format!("{}{} {name}", self.attempt, self.verb),
        };
        for part in parts.iter().map(|(_, part)| part).chain(Some(&self.tail).filter(|tail| !tail.is_empty()))
        {
            text.push_str(if part.starts_with('(') { " " } else { ", " });
            text.push_str(part);
        }
        text
    }
}

/// The text in at most `columns` columns. The middle of a longer text is replaced by an ellipsis.
fn shortened(text: &str, columns: usize) -> String {
    if measure_text_width(text) <= columns {
        return text.into();
    }
    // Some characters are wider together than alone.
    let mut cuts = (0..columns).rev().map(|room| without_middle(text, room));
    cuts.find(|cut| measure_text_width(cut) <= columns).unwrap_or_default()
}

/// The beginning and the end of a text, of `room` columns, with an ellipsis between them.
fn without_middle(text: &str, room: usize) -> String {
    let width = |c: char| measure_text_width(c.encode_utf8(&mut [0; 4]));
    let begin = fitting(text.chars(), room.div_ceil(2));
    let end = fitting(text.chars().rev(), room / 2);
    // A mark that combines with the character before it would combine with the ellipsis.
    let end = end.chars().rev().skip_while(|c| width(*c) == 0);
    begin.chars().chain(['…']).chain(end).collect()
}

/// The first characters that fit into `columns` columns.
fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += measure_text_width(c.encode_utf8(&mut [0; 4]));
        used <= columns
    };
    chars.take_while(fits).collect()
}

#[cfg(test)]
mod tests;
