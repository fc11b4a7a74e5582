//! Malicious data from outside: the tool reports it as an error by name, or shows it in a harmless form.

mod bombs;
mod deep;
mod endless;
mod manifests;
mod shown;
