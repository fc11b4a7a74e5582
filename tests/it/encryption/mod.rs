//! Encrypted backups, with the real `age` beside the tool.

mod keygen;
mod stock;
mod support;
