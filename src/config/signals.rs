//! The settings of signals, understood by themselves: a run that fails because of another setting still
//! gives them.

use std::str::FromStr;

use super::layers::Layers;
use super::mail::events;
use super::values::absolute;
use crate::base::error::Result;
use crate::config::notify::WebhookOptions;
use crate::config::notify::{Address, SignalOptions};

/// The signals that are for every run.
pub(super) fn signals(layers: &Layers) -> Result<SignalOptions> {
    let metrics = absolute(layers, "metrics_file")?;
    if let Some(path) = &metrics
        && path.extension().is_none_or(|ending| ending != "prom")
    {
        let why = "its name must end in .prom: node_exporter's textfile collector reads no other";
        return Err(layers.wrong("metrics_file", why));
    }
    Ok(SignalOptions { ping: layers.parsed("ping_url", Address::from_str)?, metrics })
}

/// Whom to tell by a webhook, of the events that mails are chosen by; `None` if it is not set.
pub(super) fn webhook(layers: &Layers) -> Result<Option<WebhookOptions>> {
    let address = layers.parsed("webhook_url", Address::from_str)?;
    address.map(|address| Ok(WebhookOptions { address, events: events(layers)? })).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::exit::Exit;
    use crate::config::event::Event;

    #[test]
    fn each_is_for_itself() {
        let none = Layers::of(&[("BACKUP_FORMAT", "nonsense")]);
        let signals = super::signals(&none).unwrap();
        assert!(signals.ping.is_none() && signals.metrics.is_none() && webhook(&none).unwrap().is_none());
        let all = Layers::of(&[
            ("PING_URL", "https://hc-ping.com/5b0f"),
            ("METRICS_FILE", "/var/lib/node_exporter/uzima-backup.prom"),
            ("WEBHOOK_URL", "http://127.0.0.1:8080/hook?token=x"),
            ("BACKUP_NOTIFY", "failure,recovered"),
        ]);
        let signals = super::signals(&all).unwrap();
        assert_eq!(signals.ping.unwrap().service(), "https://hc-ping.com");
        assert!(signals.metrics.unwrap().ends_with("uzima-backup.prom"));
        assert_eq!(webhook(&all).unwrap().unwrap().events, [Event::Failure, Event::Recovered]);
        assert!(crate::config::mail::mail(&all).unwrap().is_none(), "they choose what the webhook is told");
    }

    #[test]
    fn a_mistake_names_its_variable_and_never_the_address() {
        for (name, value, word) in [
            ("PING_URL", "hc-ping.com/canary", "https://"),
            ("PING_URL", "file:///canary", "https://"),
            ("WEBHOOK_URL", "https:///canary x", "https://"),
            ("METRICS_FILE", "uzima.prom", "absolute"),
            ("METRICS_FILE", "/var/lib/uzima.txt", ".prom"),
            ("METRICS_FILE", "/var/lib/.prom", ".prom"),
        ] {
            let layers = Layers::of(&[(name, value)]);
            let error = signals(&layers).and(webhook(&layers).map(drop)).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let told = format!("{} {error:?}", error.chain());
            assert!(told.contains(name) && told.contains(word) && !told.contains("canary"), "{told}");
        }
        let both = Layers::of(&[("WEBHOOK_URL", "http://h/x"), ("BACKUP_NOTIFY", "succes")]);
        assert!(webhook(&both).unwrap_err().chain().contains("'succes'"));
    }
}
