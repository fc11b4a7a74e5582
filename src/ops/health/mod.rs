//! `health`: checks that the next backup can work, and that there is a recent good backup.
//!
//! The checks of [`checks::CHECKS`] run at the same time unless one depends on another, each with a time limit. If a check
//! failed, the checks that depend on it are skipped, so that one cause is one failure. Only probes are written. The checks of a place
//! are run for each place ([`copies`]).

mod apart;
mod checks;
mod copies;
mod environment;
mod history;
mod key;
mod oplog;
mod place;
mod probe;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::retry::FOR_A_PERSON;
use crate::catalog::state::StoreState;
use crate::catalog::{CatalogOptions, records};
use crate::config::notify::MailOptions;
use crate::config::place::Place;
use crate::config::warnings::{Exposed, Misspelt};
use crate::config::{Config, JobSettings};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::notify;
use crate::notify::events::ReportMail;
pub use crate::notify::events::{CheckOutcome, CheckRow};
use crate::notify::run::Run;
use crate::store::{self, DirStore, Store};

/// The settings that the checks look at.
#[derive(Debug, Clone)]
pub struct HealthSubject {
    pub settings: JobSettings,
    /// The place of the backups.
    pub place: Place,
    /// How mails are sent; `None` if mails are not set up.
    pub mail: Option<MailOptions>,
    /// The metrics file.
    pub metrics: Option<PathBuf>,
    /// Variables that look like misspelt settings.
    pub misspelt: Vec<Misspelt>,
    /// Files with settings that other users can read or change.
    pub exposed: Vec<Exposed>,
    /// The file with the identities that decrypt backups.
    pub identity_file: Option<PathBuf>,
    /// The other places.
    pub copies: Vec<CopySubject>,
}

/// The settings of a copy.
#[derive(Debug, Clone)]
pub struct CopySubject {
    pub name: String,
    /// The settings with this place as the only one.
    pub subject: Result<HealthSubject>,
}

/// Selects the checks, and limits their time.
#[derive(Debug, Clone)]
pub struct HealthOptions {
    /// Only these checks; empty for all.
    pub only: Vec<String>,
    /// Not these checks.
    pub skip: Vec<String>,
    /// A server without collections is not a failure.
    pub allow_empty: bool,
    /// A check that takes longer fails. The check `namespaces` may take longer on a large server.
    pub patience: Duration,
}

impl Default for HealthOptions {
    /// All checks. Each may take longer than MongoDB's driver looks for a server (30 s).
    fn default() -> HealthOptions {
        HealthOptions { only: vec![], skip: vec![], allow_empty: false, patience: Duration::from_secs(60) }
    }
}

/// The results of all checks. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct HealthReport {
    version: u32,
    /// `None` if the settings are wrong.
    pub job: Option<String>,
    /// No check failed.
    pub healthy: bool,
    /// The checks in the order of [`names`], then those of each copy.
    pub checks: Vec<CheckRow>,
}

impl HealthReport {
    fn new(job: Option<String>, checks: Vec<CheckRow>) -> HealthReport {
        let healthy = checks.iter().all(|row| row.outcome != CheckOutcome::Failed);
        HealthReport { version: 1, job, healthy, checks }
    }

    /// The checks that failed, with the names of their places.
    pub fn failed(&self) -> Vec<String> {
        self.checks.iter().filter(|row| row.outcome == CheckOutcome::Failed).map(CheckRow::label).collect()
    }

    /// The mail about this report.
    pub fn mail(&self, now: DateTime<Utc>) -> ReportMail {
        notify::health_mail(self.job.as_deref(), &self.checks, now)
    }

    /// [`Exit::Unhealthy`] if a check failed, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        if self.healthy { Exit::Done } else { Exit::Unhealthy }
    }
}

/// The names of all checks, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    checks::CHECKS.iter().map(|check| check.name)
}

/// Runs the checks on the settings. The report contains no secrets.
///
/// # Errors
/// As [`health`].
pub async fn run_health(run: &Run<'_>, options: &HealthOptions) -> Result<HealthReport> {
    let mut report = health(subject(run.config), options, run.clock.now(), run.cancel).await?;
    let redactor = &run.config.redactor;
    for row in &mut report.checks {
        row.detail = redactor.clean(&row.detail);
        row.next_step = row.next_step.as_ref().map(|step| redactor.clean(step));
    }
    Ok(report)
}

