//! `oplog` with several places: the same slices in all of them.
//!
//! The first place that answers is read for the end of the chain and gets the new slices; the others get copies of them, byte for
//! byte. A place that was away is caught up before that. If the slices of a place cannot be continued with copies, because it took
//! slices of its own while the others were away, it gets one more slice of its own, which ends where those of the first place end.
//! From then on the copies fit again.

use super::report::{OplogPlaceRow, OplogReport};
use super::{OplogRequest, capture_until};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::catalog::CatalogOptions;
use crate::catalog::chain::{self, JobSlices, RememberedTip, SliceEntry};
use crate::catalog::slice_reader;
use crate::config::JobSettings;
use crate::config::place::Place;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;
use crate::notify::run::Run;
use crate::ops::places::copying::Copying;
use crate::ops::places::{OpenPlace, Places, expect_known};
use crate::retention::slices::range_start;

/// The newest slice of a place: its chain, its start and its end.
type Tip = (ChainId, OpTime, OpTime);

/// Stores the slices in all places.
///
/// # Errors
/// Returns an error if no place got the slices.
pub(super) async fn capture_everywhere(run: &Run<'_>, request: &OplogRequest) -> Result<OplogReport> {
    let reading = run.reading()?;
    let places = run.cancel.or(Places::open(run.config, &|_| None, false)).await?;
    if places.open.is_empty() {
        let away = places.away.first().map(|away| away.why.clone());
        return Err(away.unwrap_or_else(|| Error::failed("there is no place")));
    }
    let all = Everywhere { run, reading: &reading };
    let mut tips = Vec::new();
    for place in &places.open {
        tips.push(run.cancel.or(all.first_tip(place)).await);
    }
    let mut rows: Vec<OplogPlaceRow> = places
        .open
        .iter()
        .zip(&tips)
        .map(|(place, tip)| OplogPlaceRow {
            name: place.name.clone(),
            place: Some(place.store.place()),
            end: tip.as_ref().ok().and_then(|tip| tip.as_ref().map(|(_, _, end)| *end)),
            copied: 0,
            why: tip.as_ref().err().map(Error::chain_with_step),
        })
        .collect();
    let (lead, mut report) = all.lead(&places.open, &mut rows, request).await?;
    for at in (0..places.open.len()).filter(|at| *at != lead && !request.dry_run) {
        if let Err(error) = all.follow(&places.open[lead], &places.open[at], &report, &mut rows[at]).await {
            if let Some(signal) = run.cancel.error_with("the other places keep what they have") {
                return Err(signal);
            }
            rows[at].why = Some(error.chain_with_step());
        }
    }
    rows.extend(places.away.iter().map(|away| OplogPlaceRow {
        name: away.name.clone(),
        place: away.place.as_ref().map(Place::name),
        end: None,
        copied: 0,
        why: Some(away.why.chain_with_step()),
    }));
    report.problems.extend(rows.iter().filter_map(OplogPlaceRow::problem));
    report.places = rows;
    Ok(report)
}

struct Everywhere<'a> {
    run: &'a Run<'a>,
    reading: &'a CatalogOptions,
}

