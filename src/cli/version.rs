//! What `--version` prints.

/// The version, what it was built from, and what it can do, a line each.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("UZIMA_BACKUP_BUILD"),
    ")\n\
     engines: native, mongodump\n\
     formats: tar.gz, tar.zst, archive.gz, archive.zst\n\
     stores: directory, S3"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::choices::NAMES;

    #[test]
    fn it_names_every_format_and_engine() {
        assert!(LONG.contains(&format!("formats: {}\n", NAMES.join(", "))), "{LONG}");
        let engines =
            LONG.split_once("engines: ").and_then(|(_, rest)| rest.split_once('\n')).expect("engines");
        for engine in engines.0.split(", ") {
            engine.parse::<crate::config::choices::EngineChoice>().expect("an engine");
        }
    }
}
