//! `oplog`: stores what a replica set wrote since the last run, as slices of a chain.
//!
//! A run finds the newest slice of its job and replica set, and reads the oplog from the entry at which that slice ended up to
//! the last entry that a majority of the set has ([`tail`]). If the oplog no longer has this entry on any member, there is a
//! gap: a new chain begins ([`start`]). The entries are filtered and compressed in a thread ([`pack`]) and stored in slices, each
//! committed on its own ([`upload`]), and encrypted if the job has recipients. [`run_oplog`] adds the lock and the notices.

mod commit;
mod events;
mod pack;
mod places;
mod report;
mod start;
mod upload;

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use tokio::sync::mpsc;

use crate::artifact::out::StoredStream;
use crate::artifact::sealed::SealedBegin;
use crate::base::cancel::{Cancel, LastStep};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::heap::on_heap;
use crate::base::lock::{LockOutcome, Operation};
use crate::base::minisign::SigningKey;
use crate::base::units;
use crate::catalog::chain::{self, JobSlices, RememberedTip, SliceEntry};
use crate::catalog::trust::Trust;
use crate::catalog::{layout, slice_reader};
use crate::config::JobSettings;
use crate::config::choices::Codec;
use crate::model::optime::OpTime;
use crate::model::selection::{KnownSelection, SelectionAsked};
use crate::model::slice::EntryMark;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::notify::events::{RunKind, RunOutcome};
use crate::notify::run::{Run, RunNotices};
use crate::source::oplog::tail::{self, Continuity, OplogState, TailEnd};
use crate::source::{oplog, run_here};
use crate::store::{self, Store, leftovers};
use pack::{PackedSlice, SlicePacker};
pub use report::{OplogPlaceRow, OplogReport, StoredSlice};
use start::{EndedChain, Position};
use upload::{SentParts, SliceUpload};

/// The compression level of slices if the format of backups is gzip. With `compression_level = auto`, the level is the codec's default,
/// because a slice is small, and one thread reads and compresses it.
const LEVEL: i32 = 3;
/// The number of slices in a row that a run may lose to other runs before it gives up.
const CONTESTS: u32 = 100;

/// The flags of `oplog`.
#[derive(Debug, Clone, Default)]
pub struct OplogRequest {
    /// Reads and compresses, and stores nothing.
    pub dry_run: bool,
    /// How long to wait for another run of the job; `None`: the run fails at once if there is one.
    pub wait: Option<Duration>,
}

/// Stores the oplog as the settings say: locks the job, stores, and sends the notices. A dry run only reads.
///
/// # Errors
/// Returns an error if the run failed. Slices that it stored before stay. The failure is reported before.
pub async fn run_oplog(run: &Run<'_>, request: &OplogRequest) -> Result<OplogReport> {
    let notices = RunNotices::new(run)?;
    let mut report = match on_heap(|| locked_oplog(run, request)).await {
        Ok(report) => report,
        Err(error) => {
            if !request.dry_run {
                notices.failed(RunKind::Oplog, &error).await;
            }
            return Err(error);
        }
    };
    if !request.dry_run {
        let outcome = RunOutcome::Oplog(report.success());
        report.problems.extend(notices.ended(RunKind::Oplog, &report.job, run.fresh_id(), outcome).await);
    }
    Ok(report)
}

async fn locked_oplog(run: &Run<'_>, request: &OplogRequest) -> Result<OplogReport> {
    let settings = run.config.job.as_ref()?;
    run.log.set_run(&format!("oplog {}", settings.job));
    if settings.partial {
        return Err(Error::usage(format!(
            "the flags choose less than what the job {} is configured to have, and its slices must have all of it",
            settings.job
        ))
        .hint("Leave --db, --include and --exclude out, or name another job with --job"));
    }
    let taken = match request.dry_run {
        true => LockOutcome::default(),
        false => run.lock(settings, Operation::Oplog, request.wait).await?,
    };
    let mut report = match run.config.place_names().len() {
        1 => {
            let store = run.cancel.or(store::open_existing(run.config.place.as_ref()?)).await?;
            on_heap(|| capture(&*store, settings, request, run.cancel, run.clock)).await?
        }
        _ => on_heap(|| places::capture_everywhere(run, request)).await?,
    };
    report.problems.extend(taken.problem);
    Ok(report)
}

