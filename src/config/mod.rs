//! Configuration: flags over environment over file, all of it checked before any network is touched.

pub mod choices;
pub mod file;
mod job;
mod layers;
pub mod machine;
pub mod notify;
pub mod place;
pub mod selection;
pub mod store;
pub mod table;
pub mod uri;
pub mod warnings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::retry::Patience;
use crate::base::secret::{Redactor, Secret};
pub use job::{JobSettings, RecordsAt};
use layers::Layers;
pub use layers::{DEFAULT_FILE, Env, named_file};
use machine::Machine;
use notify::{MailOptions, SignalOptions, WebhookOptions};
use place::Place;
use table::Setting;
pub use table::{Origin, Raw};
use warnings::{Exposed, Misspelt};

/// The settings of a process, resolved once.
///
/// Each group of settings is resolved on its own: a run that fails because of a wrong setting can still send its mail. The
/// error of a group is returned to each caller that needs the group.
#[derive(Debug)]
pub struct Config {
    layers: Layers,
    misspelt: Vec<Misspelt>,
    exposed: Vec<Exposed>,
    /// The machine that the process runs on.
    pub machine: Machine,
    /// The state directory; `None` if there is no place for one.
    pub state_dir: Option<PathBuf>,
    /// Removes the settings' secrets from texts.
    pub redactor: Redactor,
    job: Result<JobSettings>,
    place: Result<Place>,
    records: Result<RecordsAt>,
    restore_target: Result<RestoreUri>,
    drill_uri: Result<Option<Secret>>,
    mongod_path: Result<Option<PathBuf>>,
    mail: Result<Option<MailOptions>>,
    signals: Result<SignalOptions>,
    webhook: Result<Option<WebhookOptions>>,
    log_file: Result<Option<PathBuf>>,
    patience: Result<Patience>,
    max_age: Result<Duration>,
}

/// The server that a restore writes into.
#[derive(Debug, Clone)]
pub struct RestoreUri {
    /// Its connection string.
    pub uri: Secret,
    /// No target is set, so that it is the server that is backed up.
    pub is_source: bool,
}

impl Config {
    /// Lays flags over the environment over the file `config` (else `UZIMA_BACKUP_CONFIG`, else [`DEFAULT_FILE`] if it
    /// exists), and resolves the settings. `names` are the names of all environment variables, among which misspelt
    /// settings are looked for.
    ///
    /// # Errors
    /// Returns an error if a variable or the file cannot be read. Wrong values are errors of the groups they belong to.
    pub fn load(
        flags: BTreeMap<&'static str, Raw>,
        env: Env<'_>,
        names: impl Iterator<Item = String>,
        config: Option<&Path>,
        machine: &Machine,
    ) -> Result<Config> {
        let layers = Layers::load(flags, env, config)?;
        let (misspelt, exposed) = (warnings::misspelt(names), warnings::exposed(&layers, env));
        Ok(Config { misspelt, exposed, ..Config::resolve(layers, machine) })
    }

    fn resolve(layers: Layers, machine: &Machine) -> Config {
        let place = place::place(&layers);
        let to_dir = matches!(place, Ok(Place::Dir(_)));
        let state_dir = layers.text("state_dir").map(PathBuf::from);
        Config {
            machine: machine.clone(),
            state_dir: state_dir.or_else(|| machine.state_dir.clone()),
            redactor: job::redactor(&layers),
            job: JobSettings::resolve(&layers, machine, to_dir),
            place,
            records: RecordsAt::resolve(&layers),
            restore_target: job::target(&layers),
            drill_uri: job::drill_uri(&layers),
            mongod_path: job::mongod_path(&layers),
            mail: notify::mail(&layers),
            signals: notify::signals(&layers),
            webhook: notify::webhook(&layers),
            log_file: job::log_file(&layers),
            patience: job::patience(&layers),
            max_age: job::max_age(&layers),
            layers,
            misspelt: Vec::new(),
            exposed: Vec::new(),
        }
    }

