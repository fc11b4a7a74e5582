//! Signals beside mail: the monitor's pings and Prometheus' file, by the real binary.

mod metrics;
mod ping;
mod secrets;
pub mod support;