fn subject(config: &Config) -> Result<HealthSubject> {
    config.hooks.clone()?.check()?;
    let copy = |name: &str| CopySubject {
        name: name.into(),
        subject: config.at(name).and_then(|view| subject_at_place(&view)),
    };
    let copies = config.layers.copy_names().map(copy).collect();
    Ok(HealthSubject { copies, ..subject_at_place(config)? })
}

/// The subject without copies.
fn subject_at_place(config: &Config) -> Result<HealthSubject> {
    let mut settings = config.job.clone()?;
    settings.patience = settings.patience.at_most(FOR_A_PERSON);
    let mut place = config.place.clone()?;
    if let Place::S3(options) = &mut place {
        options.patience = settings.patience.at_most(FOR_A_PERSON);
    }
    Ok(HealthSubject {
        settings,
        place,
        mail: config.mail.clone()?,
        metrics: config.signals.as_ref()?.metrics.clone(),
        misspelt: config.misspelt.clone(),
        exposed: config.exposed.clone(),
        identity_file: config.identity_file.clone()?,
        copies: Vec::new(),
    })
}

/// Runs the checks. If `subject` is an error, the check `configuration` fails, even if it is not selected. `now` is this
/// machine's clock.
///
/// # Errors
/// Returns an error if `cancel` ended the run early, or if the options select no check, which must not count as healthy.
/// Failed checks are in the report.
pub async fn health(
    subject: Result<HealthSubject>,
    options: &HealthOptions,
    now: DateTime<Utc>,
    cancel: &Cancel,
) -> Result<HealthReport> {
    let has_copies = subject.as_ref().is_ok_and(|subject| !subject.copies.is_empty());
    let has_dead_man =
        subject.as_ref().is_ok_and(|subject| subject.mail.as_ref().is_some_and(|mail| mail.dead_man));
    let list = checks::of_first(has_copies, has_dead_man, options);
    if !list.iter().any(|check| checks::asked(check, options)) {
        return Err(Error::usage("--only and --skip leave no check to run")
            .hint("Skip fewer checks. `uzima-backup health --help` names them"));
    }
    let subject = match subject {
        Ok(subject) => subject,
        Err(error) => return Ok(HealthReport::new(None, unresolved(&error, options))),
    };
    let job = Some(subject.settings.job.clone());
    let copies: Vec<copies::CopyChecks> =
        subject.copies.iter().map(|copy| copies::CopyChecks::new(copy, options, now)).collect();
    let context = Context::new(subject, options, now);
    let checks = cancel.or(async {
        let of_copies = join_all(copies.iter().map(|copy| copy.run(options)));
        let (mut rows, of_copies) = tokio::join!(checks::run(&list, &context, options), of_copies);
        if has_copies {
            rows.iter_mut().for_each(copies::name_first);
        }
        rows.extend(of_copies.into_iter().flatten());
        Ok(rows)
    });
    let checks = checks.await;
    context.close().await;
    join_all(copies.iter().map(|copy| copy.close())).await;
    Ok(HealthReport::new(job, checks?))
}

/// The rows of a report without settings: there is nothing else to check.
fn unresolved(error: &Error, options: &HealthOptions) -> Vec<CheckRow> {
    let row = |check: &checks::Check| {
        if check.name == checks::CONFIGURATION {
            return Some(checks::failed(check, error, Duration::ZERO));
        }
        let why = format!("because {} failed", checks::CONFIGURATION);
        checks::wanted(check, options).then(|| checks::skipped(check, why))
    };
    checks::of_first(false, false, options).iter().filter_map(row).collect()
}

/// The state that the checks share. The first check that needs a connection opens it.
struct Context {
    subject: HealthSubject,
    /// The name of the copy; `None` for the first place.
    copy: Option<String>,
    allow_empty: bool,
    patience: Duration,
    now: DateTime<Utc>,
    begun: Instant,
    server: OnceCell<Server>,
    store: OnceCell<Option<Arc<dyn Store>>>,
    state: OnceCell<Option<StoreState>>,
    probe: Mutex<Option<String>>,
}

