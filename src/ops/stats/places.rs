//! The figures of each place, if there are copies.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::whole_seconds;
use crate::base::error::Result;
use crate::catalog::CatalogOptions;
use crate::catalog::state::StoreState;
use crate::config::Config;
use crate::model::id::BackupId;
use crate::ops::places::{AwayPlace, OpenPlace, Places};
use crate::retention;

/// A place with the job's backups in it.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct StatsPlace {
    pub name: String,
    /// A path or an `s3://` address; the name if the settings of the place are wrong.
    pub place: String,
    pub newest_good: Option<BackupId>,
    #[serde(rename = "age_seconds", serialize_with = "whole_seconds")]
    #[schemars(with = "Option<u64>")]
    pub age: Option<Duration>,
    #[serde(rename = "max_age_seconds", serialize_with = "whole_seconds")]
    #[schemars(with = "u64")]
    pub max_age: Duration,
    pub fresh: bool,
    pub backups: u64,
    /// The total size of the artifacts in bytes.
    pub stored_bytes: u64,
    /// Why the place could not be read. Its figures are empty then.
    pub away: Option<String>,
}

/// Reads every place; returns nothing without copies. A place that cannot be read has the reason.
///
/// # Errors
/// Returns an error if the names of the places are wrong.
pub async fn of_each(config: &Config, reading: &CatalogOptions) -> Result<Vec<StatsPlace>> {
    let names: Vec<String> = config.place_names().into_iter().map(str::to_string).collect();
    if names.len() < 2 {
        return Ok(Vec::new());
    }
    let places = Places::open(config, &|_| Some(reading), false).await?;
    let mut rows: Vec<StatsPlace> =
        places.away.iter().map(|away| StatsPlace::of_away(away, config)).collect();
    for place in &places.open {
        let row = StatsPlace::read(place, reading).await;
        rows.push(row.unwrap_or_else(|error| StatsPlace {
            away: Some(error.chain_with_step()),
            ..StatsPlace::empty(&place.name, place.store.place(), place.config.max_age)
        }));
    }
    rows.sort_by_key(|row| names.iter().position(|name| *name == row.name));
    Ok(rows)
}

impl StatsPlace {
    fn empty(name: &str, place: String, max_age: Duration) -> StatsPlace {
        StatsPlace {
            name: name.into(),
            place,
            newest_good: None,
            age: None,
            max_age,
            fresh: false,
            backups: 0,
            stored_bytes: 0,
            away: None,
        }
    }

    fn of_away(away: &AwayPlace, config: &Config) -> StatsPlace {
        let place = away.place.as_ref().map_or_else(|| away.name.clone(), |place| place.name());
        let max_age = config.at(&away.name).map_or(config.max_age, |view| view.max_age);
        StatsPlace { away: Some(away.why.chain_with_step()), ..StatsPlace::empty(&away.name, place, max_age) }
    }

    async fn read(place: &OpenPlace, reading: &CatalogOptions) -> Result<StatsPlace> {
        let settings = place.config.job.as_ref()?;
        let state = StoreState::read(&*place.store, &settings.job, reading).await?;
        let now: DateTime<Utc> = reading.now;
        let found = retention::freshness(&state.backups(), &settings.job, now, settings.max_age);
        let (newest_good, age) = found.newest.unzip();
        Ok(StatsPlace {
            newest_good,
            age,
            fresh: found.fresh,
            backups: state.manifests().count() as u64,
            stored_bytes: state
                .manifests()
                .map(|manifest| manifest.artifact.size)
                .fold(0, u64::saturating_add),
            ..StatsPlace::empty(&place.name, place.store.place(), settings.max_age)
        })
    }
}
