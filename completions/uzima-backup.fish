# Ids, jobs, places and namespaces that this machine knows, without the network.
function __uzima_backup_offers
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    uzima-backup __complete $words[2..] "$current" 2>/dev/null </dev/null
end

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_uzima_backup_global_optspecs
    string join \n config= json q/quiet log-file= v/verbose h/help V/version
end

function __fish_uzima_backup_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_uzima_backup_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_uzima_backup_using_subcommand
    set -l cmd (__fish_uzima_backup_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -s h -l help -d 'Print help'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -s V -l version -d 'Print version'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "init" -d 'Write a configuration file for this machine, try it, and install the schedule'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "backup" -d 'Dump a MongoDB server into one artifact in the bucket or directory'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "oplog" -d 'Store what the server wrote since the last run, in slices of its oplog'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "restore" -d 'Restore a backup, or chosen namespaces of it, into a server'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "get" -d 'Print documents of one collection of a backup'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "list" -d 'List the backups that exist, and the runs that made none, or show everything about one of them'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "cleanup" -d 'Delete backups that are older than necessary, never the last good ones'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "copy" -d 'Copy backups and oplog slices to the places that lack them'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "pin" -d 'Protect a backup from every cleanup'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "unpin" -d 'Let retention decide on a backup again'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "verify" -d 'Read a backup again, and compare every byte with its manifest'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "diff" -d 'Show what changed between two backups'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "stats" -d 'Show the statistics of a job'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "timeline" -d 'Show which points in time can be restored, and what happened when'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "health" -d 'Check that tonight\'s backup will work, and that there is a good one'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "notify" -d 'Send a sample of each mail and signal, or write the mails to files'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "keygen" -d 'Make a key for encrypted or signed backups'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "config" -d 'Show the merged settings and where each came from, without secrets'
complete -c uzima-backup -n "__fish_uzima_backup_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l mongo-uri -d 'The server; set MONGO_URI or MONGO_URI_FILE for a URI with a password, so that other users cannot see it' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l dir -d 'Back up to this directory' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l copy-dir -d 'Also keep a copy of every backup in this directory. COPY_S3_BUCKET names a bucket instead, with a key in COPY_AWS_…' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l install -d 'Install the schedule: show a plan, ask, and carry it out. With `systemd` or `cron`, by its timers or by the user\'s crontab; else by what fits this machine' -r -f -a "auto\t''
systemd\t''
cron\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l recipients -d 'Encrypt the backups to these public keys, age1… or ssh-ed25519, separated by commas (may be given several times). Their secret keys must not be on this machine. Without this flag, the first --install asks on a terminal' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l no-copy -d 'Do not ask about a copy'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l with-secrets -d 'Write the secrets of the environment into the file'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l force -d 'Replace an existing configuration file; a copy of it is kept (.bak), and owner and group stay'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l no-encryption -d 'Do not ask about encryption'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l signing -d 'Make a signing key beside the configuration file, and sign the backups with it'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l no-signing -d 'Do not ask about signatures'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l oplog -d 'Also store the oplog every 10 minutes, so that `restore --at` reaches any second of the last days; for a replica set. Without this flag, --install asks on a terminal, and keeps what an earlier installation has'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l no-oplog -d 'Do not store the oplog, and remove the job of an earlier installation'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l yes -d 'Do not ask for confirmation of --install'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l dry-run -d 'Print the plan of --install, and stop'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l db -d 'Only this database (may be given several times)' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l include -d 'Only namespaces that match, e.g. \'shop.*\' (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l exclude -d 'No namespace that matches (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l job -d 'The job of this backup; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l engine -d 'The engine that reads the data: auto, native or mongodump' -r -f -a "auto\t''
native\t''
mongodump\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l consistency -d 'How all data gets to one instant: auto, oplog, snapshot or none' -r -f -a "auto\t''
oplog\t''
snapshot\t''
none\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l format -d 'tar.gz, tar.zst, archive.gz or archive.zst' -r -f -a "tar.gz\t''
tar.zst\t''
archive.gz\t''
archive.zst\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l level -d 'Compression level: gzip 1 to 12, zstd 1 to 19, or auto, which follows the line' -r -f -a "auto\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l dir -d 'Back up to this directory' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l wait -d 'Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l check-compression -d 'Decompress each block again and compare it with the original'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l allow-empty -d 'Accept a server without collections'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l new-place -d 'The place is new: continue although known backups are missing there'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l dry-run -d 'Print the namespaces that would be read, and stop'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l db -d 'Only this database (may be given several times)' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l include -d 'Only namespaces that match, e.g. \'shop.*\' (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l exclude -d 'No namespace that matches (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l job -d 'The job whose backups the slices belong to; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l wait -d 'Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l dry-run -d 'Read and compress the oplog, print how much would be stored, and store nothing'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand oplog" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l from -d 'Restore this archive, tar or folder, made by mongodump or this tool, instead of a backup in the store' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l identity -d 'The file with the secret keys of an encrypted backup and of encrypted oplog slices' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l allow-unsigned -d 'Restore this backup although its signature is missing or wrong' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l to-uri -d 'The server to restore into, without a password: set RESTORE_URI for a URI with one' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l ns-include -d 'Only namespaces that match, e.g. \'shop.*\' (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l ns-exclude -d 'No namespace that matches (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l ns-from -d 'Rename the namespaces that match, see --ns-to (may be given several times)' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l ns-to -d 'The new name, once for each --ns-from' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l filter -d 'Only documents that match this filter in Extended JSON, as of the instant of the backup or the point in time; the filter language is that of `get`' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l undo -d 'Move back what the restore with this id moved in: the kept collections become live, and the live ones are kept' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l discard -d 'Drop the collections that the restore with this id keeps or, if it was interrupted, those that it made' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l no-index -d 'Do not build this index, \'database.collection.index\' (may be given several times)' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l at -d 'Restore the data as of this point in time, with a backup and the oplog slices after it: a time (RFC 3339), up to the end of that second; an entry of the oplog, seconds:ordinal; or newest' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l before -d 'Restore the data as it was before this entry of the oplog, seconds:ordinal' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l drop -d 'Replace existing namespaces that have the restored names'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l swap -d 'Fill new collections beside the live ones, and move them in when all is loaded; what was there is kept'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l merge -d 'Insert only documents whose _id is missing at the target; documents and collections that are there stay as they are'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l continue -d 'Go on with the interrupted restore that is the same as this one: complete namespaces stay, the others that it made are replaced'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l kept -d 'List the restores with --swap whose collections are kept, and the interrupted restores'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l exact -d 'Also drop everything that the backup does not have: other collections of its databases, other users'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l no-indexes -d 'Build no indexes'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l convert-legacy-indexes -d 'Convert indexes that servers since 3.4 refuse: a key value such as true or "" becomes 1'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l no-replay -d 'Do not replay the oplog slice: each collection is as it was when it was read'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l users -d 'Restore users and roles although namespaces are chosen'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l no-users -d 'Restore no users and roles'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l yes -d 'Do not ask for confirmation'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l dry-run -d 'Print the plan, check the data and whether the server accepts it, and stop'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l id -d 'Only the document with this _id, in Extended JSON, e.g. 5, \'"text"\' or \'{"$oid": "507f1f77bcf86cd799439011"}\'' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l filter -d 'Only documents that match, e.g. \'{"status": "open"}\'' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l limit -d 'The most documents' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l format -d 'json: canonical Extended JSON, which keeps all types, one document a line; relaxed: Extended JSON with plain numbers and times; bson: as in the files of mongodump' -r -f -a "json\t''
relaxed\t''
bson\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l identity -d 'The file with the secret keys of an encrypted backup' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l allow-unsigned -d 'Read this backup although its signature is missing or wrong' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l status -d 'Only these statuses: completed, running, failed, interrupted, deleted, damaged, artifact_missing, index_missing, manifest_missing, unreadable_manifest or archived, separated by commas (may be given several times); default: all but deleted' -r -f -a "running\t''
completed\t''
failed\t''
interrupted\t''
deleted\t''
damaged\t''
artifact_missing\t''
index_missing\t''
manifest_missing\t''
unreadable_manifest\t''
untrusted\t''
wrong_signature\t''
archived\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l limit -d 'At most this many rows' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l identity -d 'With an id: the file with the secret key of an encrypted backup, whose namespaces are shown only with it' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l accept -d 'This backup is right although it collapsed or is of another server (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l job -d 'The job; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l wait -d 'Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l dry-run -d 'Print the plan, and stop'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l force -d 'Delete even more than three and more than a quarter of the good backups at once; other reasons still freeze the plan'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l orphans -d 'Also delete artifacts without a manifest that are older than 2 days, of all jobs'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand cleanup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l to -d 'Copy to this place (may be given several times); without --to, to all places but the first' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l from -d 'Copy from this place; without --from, from the first one that has the backup whole' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l job -d 'The job; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l wait -d 'Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l missing -d 'All backups and oplog slices of the job that a place lacks and would keep'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l new-place -d 'The places that get copies are new, or lost their backups: continue although known backups are missing there'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l dry-run -d 'Print what would be copied, and stop'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand copy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l reason -d 'Why the backup is pinned, for people' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -s h -l help -d 'Print help'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -s h -l help -d 'Print help'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l sample -d 'With --all: only a random sample of this size' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l at -d 'With --drill: restore this point in time, with a backup and the oplog slices after it: a time (RFC 3339), up to the end of that second; an entry of the oplog, seconds:ordinal; or newest' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l identity -d 'The file with the secret keys of encrypted backups and slices; without it, only their stored bytes are checked' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l allow-unsigned -d 'Verify this backup although its signature is missing or wrong' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l to-uri -d 'Drill on this server, without a password: set DRILL_URI for a URI with one' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l all -d 'Every backup'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l oplog -d 'Only the oplog slices of the job: all entries, and the continuity of their chains; --all includes them, unless it is a sample'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l drill -d 'Then restore the backup into a scratch server, compare all data with the manifest, and remove the data again'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l limit -d 'With --documents: at most this many _ids in each list of a namespace' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l identity -d 'The file with the secret keys of encrypted backups' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l job -d 'Only backups of this job' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l documents -d 'Read and compare the documents of the namespaces whose documents differ'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l html -d 'Also write a page with charts, a forecast and the retention calendar to this file. The page uses no network and no script. An existing file is replaced' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l job -d 'The job; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l email -d 'Also mail the statistics'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l ns -d 'Only namespaces that match, db.collection with * (may be given several times)' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l from -d 'Only events from this time on: a date, or a time in UTC such as 2026-11-23T14:00Z' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l to -d 'Only events up to this time, a date with its last second' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l limit -d 'At most this many rows of writes, the largest and the unusual ones, and this many changes' -r -f
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l identity -d 'The file with the secret key of encrypted slices' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l job -d 'The job; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand timeline" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l skip -d 'Skip these checks, separated by commas (may be given several times): a new installation fails `freshness`' -r -f -a "configuration\t''
mongodb\t''
namespaces\t''
engine\t''
store\t''
disk\t''
clock\t''
freshness\t''
backups\t''
drill\t''
key\t''
oplog\t''
copies\t''
records\t''
mail\t''
deadman\t''
state\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l only -d 'Only these checks, separated by commas (may be given several times)' -r -f -a "configuration\t''
mongodb\t''
namespaces\t''
engine\t''
store\t''
disk\t''
clock\t''
freshness\t''
backups\t''
drill\t''
key\t''
oplog\t''
copies\t''
records\t''
mail\t''
deadman\t''
state\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l job -d 'The job; by default, it is named after the chosen data and the host of the server' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l dir -d 'The directory of the backups' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l place -d 'The place of the backups by its name: `first`, or the name of a copy' -r -f -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l allow-empty -d 'Accept a server without collections'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l email -d 'Also mail the results'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand health" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -l render -d 'Write the samples to this directory, as HTML and as text, and send nothing' -r -f -a "(__fish_complete_directories)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -l event -d 'Only the mail and the webhook document of this event: success, failure, recovered, cleanup, frozen, stats or health (may be given several times)' -r -f -a "success\t''
failure\t''
recovered\t''
cleanup\t''
frozen\t''
stats\t''
health\t''"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -l test -d 'Send a sample of each mail in BACKUP_NOTIFY (of all mails if it is not set) and of each signal'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand notify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -l out -d 'Write the secret key to this file, which must not exist' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -l signing -d 'Make a key that signs backups'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand keygen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand config" -l config -d 'Read this configuration file instead of /etc/uzima-backup/config.toml' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand config" -l log-file -d 'Also append the log and the result to this file; rotate it with logrotate\'s copytruncate' -r -F
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand config" -l json -d 'Print the result as JSON on standard output'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand config" -s q -l quiet -d 'Print only errors'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand config" -s v -l verbose -d 'Log more; given twice, log everything (RUST_LOG is more selective)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand config" -s h -l help -d 'Print help'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "init" -d 'Write a configuration file for this machine, try it, and install the schedule'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "backup" -d 'Dump a MongoDB server into one artifact in the bucket or directory'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "oplog" -d 'Store what the server wrote since the last run, in slices of its oplog'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "restore" -d 'Restore a backup, or chosen namespaces of it, into a server'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "get" -d 'Print documents of one collection of a backup'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "list" -d 'List the backups that exist, and the runs that made none, or show everything about one of them'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "cleanup" -d 'Delete backups that are older than necessary, never the last good ones'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "copy" -d 'Copy backups and oplog slices to the places that lack them'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "pin" -d 'Protect a backup from every cleanup'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "unpin" -d 'Let retention decide on a backup again'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "verify" -d 'Read a backup again, and compare every byte with its manifest'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "diff" -d 'Show what changed between two backups'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "stats" -d 'Show the statistics of a job'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "timeline" -d 'Show which points in time can be restored, and what happened when'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "health" -d 'Check that tonight\'s backup will work, and that there is a good one'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "notify" -d 'Send a sample of each mail and signal, or write the mails to files'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "keygen" -d 'Make a key for encrypted or signed backups'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "config" -d 'Show the merged settings and where each came from, without secrets'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand help; and not __fish_seen_subcommand_from init backup oplog restore get list cleanup copy pin unpin verify diff stats timeline health notify keygen config help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand restore" -f -k -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand get" -f -k -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand list" -f -k -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand pin" -f -k -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand unpin" -f -k -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand verify" -f -k -a "(__uzima_backup_offers)"
complete -c uzima-backup -n "__fish_uzima_backup_using_subcommand diff" -f -k -a "(__uzima_backup_offers)"
