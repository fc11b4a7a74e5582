//! The state that the checks share: the settings, the time, and the connections that the first check opens.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::OnceCell;

use super::{CheckOutcome, HealthSubject};
use crate::base::error::{Error, Result};
use crate::catalog::CatalogOptions;
use crate::catalog::records;
use crate::catalog::state::StoreState;
use crate::config::place::Place;
use crate::config::store::DirOptions;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::store::{self, DirStore, Store};

/// The state that the checks share. The first check that needs a connection opens it.
pub struct Context {
    /// The settings that are checked.
    pub subject: HealthSubject,
    /// How long a check may take.
    pub patience: Duration,
    now: DateTime<Utc>,
    begun: Instant,
    server: OnceCell<Server>,
    store: OnceCell<Option<Arc<dyn Store>>>,
    state: OnceCell<Option<StoreState>>,
    probe: Mutex<Option<String>>,
}

/// The time limit for deleting the probe of a check that was broken off.
const DELETING: Duration = Duration::from_secs(5);

impl Context {
    /// A state without connections.
    pub fn new(subject: HealthSubject, now: DateTime<Utc>, patience: Duration) -> Context {
        let begun = Instant::now();
        let (server, store, state, probe) = Default::default();
        Context { subject, patience, now, begun, server, store, state, probe }
    }

    /// This machine's clock.
    pub fn time(&self) -> DateTime<Utc> {
        self.now + TimeDelta::from_std(self.begun.elapsed()).unwrap_or_default()
    }

    /// How long the check of this name may take.
    pub fn limit(&self, name: &str) -> Duration {
        // A hundred thousand collections take long, because each one is a request.
        if name == "namespaces" { self.patience.max(self.subject.settings.stall) } else { self.patience }
    }

    /// Connects to the server, once.
    pub async fn server(&self) -> Result<&Server> {
        let settings = &self.subject.settings;
        let notes = Notes::default();
        let open = || Server::connect(&settings.mongo_uri, &settings.patience, settings.stall, &notes);
        self.server.get_or_try_init(open).await
    }

    /// Opens the store, once; `None` if it is a directory that the first backup will create.
    pub async fn store(&self) -> Result<Option<&dyn Store>> {
        let open = || async {
            Ok::<Option<Arc<dyn Store>>, Error>(match &self.subject.place {
                place @ Place::S3(_) => Some(store::open(place).await?),
                Place::Dir(options) => match directory(options.clone()).await? {
                    Some(store) => Some(Arc::new(store)),
                    None => None,
                },
            })
        };
        Ok(self.store.get_or_try_init(open).await?.as_deref())
    }

    /// Reads the state of the store, once; `None` if there is no store yet.
    pub async fn state(&self) -> Result<Option<&StoreState>> {
        let read = || async {
            match self.store().await? {
                Some(store) => {
                    let settings = &self.subject.settings;
                    let (state_dir, place) = (settings.state_dir.clone(), store.place());
                    let records = &self.subject.settings.records;
                    let recorded =
                        records::expected_backups(records, state_dir.as_deref(), &place, &settings.host)
                            .await;
                    let reading =
                        CatalogOptions { recorded, ..CatalogOptions::remembering(state_dir, self.time()) };
                    StoreState::read(store, &settings.job, &reading).await.map(Some)
                }
                None => Ok(None),
            }
        };
        Ok(self.state.get_or_try_init(read).await?.as_ref())
    }

    /// Remembers the key of the probe that is in the store, or that there is none.
    pub fn probing(&self, key: Option<String>) {
        *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Deletes the probe of a check that was broken off, and ends the connections.
    pub async fn close(&self) {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(key), Some(Some(store))) = (probe, self.store.get()) {
            // Where it stays, the next run overwrites it.
            let _ = tokio::time::timeout(DELETING, store.delete(&key)).await;
        }
        if let Some(server) = self.server.get() {
            server.close().await;
        }
    }
}

/// Opens a directory without creating it, as a backup would.
async fn directory(options: DirOptions) -> Result<Option<DirStore>> {
    blocking(move || {
        let root = &options.root;
        if std::fs::symlink_metadata(root).is_ok() || !folder_of(root).is_dir() {
            return Ok(Some(DirStore::new(options)?));
        }
        Ok(None)
    })
    .await
}

/// The folder in which a path's last component is.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Runs work on files, or a program, where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::failed("the check broke off").caused_by(e)),
    }
}

/// What a check found where nothing failed.
#[derive(Debug)]
pub struct Finding {
    /// How it ended.
    pub outcome: CheckOutcome,
    /// What was found, in one line.
    pub detail: String,
    /// What to do about it; always there with a warning.
    pub next_step: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(detail: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::Ok, detail: detail.into(), next_step: None })
    }

    /// A backup will work, but a person should look.
    pub fn warning(detail: impl Into<String>, next_step: impl Into<String>) -> Result<Finding> {
        let (outcome, next_step) = (CheckOutcome::Warning, Some(next_step.into()));
        Ok(Finding { outcome, detail: detail.into(), next_step })
    }

    /// There is nothing of this kind to look at.
    pub fn skipped(why: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::Skipped, detail: why.into(), next_step: None })
    }

    /// The settings ask for nothing of this kind.
    pub fn not_configured(why: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::NotConfigured, detail: why.into(), next_step: None })
    }
}
