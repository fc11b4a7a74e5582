//! Notifications other than mail: pings of a monitor, the metrics file for Prometheus, and the webhook, with
//! the real binary.

mod chat;
mod dashboard;
mod metrics;
mod notify;
mod ping;
mod rules;
mod secrets;
pub mod support;
mod webhook;
