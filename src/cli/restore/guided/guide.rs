//! The order of the questions, and the state between them.

use std::sync::Arc;

use super::super::{Chosen, Prepared, REFUSED, UNCHANGED, options, origin, prepare};
use super::labels;
use super::person::{Entry, Person, Reply, width};
use super::questions::{self, Existing, with_target};
use super::with_config;
use crate::base::error::{Error, Kind, Result};
use crate::base::heap::on_heap;
use crate::catalog::choose::WhichBackup;
use crate::catalog::fault::ShownStatus;
use crate::catalog::run::Status;
use crate::cli::args::{Common, RestoreArgs};
use crate::cli::identity::{RememberedPassphrase, identities_remembering};
use crate::cli::restorable::wrap;
use crate::cli::styled::{Colour, StyledText};
use crate::cli::timeline;
use crate::config::Config;
use crate::notify::run::Run;
use crate::ops::list::{self, ListOptions, ListReport, ListRow};
use crate::ops::places::Places;
use crate::ops::restore::{BackupNamespace, RestorePlan};
use crate::ops::timeline::TimelineOptions;

/// The most rows of writes and changes of a timeline, as the command `timeline` has them.
const EVENTS: usize = 60;
/// The most namespaces that are named.
const NAMED: usize = 5;

/// The questions, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Job,
    Backup,
    Namespaces,
    Documents,
    Target,
    Names,
    Existing,
}

impl Question {
    /// The next question before the plan.
    fn next(self) -> Option<Question> {
        match self {
            Question::Job => Some(Question::Backup),
            Question::Backup => Some(Question::Namespaces),
            Question::Namespaces => Some(Question::Documents),
            Question::Documents => Some(Question::Target),
            Question::Target => Some(Question::Names),
            // Whether something exists is known from the plan.
            Question::Names | Question::Existing => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Question::Job => "another job",
            Question::Backup => "another backup or moment",
            Question::Namespaces => "other namespaces",
            Question::Documents => "another filter for documents",
            Question::Target => "another server",
            Question::Names => "other names",
            Question::Existing => "another way for what exists",
        }
    }
}

/// The outcome of a question.
enum Put {
    Answered,
    /// An argument or the backup has the answer.
    NotAsked,
    Back,
    /// The answer leads to this question.
    Then(Question),
}

impl From<Reply<()>> for Put {
    fn from(reply: Reply<()>) -> Put {
        match reply {
            Reply::Answer(()) => Put::Answered,
            Reply::Back => Put::Back,
        }
    }
}

pub(super) struct Guide<'a, P> {
    pub person: P,
    run: &'a Run<'a>,
    /// The arguments of the command line, which answer their questions.
    given: &'a RestoreArgs,
    common: &'a Common,
    /// The arguments with the answers.
    pub args: RestoreArgs,
    places: Places,
    listed: ListReport,
    job: Option<String>,
    passphrase: RememberedPassphrase,
    /// What `args` name, once it is opened.
    chosen: Option<Chosen>,
    /// The namespaces of `chosen` that can be restored.
    contents: Arc<Vec<BackupNamespace>>,
    /// The settings of the run, for checks of answers.
    settings: Arc<Config>,
    /// True if existing data needs other names.
    beside: bool,
}

