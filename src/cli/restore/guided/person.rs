//! The person who answers, and the terminal with its lists and lines.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use console::Term;
use inquire::error::CustomUserError;
use inquire::list_option::ListOption;
use inquire::ui::{RenderConfig, Styled};
use inquire::validator::Validation;
use inquire::{InquireError, MultiSelect, Select, Text};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::super::{REFUSED, UNCHANGED};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::escape::steers;
use crate::cli::ask;
use crate::cli::restorable::wrap;
use crate::cli::styled::{Colour, StyledText};

/// What a person did at a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<T> {
    Answer(T),
    /// The person wants to see the question before this one.
    Back,
}

/// An entry of a list.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// One line of at most [`width`] columns without control characters.
    pub shown: String,
    /// The text in which a person's filter is searched, and the answer that stays on the screen.
    pub name: String,
}

impl Entry {
    /// An entry that is found by its whole text.
    pub fn of(text: &str) -> Entry {
        Entry { shown: text.into(), name: text.into() }
    }
}

/// Refuses an answer with a reason.
pub(super) type Check = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Answers questions. The texts of questions and entries have no control characters.
pub(super) trait Person {
    /// The columns of the screen.
    fn columns(&self) -> usize;

    fn colour(&self) -> Colour;

    /// Shows lines above the next question.
    fn sees(&mut self, text: StyledText);

    /// Returns the number of one entry. `start` is the entry that Enter chooses.
    async fn picks(&mut self, question: &str, entries: Vec<Entry>, start: usize) -> Result<Reply<usize>>;

    /// Returns the numbers of some entries, at least one, in order.
    async fn picks_some(&mut self, question: &str, entries: Vec<Entry>) -> Result<Reply<Vec<usize>>>;

    /// Returns a line that `check` accepts. `initial` is there at first.
    async fn writes(&mut self, question: &str, initial: &str, check: Check) -> Result<Reply<String>>;
}

const PICK: &str = "arrows move, typing filters, Enter chooses, Esc goes back";
const PICK_SOME: &str = "Space marks, → marks all, ← none, typing filters, Enter ends, Esc goes back";
const WRITE: &str = "Enter goes on, Esc goes back";

/// The end of the input, as a terminal in raw mode gives it.
const CTRL_D: char = '\u{4}';
/// How long after the end of the terminal SIGHUP may come.
const HANGUP: Duration = Duration::from_secs(1);
/// The columns before an entry of a list, and a free one at the end.
const MARGIN: usize = 8;

/// The columns of an entry of a list.
pub(super) fn width(person: &impl Person) -> usize {
    person.columns().saturating_sub(MARGIN).max(32)
}

/// The terminal of standard input and standard error.
pub(super) struct AtTerminal<'a> {
    cancel: &'a Cancel,
    colour: Colour,
}

impl<'a> AtTerminal<'a> {
    pub(super) fn new(cancel: &'a Cancel) -> AtTerminal<'a> {
        AtTerminal { cancel, colour: Colour::of_stderr() }
    }

    /// Shows a prompt in a thread of its own. The prompt gets a watch for its input.
    async fn ask<T: Send + 'static>(
        &self,
        prompt: impl FnOnce(InputWatch, RenderConfig<'static>) -> Result<T, InquireError> + Send + 'static,
    ) -> Result<Reply<T>> {
        let unread = |why: String| Error::failed(format!("{REFUSED}, because {why}; {UNCHANGED}"));
        let failed = |e: io::Error| unread(format!("the terminal cannot be read ({e})"));
        let (sender, mut ended) = mpsc::unbounded_channel();
        let style = style(self.colour);
        let keys = KeyInput::new().map_err(failed)?;
        let done = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&done);
        let read = move || {
            let answer = prompt(InputWatch(sender), style);
            ends.store(true, SeqCst);
            answer
        };
        let outcome = tokio::select! {
            biased;
            Some(()) = ended.recv() => Err(unread("the input ended without an answer".into())),
            answer = ask::in_thread(read, self.cancel) => match answer.map_err(failed)? {
                Some(Ok(Ok(answer))) => Ok(Reply::Answer(answer)),
                Some(Ok(Err(InquireError::OperationCanceled))) => Ok(Reply::Back),
                // The console's Ctrl-C. It also raises SIGINT, which comes a moment later.
                Some(Ok(Err(InquireError::IO(e)))) if e.kind() == io::ErrorKind::Interrupted => {
                    self.cancel.by_signal(2);
                    Err(self.signal())
                }
                Some(Ok(Err(e))) => {
                    Err(self.signal_or(unread(format!("the answer cannot be read ({e})"))).await)
                }
                Some(Err(_)) => Err(unread("the answer cannot be read".into())),
                None => {
                    keys.settle(&done).await;
                    Err(self.signal())
                }
            },
        };
        drop(keys);
        if outcome.is_err() {
            // The question stays, and what is below it goes.
            let _ = write!(io::stderr(), "\r\n\u{1b}[J");
        }
        outcome
    }

    /// The error of the signal that comes when a terminal is closed, or else this error.
    async fn signal_or(&self, error: Error) -> Error {
        let _ = tokio::time::timeout(HANGUP, self.cancel.token().cancelled()).await;
        self.cancel.error_with(UNCHANGED).unwrap_or(error)
    }

    fn signal(&self) -> Error {
        self.cancel.error_with(UNCHANGED).expect("the token is cancelled")
    }
}

