//! Mails: the requests to the service, its answers, and the stored state.

mod command;
mod flood;
mod hardship;
mod mails;
mod resend;
mod runs;
pub mod support;
