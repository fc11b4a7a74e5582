//! The places of a backup besides the one where it was complete first.
//!
//! A place that received all parts only lacks the small objects, which are the same bytes in all places. A place that failed or fell
//! behind is caught up: it gets the artifact from the place that has it. Nothing that happens here can fail the backup.

use std::time::Duration;

use futures_util::future::join_all;

use super::attempt::Work;
use super::place::{BackupPlace, BackupPlaceRow, PlaceOutcome};
use crate::base::error::{Error, Result};
use crate::base::heap::on_heap;
use crate::base::units;
use crate::catalog::objects::BackupObjects;
use crate::catalog::place_files::KnownBackups;
use crate::catalog::trust::Trust;
use crate::config::place::Place;
use crate::ops::places::AwayPlace;
use crate::ops::places::copying::Copying;
use crate::store::mirror::LaneEnd;
use crate::store::{self, Store};

impl Work<'_> {
    /// Completes the backup in all places but the one that `objects` were written to. Returns a row for each place of the run, in
    /// the order of the settings.
    pub(super) async fn finish_places(&self, objects: &BackupObjects) -> Vec<BackupPlaceRow> {
        let places = self.resources.places.iter().enumerate();
        let open = places.map(async |(at, place)| {
            let row = |outcome, why| BackupPlaceRow {
                name: place.name.clone(),
                place: Some(place.store.place()),
                outcome,
                why,
            };
            if at == self.lead {
                return row(PlaceOutcome::Stored, None);
            }
            match self.in_time(place.catch_up, self.finish(at, place, objects)).await {
                Ok(None) => row(PlaceOutcome::Stored, None),
                Ok(Some(why)) => row(PlaceOutcome::CaughtUp, Some(why)),
                Err(e) => row(PlaceOutcome::Missing, Some(e.chain_with_step())),
            }
        });
        let away = self.resources.away.iter().map(async |away| {
            let row = |outcome, why| BackupPlaceRow {
                name: away.name.clone(),
                place: away.place.as_ref().map(Place::name),
                outcome,
                why: Some(why),
            };
            match self.in_time(away.catch_up, on_heap(|| self.reopen(away))).await {
                Ok(()) => row(PlaceOutcome::CaughtUp, away.why.chain()),
                Err(e) => row(PlaceOutcome::Missing, e.chain_with_step()),
            }
        });
        let (open, away) = tokio::join!(join_all(open), join_all(away));
        // A place that did not end in time may still be uploading.
        self.upload.abort().await;
        let mut rows: Vec<BackupPlaceRow> = open.into_iter().chain(away).collect();
        let order = &self.resources.order;
        rows.sort_by_key(|row| order.iter().position(|name| *name == row.name));
        rows
    }

    /// Returns the result of work on one place, which has only this time, and ends at a signal.
    async fn in_time<T>(&self, within: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let work = tokio::time::timeout(within, self.resources.cancel.or(work)).await;
        work.unwrap_or_else(|_| {
            let why = format!("it did not catch up within {} (catch_up)", units::duration(within));
            Err(Error::failed(why))
        })
    }

    /// Completes the backup in a place that was open. Returns why it had to be caught up, or `None` if it was not.
    async fn finish(
        &self,
        at: usize,
        place: &BackupPlace,
        objects: &BackupObjects,
    ) -> Result<Option<String>> {
        let left = match self.upload.parts.ended(at).await {
            LaneEnd::Left(why) => why.into(),
            LaneEnd::Whole => match self.commit_at(place, objects).await {
                Ok(()) => return Ok(None),
                Err(e) => e,
            },
        };
        log::info!("the place {} failed or fell behind, and will be caught up: {}", place.name, left.chain());
        self.catch_up(place).await?;
        Ok(Some(left.chain()))
    }

    /// Writes the small objects of a backup whose artifact a place has.
    async fn commit_at(&self, place: &BackupPlace, objects: &BackupObjects) -> Result<()> {
        self.prove_sealed(&*place.store).await?;
        objects.put_beside(&*place.store).await?;
        objects.commit(&*place.store).await?;
        self.know(&*place.store);
        Ok(())
    }

    /// Copies the backup from the place that has it.
    async fn catch_up(&self, place: &BackupPlace) -> Result<()> {
        let settings = &self.options.settings;
        let copying = Copying {
            from: &self.lead_place().store,
            from_name: &self.lead_place().name,
            to: &*place.store,
            trust: &Trust::from(&settings.signing),
            state_dir: settings.state_dir.as_deref(),
            uploads: place.uploads,
            host: &settings.host,
        };
        copying.backup(&self.id, false).await?;
        self.know(&*place.store);
        Ok(())
    }

    /// Tries a place once more that could not be used when the run began.
    async fn reopen(&self, away: &AwayPlace) -> Result<()> {
        let Some(place) = &away.place else { return Err(away.why.clone()) };
        if !away.may_return() {
            return Err(away.why.clone());
        }
        let opened = store::open(place).await?;
        let (name, catch_up) = (away.name.clone(), away.catch_up);
        let place = BackupPlace { name, store: opened, uploads: 1, catch_up };
        self.catch_up(&place).await
    }

    /// Remembers that a place has the backup.
    pub(super) fn know(&self, store: &dyn Store) {
        let state_dir = self.options.settings.state_dir.as_deref();
        KnownBackups::update(state_dir, &store.place(), |known| {
            known.backups.insert(self.id.clone());
        });
    }
}
