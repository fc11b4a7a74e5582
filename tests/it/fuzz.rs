//! The parsers of foreign bytes read the seed corpus in `fuzz/corpus` and random mutations of it.
//!
//! `cargo +nightly fuzz run NAME` searches longer and is guided by coverage. This test keeps every parser and
//! every past finding under test in each run.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uzima_backup::fuzzing::TARGETS;

/// The number of mutations of each target in a normal run, and with `UZIMA_TEST_FULL`.
const SAMPLE: u64 = 1_500;
const FULL: u64 = 100_000;

/// The maximum length of an input in bytes.
const LONGEST: usize = 64 << 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no seed", folder.display());
    files
}

#[test]
fn every_parser_of_foreign_bytes_survives_mutations_of_the_corpus() {
    let full = std::env::var_os("UZIMA_TEST_FULL").is_some();
    let mutations = if full { FULL } else { SAMPLE };
    let seed: u64 = rand::random();
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        let check = |bytes: &[u8], what: &dyn Fn() -> String| {
            if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
                let kept = std::env::temp_dir().join(format!("uzima-fuzz-{name}-{seed}"));
                fs::write(&kept, bytes).unwrap();
                panic!("the parsers of {name} panic on {}; the input is kept in {}", what(), kept.display());
            }
        };
        for (file, bytes) in &corpus {
            check(bytes, &|| format!("fuzz/corpus/{name}/{file}"));
        }
        let mut random = SmallRng::seed_from_u64(seed);
        for at in 0..mutations {
            let bytes = mutated(&corpus, &mut random);
            check(&bytes, &|| format!("mutation {at} with the seed {seed}"));
        }
        println!("{name}: {} seeds, {mutations} mutations, seed {seed}", corpus.len());
    }
}

/// The `cargo fuzz` package has exactly one program for each entry point.
#[test]
fn every_entry_point_has_a_libfuzzer_target() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let mut programs: Vec<String> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|program| {
            let name = program["name"].as_str().unwrap();
            let path = root().join(program["path"].as_str().unwrap());
            assert!(fs::read_to_string(path).unwrap().contains(&format!("run(\"{name}\", bytes)")), "{name}");
            name.to_string()
        })
        .collect();
    let mut expected = TARGETS.map(|(name, _)| name.to_string()).to_vec();
    programs.sort();
    expected.sort();
    assert_eq!(programs, expected);
    let mut folders: Vec<String> = fs::read_dir(root().join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, expected, "and a corpus");
}

/// A file of the corpus with one to four changes.
fn mutated(corpus: &[(String, Vec<u8>)], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = corpus[random.random_range(0..corpus.len())].1.clone();
    for _ in 0..random.random_range(1..=4) {
        change(&mut bytes, corpus, random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[(String, Vec<u8>)], random: &mut SmallRng) {
    if bytes.is_empty() {
        bytes.push(random.random());
        return;
    }
    let at = random.random_range(0..bytes.len());
    let end = (at + random.random_range(1..=32)).min(bytes.len());
    match random.random_range(0..9) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = random.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = random.random_range(0..=bytes.len());
            bytes.splice(to..to, piece);
        }
        // A length or a number of BSON.
        5 => {
            let values = [0, 1, 4, 5, 0x7fff_ffff, u32::MAX, 0x8000_0000, 1 << 24, random.random()];
            let value = values[random.random_range(0..values.len())].to_le_bytes();
            for (byte, new) in bytes[at..].iter_mut().zip(value) {
                *byte = new;
            }
        }
        // A number in a text.
        6 => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = bytes[at..].iter().position(digits).map(|skipped| at + skipped) {
                let length = bytes[start..].iter().take_while(|byte| digits(byte)).count();
                let values: [&[u8]; 8] = [
                    b"0",
                    b"-1",
                    b"4294967296",
                    b"9223372036854775807",
                    b"9223372036854775808",
                    b"18446744073709551615",
                    b"1e400",
                    b"262142-01-01T00:00:00Z",
                ];
                let value = values[random.random_range(0..values.len())];
                bytes.splice(start..start + length, value.iter().copied());
            }
        }
        // Deeper nesting than anything allows.
        7 => {
            let depth = random.random_range(1..2_000);
            let pairs: [&[u8]; 3] = [b"[", b"{\"a\":", b"\x03a\0"];
            let pair = pairs[random.random_range(0..pairs.len())];
            bytes.splice(at..at, pair.repeat(depth));
        }
        // The end of another file.
        _ => {
            let other = &corpus[random.random_range(0..corpus.len())].1;
            let from = random.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}
