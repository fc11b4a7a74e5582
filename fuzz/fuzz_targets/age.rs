#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| uzima_backup::fuzzing::run("age", bytes));
