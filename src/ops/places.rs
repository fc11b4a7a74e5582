//! The places of a run: the first one and its copies, each with its own settings and store.

pub mod copying;
mod reading;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::error::{Error, Kind, Result};
use crate::catalog::{self, CatalogOptions};
use crate::config::Config;
use crate::config::place::{FIRST, Place};
use crate::store::{self, Store};
pub use reading::{FoundBackup, FoundPoint, Purpose};

/// How long the other places may take to answer once one has answered.
const AFTER_THE_FIRST: Duration = Duration::from_secs(60);

/// A place that answers.
pub struct OpenPlace {
    pub name: String,
    /// The settings with this place as the only one.
    pub config: Config,
    pub store: Arc<dyn Store>,
}

/// A place that cannot be used now.
#[derive(Debug, Clone)]
pub struct AwayPlace {
    pub name: String,
    /// `None` if the settings of the place are wrong.
    pub place: Option<Place>,
    pub why: Error,
    /// How long it may take to get a backup if it returns during a run.
    pub catch_up: Duration,
}

/// The places of a run.
#[derive(Default)]
pub struct Places {
    /// In the order of the settings.
    pub open: Vec<OpenPlace>,
    pub away: Vec<AwayPlace>,
    /// The names of all places, in the order of the settings.
    pub order: Vec<String>,
}

impl AwayPlace {
    /// Returns true if the place may be usable a moment later. An empty directory may be the mount point of a disk that is not
    /// mounted, so nothing is written there.
    pub fn may_return(&self) -> bool {
        !matches!(self.why.kind(), Kind::Unmounted | Kind::Usage)
    }

    /// The problem for the report of a run.
    pub fn problem(&self) -> String {
        format!("the place {} cannot be used: {}", self.name, self.why.chain_with_step())
    }
}

impl Places {
    /// Opens all places at the same time. A place whose known backups are missing is away, because its disk may not be mounted.
    /// `expected` has the options to look for them, or `None` to leave that out. Once a place has answered, the others get a
    /// minute. With `create`, directories are created.
    ///
    /// # Errors
    /// Returns an error if the settings are wrong. An error of one place is that of a place that is away.
    pub async fn open<'r>(
        config: &Config,
        expected: &dyn Fn(&str) -> Option<&'r CatalogOptions>,
        create: bool,
    ) -> Result<Places> {
        let views: Vec<(String, Config)> = config
            .place_names()
            .into_iter()
            .map(|name| config.at(name).map(|view| (name.to_string(), view)))
            .collect::<Result<_>>()?;
        let (answered, any) = tokio::sync::watch::channel(false);
        let opening = views.into_iter().map(|(name, config)| {
            let (answered, mut any) = (answered.clone(), any.clone());
            let reading = expected(&name);
            async move {
                let late = async {
                    // The sender lives as long as all places are asked.
                    let _ = any.wait_for(|answered| *answered).await;
                    tokio::time::sleep(AFTER_THE_FIRST).await;
                };
                let opened = tokio::select! {
                    opened = open_one(&config, reading, create) => opened,
                    () = late => Err(Error::failed("it did not answer in time, and another place did")),
                };
                if opened.is_ok() {
                    answered.send_replace(true);
                }
                (name, config, opened)
            }
        });
        let order = config.place_names().into_iter().map(str::to_string).collect();
        let mut places = Places { order, ..Places::default() };
        for (name, config, opened) in join_all(opening).await {
            match opened {
                Ok(store) => places.open.push(OpenPlace { name, config, store }),
                Err(why) => {
                    let place = config.place.as_ref().ok().cloned();
                    let catch_up = config.job.as_ref().map(|job| job.catch_up).unwrap_or_default();
                    places.away.push(AwayPlace { name, place, why, catch_up });
                }
            }
        }
        Ok(places)
    }

    /// The place with this name, if it answers.
    pub fn named(&self, name: &str) -> Option<&OpenPlace> {
        self.open.iter().find(|place| place.name == name)
    }
}

impl OpenPlace {
    /// True for the first place of the settings.
    pub fn is_first(&self) -> bool {
        self.name == FIRST
    }
}

/// Opens a place, and checks that it can be listed and has its known backups.
async fn open_one(config: &Config, reading: Option<&CatalogOptions>, create: bool) -> Result<Arc<dyn Store>> {
    let place = config.place.as_ref()?;
    if let Some(reading) = reading.filter(|_| create) {
        refuse_gone(place, reading)?;
    }
    let store = match create {
        true => store::open(place).await?,
        false => store::open_existing(place).await?,
    };
    store.check().await?;
    if let Some(reading) = reading {
        expect_known(&*store, reading).await?;
    }
    Ok(store)
}

/// Refuses a directory that does not exist and has known backups, so that it is not created where a disk is not mounted.
///
/// # Errors
/// Returns an error of the kind [`Kind::Unmounted`].
pub fn refuse_gone(place: &Place, reading: &CatalogOptions) -> Result<()> {
    let Place::Dir(options) = place else { return Ok(()) };
    match options.root.try_exists() {
        Ok(false) => {
            catalog::missing_in_nothing(&place.name(), reading).map_or(Ok(()), |gone| Err(gone.error()))
        }
        _ => Ok(()),
    }
}

/// Lists a place.
///
/// # Errors
/// Returns an error of the kind [`Kind::Unmounted`] if its known backups are missing, the newest among them.
pub async fn expect_known(store: &dyn Store, reading: &CatalogOptions) -> Result<()> {
    match catalog::missing_backups(store, reading).await? {
        Some(missing) if missing.newest => Err(missing.error()),
        _ => Ok(()),
    }
}
