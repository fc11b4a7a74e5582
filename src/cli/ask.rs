//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::thread;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::sync::oneshot;

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Kind, Result};
use crate::base::escape;
use crate::base::secret::Secret;

/// Asks a question that only `y` or `yes` affirms, and waits for the answer. `refused` is the consequence of
/// any other answer, and `state` describes what the run changed: `not restored`, `nothing was changed`.
///
/// # Errors
/// Returns an error if the answer is not yes, the input ends, or a signal comes first.
pub async fn confirm(question: &str, refused: &str, state: &str, cancel: &Cancel) -> Result<()> {
    let denied = |why| Error::failed(format!("{refused}, because {why}; {state}"));
    agreed(question, state, cancel).await?.map_err(denied)
}

/// Asks a question as [`confirm`], and returns true if the answer is yes.
///
/// # Errors
/// Returns an error if a signal comes first.
pub async fn agrees(question: &str, state: &str, cancel: &Cancel) -> Result<bool> {
    Ok(agreed(question, state, cancel).await?.is_ok())
}

/// Asks for a name that the person has to type, and waits for it. `refused` and `state` are as for [`confirm`].
///
/// # Errors
/// Returns an error if the answer is not the name, the input ends, or a signal comes first.
pub async fn confirm_name(
    question: &str,
    name: &str,
    refused: &str,
    state: &str,
    cancel: &Cancel,
) -> Result<()> {
    let is_name = |typed: &str| typed == name;
    let wrong = || format!("the typed name is not {name}");
    let typed = consent(question, is_name, wrong, state, cancel).await?;
    typed.map_err(|why| Error::failed(format!("{refused}, because {why}; {state}")))
}

/// Asks for a line of text. The answer is empty if the input ends.
///
/// # Errors
/// Returns an error if a signal comes first, or the answer cannot be read. `state` is as for [`confirm`].
pub async fn line(question: &str, state: &str, cancel: &Cancel) -> Result<String> {
    let unread = |e: io::Error| Error::failed(format!("the answer cannot be read; {state}")).caused_by(e);
    match answer(question, cancel).await.map_err(unread)? {
        None => {
            let _ = writeln!(io::stderr());
            Err(cancel.error_with(state).expect("the token is cancelled"))
        }
        Some(Ok(Ok(line))) => Ok(line.trim().to_string()),
        Some(Ok(Err(e))) => Err(unread(e)),
        Some(Err(_)) => Err(Error::failed(format!("the answer cannot be read; {state}"))),
    }
}

/// Returns the reason if the answer is not yes. The error is a signal.
async fn agreed(question: &str, state: &str, cancel: &Cancel) -> Result<Result<(), String>> {
    let is_yes = |typed: &str| ["y", "yes"].contains(&typed.to_lowercase().as_str());
    consent(question, is_yes, || "it was not confirmed".into(), state, cancel).await
}

/// Returns the reason if the answer, without spaces at its ends, is not one that `consents`. The error is a signal.
async fn consent(
    question: &str,
    consents: impl Fn(&str) -> bool,
    wrong: impl Fn() -> String,
    state: &str,
    cancel: &Cancel,
) -> Result<Result<(), String>> {
    let mut out = io::stderr();
    let answer = match answer(question, cancel).await {
        Ok(answer) => answer,
        Err(e) => return Ok(Err(format!("nothing can wait for an answer ({e})"))),
    };
    if answer.as_ref().is_none_or(|answer| !matches!(answer, Ok(Ok(line)) if line.ends_with('\n'))) {
        // The error begins on a line of its own.
        let _ = writeln!(out);
    }
    Ok(match answer {
        None => return Err(cancel.error_with(state).expect("the token is cancelled")),
        Some(Ok(Ok(line))) if consents(line.trim()) => Ok(()),
        Some(Ok(Ok(line))) if line.is_empty() => Err("the input ended without an answer".into()),
        Some(Ok(Ok(_))) => Err(wrong()),
        Some(Ok(Err(e))) => Err(format!("the answer cannot be read ({e})")),
        Some(Err(_)) => Err("the answer cannot be read".into()),
    })
}

/// Asks for the passphrase of a file, without showing it.
///
/// # Errors
/// Returns an error of the kind [`Kind::Key`] if there is no terminal or no answer, and the error of a signal.
pub async fn passphrase(file: &str, cancel: &Cancel) -> Result<Secret> {
    let no = |why: String| {
        Error::new(Kind::Key, format!("the passphrase of {file} is needed, but {why}"))
            .hint("Run this command on a terminal, or decrypt the file to another one, only for this command")
    };
    if !at_terminal() {
        return Err(no("there is no terminal to ask for it".into()));
    }
    let hidden = HiddenInput::new().map_err(|e| no(format!("the terminal cannot hide it ({e})")))?;
    let answer = answer(&format!("Passphrase of {file}: "), cancel).await;
    drop(hidden);
    let _ = writeln!(io::stderr());
    match answer.map_err(|e| no(e.to_string()))? {
        None => Err(cancel.error().expect("the token is cancelled")),
        Some(Ok(Ok(line))) => Ok(Secret::from(line.trim_end_matches(['\r', '\n']).to_string())),
        Some(Ok(Err(e))) => Err(no(format!("the answer cannot be read ({e})"))),
        Some(Err(_)) => Err(no("the answer cannot be read".into())),
    }
}

/// A terminal that does not show what is typed. It shows it again after this is dropped.
struct HiddenInput(Termios);

impl HiddenInput {
    fn new() -> io::Result<HiddenInput> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO;
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(HiddenInput(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Returns true if a person can be asked.
pub fn at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// An answer of the thread that reads it.
pub type Answer<T> = Result<T, oneshot::error::RecvError>;

/// Shows a question and waits for a line. Returns `None` after a signal. The inner error is that of the terminal.
async fn answer(question: &str, cancel: &Cancel) -> io::Result<Option<Answer<io::Result<String>>>> {
    let mut out = io::stderr();
    let _ = write!(out, "{}", escape::lines(question)).and_then(|()| out.flush());
    let read = || {
        let mut line = Vec::new();
        let read = io::stdin().lock().read_until(b'\n', &mut line);
        read.map(|_| String::from_utf8_lossy(&line).into_owned())
    };
    in_thread(read, cancel).await
}

/// Reads an answer. Returns `None` after a signal.
///
/// A thread of its own reads it, because a read from a terminal cannot be interrupted: after a signal the process ends while
/// the thread still reads.
pub async fn in_thread<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
    cancel: &Cancel,
) -> io::Result<Option<Answer<T>>> {
    let (answer, mut answered) = oneshot::channel();
    thread::Builder::new().name("answer".into()).spawn(move || {
        // Nobody waits for the answer after a signal.
        let _ = answer.send(read());
    })?;
    Ok(tokio::select! {
        biased;
        () = cancel.token().cancelled() => None,
        answer = &mut answered => Some(answer),
    })
}
