//! `uzima-backup`: see the library for how it works.

use std::process::ExitCode;

#[global_allocator]
static MEMORY: uzima_backup::base::memory::Strict = uzima_backup::base::memory::Strict;

fn main() -> ExitCode {
    uzima_backup::base::memory::keep();
    uzima_backup::base::crash::faults_fail();
    uzima_backup::base::process::batch();
    uzima_backup::base::process::survive_file_size_limit();
    // One TLS implementation for everything; the second call in a process fails harmlessly.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    uzima_backup::cli::run(std::env::args_os()).into()
}