impl Everywhere<'_> {
    /// Stores the slices in the first place in which that succeeds. Returns its position.
    async fn lead(
        &self,
        places: &[OpenPlace],
        rows: &mut [OplogPlaceRow],
        request: &OplogRequest,
    ) -> Result<(usize, OplogReport)> {
        let mut first_failure = None;
        for (at, place) in places.iter().enumerate() {
            if rows[at].why.is_some() {
                continue;
            }
            if !request.dry_run {
                self.run.cancel.or(self.bring_up(places, at, rows)).await?;
            }
            match self.capture(place, request, None).await {
                Ok(report) => {
                    rows[at].end = report.end;
                    return Ok((at, report));
                }
                Err(error) if error.is_of_store() && self.run.cancel.error().is_none() => {
                    log::warn!("the place {} failed: {}", place.name, error.chain());
                    rows[at].why = Some(error.chain_with_step());
                    first_failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_failure.unwrap_or_else(|| {
            let why = rows.iter().find_map(|row| row.why.clone()).unwrap_or_default();
            Error::failed(format!("no place can be used: {why}"))
        }))
    }

    async fn capture(
        &self,
        place: &OpenPlace,
        request: &OplogRequest,
        until: Option<OpTime>,
    ) -> Result<OplogReport> {
        let Run { cancel, clock, .. } = self.run;
        capture_until(&*place.store, place.config.job.as_ref()?, request, cancel, *clock, until).await
    }

    /// Copies the slices that other places have and a place lacks, because it was away. A failure is only logged: the run then goes
    /// on where the place ended.
    async fn bring_up(&self, places: &[OpenPlace], at: usize, rows: &mut [OplogPlaceRow]) -> Result<()> {
        let ahead = (0..places.len()).filter(|other| *other != at && rows[*other].end > rows[at].end);
        let Some(ahead) = ahead.max_by_key(|other| rows[*other].end) else { return Ok(()) };
        if let Err(error) = self.copy_after(&places[ahead], &places[at], &mut rows[at]).await {
            log::warn!("the place {} could not be caught up: {}", places[at].name, error.chain());
        }
        Ok(())
    }

    /// Gives a place the slices of the leading one.
    async fn follow(
        &self,
        lead: &OpenPlace,
        place: &OpenPlace,
        report: &OplogReport,
        row: &mut OplogPlaceRow,
    ) -> Result<()> {
        if row.why.is_some() || row.end == report.end {
            return Ok(());
        }
        let settings = place.config.job.as_ref()?;
        let within = settings.catch_up;
        let copied = self.run.cancel.or(self.copy_after(lead, place, row));
        tokio::time::timeout(within, copied).await.unwrap_or_else(|_| {
            Err(Error::failed(format!("it did not catch up within {}", units::duration(within))))
        })?;
        let Some(end) = report.end.filter(|end| row.end.is_some_and(|own| own < *end)) else { return Ok(()) };
        let request = OplogRequest::default();
        let own = self.capture(place, &request, Some(end)).await?;
        log::info!(
            "the place {} got a slice of its own, because it took slices while others were away",
            place.name
        );
        row.end = own.end;
        match own.problems.is_empty() {
            true => Ok(()),
            false => Err(Error::failed(own.problems.join("; "))),
        }
    }

    /// Copies the slices that follow the newest one of a place, or all that its retention wants if it has none.
    async fn copy_after(&self, from: &OpenPlace, to: &OpenPlace, row: &mut OplogPlaceRow) -> Result<()> {
        let settings = to.config.job.as_ref()?;
        let slices = self.slices(from, settings).await?;
        let own = self.tip(to).await?;
        let Some(chain) = slices.chains().next_back().cloned() else { return Ok(()) };
        let starts: Vec<OpTime> = match &own {
            Some((of, _, end)) if *of == chain => {
                slices.starts(&chain).filter(|start| start >= end).collect()
            }
            _ => {
                // The slice in which the range begins is needed as well.
                let begin = range_start(self.run.clock.now(), settings.oplog_days);
                let all: Vec<OpTime> = slices.starts(&chain).collect();
                let first = all.partition_point(|start| *start <= begin).saturating_sub(1);
                all[first..].to_vec()
            }
        };
        let copying = Copying {
            from: &from.store,
            from_name: &from.name,
            to: &*to.store,
            trust: &self.reading.trust,
            state_dir: settings.state_dir.as_deref(),
            uploads: settings.uploads,
            host: &settings.host,
        };
        let mut end = own.filter(|(of, ..)| *of == chain).map(|(_, _, end)| end);
        for start in starts {
            // The place took another slice at this time.
            if end.is_some_and(|end| end != start) {
                break;
            }
            let (slice, copied) = copying.slice(&settings.job, &chain, start).await?;
            end = Some(slice.end.at);
            row.end = end;
            row.copied += u64::from(!copied.already);
            let tip = RememberedTip { chain: chain.clone(), start, listed: slice.end.at.t };
            tip.save(settings.state_dir.as_deref(), &to.store.place(), &settings.job);
        }
        Ok(())
    }

    async fn slices(&self, place: &OpenPlace, settings: &JobSettings) -> Result<JobSlices> {
        let (trust, state_dir) = (&self.reading.trust, settings.state_dir.as_deref());
        slice_reader::list_trusted(&*place.store, &settings.job, trust, state_dir).await
    }

    /// The newest slice of a place when the run begins. A place without slices must have its known backups: its disk may not be
    /// mounted.
    async fn first_tip(&self, place: &OpenPlace) -> Result<Option<Tip>> {
        let tip = self.tip(place).await?;
        if tip.is_none() {
            expect_known(&*place.store, self.reading).await?;
        }
        Ok(tip)
    }

    /// The newest slice of a place.
    async fn tip(&self, place: &OpenPlace) -> Result<Option<Tip>> {
        let settings = place.config.job.as_ref()?;
        let (state_dir, job) = (settings.state_dir.as_deref(), &settings.job);
        let remembered = RememberedTip::load(state_dir, &place.store.place(), job);
        let set_id = match &remembered {
            Some(tip) => tip.chain.set_id.clone(),
            None => match self.slices(place, settings).await?.chains().next_back() {
                Some(chain) => chain.set_id.clone(),
                None => return Ok(None),
            },
        };
        let list = async || self.slices(place, settings).await;
        let (store, trust) = (&*place.store, &self.reading.trust);
        let tip = chain::find_tip(store, job, &set_id, remembered.as_ref(), trust, list).await?;
        Ok(tip.and_then(|tip| match tip.slice {
            SliceEntry::Slice(slice) => Some((tip.chain, slice.start, slice.end.at)),
            SliceEntry::Unreadable { .. } => None,
        }))
    }
}
