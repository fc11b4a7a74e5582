//! `uzima-backup notify`: tries mails and signals before they are needed.

mod samples;

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::NotifyArgs;
use super::output::{Output, needs_look};
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::files::replace;
use crate::config::notify::{EVENTS, Event, MailOptions, SignalOptions, WebhookFormat, WebhookOptions};
use crate::notify::mailer::Mailer;
use crate::notify::message::Message;
use crate::notify::metrics::MetricsFile;
use crate::notify::run::{Run, SET_MAIL_UP};
use crate::notify::signals::{self, PingKind};
use crate::notify::{MAIL_LIMIT, SIGNAL_LIMIT};
use samples::Samples;

/// The text of the test ping.
const PING_TEXT: &str = "This is a test by `uzima-backup notify --test`. No backup was made.\n";

/// The results. Serializes as docs/json.md describes it.
#[derive(JsonSchema, Serialize)]
pub(super) struct NotifyReport {
    version: u32,
    mails: Vec<MailResult>,
    signals: Vec<SignalResult>,
}

#[derive(JsonSchema, Serialize)]
struct MailResult {
    event: Event,
    subject: String,
    outcome: &'static str,
    files: Vec<String>,
    #[serde(flatten)]
    failure: Failure,
}

#[derive(JsonSchema, Serialize)]
struct SignalResult {
    /// The setting of the signal.
    signal: &'static str,
    /// The event that was sent to a webhook.
    event: Option<Event>,
    outcome: &'static str,
    #[serde(flatten)]
    failure: Failure,
}

#[derive(Default, JsonSchema, Serialize)]
struct Failure {
    error: Option<String>,
    next_step: Option<String>,
}

impl Failure {
    fn new(error: Option<Error>, clean: impl Fn(&str) -> String) -> Failure {
        let Some(error) = error else { return Failure::default() };
        Failure { error: Some(clean(&error.chain())), next_step: error.next_step().map(clean) }
    }

    fn text(&self) -> Option<String> {
        let error = escape::line(self.error.as_ref()?).into_owned();
        let step = self.next_step.as_ref().map(|step| format!("\n           next step: {step}"));
        Some(format!("{error}{}", step.unwrap_or_default()))
    }
}

pub async fn run(args: &NotifyArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let config = run.config;
    let samples = Samples::of(config, run.clock.now());
    let asked = |event: &Event| args.event.is_empty() || args.event.contains(event);
    if let Some(folder) = &args.render {
        let messages =
            EVENTS.into_iter().filter(asked).map(|event| samples.mail(event).cleaned(&config.redactor));
        let mails = messages.map(|message| write(folder, &message)).collect::<Result<_>>()?;
        return Ok(print_report(&NotifyReport { version: 1, mails, signals: Vec::new() }, output));
    }
    let (mail, every_run) = (config.mail.as_ref()?.as_ref(), config.signals.as_ref()?);
    let webhook = config.webhook.as_ref()?.as_ref();
    let SignalOptions { ping, oplog_ping, metrics } = every_run;
    if mail.is_none() && ping.is_none() && oplog_ping.is_none() && metrics.is_none() && webhook.is_none() {
        return Err(Error::usage(
            "no notices are set up: neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set, nor a signal",
        )
        .hint(format!("{SET_MAIL_UP}, or PING_URL, METRICS_FILE or WEBHOOK_URL")));
    }
    let mut mails = Vec::new();
    if let Some(options) = mail {
        // A mail that is requested by name is sent even if the setting `notify` leaves it out.
        let wanted = |event: &Event| match args.event.is_empty() {
            true => options.events.contains(event),
            false => args.event.contains(event),
        };
        let message = |event| samples.mail(event).cleaned(&config.redactor).as_test();
        mails = send(options, EVENTS.into_iter().filter(wanted).map(message), run).await;
    }
    let signals = signal(every_run, webhook, &args.event, &samples, run).await;
    Ok(print_report(&NotifyReport { version: 1, mails, signals }, output))
}

async fn send(
    options: &MailOptions,
    messages: impl Iterator<Item = Message>,
    run: &Run<'_>,
) -> Vec<MailResult> {
    let mailer = Mailer::new(options.clone());
    // The service sends nothing for an id that it has seen before.
    let id = format!("test-{}", run.fresh_id());
    let mut sent = Vec::new();
    for message in messages {
        let error = mailer.send(&message, &id, run.clock.now(), MAIL_LIMIT).await.unwrap_or_else(Some);
        sent.push(MailResult {
            event: message.event,
            subject: message.subject,
            outcome: if error.is_some() { "failed" } else { "sent" },
            files: Vec::new(),
            failure: Failure::new(error, str::to_string),
        });
    }
    sent
}

