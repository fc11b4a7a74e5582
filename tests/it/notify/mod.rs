//! Mails: the requests to the service, its answers, and the stored state.

mod cleanups;
mod command;
mod flood;
mod hardship;
mod mails;
mod resend;
mod runs;
mod sendmail;
mod smtp;
pub mod support;