    /// The settings of the job.
    ///
    /// # Errors
    /// Returns the error of the first wrong setting, as all functions here do.
    pub fn job(&self) -> Result<&JobSettings> {
        group(&self.job)
    }

    /// The place of the backups.
    pub fn place(&self) -> Result<&Place> {
        group(&self.place)
    }

    /// The server where runs are recorded.
    pub fn records(&self) -> Result<&RecordsAt> {
        group(&self.records)
    }

    /// The server that a restore writes into.
    pub fn restore_target(&self) -> Result<&RestoreUri> {
        group(&self.restore_target)
    }

    /// The server that a drill may restore into; `None`: a drill starts a mongod of its own.
    pub fn drill_uri(&self) -> Result<Option<&Secret>> {
        group(&self.drill_uri).map(Option::as_ref)
    }

    /// The path of the mongod that a drill starts; `None`: it is looked for.
    pub fn mongod_path(&self) -> Result<Option<&Path>> {
        group(&self.mongod_path).map(Option::as_deref)
    }

    /// How mails are sent; `None` if mails are not set up.
    pub fn mail(&self) -> Result<Option<&MailOptions>> {
        group(&self.mail).map(Option::as_ref)
    }

    /// The ping address and the metrics file.
    pub fn signals(&self) -> Result<&SignalOptions> {
        group(&self.signals)
    }

    /// The webhook; `None` if it is not set.
    pub fn webhook(&self) -> Result<Option<&WebhookOptions>> {
        group(&self.webhook).map(Option::as_ref)
    }

    /// The file that the log is also written to.
    pub fn log_file(&self) -> Result<Option<&Path>> {
        group(&self.log_file).map(Option::as_deref)
    }

    /// How long MongoDB and the store are waited for when they are down.
    pub fn patience(&self) -> Result<&Patience> {
        group(&self.patience)
    }

    /// The age at which the newest good backup is too old; the default if the setting is wrong.
    pub fn max_age(&self) -> Duration {
        *self.max_age.as_ref().unwrap_or(&Duration::from_secs(26 * 3600))
    }

    /// The job that a setting names, even if other settings are wrong; `None`: the job is named after the server and the
    /// selection.
    pub fn named_job(&self) -> Option<&str> {
        self.text("job")
    }

    /// Variables that look like misspelt settings.
    pub fn misspelt(&self) -> &[Misspelt] {
        &self.misspelt
    }

    /// Files with settings that other users can read or change.
    pub fn exposed(&self) -> &[Exposed] {
        &self.exposed
    }

    /// Warnings about options of connection strings that are ignored.
    pub fn uri_warnings(&self) -> Vec<String> {
        job::uri_warnings(&self.layers)
    }

    /// All settings with their values (secrets hidden) and origins, in the order of the table.
    pub fn shown(&self) -> Vec<(&'static Setting, String, Option<&Origin>)> {
        self.layers.shown()
    }

    /// Returns true if the setting is set by a flag, a variable or the file.
    pub fn is_set(&self, key: &'static str) -> bool {
        self.layers.is_set(key)
    }

    /// The unparsed value of a setting, secrets included; `None` if it is a list, or neither set nor has a default.
    pub fn text(&self, key: &'static str) -> Option<&str> {
        self.layers.text(key)
    }

    /// The unparsed items of a setting that is a list.
    pub fn list(&self, key: &'static str) -> &[String] {
        self.layers.list(key)
    }

    /// The origin of a setting's value.
    pub fn origin(&self, key: &'static str) -> Option<&Origin> {
        self.layers.origin(key)
    }

    /// Checks that no password of the setting's connection string is on the command line. `flag` and `variable` set it.
    ///
    /// # Errors
    /// Returns an error if the flag holds a password.
    pub fn no_password_in_flag(&self, key: &'static str, flag: &str, variable: &str) -> Result<()> {
        job::unseen(&self.layers, key, flag, variable)
    }
}

fn group<T>(group: &Result<T>) -> Result<&T> {
    group.as_ref().map_err(Error::clone)
}
