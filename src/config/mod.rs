//! Configuration: flags over environment over file, all of it checked before any network is touched.

mod bucket;
pub mod env;
pub mod exposed;
pub mod file;
pub mod layers;
pub mod mail;
pub mod misspelt;
pub mod place;
pub mod records;
pub mod settings;
pub mod signals;
pub mod table;
pub mod uri;
mod values;
