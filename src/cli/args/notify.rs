//! The flags of `notify`.

use std::path::PathBuf;

use clap::Args;

use super::offered::offered;
use crate::config::notify::{EVENTS, Event};

/// Flags of `notify`.
#[derive(Debug, Args)]
#[command(
    about = "Send a sample of each mail and signal, or write the mails to files",
    long_about = "Send a sample of each mail to ADMIN_EMAILS by RESEND_API_KEY, or write them to files.\n\n\
Signals that are set up are tried as well: PING_URL is sent a log line, which marks nothing as done; METRICS_FILE is \
written as it is; WEBHOOK_URL gets a document about each event.\n\n\
The samples say that they are a test. Exit code 1 when one could not be sent, with the reason; 2 when neither mails nor \
signals are set up.",
    after_help = "Examples:\n  uzima-backup notify --test\n  uzima-backup notify --test --event failure\n  \
uzima-backup notify --render /tmp/mails\n\n\
Exit codes: 0 sent, or written · 1 a mail could not be sent, or a file not be written · 2 wrong usage, or mails are not \
set up"
)]
pub struct NotifyArgs {
    /// Send a sample of each mail that BACKUP_NOTIFY names (without it, of all), and of each signal
    #[arg(long, required_unless_present = "render", conflicts_with = "render")]
    pub test: bool,
    /// Write the samples to this directory, as HTML and as text, and send nothing
    #[arg(long, value_name = "DIR")]
    pub render: Option<PathBuf>,
    /// Only the mail, and what a webhook is told, about this event: success, failure, recovered, cleanup, frozen, stats or health
    /// (may be given several times)
    #[arg(
        long,
        value_name = "NAME",
        value_parser = offered::<Event>(EVENTS.map(Event::word)),
        hide_possible_values = true,
    )]
    pub event: Vec<Event>,
}
