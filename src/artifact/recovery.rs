//! `RECOVERY.txt`: what a person needs who finds the artifact and nothing else.

use crate::config::format::Codec;
use crate::config::format::Format;

/// The text for a backup that is a tar; an archive has no place for it. With a `slice` mongorestore has to
/// be told to replay it: without the flag it leaves `oplog.bson` out, and exits with 0 (100.18).
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
        "This is the MongoDB backup {id}, written by {tool} from a server {server_version}.\n\
         \n\
         To bring everything back with stock tools (into an empty server, or add --drop to\n\
         replace the collections that are there):\n\
         \n\
         \x20   {unpack}\n\
         \x20   mongorestore --uri='mongodb://localhost:27017' {replay}--bypassDocumentValidation dump/\n\
         \n\
         {why}\
         --bypassDocumentValidation matters: without it mongorestore leaves out, in silence,\n\
         documents that do not pass their collection's validator.\n\
         \n\
         One collection, for example orders of the database shop:\n\
         \n\
         \x20   mongorestore --uri='mongodb://localhost:27017' --bypassDocumentValidation \\\n\
         \x20     --nsInclude=shop.orders dump/\n\
         \n\
         Users and roles are in dump/admin/ and come back with a restore of everything.\n\
         \n\
         dump/ is a directory as mongodump writes it: a .bson file holds the documents of a\n\
         collection one after the other (bsondump prints them), .metadata.json its options\n\
         and indexes.\n"
    )
}

const SLICE: &str = "\
--oplogReplay matters: dump/oplog.bson holds what was written while the collections were\n\
read, one after the other. Without it they are of different moments.\n\
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
