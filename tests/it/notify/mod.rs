//! Mails: the requests to the service, its answers, and the stored state.

mod command;
mod flood;
mod hardship;
mod resend;
mod runs;
mod samples;
mod secrets;
pub mod support;
