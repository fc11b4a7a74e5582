//! `uzima-backup`: see the library for how it works.

use std::process::ExitCode;

use uzima_backup::base::{crash, process};

fn main() -> ExitCode {
    process::keep_memory();
    crash::install();
    process::batch();
    process::survive_file_size_limit();
    // One TLS implementation for everything; the second call in a process fails harmlessly.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    uzima_backup::cli::run(std::env::args_os()).into()
}
