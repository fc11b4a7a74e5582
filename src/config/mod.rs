//! Configuration: flags over environment over file, all of it checked before any network is touched.

mod bucket;
pub mod choices;
pub mod env;
pub mod event;
pub mod exposed;
pub mod file;
pub mod format;
pub mod layers;
pub mod mail;
pub mod misspelt;
pub mod notify;
pub mod pattern;
pub mod place;
pub mod records;
pub mod selection;
pub mod settings;
pub mod signals;
pub mod store;
pub mod table;
pub mod uri;
mod values;
