//! Reading the oplog for the slices of a chain: from the end of the chain up to the last entry that a majority of the set has.
//!
//! The oplog is read by `ts`, which the server turns into a seek, so that no older entry is examined. Reading begins with the
//! entry at which the chain ends: if it has the recorded time, term and hash, everything after it continues the chain.

use std::ops::ControlFlow;

use bson::RawDocument;

use super::entries::{self, AfterLoss};
use super::{applied, at_end, committed, entry_at, mark, unfinished_since};
use crate::base::error::{Error, Kind, Result};
use crate::model::manifest::ChainBase;
use crate::model::optime::OpTime;
use crate::model::slice::EntryMark;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::ReadFailure;

/// The oplog of a member when it is asked.
#[derive(Debug, Clone, Copy)]
pub struct OplogState {
    /// The newest entry that a majority of the set has, as far as the member knows.
    pub committed: OpTime,
    /// The oldest entry.
    pub oldest: OpTime,
    /// The newest entry.
    newest: OpTime,
    /// The server has deleted old entries.
    truncated: bool,
}

impl OplogState {
    /// Asks a member.
    ///
    /// # Errors
    /// Returns an error if the oplog cannot be read.
    pub async fn of(server: &Server) -> Result<OplogState> {
        // The member is asked for its newest entry last, so it is not older than the others.
        let committed = committed(server).await?.time;
        let oldest = at_end(server, 1).await?;
        let newest = applied(server).await?.time;
        // Only the entry that initiated the set has no term.
        Ok(OplogState { committed, oldest: oldest.time, newest, truncated: oldest.term >= 0 })
    }

    /// The time between the oldest and the newest entry, in seconds.
    pub fn window(&self) -> u32 {
        self.newest.t.saturating_sub(self.oldest.t)
    }

    /// Returns true if the server has deleted old entries, so that the window does not grow any more.
    pub fn is_full(&self) -> bool {
        self.truncated
    }

    /// Returns true if the oplog has every entry after `start`.
    pub fn reaches_back(&self, start: OpTime) -> bool {
        self.oldest.before() <= start
    }
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailStart {
    /// After this entry, which must be there.
    Entry(EntryMark),
    /// After this time, at which there need not be an entry.
    Time(OpTime),
}

impl TailStart {
    /// The first time that is read.
    fn first(&self) -> OpTime {
        match self {
            TailStart::Entry(mark) => mark.at,
            TailStart::Time(time) => time.after(),
        }
    }
}

/// Whether a member can continue a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuity {
    /// The member has the entry.
    Proven,
    /// The member does not yet know that a majority has the entry.
    Behind,
    /// The reason why the member has lost the entry.
    Broken(String),
}

/// Looks for the last entry of a chain in the oplog of a member.
///
/// # Errors
/// Returns an error if the oplog cannot be read.
pub async fn prove(server: &Server, state: &OplogState, last: &EntryMark) -> Result<Continuity> {
    if state.committed < last.at {
        // A new primary has every entry that a majority has, but learns only later that they are on a majority.
        if server.hello.is_primary() && state.newest < last.at {
            let (newest, last) = (state.newest.second(), last.at.second());
            return Ok(Continuity::Broken(format!(
                "{} is primary, but its newest entry ({newest}) is older than the last stored entry ({last}): it was \
                 restored from an older copy, or the set was re-created",
                server.service()
            )));
        }
        return Ok(Continuity::Behind);
    }
    Ok(match entry_at(server, last.at).await? {
        Some(found) if found.is(last) => Continuity::Proven,
        found => Continuity::Broken(lost(server, state.oldest, last, found.is_some())),
    })
}

/// Why the entry `last` cannot be found.
fn lost(server: &Server, oldest: OpTime, last: &EntryMark, another: bool) -> String {
    let service = server.service();
    let is_older = oldest > last.at;
    let (oldest, last) = (oldest.second(), last.at.second());
    if another {
        format!(
            "the oplog of {service} has another entry at {last}: the set was restored from a copy, or re-created"
        )
    } else if is_older {
        format!(
            "the oplog of {service} overflowed: it reaches back only to {oldest}, and the last stored entry is of {last}"
        )
    } else {
        format!("the oplog of {service} does not have the last stored entry, of {last}")
    }
}

/// Checks that a chain can begin at a backup: the member has the entry at the backup's instant, and everything since
/// [`ChainBase::from`]. Returns the reason if not.
///
/// # Errors
/// Returns an error if the oplog cannot be read.
pub async fn prove_base(
    server: &Server,
    state: &OplogState,
    base: &ChainBase,
    at: OpTime,
) -> Result<Result<(), String>> {
    if !state.reaches_back(base.from) {
        let (service, oldest) = (server.service(), state.oldest.second());
        return Ok(Err(format!(
            "the oplog of {service} reaches back only to {oldest}, not to the backup's {}",
            base.from.second()
        )));
    }
    let want = EntryMark { at, term: base.term, blake3: base.blake3.clone() };
    Ok(match prove(server, state, &want).await? {
        Continuity::Proven => Ok(()),
        Continuity::Behind => Err(format!("{} lags behind the backup", server.service())),
        Continuity::Broken(why) => Err(why),
    })
}

