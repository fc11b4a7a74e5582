//! Signals beside mail: the monitor's pings, Prometheus' file and the webhook, by the real binary.

mod dashboard;
mod metrics;
mod notify;
mod ping;
mod secrets;
pub mod support;
mod webhook;
