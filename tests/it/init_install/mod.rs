//! `init --install`: the plan, the question, and what is installed.

mod cron;
pub mod support;
mod systemd;