impl<'a, P: Person> Guide<'a, P> {
    /// Lists the backups.
    pub(super) async fn begin(
        person: P,
        given: &'a RestoreArgs,
        common: &'a Common,
        run: &'a Run<'a>,
    ) -> Result<Guide<'a, P>> {
        let places = Places::open_existing(run.config).await?;
        let hidden = [Status::Running, Status::Failed, Status::Interrupted, Status::Deleted];
        let listing = ListOptions {
            job: given.backups.job.clone(),
            configured_job: run.config.job.as_ref().ok().map(|settings| settings.job.clone()),
            limit: None,
            statuses: ShownStatus::all()
                .filter(|status| !hidden.iter().any(|hidden| *status == ShownStatus::Run(*hidden)))
                .collect(),
        };
        let listed = list::list_places(&places, &[], &listing, &run.reading()?).await?;
        if listed.rows.is_empty() {
            let of_job = given.backups.job.as_ref().map(|job| format!(" of the job {job}"));
            let what = format!("there is no backup{} in {}", of_job.unwrap_or_default(), listed.place);
            return Err(Error::failed(what).hint("`uzima-backup list` shows all runs of the place"));
        }
        Ok(Guide {
            person,
            run,
            given,
            common,
            args: given.clone(),
            places,
            listed,
            job: given.backups.job.clone(),
            passphrase: RememberedPassphrase::default(),
            chosen: None,
            contents: Arc::default(),
            settings: Arc::new(run.config.clone()),
            beside: false,
        })
    }

    /// Asks until there is a plan that can be carried out.
    pub(super) async fn ask(&mut self) -> Result<Prepared> {
        let mut asked: Vec<Question> = Vec::new();
        let mut next = Some(Question::Job);
        loop {
            while let Some(question) = next {
                next = match self.put(question).await? {
                    Put::Answered => {
                        asked.push(question);
                        question.next()
                    }
                    Put::NotAsked => question.next(),
                    Put::Then(other) => {
                        asked.push(question);
                        Some(other)
                    }
                    Put::Back => {
                        let before = asked.pop().ok_or_else(|| {
                            Error::failed(format!("{REFUSED}, because it was not confirmed; {UNCHANGED}"))
                        });
                        Some(before?)
                    }
                };
            }
            let error = match on_heap(|| self.plan()).await {
                Ok(Prepared { restore, swap }) => match restore.plan.refusal() {
                    None => return Ok(Prepared { restore, swap }),
                    Some(_) if self.is_undecided(&restore.plan) => {
                        self.show_existing(&restore.plan);
                        next = Some(Question::Existing);
                        continue;
                    }
                    Some(error) => error,
                },
                Err(error) if matches!(error.kind(), Kind::Signal(_) | Kind::Key) => return Err(error),
                Err(error) => error,
            };
            self.show_error(&error);
            next = Some(self.choose_change(&mut asked).await?);
        }
    }

    /// Asks one question.
    async fn put(&mut self, question: Question) -> Result<Put> {
        if question != Question::Existing {
            let RestoreArgs { drop, swap, merge, .. } = self.given;
            (self.args.drop, self.args.swap, self.args.merge) = (*drop, *swap, *merge);
        }
        let given = self.given;
        match question {
            Question::Job => self.put_job().await,
            Question::Backup => self.put_backup().await,
            Question::Namespaces => {
                if self.contents.is_empty() || !(given.ns_include.is_empty() && given.ns_exclude.is_empty()) {
                    return Ok(Put::NotAsked);
                }
                // At a point in time, a database may have further collections.
                let whole = self.args.which.is_some();
                let put = questions::namespaces(&mut self.person, &self.contents, whole, &mut self.args);
                put.await.map(Put::from)
            }
            Question::Documents => {
                if given.filter.is_some() || given.swap || given.exact || given.users || given.continues {
                    return Ok(Put::NotAsked);
                }
                questions::documents(&mut self.person, &mut self.args).await.map(Put::from)
            }
            Question::Target => {
                if given.to_uri.is_some() {
                    return Ok(Put::NotAsked);
                }
                questions::target(&mut self.person, &self.settings, &mut self.args).await.map(Put::from)
            }
            Question::Names => {
                let beside = std::mem::take(&mut self.beside);
                if !beside && (given.swap || !given.ns_from.is_empty()) {
                    return Ok(Put::NotAsked);
                }
                let databases = questions::databases(&self.contents, &self.args);
                questions::names(&mut self.person, &databases, beside, &mut self.args).await.map(Put::from)
            }
            Question::Existing => Ok(match questions::existing(&mut self.person, &mut self.args).await? {
                Reply::Answer(Existing::Beside) => {
                    self.beside = true;
                    Put::Then(Question::Names)
                }
                Reply::Answer(_) => Put::Answered,
                Reply::Back => Put::Back,
            }),
        }
    }

    async fn put_job(&mut self) -> Result<Put> {
        if self.given.backups.job.is_some() {
            return Ok(Put::NotAsked);
        }
        let now = self.run.clock.now();
        let (jobs, entries) = labels::jobs(&self.listed.rows, now, width(&self.person));
        if jobs.len() < 2 {
            self.job = jobs.into_iter().next();
            return Ok(Put::NotAsked);
        }
        let start = self.run.config.layers.text("job").and_then(|job| jobs.iter().position(|one| one == job));
        let picked = self.person.picks("Which job?", entries, start.unwrap_or_default()).await?;
        Ok(match picked {
            Reply::Answer(at) => {
                self.job = jobs.into_iter().nth(at);
                Put::Answered
            }
            Reply::Back => Put::Back,
        })
    }

    async fn put_backup(&mut self) -> Result<Put> {
        let now = self.run.clock.now();
        loop {
            let job = self.job.as_deref();
            let is_of_job =
                |row: &&ListRow| labels::job_of(row).is_none_or(|of| job.is_none_or(|job| of == job));
            let rows: Vec<&ListRow> = self.listed.rows.iter().filter(is_of_job).collect();
            let mut entries = labels::backups(&rows, now, width(&self.person));
            let has_slices = self.listed.oplog.iter().any(|ranges| job == Some(ranges.job.as_str()));
            let has_slices = has_slices && !self.given.no_replay;
            if has_slices {
                entries.insert(0, Entry::of(labels::MOMENT));
            }
            let question = "Which backup? (age, size, documents, status)";
            // The newest backup is the default.
            let Reply::Answer(picked) = self.person.picks(question, entries, usize::from(has_slices)).await?
            else {
                return Ok(Put::Back);
            };
            match picked.checked_sub(usize::from(has_slices)) {
                Some(at) => {
                    let id = rows[at].id.clone();
                    (self.args.which, self.args.at, self.args.before) =
                        (Some(WhichBackup::Id(id)), None, None);
                    self.args.backups.job.clone_from(&self.given.backups.job);
                }
                None => match self.put_moment().await {
                    Ok(Reply::Answer(())) => {}
                    Ok(Reply::Back) => continue,
                    Err(error) if matches!(error.kind(), Kind::Signal(_) | Kind::Key) => return Err(error),
                    Err(error) => {
                        self.show_error(&error);
                        continue;
                    }
                },
            }
            match self.open().await {
                Ok(()) => return Ok(Put::Answered),
                Err(error) if matches!(error.kind(), Kind::Signal(_) | Kind::Key) => return Err(error),
                Err(error) => self.show_error(&error),
            }
        }
    }

    /// Shows the timeline of the job, and asks for a moment.
    async fn put_moment(&mut self) -> Result<Reply<()>> {
        let Some(job) = self.job.clone() else { return Ok(Reply::Back) };
        let options =
            TimelineOptions { job: job.clone(), ns: Vec::new(), from: None, to: None, limit: EVENTS };
        let (run, passphrase) = (self.run, &self.passphrase);
        let keys = async || identities_remembering(run.config, run.cancel, passphrase).await;
        let report = run.cancel.or(timeline::read(&self.places, &options, run, keys)).await?;
        let (columns, colour) = (self.person.columns(), self.person.colour());
        self.person.sees(timeline::text(&report, columns, colour));
        let asked = questions::moment(&mut self.person, &report, &mut self.args).await?;
        // The configured job is meant without a flag.
        let needed = run.config.layers.text("job") != Some(job.as_str());
        self.args.backups.job = Some(job).filter(|_| needed);
        Ok(asked)
    }

    /// Opens what the arguments name.
    async fn open(&mut self) -> Result<()> {
        let opened = self.run.cancel.or(origin(&self.args, self.run, &self.passphrase)).await?;
        self.contents = Arc::new(opened.origin.restorable()?);
        // The command line means the same later, too.
        if let Some(point) = opened.origin.point().filter(|_| self.args.at.as_deref() == Some("newest")) {
            self.args.at = Some(format!("{}:{}", point.t, point.i));
        }
        self.chosen = Some(opened);
        Ok(())
    }

    /// The settings with the chosen target.
    pub(super) fn config(&self) -> Config {
        match &self.args.to_uri {
            Some(uri) => with_target(&self.settings, uri),
            None => Config::clone(&self.settings),
        }
    }

    async fn plan(&mut self) -> Result<Prepared> {
        let config = self.config();
        let run = with_config(self.run, &config);
        self.print("Looking at the backup and at the server …\n");
        let options = options(&self.args)?;
        on_heap(|| prepare(&self.args, self.common, options, self.chosen.clone(), &run)).await
    }

    /// Returns true if namespaces exist at the target, and no argument or answer says what happens to them.
    fn is_undecided(&self, plan: &RestorePlan) -> bool {
        let RestoreArgs { drop, swap, merge, exact, .. } = self.args;
        !(plan.occupied().is_empty() || drop || swap || merge || exact)
    }

    fn show_existing(&mut self, plan: &RestorePlan) {
        let occupied = plan.occupied();
        let named = occupied.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = match occupied.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        self.show(&format!("The target {} has data already: {named}{more}", plan.facts.target_text()));
    }

    fn show_error(&mut self, error: &Error) {
        self.show(&format!("error: {}", self.run.config.redactor.clean(&error.chain())));
        if let Some(step) = error.next_step() {
            self.show(&format!("next step: {}", self.run.config.redactor.clean(step)));
        }
    }

    fn show(&mut self, text: &str) {
        let lines = wrap("", "  ", text, width(&self.person)).join("\n");
        self.print(&format!("{lines}\n"));
    }

    pub(super) fn print(&mut self, text: &str) {
        let mut styled = StyledText::new(Colour::Never);
        styled.push(text);
        self.person.sees(styled);
    }

    /// Asks which answer is changed after a plan that is refused. Later questions are asked again.
    async fn choose_change(&mut self, asked: &mut Vec<Question>) -> Result<Question> {
        let entries = asked.iter().map(|question| Entry::of(question.text())).collect();
        let last = asked.len().saturating_sub(1);
        match self.person.picks("What should change?", entries, last).await? {
            Reply::Answer(at) => {
                let question = asked[at];
                asked.truncate(at);
                Ok(question)
            }
            Reply::Back => {
                Err(Error::failed(format!("{REFUSED}, because the plan was refused; {UNCHANGED}")))
            }
        }
    }
}