impl Person for AtTerminal<'_> {
    fn columns(&self) -> usize {
        usize::from(Term::stderr().size().1)
    }

    fn colour(&self) -> Colour {
        self.colour
    }

    fn sees(&mut self, text: StyledText) {
        let _ = io::stderr().write_all(text.into_string().as_bytes());
    }

    async fn picks(&mut self, question: &str, entries: Vec<Entry>, start: usize) -> Result<Reply<usize>> {
        let (question, page) = (question.to_string(), page());
        let prompt = move |watch: InputWatch, style| {
            let filter = Filter::new(&entries, watch);
            let score = |input: &str, _: &String, _: &str, at: usize| filter.score(input, at);
            let answer = |chosen: ListOption<&String>| entries[chosen.index].name.clone();
            Select::new(&question, shown(&entries))
                .with_starting_cursor(start)
                .with_help_message(PICK)
                .with_page_size(page)
                .with_scorer(&score)
                .with_formatter(&answer)
                .with_render_config(style)
                .raw_prompt()
                .map(|chosen| chosen.index)
        };
        self.ask(prompt).await
    }

    async fn picks_some(&mut self, question: &str, entries: Vec<Entry>) -> Result<Reply<Vec<usize>>> {
        let (question, page) = (question.to_string(), page());
        let prompt = move |watch: InputWatch, style| {
            let filter = Filter::new(&entries, watch);
            let score = |input: &str, _: &String, _: &str, at: usize| filter.score(input, at);
            let answer = |chosen: &[ListOption<&String>]| match chosen {
                [one] => entries[one.index].name.clone(),
                several => format!("{} of them", several.len()),
            };
            let some = |chosen: &[ListOption<&String>]| {
                Ok::<_, CustomUserError>(match chosen.is_empty() {
                    true => Validation::Invalid("mark at least one with the space key".into()),
                    false => Validation::Valid,
                })
            };
            MultiSelect::new(&question, shown(&entries))
                .with_help_message(PICK_SOME)
                .with_page_size(page)
                .with_scorer(&score)
                .with_formatter(&answer)
                .with_validator(some)
                .with_render_config(style)
                .raw_prompt()
                .map(|chosen| chosen.iter().map(|one| one.index).collect())
        };
        self.ask(prompt).await
    }

    async fn writes(&mut self, question: &str, initial: &str, check: Check) -> Result<Reply<String>> {
        let (question, initial, width) = (question.to_string(), initial.to_string(), width(self));
        let prompt = move |watch: InputWatch, style| {
            let watched = move |input: &str| {
                watch.sees(input);
                Ok::<Vec<String>, CustomUserError>(Vec::new())
            };
            let valid = move |text: &str| {
                let refused = match text.contains(steers) {
                    true => Err("it has a character that cannot be shown".to_string()),
                    false => check(text.trim()),
                };
                Ok::<_, CustomUserError>(match refused {
                    Ok(()) => Validation::Valid,
                    Err(why) => Validation::Invalid(wrap("", "  ", &why, width).join("\n").into()),
                })
            };
            Text::new(&question)
                .with_initial_value(&initial)
                .with_help_message(WRITE)
                .with_autocomplete(watched)
                .with_validator(valid)
                .with_render_config(style)
                .prompt()
                .map(|text| text.trim().to_string())
        };
        self.ask(prompt).await
    }
}

fn shown(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.shown.clone()).collect()
}

/// The number of entries that a list shows at once.
fn page() -> usize {
    usize::from(Term::stderr().size().0).saturating_sub(8).clamp(3, 15)
}

fn style(colour: Colour) -> RenderConfig<'static> {
    let style = match colour {
        Colour::Always => RenderConfig::default_colored(),
        Colour::Never => RenderConfig::empty(),
    };
    style.with_canceled_prompt_indicator(Styled::new("(back)"))
}

/// Notices the end of the input, which inquire takes for a letter of the answer.
#[derive(Clone)]
struct InputWatch(UnboundedSender<()>);

impl InputWatch {
    /// Does not return if the input has ended, because inquire would go on drawing.
    fn sees(&self, input: &str) {
        if input.contains(CTRL_D) {
            let _ = self.0.send(());
            loop {
                thread::park();
            }
        }
    }
}

/// Finds the entries whose names contain what was typed.
struct Filter {
    names: Vec<String>,
    watch: InputWatch,
}

impl Filter {
    fn new(entries: &[Entry], watch: InputWatch) -> Filter {
        Filter { names: entries.iter().map(|entry| entry.name.to_lowercase()).collect(), watch }
    }

    /// Keeps the order of the entries: inquire shows the largest number first.
    fn score(&self, input: &str, at: usize) -> Option<i64> {
        self.watch.sees(input);
        self.names[at].contains(&input.to_lowercase()).then(|| -i64::try_from(at).unwrap_or_default())
    }
}

/// A terminal that gives each key at once and does not show it. It is as before after this is dropped, also if a thread still
/// waits for a key.
struct KeyInput(Termios);

impl KeyInput {
    fn new() -> io::Result<KeyInput> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut keys = before.clone();
        keys.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &keys)?;
        Ok(KeyInput(before))
    }

    /// Waits until the thread of a prompt has ended or waits for a key, so that it does not change the modes afterwards. Only
    /// while it waits, the terminal makes no signal of Ctrl-C.
    async fn settle(&self, done: &AtomicBool) {
        let waits = || {
            termios::tcgetattr(io::stdin())
                .map_or(true, |modes| !modes.local_modes.contains(LocalModes::ISIG))
        };
        let began = Instant::now();
        while !(done.load(SeqCst) || waits()) && began.elapsed() < HANGUP {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for KeyInput {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        let _ = Term::stderr().show_cursor();
    }
}
