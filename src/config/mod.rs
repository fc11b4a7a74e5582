//! The configuration from flags, environment and file, which is checked before the first network request.

pub mod choices;
pub mod file;
pub mod hooks;
mod job;
mod layers;
pub mod machine;
pub mod notify;
pub mod place;
pub mod selection;
pub mod signing;
pub mod store;
pub mod table;
pub mod transport;
pub mod uri;
pub mod warnings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::retry::Patience;
use crate::base::secret::{Redactor, Secret};
use crate::base::suggest;
use hooks::Hooks;
pub use job::{JobSettings, RecordsAt, RestoreUri, check_job};
pub use layers::{DEFAULT_FILE, Env, Layers, named_file};
use machine::Machine;
use notify::{MailOptions, SignalOptions, WebhookOptions};
use place::{FIRST, Place};
use signing::Signing;
pub use table::{Origin, Raw};
use warnings::{Exposed, Misspelt};

/// The settings of a process, resolved once.
///
/// Each group of settings is resolved on its own, and its error is returned to each caller that needs the group: a run that
/// fails because of a wrong setting can still send its mail.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unparsed values with their origins.
    pub layers: Layers,
    /// Variables that look like misspelt settings.
    pub misspelt: Vec<Misspelt>,
    /// Files with settings that other users can read or change.
    pub exposed: Vec<Exposed>,
    /// Warnings about ignored options of connection strings.
    pub uri_warnings: Vec<String>,
    pub machine: Machine,
    /// The state directory; `None` if there is no place for one.
    pub state_dir: Option<PathBuf>,
    /// Removes the settings' secrets from texts.
    pub redactor: Redactor,
    pub job: Result<JobSettings>,
    pub place: Result<Place>,
    pub records: Result<RecordsAt>,
    pub restore_target: Result<RestoreUri>,
    /// The server that a drill may restore into; `None` if a drill starts a mongod of its own.
    pub drill_uri: Result<Option<Secret>>,
    /// The mongod that a drill starts; `None` if a drill searches for one.
    pub mongod_path: Result<Option<PathBuf>>,
    /// `None` if mails are not set up.
    pub mail: Result<Option<MailOptions>>,
    pub signals: Result<SignalOptions>,
    pub webhook: Result<Option<WebhookOptions>>,
    /// The programs that run before and after a backup.
    pub hooks: Result<Hooks>,
    /// The file to which the log is also written.
    pub log_file: Result<Option<PathBuf>>,
    /// The file with the identities that decrypt backups.
    pub identity_file: Result<Option<PathBuf>>,
    pub signing: Result<Signing>,
    /// How long to wait for MongoDB and the store when they are down.
    pub patience: Result<Patience>,
    /// The age at which the newest good backup is too old; the default if the setting is wrong.
    pub max_age: Duration,
}

impl Config {
    /// Resolves the settings. Flags take precedence over the environment, and the environment over the file `config`
    /// (else `UZIMA_BACKUP_CONFIG`, else [`DEFAULT_FILE`] if it exists). `names` are the names of all environment
    /// variables, for the search for misspelt settings.
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
        Ok(Config::resolve(layers, machine, misspelt, exposed))
    }

    /// The same settings, with one that a flag sets.
    pub fn with_flag(&self, key: &'static str, raw: Raw) -> Config {
        let layers = self.layers.with_flag(key, raw);
        Config::resolve(layers, &self.machine, self.misspelt.clone(), self.exposed.clone())
    }

    /// The name of the place of these settings: the first one, unless they are those of a copy.
    pub fn place_name(&self) -> &str {
        self.layers.copy().unwrap_or(FIRST)
    }

    /// The same settings, with some of the copy [`table::COPY`] that a flag or an answer sets, by the keys of the first place.
    pub fn with_copy(&self, values: BTreeMap<&'static str, Raw>) -> Config {
        let layers = self.layers.with_copy(values);
        Config::resolve(layers, &self.machine, self.misspelt.clone(), self.exposed.clone())
    }

    /// The names of all places, the first one before its copies.
    pub fn place_names(&self) -> Vec<&str> {
        [FIRST].into_iter().chain(self.layers.copy_names()).collect()
    }

    /// The same settings with one place: the first one or a copy, with its own retention.
    ///
    /// # Errors
    /// Returns a usage error if there is no place with this name.
    pub fn at(&self, name: &str) -> Result<Config> {
        let layers = self.layers_at(name).ok_or_else(|| {
            let names = self.place_names();
            let near = suggest::meant(name, names.iter().copied());
            let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            Error::usage(format!("there is no place with the name '{name}'"))
                .hint(format!("{near}The places are {}", names.join(", ")))
        })?;
        let config = Config::resolve(layers, &self.machine, self.misspelt.clone(), self.exposed.clone());
        let place = match self.layers.copy() {
            // These settings are those of a copy alone, which may be refused.
            Some(_) => self.place.clone(),
            None => config.place.and_then(|place| self.refuse_twice(name, place)),
        };
        // Messages may still quote what other places said.
        Ok(Config { redactor: self.redactor.clone(), place, ..config })
    }

    /// The values of a place alone.
    fn layers_at(&self, name: &str) -> Option<Layers> {
        match name {
            FIRST => Some(self.layers.without_copies()),
            _ => self.layers.of_copy(name),
        }
    }

    /// Refuses a place that is the same as one before it: a copy of itself is no copy, and what repairs or deletes one of both
    /// would harm the other.
    fn refuse_twice(&self, name: &str, place: Place) -> Result<Place> {
        let before = self.place_names().into_iter().take_while(|other| *other != name);
        for other in before {
            let Some(Ok(earlier)) = self.layers_at(other).map(|layers| place::place(&layers)) else {
                continue;
            };
            if place.is_same(&earlier) {
                let what = format!("the places {other} and {name} are the same: {}", place.name());
                return Err(Error::usage(what).hint(format!(
                    "Give the copy {name} another directory, bucket or prefix, or remove it from the settings"
                )));
            }
        }
        Ok(place)
    }

    fn resolve(layers: Layers, machine: &Machine, misspelt: Vec<Misspelt>, exposed: Vec<Exposed>) -> Config {
        let place = place::place(&layers);
        let to_dir = matches!(place, Ok(Place::Dir(_)));
        let state_dir = layers.text("state_dir").map(PathBuf::from);
        Config {
            hooks: Hooks::resolve(&layers, &exposed),
            misspelt,
            exposed,
            uri_warnings: job::uri_warnings(&layers),
            machine: machine.clone(),
            state_dir: state_dir.or_else(|| machine.state_dir.clone()),
            redactor: job::redactor(&layers),
            job: JobSettings::resolve(&layers, machine, to_dir),
            place,
            records: RecordsAt::resolve(&layers),
            restore_target: RestoreUri::resolve(&layers),
            drill_uri: job::uri_of(&layers, "drill_uri"),
            mongod_path: layers.absolute("mongod_path"),
            mail: notify::mail(&layers),
            signals: notify::signals(&layers),
            webhook: notify::webhook(&layers),
            log_file: job::file(&layers, "log_file"),
            identity_file: job::file(&layers, "identity_file"),
            signing: Signing::resolve(&layers),
            patience: layers.duration("patience").map(Patience::new),
            max_age: layers.duration("max_age").unwrap_or(Duration::from_secs(30 * 3600)),
            layers,
        }
    }
}
