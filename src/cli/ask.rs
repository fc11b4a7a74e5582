//! Questions to the person at the terminal.

use std::io::{BufRead, Write};
use std::thread;

use tokio::sync::oneshot;

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::escape;

/// Asks a question that only `y` or `yes` affirms, and waits for the answer. `refused` is the consequence of
/// any other answer, and `state` describes what the run changed: `not restored`, `nothing was changed`.
///
/// # Errors
/// Returns an error if the answer is not yes, the input ends, or a signal comes first.
pub async fn confirm(question: &str, refused: &str, state: &str, cancel: &Cancel) -> Result<()> {
    let denied = |why| Error::failed(format!("{refused}, because {why}; {state}"));
    answer(question, state, cancel).await?.map_err(denied)
}

/// Asks a question as [`confirm`], and returns true if the answer is yes.
///
/// # Errors
/// Returns an error if a signal comes first.
pub async fn agrees(question: &str, state: &str, cancel: &Cancel) -> Result<bool> {
    Ok(answer(question, state, cancel).await?.is_ok())
}

/// Returns the reason if the answer is not yes. The error is a signal.
///
/// A thread of its own reads the answer, because a read from a terminal cannot be interrupted: after a signal
/// the process ends while the thread still reads.
async fn answer(question: &str, state: &str, cancel: &Cancel) -> Result<Result<(), String>> {
    let mut out = std::io::stderr();
    let _ = write!(out, "{}", escape::lines(question)).and_then(|()| out.flush());
    let (answer, mut answered) = oneshot::channel();
    let started = thread::Builder::new().name("answer".into()).spawn(move || {
        let mut line = Vec::new();
        let read = std::io::stdin().lock().read_until(b'\n', &mut line);
        // Nobody waits for the answer after a signal.
        let _ = answer.send(read.map(|_| String::from_utf8_lossy(&line).into_owned()));
    });
    if let Err(e) = started {
        return Ok(Err(format!("nothing can wait for an answer ({e})")));
    }
    let answer = tokio::select! {
        biased;
        () = cancel.token().cancelled() => None,
        answer = &mut answered => Some(answer),
    };
    if answer.as_ref().is_none_or(|answer| !matches!(answer, Ok(Ok(line)) if line.ends_with('\n'))) {
        // The error begins on a line of its own.
        let _ = writeln!(out);
    }
    Ok(match answer {
        None => return Err(cancel.error_with(state).expect("the token is cancelled")),
        Some(Ok(Ok(line))) if ["y", "yes"].contains(&line.trim().to_lowercase().as_str()) => Ok(()),
        Some(Ok(Ok(line))) if line.is_empty() => Err("the input ended without an answer".into()),
        Some(Ok(Ok(_))) => Err("it was not confirmed".into()),
        Some(Ok(Err(e))) => Err(format!("the answer cannot be read ({e})")),
        Some(Err(_)) => Err("the answer cannot be read".into()),
    })
}
