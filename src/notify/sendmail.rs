//! Sends mails by a program with the arguments of sendmail(8), which Postfix, Exim, msmtp and others have.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::http;
use super::mime;
use super::posting::{PAUSE, Posting, REPEATS};
use crate::base::error::{Error, Result};
use crate::base::{process, retry};

/// How long the program may take for one mail. Most programs only write it to their queue.
const LIMIT: Duration = Duration::from_secs(30);
/// EX_TEMPFAIL of sysexits(3): the same mail may be accepted later.
const TEMPFAIL: i32 = 75;

/// Passes the mail to the program.
///
/// # Errors
/// Returns an error if the program does not accept the mail.
pub(super) async fn send(program: &Path, posting: &Posting<'_>) -> Result<Option<Error>> {
    usable(program)?;
    let letter = mime::letter(posting)?;
    // A program reads the lines of this machine, which end with a line feed.
    let text = String::from_utf8_lossy(&letter.bytes).replace("\r\n", "\n");
    let from = letter.from.to_string();
    // -i: a line with a dot alone does not end the mail. -f: the sender of the envelope.
    let mut args = vec!["-i", "-f", &from, "--"];
    let to: Vec<String> = letter.to.iter().map(ToString::to_string).collect();
    args.extend(to.iter().map(String::as_str));
    let mut pauses = retry::pauses(PAUSE).take(REPEATS);
    loop {
        let left = posting.deadline.saturating_duration_since(Instant::now()).min(LIMIT);
        let ended = process::run(program, &args, text.as_bytes(), left).await;
        let again = matches!(&ended, Ok(ended) if ended.status.code() == Some(TEMPFAIL));
        let (why, hint) = match ended {
            Ok(ended) if ended.status.success() => return Ok(None),
            Ok(ended) => {
                let how = match (ended.status.code(), ended.status.signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, signal) => format!("signal {}", signal.unwrap_or_default()),
                };
                let words = http::quoted(&ended.stderr);
                let words = if words.is_empty() { words } else { format!(": {words}") };
                (format!("{} ended with {how}{words}", program.display()), step(program, ended.status.code()))
            }
            // The program may have taken the mail, so it does not get it again.
            Err(e) => (format!("{}: {e}", program.display()), step(program, None)),
        };
        let pause = pauses.next().filter(|pause| again && Instant::now() + *pause < posting.deadline);
        let Some(pause) = pause else { return Err(posting.not_sent(0, &[], why, hint)) };
        log::debug!("{why}; trying again in {:.1} s", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
}

/// The next step after a program failed with an exit code of sysexits(3).
fn step(program: &Path, code: Option<i32>) -> String {
    let shown = program.display();
    match code {
        // EX_NOUSER, EX_NOHOST
        Some(67 | 68) => "Correct the addresses in ADMIN_EMAILS (mail.to)".into(),
        Some(TEMPFAIL) => {
            format!("Look into the log and the queue of the mail system behind {shown} (`mailq`)")
        }
        // EX_NOPERM
        Some(77) => format!("Let this user send mails by {shown} as the sender of EMAIL_FROM (mail.from)"),
        _ => format!(
            "Correct the setup of {shown}, or name another program with SENDMAIL_PATH (mail.sendmail_path)"
        ),
    }
}

/// Checks that the program can be run.
///
/// # Errors
/// Returns an error if there is no program, or if other users could replace it.
pub(super) fn check(program: &Path) -> Result<String> {
    usable(program).map(|()| format!("{} takes the mails", program.display()))
}

fn usable(program: &Path) -> Result<()> {
    let failed = |why: String| {
        Error::failed(format!("no mail can be sent: {why}")).hint(
            "Install a mail system with sendmail (postfix, exim4, msmtp-mta), or name its program with SENDMAIL_PATH \
             (mail.sendmail_path)",
        )
    };
    let runs = |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    match std::fs::metadata(program).map(runs) {
        Ok(true) => process::trusted(program).map_err(failed),
        Ok(false) => Err(failed(format!("{} is not a program", program.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(failed(format!("{} does not exist", program.display())))
        }
        Err(e) => Err(failed(format!("{}: {e}", program.display()))),
    }
}
