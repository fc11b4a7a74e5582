//! Encrypted backups, with the real `age` beside the tool.

mod backups;
mod damage;
mod health;
mod keygen;
mod keys;
mod mixed;
mod page;
mod privacy;
mod ranges;
mod slices;
mod stock;
pub mod support;
