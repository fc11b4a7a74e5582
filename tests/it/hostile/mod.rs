//! Data from outside that was made to do harm: it ends in an error that names it, or is shown so that it does none.

mod bombs;
mod deep;
mod endless;
mod manifests;
mod shown;