/// Returns the start of a chain that begins now: all transactions under way began after it, if the oplog reaches back so far.
/// It is the beginning of the hour, if the oplog has all entries since then and since `after`: two machines that begin a chain
/// at the same time then choose the same start.
///
/// # Errors
/// Returns an error if the oplog cannot be read.
pub async fn start_now(server: &Server, state: &OplogState, after: Option<OpTime>) -> Result<OpTime> {
    let start = unfinished_since(server).await?.min(state.committed).before();
    let hour = OpTime { t: start.t - start.t % 3600, i: 0 };
    if state.reaches_back(hour) && after.is_none_or(|after| after < hour) {
        return Ok(hour);
    }
    Ok(start.max(state.oldest.before()))
}

/// Takes the entries of a slice.
pub(crate) trait EntrySink {
    /// Takes the next entry, of the time `at`. Returns true if the slice ends with it.
    fn take(&mut self, at: OpTime, entry: &RawDocument) -> Result<bool>;
    /// Sends the finished parts. Called after each batch.
    async fn flush(&mut self) -> Result<()>;
}

/// The result of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailEnd {
    /// Everything was read; `last` is the last entry, `None` if there was none after the start.
    All { last: Option<EntryMark> },
    /// The sink ended the slice with this entry.
    Full { last: EntryMark },
    /// The entries do not continue the chain.
    Broken(String),
}

/// Reads the entries after `start` and up to `to`, in order. A lost cursor is replaced by a new one, which begins at the last
/// entry.
///
/// # Errors
/// Returns an error if the oplog cannot be read, or the sink fails.
pub(crate) async fn read(
    server: &Server,
    start: TailStart,
    to: OpTime,
    notes: &Notes,
    sink: &mut impl EntrySink,
) -> Result<TailEnd> {
    let (mut at, mut last) = (start, None);
    let mut waiting = server.patience.start(server.service());
    loop {
        let before = last.clone();
        let lost = match drain(server, &at, to, &mut last, sink).await {
            Ok(end) => return Ok(end),
            Err(ReadFailure::Error(error)) => return Err(error),
            Err(ReadFailure::Driver(error)) => error,
        };
        if last != before {
            waiting.answered();
        }
        if let Some(last) = &last {
            at = TailStart::Entry(EntryMark::clone(last));
        }
        match entries::after_loss(lost, &mut waiting, notes).await {
            AfterLoss::Again => {}
            AfterLoss::Overflow => {
                let service = server.service();
                return Ok(TailEnd::Broken(format!("the oplog of {service} overflowed while it was read")));
            }
            AfterLoss::End(lost) => return Err(server.explain("cannot read the oplog", lost)),
        }
    }
}

async fn drain(
    server: &Server,
    start: &TailStart,
    to: OpTime,
    last: &mut Option<EntryMark>,
    sink: &mut impl EntrySink,
) -> Result<TailEnd, ReadFailure> {
    let (from, mut first) = (start.first(), true);
    let ended = entries::batches(server, from, to, None, async |mut batch| {
        if std::mem::take(&mut first)
            && let Some(((time, entry), rest)) = batch.split_first()
        {
            if let Some(why) = break_at(server, start, *time, entry).await? {
                return Ok(ControlFlow::Break(TailEnd::Broken(why)));
            }
            if matches!(start, TailStart::Entry(_)) {
                batch = rest;
            }
        }
        for (time, entry) in batch {
            if sink.take(*time, entry)? {
                let last = mark(entry).ok_or_else(|| entries::malformed(server, "it has no time"))?;
                sink.flush().await?;
                return Ok(ControlFlow::Break(TailEnd::Full { last }));
            }
        }
        // Only the last entry of a batch is hashed: a lost cursor is continued from there.
        if let Some((_, entry)) = batch.last() {
            *last = mark(entry);
        }
        sink.flush().await?;
        Ok(ControlFlow::Continue(()))
    });
    if let Some(end) = ended.await? {
        return Ok(end);
    }
    if first && let TailStart::Entry(want) = start {
        let oldest = at_end(server, 1).await?.time;
        return Ok(TailEnd::Broken(self::lost(server, oldest, want, false)));
    }
    Ok(TailEnd::All { last: last.clone() })
}

/// Returns the reason if the first entry that was read does not show that the oplog has everything after the start.
async fn break_at(
    server: &Server,
    start: &TailStart,
    time: OpTime,
    entry: &RawDocument,
) -> Result<Option<String>> {
    match start {
        TailStart::Entry(want) if mark(entry).is_some_and(|found| found.is(want)) => Ok(None),
        TailStart::Entry(want) => Ok(Some(lost(server, time, want, time == want.at))),
        // The oplog drops its oldest entries, so nothing between the start and the first entry is lost if it still reaches
        // back to the start now.
        TailStart::Time(start) => {
            let oldest = at_end(server, 1).await?.time;
            Ok((oldest.before() > *start).then(|| {
                let (service, oldest, start) = (server.service(), oldest.second(), start.second());
                format!("the oplog of {service} overflowed: it reaches back only to {oldest}, not to {start}")
            }))
        }
    }
}

/// The error for a set whose id cannot be read.
pub fn no_set_id(server: &Server) -> Error {
    Error::new(Kind::Failed, format!("the id of {} cannot be read", server.set_name()))
        .hint(server.grant_backup())
}
