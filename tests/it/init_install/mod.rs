//! `init --install`: the plan, the question, and what is installed.

mod cron;
mod support;
mod systemd;
