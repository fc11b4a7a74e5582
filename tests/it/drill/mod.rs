//! Drills: a backup is restored into a scratch server, compared, and nothing of that stays.

mod command;
mod lent;
mod own;
mod slice;
mod support;
