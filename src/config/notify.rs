//! The settings of mails, signals and webhooks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use crate::base::secret::{ExposeSecret, Secret};
use crate::config::event::Event;

/// Whom to tell, by which service, and of what.
#[derive(Debug, Clone)]
pub struct MailOptions {
    /// The service's key.
    pub key: Secret,
    /// Who the mails come from: an address, or `Name <address>`.
    pub from: String,
    /// Who gets them.
    pub to: Vec<String>,
    /// The service, without a slash at the end.
    pub base_url: String,
    /// What is told.
    pub events: Vec<Event>,
}

/// What signals are given of runs.
#[derive(Debug, Clone, Default)]
pub struct SignalOptions {
    /// The monitor's address.
    pub ping: Option<Address>,
    /// Prometheus' file.
    pub metrics: Option<PathBuf>,
}

/// Whom to tell, and of what.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Where it listens.
    pub address: Address,
    /// What is told.
    pub events: Vec<Event>,
}

/// An address over HTTP that is a secret: whoever knows it may use it.
#[derive(Clone)]
pub struct Address(Secret);

impl Address {
    /// The address itself.
    pub fn url(&self) -> Url {
        Url::parse(self.0.expose_secret()).expect("it was checked")
    }

    /// As much of it as anybody may see: the service.
    pub fn service(&self) -> String {
        self.url().origin().ascii_serialization()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let good = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        match Url::parse(text) {
            Ok(url) if good(&url) && text.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Address(Secret::from(text.to_string())))
            }
            _ => Err("it is an address that begins with https:// or http://".into()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}/***)", self.service())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_and_shows_only_its_service() {
        let address: Address = "https://hc-ping.example:8443/5b0f2a3c-canary/x?token=canary".parse().unwrap();
        assert_eq!(address.service(), "https://hc-ping.example:8443");
        assert!(!format!("{address:?}").contains("canary"));
        for bad in
            ["", "hc-ping.example/x", "ftp://h/x", "https://", "https://h/a b", "https://h/\nx", "http:/"]
        {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(error.contains("https://"), "{bad}");
        }
    }
}