/// The resources of a run.
struct Capture<'a> {
    store: &'a dyn Store,
    settings: &'a JobSettings,
    cancel: &'a Cancel,
    clock: Clock,
    notes: Notes,
    set_id: String,
    /// Always with `asked`.
    selection: KnownSelection,
    dry_run: bool,
    /// The run ends with this entry, even if the set has later ones.
    until: Option<OpTime>,
    signing: Option<SigningKey>,
    trust: Trust,
}

/// Stores the oplog, without lock and notices.
///
/// # Errors
/// Returns an error if the run failed. Slices that it stored before stay.
pub async fn capture(
    store: &dyn Store,
    settings: &JobSettings,
    request: &OplogRequest,
    cancel: &Cancel,
    clock: Clock,
) -> Result<OplogReport> {
    capture_until(store, settings, request, cancel, clock, None).await
}

/// As [`capture`], but not beyond the entry `until`.
async fn capture_until(
    store: &dyn Store,
    settings: &JobSettings,
    request: &OplogRequest,
    cancel: &Cancel,
    clock: Clock,
    until: Option<OpTime>,
) -> Result<OplogReport> {
    let (signing, trust) = (settings.signing.writing_key()?, Trust::from(&settings.signing));
    let notes = Notes::default();
    let JobSettings { mongo_uri, patience, stall, state_dir, job, .. } = settings;
    let ready = async {
        let server = Server::connect(mongo_uri, patience, *stall, &notes).await?;
        if let Some(obstacle) = oplog::obstacle(&server).await? {
            let text =
                format!("the oplog of MongoDB at {} cannot be read: {}", server.hello.address, obstacle.why);
            return Err(Error::failed(text).hint(obstacle.hint));
        }
        let set_id = server.replica_set_id().await.ok_or_else(|| tail::no_set_id(&server))?;
        let swept = match request.dry_run {
            true => Vec::new(),
            false => leftovers::sweep(state_dir.as_deref(), store).await,
        };
        Ok((server, set_id, swept))
    };
    let (server, set_id, swept) = cancel.or(ready).await?;
    let selection = cancel.or(known_selection(&server, settings)).await?;
    swept.into_iter().for_each(|line| notes.add(line));
    let member = server.hello.address.clone();
    let mut report = OplogReport::empty(job, store.place(), request.dry_run, member);
    let dry_run = request.dry_run;
    let capture =
        Capture { store, settings, cancel, clock, notes, set_id, selection, dry_run, until, signing, trust };
    let outcome = cancel.within(LastStep::Work, on_heap(|| capture.run(server, &mut report))).await;
    let outcome = outcome.unwrap_or_else(|| Err(Error::failed("the run did not end in time")));
    let state = match report.slices.len() {
        0 => "nothing new was stored".to_string(),
        n => format!("{} stored before that stay", units::several(n as u64, "oplog slice")),
    };
    outcome.map_err(|error| {
        // A gap that is stored is not found again, so the failure must name it.
        report.problems.iter().for_each(|problem| log::warn!("{problem}"));
        cancel.error_with(&state).unwrap_or(error)
    })?;
    report.notes = capture.notes.lines();
    report.notes.extend(store.retries());
    Ok(report)
}

/// The selection of the job, with its mark for comparisons with encrypted slices and backups.
async fn known_selection(server: &Server, settings: &JobSettings) -> Result<KnownSelection> {
    let asked = SelectionAsked::from(&settings.selection);
    let mark = match oplog::selection_mark(server, &asked).await {
        Ok(mark) => mark,
        Err(e) if settings.recipients.is_some() => return Err(e.hint(server.grant_backup())),
        Err(e) => {
            log::debug!("the selection cannot be compared with encrypted slices: {}", e.chain());
            None
        }
    };
    if mark.is_none() && settings.recipients.is_some() {
        return Err(Error::failed(format!("{} has no config.transactions", server.set_name()))
            .hint("Encrypted oplog slices need it. The server creates it when a member becomes primary: rs.stepDown()"));
    }
    Ok(KnownSelection { asked: Some(asked), mark })
}