fn write(folder: &Path, message: &Message) -> Result<MailResult> {
    let mut files = Vec::new();
    for (ending, text) in [("html", message.html()), ("txt", message.text())] {
        let path = folder.join(format!("{}.{ending}", message.event));
        std::fs::create_dir_all(folder)
            .and_then(|()| replace(&path, text.as_bytes(), 0o644))
            .map_err(|e| Error::failed(format!("cannot write {}", path.display())).caused_by(e))?;
        files.push(path.display().to_string());
    }
    let (event, subject) = (message.event, message.subject.clone());
    Ok(MailResult { event, subject, outcome: "written", files, failure: Failure::default() })
}

/// Sends a test by each configured signal, or only the webhook documents of the requested events.
async fn signal(
    SignalOptions { ping, oplog_ping, metrics }: &SignalOptions,
    webhook: Option<&WebhookOptions>,
    requested: &[Event],
    samples: &Samples,
    run: &Run<'_>,
) -> Vec<SignalResult> {
    let mut results = Vec::new();
    let mut add = |signal, event, result: Result<()>| {
        let outcome = if result.is_err() { "failed" } else { "given" };
        // The answer of a service may quote its secret address.
        let failure = Failure::new(result.err(), |text| run.config.redactor.clean(text));
        results.push(SignalResult { signal, event, outcome, failure });
    };
    if requested.is_empty() {
        if let Some(address) = ping {
            add("ping_url", None, signals::ping(address, PingKind::Log, PING_TEXT.into()).await);
        }
        if let Some(address) = oplog_ping {
            let pinged = signals::ping_of(signals::OPLOG_PING, address, PingKind::Log, PING_TEXT.into());
            add("oplog_ping_url", None, pinged.await);
        }
        if let Some(path) = metrics.clone() {
            add("metrics_file", None, MetricsFile::new(path).update("", &[]).await.map(drop));
        }
    }
    let Some(options) = webhook else { return results };
    let wanted = |event: &Event| match requested {
        [] => options.events.contains(event),
        requested => requested.contains(event),
    };
    for event in EVENTS.into_iter().filter(wanted) {
        if options.format != WebhookFormat::Json && samples.run(event).is_some() {
            let message = samples.mail(event).cleaned(&run.config.redactor).as_test();
            add("webhook_url", Some(event), signals::chat(options, &message, SIGNAL_LIMIT).await);
        } else if let Some(ended) = samples.run(event) {
            let now = (run.clock.now(), run.config.machine.host.as_str());
            let document = signals::test_document(event, &ended, now, &run.config.redactor);
            add("webhook_url", Some(event), signals::post(options, event, &document, SIGNAL_LIMIT).await);
        }
    }
    results
}

fn print_report(report: &NotifyReport, output: &Output) -> Exit {
    output.result(report, || {
        let mail = |mail: &MailResult| match mail.failure.text() {
            Some(failure) => format!("{:9}  failed: {failure}\n", mail.event.word()),
            None if mail.files.is_empty() => format!("{:9}  sent: {}\n", mail.event.word(), mail.subject),
            None => format!("{:9}  {}\n", mail.event.word(), mail.files.join(", ")),
        };
        let signal = |signal: &SignalResult| {
            let event = signal.event.map(|event| format!(" about {event}")).unwrap_or_default();
            let failure = signal.failure.text().map(|failure| format!(": {failure}")).unwrap_or_default();
            format!("{}: {}{event}{failure}\n", signal.signal, signal.outcome)
        };
        report.mails.iter().map(mail).chain(report.signals.iter().map(signal)).collect()
    });
    let mails = report.mails.iter().map(|mail| &mail.failure);
    let failures = mails.chain(report.signals.iter().map(|signal| &signal.failure));
    let errors: Vec<&String> = failures.filter_map(|failure| failure.error.as_ref()).collect();
    if output.quiet {
        // The exit code alone does not name the cause.
        errors.iter().for_each(|error| needs_look(error));
    }
    if errors.is_empty() { Exit::Done } else { Exit::Failed }
}
