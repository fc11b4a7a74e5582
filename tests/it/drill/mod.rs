//! Drills: a backup is restored into a scratch server, compared, and nothing of that stays.

mod command;
pub mod lent;
mod own;
mod slice;
pub mod support;
