//! Encrypted backups, with the real `age` beside the tool.

mod backups;
mod damage;
mod keygen;
mod keys;
mod mixed;
mod page;
mod privacy;
mod ranges;
mod stock;
mod support;