impl Capture<'_> {
    async fn run(&self, mut server: Server, report: &mut OplogReport) -> Result<()> {
        let mut state = OplogState::of(&server).await?;
        let (mut at, mut listed) = on_heap(|| self.position(&mut server, &mut state)).await?;
        report.member = server.hello.address.clone();
        let (mut contests, mut restarts) = (0, 0);
        loop {
            report.chain = at.after.is_some().then(|| at.chain.clone());
            report.end = at.after.as_ref().map(|entry| entry.at);
            if self.last(&state) <= at.start {
                break;
            }
            let (upload, read) = self.read(&server, &state, &at).await?;
            let ReadSlice { end, packed, sent, sealed } = read;
            let (last, full) = match end {
                TailEnd::Full { last } => (last, true),
                TailEnd::All { last: Some(last) } => (last, false),
                TailEnd::All { last: None } => {
                    self.discard(sent).await;
                    break;
                }
                TailEnd::Broken(why) => {
                    self.discard(sent).await;
                    restarts += 1;
                    if restarts > 3 {
                        return Err(Error::failed(format!("the oplog cannot be read: {why}")));
                    }
                    // The oplog was proven to have the entry, and overflowed since.
                    at = self.elsewhere(&mut server, &mut state, &at, why).await?;
                    continue;
                }
            };
            report.read_entries += packed.read_entries;
            if !full && !self.is_worth_a_slice(&state, &at, &packed, last.at) {
                self.discard(sent).await;
                break;
            }
            let stored = StoredSlice {
                start: at.start,
                end: last.at,
                entries: packed.entries,
                raw_bytes: packed.raw_bytes,
                stored_bytes: packed.size,
            };
            if packed.events_left_out > 0 {
                let rows = units::several(packed.events_left_out, "row");
                self.notes.add(format!(
                    "the events of the slice after {} are too many: {rows} are left out, and all writes are stored",
                    at.start.second()
                ));
            }
            let version = server.version().await?;
            let manifest = self.manifest(&server, version, &at, last, &packed, sealed.as_ref());
            let won = match self.dry_run {
                true => Some(manifest),
                false => self.store_slice(&upload, manifest, &packed, sent, sealed.as_ref()).await?,
            };
            let Some(manifest) = won else {
                contests += 1;
                at = self.winner(&at).await?.filter(|_| contests < CONTESTS).ok_or_else(|| {
                    Error::failed(
                        "other runs of this job store its oplog slices at the same time, again and again",
                    )
                    .hint("Let only one machine run `uzima-backup oplog` for this job")
                })?;
                continue;
            };
            contests = 0;
            report.add(&manifest, stored);
            if manifest.after.is_none() {
                // Another machine may have begun a chain at the same time: the next run looks for it.
                listed = 0;
            }
            if !self.dry_run {
                let (state_dir, place) = (self.settings.state_dir.as_deref(), self.store.place());
                let tip = RememberedTip { chain: manifest.chain.clone(), start: manifest.start, listed };
                tip.save(state_dir, &place, &self.settings.job);
            }
            at = Position::after(&manifest, &self.selection);
            if let Some(error) = self.cancel.error() {
                return Err(error);
            }
            if !full {
                (report.chain, report.end) = (Some(at.chain), Some(at.start));
                break;
            }
        }
        server.close().await;
        Ok(())
    }

    /// The entry with which the run ends.
    fn last(&self, state: &OplogState) -> OpTime {
        self.until.map_or(state.committed, |until| until.min(state.committed))
    }

    /// The trusted slices of the job.
    async fn slices(&self) -> Result<JobSlices> {
        let JobSettings { job, state_dir, .. } = self.settings;
        slice_reader::list_trusted(self.store, job, &self.trust, state_dir.as_deref()).await
    }

    /// Finds where the run begins, and when all slices were last listed. May go to another member.
    async fn position(&self, server: &mut Server, state: &mut OplogState) -> Result<(Position, u32)> {
        let (state_dir, place) = (self.settings.state_dir.as_deref(), self.store.place());
        let remembered = RememberedTip::load(state_dir, &place, &self.settings.job);
        let (job, remembered_tip) = (&self.settings.job, remembered.as_ref());
        let list = async || self.slices().await;
        let found = chain::find_tip(self.store, job, &self.set_id, remembered_tip, &self.trust, list).await?;
        let Some(mut tip) = found else {
            return Ok((start::new_chain(self, server, state, None).await?, 0));
        };
        // Another machine may have begun a new chain after this one became unreadable.
        if matches!(tip.slice, SliceEntry::Unreadable { .. }) {
            let slices = self.slices().await?;
            tip = chain::tip_of(self.store, &slices, &self.set_id).await?.unwrap_or(tip);
        }
        let SliceEntry::Slice(slice) = &tip.slice else {
            return Ok((start::new_chain(self, server, state, EndedChain::at(&tip)).await?, 0));
        };
        let listed = tip.listed;
        let tip = RememberedTip { chain: slice.chain.clone(), start: slice.start, listed };
        if remembered.as_ref() != Some(&tip) && !self.dry_run {
            tip.save(state_dir, &place, &self.settings.job);
        }
        let at = Position::after(slice, &self.selection);
        let at = match tail::prove(server, state, &slice.end).await? {
            Continuity::Proven | Continuity::Behind => at,
            Continuity::Broken(why) => self.elsewhere(server, state, &at, why).await?,
        };
        Ok((at, listed))
    }

    /// The member has lost the end of the chain. Asks the other members before a gap is declared: a freshly synced member has
    /// a short oplog.
    async fn elsewhere(
        &self,
        server: &mut Server,
        state: &mut OplogState,
        at: &Position,
        why: String,
    ) -> Result<Position> {
        // The member may have deleted entries since it was asked.
        *state = OplogState::of(server).await?;
        if let Some(last) = &at.after {
            for (other, its) in self.others(server, &why).await {
                if matches!(tail::prove(&other, &its, last).await, Ok(Continuity::Proven)) {
                    self.go_to(server, state, (other, its), &why);
                    return Ok(at.clone());
                }
            }
        }
        // Another machine may have begun a new chain.
        let slices = self.slices().await?;
        if let Some(tip) = chain::tip_of(self.store, &slices, &self.set_id).await?
            && tip.chain > at.chain
            && let SliceEntry::Slice(slice) = &tip.slice
            && matches!(
                tail::prove(server, state, &slice.end).await?,
                Continuity::Proven | Continuity::Behind
            )
        {
            return Ok(Position::after(slice, &self.selection));
        }
        // A chain without a slice may have begun after a gap, which is then longer.
        let end = at.gap.as_ref().map_or(at.start, |gap| gap.from);
        let ended = EndedChain { chain: at.chain.clone(), end, why };
        start::new_chain(self, server, state, Some(ended)).await
    }

    /// The other members of the set that answer. `why` is the fault of the member that was read.
    async fn others(&self, server: &Server, why: &str) -> Vec<(Server, OplogState)> {
        log::warn!("{why}; asking the other members of the set");
        let (others, silent) = server.others().await;
        let mut found = Vec::new();
        for other in others {
            let same_set = other.replica_set_id().await.as_deref() == Some(self.set_id.as_str());
            if let Ok(its) = OplogState::of(&other).await
                && same_set
            {
                found.push((other, its));
            }
        }
        if !silent.is_empty() {
            self.notes.add(format!("these members of the set did not answer: {}", silent.join(", ")));
        }
        found
    }

    /// Reads another member from now on.
    fn go_to(
        &self,
        server: &mut Server,
        state: &mut OplogState,
        (other, its): (Server, OplogState),
        why: &str,
    ) {
        self.notes.add(format!("read the oplog of {}, because {why}", other.hello.address));
        (*server, *state) = (other, its);
    }

    /// Reads the entries of one slice in a thread, and sends full parts of its body.
    async fn read<'s>(
        &'s self,
        server: &Server,
        state: &OplogState,
        at: &Position,
    ) -> Result<(SliceUpload<'s>, ReadSlice)> {
        let level = match self.settings.format.codec {
            Codec::Zstd { level } => level,
            Codec::Gzip { .. } => LEVEL,
        };
        let part_size = self.store.limits().min_part.max(1 << 20);
        let upload = SliceUpload {
            store: self.store,
            state_dir: self.settings.state_dir.as_deref(),
            job: &self.settings.job,
            chain: at.chain.clone(),
            start: at.start,
            random: random_name(),
            part_size,
            recipients: self.settings.recipients.as_ref(),
            cancel: self.cancel,
        };
        // Each slice has a key of its own, also if it is read again.
        let (sealing, sealed) = SealedBegin::new(upload.recipients)?.unzip();
        let (parts, sending) = mpsc::channel(1);
        let (own, selection, notes) = (server.clone(), self.settings.selection.clone(), self.notes.clone());
        let (start, to, barriers) = (at.tail_start(), self.last(state), at.barriers.clone());
        let cancel = self.cancel.token().clone();
        let reading = tokio::task::spawn_blocking(move || {
            run_here(&cancel, async {
                let server = own.reconnect()?;
                let codec = Codec::Zstd { level };
                let stored = StoredStream::new(sealing, part_size, 0);
                let mut packer = SlicePacker::new(&selection, codec, stored, parts, barriers)?;
                let end = tail::read(&server, start, to, &notes, &mut packer).await?;
                server.close().await;
                Ok((end, packer.finish()?))
            })
        });
        let sent = async {
            match self.dry_run {
                true => drop_all(sending).await,
                false => upload.send(sending).await,
            }
        };
        let (read, sent) = tokio::join!(reading, sent);
        let broken = |e| Error::failed("the thread that reads the oplog ended unexpectedly").caused_by(e);
        let read: Result<(TailEnd, PackedSlice)> = read.map_err(broken).and_then(|read| read);
        match (read, sent) {
            (Ok((end, packed)), Ok(sent)) => Ok((upload, ReadSlice { end, packed, sent, sealed })),
            (Err(error), Ok(sent)) => {
                self.discard(sent).await;
                Err(error)
            }
            // The reading ended because the upload failed, or both failed for reasons of their own.
            (_, Err(error)) => Err(error),
        }
    }

    async fn discard(&self, sent: Option<SentParts>) {
        if let Some(sent) = sent {
            sent.abort().await;
        }
    }

    /// Returns true if a slice is stored. A slice without entries only moves the end of the chain: the end must stay in the
    /// server's oplog, and `health` must see that `oplog` runs.
    fn is_worth_a_slice(&self, state: &OplogState, at: &Position, packed: &PackedSlice, end: OpTime) -> bool {
        let moved = u64::from(end.t.saturating_sub(at.start.t));
        let most = u64::from(state.window() / 4).min(self.settings.oplog_max_age.as_secs() / 2);
        self.until.is_some()
            || packed.entries > 0
            || !packed.barriers.is_empty()
            || at.after.is_none()
            || moved >= most
    }

    /// The position after the slice that another run stored at the same start.
    async fn winner(&self, at: &Position) -> Result<Option<Position>> {
        let (store, job) = (self.store, &self.settings.job);
        let found = chain::read_slice(store, job, &at.chain, at.start, &self.trust).await?;
        if let Some(Err(why)) = &found {
            let key = layout::slice(job, &at.chain, at.start);
            let what = format!("{key} has the name of the next slice, but is untrusted: {why}");
            return Err(Error::new(Kind::Mismatch, what).hint(
                "Find out who wrote it, and delete it; the next run then stores the slice. Slices from before signing began \
                 need trusted_before (BACKUP_TRUSTED_BEFORE)",
            ));
        }
        match found.and_then(Result::ok) {
            Some(SliceEntry::Slice(slice)) if same_entry(slice.after.as_ref(), at.after.as_ref()) => {
                self.notes.count("another run stored the same oplog slice first".into());
                Ok(Some(Position::after(&slice, &self.selection)))
            }
            Some(SliceEntry::Slice(slice)) => Err(Error::failed(format!(
                "another run stored a slice at {} that begins with another entry: two replica sets have the same id, or {} \
                 was restored from a copy",
                slice.start.second(),
                self.settings.job
            ))
            .hint("Give each replica set a job of its own (BACKUP_JOB)")),
            Some(SliceEntry::Unreadable { key, why, .. }) => {
                Err(Error::new(Kind::Mismatch, format!("{key} cannot be understood: {why}"))
                    .hint("Put a copy of it back, or delete it; the next run then stores the slice again"))
            }
            None => Ok(Some(at.clone())),
        }
    }
}

/// The result of reading one slice.
struct ReadSlice {
    end: TailEnd,
    packed: PackedSlice,
    sent: Option<SentParts>,
    /// The beginning of the encrypted body; `None` without recipients.
    sealed: Option<SealedBegin>,
}

/// Returns true if two slices begin with the same entry, or both begin a chain.
fn same_entry(a: Option<&EntryMark>, b: Option<&EntryMark>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is(b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Takes the parts of a dry run.
async fn drop_all(mut parts: mpsc::Receiver<Bytes>) -> Result<Option<SentParts>> {
    while parts.recv().await.is_some() {}
    Ok(None)
}

/// Six random digits and letters.
fn random_name() -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = rand::rng();
    (0..6).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