/// The time limit for deleting the probe of a check that did not finish.
const DELETING: Duration = Duration::from_secs(5);

impl Context {
    fn new(subject: HealthSubject, options: &HealthOptions, now: DateTime<Utc>) -> Context {
        let HealthOptions { allow_empty, patience, .. } = *options;
        let (begun, (server, store, state, probe)) = (Instant::now(), Default::default());
        Context { subject, copy: None, allow_empty, patience, now, begun, server, store, state, probe }
    }

    /// This machine's clock.
    fn time(&self) -> DateTime<Utc> {
        self.now + TimeDelta::from_std(self.begun.elapsed()).unwrap_or_default()
    }

    /// How long the check of this name may take.
    fn limit(&self, name: &str) -> Duration {
        // A hundred thousand collections take long, because each one is a request.
        if name == "namespaces" { self.patience.max(self.subject.settings.stall) } else { self.patience }
    }

    /// Connects to the server, once.
    async fn server(&self) -> Result<&Server> {
        let settings = &self.subject.settings;
        let notes = Notes::default();
        let open = || Server::connect(&settings.mongo_uri, &settings.patience, settings.stall, &notes);
        self.server.get_or_try_init(open).await
    }

    /// Opens the store, once; `None` if it is a directory that the first backup will create.
    async fn store(&self) -> Result<Option<&dyn Store>> {
        let open = || async {
            Ok::<Option<Arc<dyn Store>>, Error>(match &self.subject.place {
                place @ Place::S3(_) => Some(store::open(place).await?),
                // A directory is opened without creating it. Only the first backup creates one.
                Place::Dir(options) => {
                    let options = options.clone();
                    blocking(move || {
                        let root = &options.root;
                        let opens = std::fs::symlink_metadata(root).is_ok() || !folder_of(root).is_dir();
                        Ok(if opens {
                            Some(Arc::new(DirStore::new(options)?) as Arc<dyn Store>)
                        } else {
                            None
                        })
                    })
                    .await?
                }
            })
        };
        Ok(self.store.get_or_try_init(open).await?.as_deref())
    }

    /// Reads the state of the store, once; `None` if there is no store yet.
    async fn state(&self) -> Result<Option<&StoreState>> {
        let read = || async {
            let Some(store) = self.store().await? else { return Ok(None) };
            let JobSettings { state_dir, records, host, job, signing, .. } = &self.subject.settings;
            let recorded =
                records::expected_backups(records, state_dir.as_deref(), &store.place(), host).await;
            let reading = CatalogOptions::remembering(state_dir.clone(), self.time(), signing);
            let reading = CatalogOptions { recorded, ..reading };
            StoreState::read(store, job, &reading).await.map(Some)
        };
        Ok(self.state.get_or_try_init(read).await?.as_ref())
    }

    /// Remembers the key of the probe that is in the store, or that there is none.
    fn probing(&self, key: Option<String>) {
        *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Deletes the probe of a check that did not finish, and closes the connections.
    async fn close(&self) {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(key), Some(Some(store))) = (probe, self.store.get()) {
            // If the probe cannot be deleted, the next run overwrites it.
            let _ = tokio::time::timeout(DELETING, store.delete(&key)).await;
        }
        if let Some(server) = self.server.get() {
            server.close().await;
        }
    }
}

/// The folder that contains a path's last component.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Runs work that may block, such as file access, on a thread for such work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::failed("the check ended unexpectedly").caused_by(e)),
    }
}

/// The result of a check that did not fail.
#[derive(Debug)]
struct Finding {
    outcome: CheckOutcome,
    /// The finding, in one line.
    detail: String,
    /// What to do; always set with a warning.
    next_step: Option<String>,
}

impl Finding {
    fn ok(detail: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::Ok, detail: detail.into(), next_step: None })
    }

    fn warning(detail: impl Into<String>, next_step: impl Into<String>) -> Result<Finding> {
        let (outcome, next_step) = (CheckOutcome::Warning, Some(next_step.into()));
        Ok(Finding { outcome, detail: detail.into(), next_step })
    }

    /// There is nothing to check yet.
    fn skipped(why: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::Skipped, detail: why.into(), next_step: None })
    }

    fn not_configured(why: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::NotConfigured, detail: why.into(), next_step: None })
    }
}
