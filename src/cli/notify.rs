//! `uzima-backup notify`: mails and signals are tried before they are needed.

mod signals;

use std::path::Path;

use chrono::Utc;
use serde_json::json;

use self::signals::SignalResult;
use super::args::NotifyArgs;
use super::output::Output;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::files::replace;
use crate::config::Config;
use crate::config::notify::MailOptions;
use crate::config::notify::{EVENTS, Event};
use crate::model::id::BackupId;
use crate::notify::message::{Message, Sender};
use crate::notify::resend::Mailer;
use crate::notify::{MAIL_LIMIT, samples};

/// What became of a sample.
struct SampleResult {
    event: Event,
    subject: String,
    files: Vec<String>,
    error: Option<Error>,
}

pub async fn run(args: &NotifyArgs, config: &Config, output: &Output) -> Result<Exit> {
    let sender = Sender::here(&config.machine.host);
    let asked = |event: &Event| args.event.is_empty() || args.event.contains(event);
    if let Some(folder) = &args.render {
        let samples = EVENTS.into_iter().filter(asked).map(|event| samples::of(event, &sender));
        let written =
            samples.map(|message| write(folder, &message)).collect::<Result<Vec<SampleResult>>>()?;
        return Ok(print_results(&written, &[], output));
    }
    let mails = config.mail()?;
    let signals = signals::Tested::resolve(config)?;
    if mails.is_none() && signals.is_empty() {
        return Err(Error::usage(
            "nobody is told of anything: neither RESEND_API_KEY nor ADMIN_EMAILS is set, nor a signal",
        )
        .hint(
            "Set RESEND_API_KEY (mail.resend_api_key) and ADMIN_EMAILS (mail.to), or PING_URL, METRICS_FILE or \
             WEBHOOK_URL",
        ));
    }
    let mut sent = Vec::new();
    if let Some(options) = mails {
        // One that is asked for by name is sent even if `notify` leaves it out.
        let wanted = |event: &Event| match args.event.is_empty() {
            true => options.events.contains(event),
            false => args.event.contains(event),
        };
        let samples = EVENTS.into_iter().filter(wanted).map(|event| samples::of(event, &sender).as_test());
        sent = send(options, samples).await;
    }
    let given = signals.give(&args.event, &sender.host, &config.redactor).await;
    Ok(print_results(&sent, &given, output))
}

async fn send(options: &MailOptions, samples: impl Iterator<Item = Message>) -> Vec<SampleResult> {
    let mailer = Mailer::new(options.clone());
    // Unlike any other test's: the service would send nothing the second time.
    let run = format!("test-{}", BackupId::new(Utc::now(), &mut rand::rng()));
    let mut sent = Vec::new();
    for message in samples {
        let error = mailer.send(&message, &run, MAIL_LIMIT).await.unwrap_or_else(Some);
        sent.push(SampleResult { event: message.event, subject: message.subject, files: vec![], error });
    }
    sent
}

fn write(folder: &Path, message: &Message) -> Result<SampleResult> {
    let mut files = Vec::new();
    for (ending, text) in [("html", message.html()), ("txt", message.text())] {
        let path = folder.join(format!("{}.{ending}", message.event));
        std::fs::create_dir_all(folder)
            .and_then(|()| replace(&path, text.as_bytes(), 0o644))
            .map_err(|e| Error::failed(format!("cannot write {}", path.display())).caused_by(e))?;
        files.push(path.display().to_string());
    }
    Ok(SampleResult { event: message.event, subject: message.subject.clone(), files, error: None })
}

fn print_results(tried: &[SampleResult], signals: &[SignalResult], output: &Output) -> Exit {
    let outcome = |t: &SampleResult| match (&t.error, t.files.is_empty()) {
        (Some(_), _) => "failed",
        (None, true) => "sent",
        (None, false) => "written",
    };
    let rows: Vec<serde_json::Value> = tried
        .iter()
        .map(|t| {
            json!({
                "event": t.event,
                "subject": t.subject,
                "outcome": outcome(t),
                "files": t.files,
                "error": t.error.as_ref().map(Error::chain),
                "next_step": t.error.as_ref().and_then(Error::next_step),
            })
        })
        .collect();
    let given: Vec<serde_json::Value> = signals.iter().map(SignalResult::json).collect();
    output.result(&json!({"version": 1, "mails": rows, "signals": given}), || {
        let line = |t: &SampleResult| match &t.error {
            Some(error) => {
                let step = error.next_step().map(|step| format!("\n           next step: {step}"));
                let failed = escape::line(&error.chain()).into_owned();
                format!("{:9}  failed: {failed}{}\n", t.event.word(), step.unwrap_or_default())
            }
            None if t.files.is_empty() => format!("{:9}  sent: {}\n", t.event.word(), t.subject),
            None => format!("{:9}  {}\n", t.event.word(), t.files.join(", ")),
        };
        tried.iter().map(line).chain(signals.iter().map(SignalResult::line)).collect()
    });
    let errors = || tried.iter().map(|t| &t.error).chain(signals.iter().map(|g| &g.error)).flatten();
    if output.quiet {
        // An exit code alone would not say why.
        errors().for_each(|error| super::output::needs_look(&error.chain()));
    }
    if errors().next().is_some() { Exit::Failed } else { Exit::Done }
}
