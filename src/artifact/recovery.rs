//! `RECOVERY.txt`, the first file of a tar: how to restore the backup with stock tools.

use crate::config::choices::{Codec, Format};

/// Returns the text for a backup. Only a tar has a place for it. If the backup has an oplog `slice`, the
/// commands contain `--oplogReplay`: without this flag mongorestore 100.18 ignores `oplog.bson` and exits
/// with 0.
pub fn text(id: &str, format: Format, server_version: &str, tool: &str, slice: bool) -> String {
    let file = format.file();
    let unpack = match format.codec {
        Codec::Gzip { .. } => format!("tar xzf {file}"),
        Codec::Zstd { .. } => format!("zstd -dc {file} | tar xf -"),
    };
    let (replay, why) = match slice {
        true => ("--oplogReplay ", SLICE),
        false => ("", ""),
    };
    format!(
        "This is the MongoDB backup {id}, written by {tool} from MongoDB {server_version}.\n\
         \n\
         To restore everything with stock tools (into an empty server; add --drop to replace\n\
         existing collections):\n\
         \n\
         \x20   {unpack}\n\
         \x20   mongorestore --uri='mongodb://localhost:27017' {replay}--bypassDocumentValidation dump/\n\
         \n\
         {why}\
         --bypassDocumentValidation matters: without it mongorestore silently skips\n\
         documents that do not pass their collection's validator.\n\
         \n\
         One collection, for example orders of the database shop:\n\
         \n\
         \x20   mongorestore --uri='mongodb://localhost:27017' --bypassDocumentValidation \\\n\
         \x20     --nsInclude=shop.orders dump/\n\
         \n\
         Users and roles are in dump/admin/. A restore of everything includes them.\n\
         \n\
         dump/ is a directory as mongodump writes it: a .bson file holds the documents of a\n\
         collection (bsondump prints them), a .metadata.json file its options and indexes.\n"
    )
}

const SLICE: &str = "\
--oplogReplay matters: the collections were read one after the other, and\n\
dump/oplog.bson holds the writes of that time. Without it each collection is restored\n\
as of a different moment.\n\
\n";

#[cfg(test)]
mod tests {
    #[test]
    fn the_commands_fit_the_format() {
        for (format, command) in
            [("tar.gz", "tar xzf dump.tar.gz"), ("tar.zst", "zstd -dc dump.tar.zst | tar xf -")]
        {
            for (slice, restore) in [
                (
                    false,
                    "    mongorestore --uri='mongodb://localhost:27017' --bypassDocumentValidation dump/\n",
                ),
                (true, "--uri='mongodb://localhost:27017' --oplogReplay --bypassDocumentValidation dump/\n"),
            ] {
                let text = super::text("id", format.parse().unwrap(), "6.0.5", "uzima-backup 0.1.0", slice);
                assert!(text.contains(command) && text.contains(restore), "{text}");
                assert_eq!(text.contains("oplog"), slice, "{text}");
            }
        }
    }
}
