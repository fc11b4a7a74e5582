//! Reading the backups of a place: what that costs, what is remembered, and what is believed.

mod future;
mod memory;
mod places;
mod planted;
mod remembered;
mod requests;
mod support;
