//! Mails: what the service is sent, what comes of its answers, and what is remembered.

mod command;
mod flood;
mod hardship;
mod resend;
mod runs;
mod samples;
mod secrets;
pub mod support;
