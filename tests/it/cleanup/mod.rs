//! `cleanup`, `pin` and `unpin`: what goes, what stays, and what a run that was killed leaves to the next.

mod histories;
mod rules;
mod support;
