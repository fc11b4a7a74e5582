#compdef uzima-backup

autoload -U is-at-least

_uzima-backup() {
    local -a _uzima_backup_words; _uzima_backup_words=("${(@)words[2,CURRENT]}")
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_uzima-backup_commands" \
"*::: :->uzima-backup" \
&& ret=0
    case $state in
    (uzima-backup)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:uzima-backup-command-$line[1]:"
        case $line[1] in
            (init)
_arguments "${_arguments_options[@]}" : \
'--mongo-uri=[The server; set MONGO_URI or MONGO_URI_FILE for a URI with a password, so that other users cannot see it]:URI:' \
'--dir=[Back up to this directory]:DIR:_files -/' \
'--copy-dir=[Also keep a copy of every backup in this directory. COPY_S3_BUCKET names a bucket instead, with a key in COPY_AWS_…]:DIR:_files -/' \
'--install=[Install the schedule\: show a plan, ask, and carry it out. With \`systemd\` or \`cron\`, by its timers or by the user'\''s crontab; else by what fits this machine]::HOW:(auto systemd cron)' \
'(--no-encryption)*--recipients=[Encrypt the backups to these public keys, age1… or ssh-ed25519, separated by commas (may be given several times). Their secret keys must not be on this machine. Without this flag, the first --install asks on a terminal]:KEY:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'(--copy-dir)--no-copy[Do not ask about a copy]' \
'--with-secrets[Write the secrets of the environment into the file]' \
'--force[Replace an existing configuration file; a copy of it is kept (.bak), and owner and group stay]' \
'--no-encryption[Do not ask about encryption]' \
'(--no-signing)--signing[Make a signing key beside the configuration file, and sign the backups with it]' \
'--no-signing[Do not ask about signatures]' \
'(--no-oplog)--oplog[Also store the oplog every 10 minutes, so that \`restore --at\` reaches any second of the last days; for a replica set. Without this flag, --install asks on a terminal, and keeps what an earlier installation has]' \
'--no-oplog[Do not store the oplog, and remove the job of an earlier installation]' \
'--yes[Do not ask for confirmation of --install]' \
'--dry-run[Print the plan of --install, and stop]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(backup)
_arguments "${_arguments_options[@]}" : \
'*--db=[Only this database (may be given several times)]:NAME:' \
'*--include=[Only namespaces that match, e.g. '\''shop.*'\'' (may be given several times)]:PATTERN: _uzima_backup_offers' \
'*--exclude=[No namespace that matches (may be given several times)]:PATTERN: _uzima_backup_offers' \
'--job=[The job of this backup; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--engine=[The engine that reads the data\: auto, native or mongodump]:ENGINE:(auto native mongodump)' \
'--consistency=[How all data gets to one instant\: auto, oplog, snapshot or none]:CONSISTENCY:(auto oplog snapshot none)' \
'--format=[tar.gz, tar.zst, archive.gz or archive.zst]:FORMAT:(tar.gz tar.zst archive.gz archive.zst)' \
'--level=[Compression level\: gzip 1 to 12, zstd 1 to 19, or auto, which follows the line]:LEVEL:(auto)' \
'--dir=[Back up to this directory]:DIR:_files -/' \
'--wait=[Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once]:DURATION:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--check-compression[Decompress each block again and compare it with the original]' \
'--allow-empty[Accept a server without collections]' \
'--new-place[The place is new\: continue although known backups are missing there]' \
'--dry-run[Print the namespaces that would be read, and stop]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(oplog)
_arguments "${_arguments_options[@]}" : \
'*--db=[Only this database (may be given several times)]:NAME:' \
'*--include=[Only namespaces that match, e.g. '\''shop.*'\'' (may be given several times)]:PATTERN: _uzima_backup_offers' \
'*--exclude=[No namespace that matches (may be given several times)]:PATTERN: _uzima_backup_offers' \
'--job=[The job whose backups the slices belong to; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'--wait=[Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once]:DURATION:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--dry-run[Read and compress the oplog, print how much would be stored, and store nothing]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
'(--job --dir)--from=[Restore this archive, tar or folder, made by mongodump or this tool, instead of a backup in the store]:PATH:_files' \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'(--from)--identity=[The file with the secret keys of an encrypted backup and of encrypted oplog slices]:FILE:_files' \
'(--from)--allow-unsigned=[Restore this backup although its signature is missing or wrong]:ID: _uzima_backup_offers' \
'--to-uri=[The server to restore into, without a password\: set RESTORE_URI for a URI with one]:URI:' \
'*--ns-include=[Only namespaces that match, e.g. '\''shop.*'\'' (may be given several times)]:PATTERN: _uzima_backup_offers' \
'*--ns-exclude=[No namespace that matches (may be given several times)]:PATTERN: _uzima_backup_offers' \
'*--ns-from=[Rename the namespaces that match, see --ns-to (may be given several times)]:PATTERN:' \
'*--ns-to=[The new name, once for each --ns-from]:PATTERN:' \
'(--swap --exact --users)--filter=[Only documents that match this filter in Extended JSON, as of the instant of the backup or the point in time; the filter language is that of \`get\`]:EJSON:' \
'(--from --at --before --allow-unsigned --ns-include --ns-exclude --ns-from --ns-to --drop --exact --swap --filter --merge --continue --no-indexes --no-index --no-replay --dry-run)--undo=[Move back what the restore with this id moved in\: the kept collections become live, and the live ones are kept]:ID:' \
'(--from --at --before --allow-unsigned --ns-include --ns-exclude --ns-from --ns-to --drop --exact --swap --filter --merge --continue --no-indexes --no-index --no-replay --dry-run)--discard=[Drop the collections that the restore with this id keeps or, if it was interrupted, those that it made]:ID:' \
'*--no-index=[Do not build this index, '\''database.collection.index'\'' (may be given several times)]:PATTERN:' \
'(--no-replay)--at=[Restore the data as of this point in time, with a backup and the oplog slices after it\: a time (RFC 3339), up to the end of that second; an entry of the oplog, seconds\:ordinal; or newest]:TIME|T:I|newest:' \
'(--no-replay --at --from)--before=[Restore the data as it was before this entry of the oplog, seconds\:ordinal]:T:I:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--drop[Replace existing namespaces that have the restored names]' \
'(--drop --exact --ns-from --ns-to --users)--swap[Fill new collections beside the live ones, and move them in when all is loaded; what was there is kept]' \
'(--drop --exact --swap --users)--merge[Insert only documents whose _id is missing at the target; documents and collections that are there stay as they are]' \
'(--swap --exact --filter --merge)--continue[Go on with the interrupted restore that is the same as this one\: complete namespaces stay, the others that it made are replaced]' \
'(--from --at --before --allow-unsigned --ns-include --ns-exclude --ns-from --ns-to --drop --exact --swap --filter --merge --continue --no-indexes --no-index --no-replay --dry-run)--kept[List the restores with --swap whose collections are kept, and the interrupted restores]' \
'--exact[Also drop everything that the backup does not have\: other collections of its databases, other users]' \
'--no-indexes[Build no indexes]' \
'--convert-legacy-indexes[Convert indexes that servers since 3.4 refuse\: a key value such as true or "" becomes 1]' \
'--no-replay[Do not replay the oplog slice\: each collection is as it was when it was read]' \
'(--no-users)--users[Restore users and roles although namespaces are chosen]' \
'--no-users[Restore no users and roles]' \
'--yes[Do not ask for confirmation]' \
'--dry-run[Print the plan, check the data and whether the server accepts it, and stop]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::which -- `latest`, an id or its beginning, or a date or time in UTC\: the newest good backup that was complete by then: _uzima_backup_offers latest' \
&& ret=0
;;
(get)
_arguments "${_arguments_options[@]}" : \
'(--filter)--id=[Only the document with this _id, in Extended JSON, e.g. 5, '\''"text"'\'' or '\''{"\$oid"\: "507f1f77bcf86cd799439011"}'\'']:EJSON:' \
'--filter=[Only documents that match, e.g. '\''{"status"\: "open"}'\'']:EJSON:' \
'--limit=[The most documents]:N:' \
'--format=[json\: canonical Extended JSON, which keeps all types, one document a line; relaxed\: Extended JSON with plain numbers and times; bson\: as in the files of mongodump]:FORMAT:(json relaxed bson)' \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--identity=[The file with the secret keys of an encrypted backup]:FILE:_files' \
'--allow-unsigned=[Read this backup although its signature is missing or wrong]:ID: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':which -- `latest`, an id or its beginning, or a date or time in UTC\: the newest good backup that was complete by then: _uzima_backup_offers latest' \
':namespace -- The collection\: database.collection: _uzima_backup_offers' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'*--status=[Only these statuses\: completed, running, failed, interrupted, deleted, damaged, artifact_missing, index_missing, manifest_missing, unreadable_manifest or archived, separated by commas (may be given several times); default\: all but deleted]:STATUS:(running completed failed interrupted deleted damaged artifact_missing index_missing manifest_missing unreadable_manifest untrusted wrong_signature archived)' \
'--limit=[At most this many rows]:N:' \
'--identity=[With an id\: the file with the secret key of an encrypted backup, whose namespaces are shown only with it]:FILE:_files' \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::which -- Show everything about one run and its backup\: `latest`, an id or its beginning, or a date or time in UTC\: the newest good backup that was complete by then: _uzima_backup_offers latest' \
&& ret=0
;;
(cleanup)
_arguments "${_arguments_options[@]}" : \
'*--accept=[This backup is right although it collapsed or is of another server (may be given several times)]:ID: _uzima_backup_offers' \
'--job=[The job; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--wait=[Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once]:DURATION:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--dry-run[Print the plan, and stop]' \
'--force[Delete even more than three and more than a quarter of the good backups at once; other reasons still freeze the plan]' \
'--orphans[Also delete artifacts without a manifest that are older than 2 days, of all jobs]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(copy)
_arguments "${_arguments_options[@]}" : \
'*--to=[Copy to this place (may be given several times); without --to, to all places but the first]:NAME: _uzima_backup_offers' \
'--from=[Copy from this place; without --from, from the first one that has the backup whole]:NAME: _uzima_backup_offers' \
'--job=[The job; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--wait=[Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once]:DURATION:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--missing[All backups and oplog slices of the job that a place lacks and would keep]' \
'--new-place[The places that get copies are new, or lost their backups\: continue although known backups are missing there]' \
'--dry-run[Print what would be copied, and stop]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::ids -- These backups, by their ids:' \
&& ret=0
;;
(pin)
_arguments "${_arguments_options[@]}" : \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--reason=[Why the backup is pinned, for people]:TEXT:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help]' \
'--help[Print help]' \
':which -- `latest`, an id or its beginning, or a date or time in UTC\: the newest good backup that was complete by then: _uzima_backup_offers latest' \
&& ret=0
;;
(unpin)
_arguments "${_arguments_options[@]}" : \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help]' \
'--help[Print help]' \
':which -- `latest`, an id or its beginning, or a date or time in UTC\: the newest good backup that was complete by then: _uzima_backup_offers latest' \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
'--sample=[With --all\: only a random sample of this size]:N%:' \
'--at=[With --drill\: restore this point in time, with a backup and the oplog slices after it\: a time (RFC 3339), up to the end of that second; an entry of the oplog, seconds\:ordinal; or newest]:TIME|T:I|newest:' \
'--identity=[The file with the secret keys of encrypted backups and slices; without it, only their stored bytes are checked]:FILE:_files' \
'(--all --oplog)--allow-unsigned=[Verify this backup although its signature is missing or wrong]:ID: _uzima_backup_offers' \
'--to-uri=[Drill on this server, without a password\: set DRILL_URI for a URI with one]:URI:' \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--all[Every backup]' \
'(--drill)--oplog[Only the oplog slices of the job\: all entries, and the continuity of their chains; --all includes them, unless it is a sample]' \
'(--all)--drill[Then restore the backup into a scratch server, compare all data with the manifest, and remove the data again]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::which -- `latest`, an id or its beginning, or a date or time in UTC\: the newest good backup that was complete by then: _uzima_backup_offers latest' \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
'--limit=[With --documents\: at most this many _ids in each list of a namespace]:N:' \
'--identity=[The file with the secret keys of encrypted backups]:FILE:_files' \
'--job=[Only backups of this job]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--documents[Read and compare the documents of the namespaces whose documents differ]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':from_backup -- The first backup\: `latest`, an id or its beginning, or a date or time in UTC: _uzima_backup_offers latest' \
':to_backup -- The second backup: _uzima_backup_offers latest' \
'::ns -- Only this namespace, database.collection, or this database: _uzima_backup_offers' \
&& ret=0
;;
(stats)
_arguments "${_arguments_options[@]}" : \
'--html=[Also write a page with charts, a forecast and the retention calendar to this file. The page uses no network and no script. An existing file is replaced]:FILE:_files' \
'--job=[The job; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--email[Also mail the statistics]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(timeline)
_arguments "${_arguments_options[@]}" : \
'*--ns=[Only namespaces that match, db.collection with * (may be given several times)]:PATTERN: _uzima_backup_offers' \
'--from=[Only events from this time on\: a date, or a time in UTC such as 2026-11-23T14\:00Z]:TIME:' \
'--to=[Only events up to this time, a date with its last second]:TIME:' \
'--limit=[At most this many rows of writes, the largest and the unusual ones, and this many changes]:N:' \
'--identity=[The file with the secret key of encrypted slices]:FILE:_files' \
'--job=[The job; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(health)
_arguments "${_arguments_options[@]}" : \
'*--skip=[Skip these checks, separated by commas (may be given several times)\: a new installation fails \`freshness\`]:CHECK:(configuration mongodb namespaces engine store disk clock freshness backups drill key oplog copies records mail deadman state)' \
'*--only=[Only these checks, separated by commas (may be given several times)]:CHECK:(configuration mongodb namespaces engine store disk clock freshness backups drill key oplog copies records mail deadman state)' \
'--job=[The job; by default, it is named after the chosen data and the host of the server]:NAME: _uzima_backup_offers' \
'--dir=[The directory of the backups]:DIR:_files -/' \
'(--dir)--place=[The place of the backups by its name\: \`first\`, or the name of a copy]:NAME: _uzima_backup_offers' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--allow-empty[Accept a server without collections]' \
'--email[Also mail the results]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(notify)
_arguments "${_arguments_options[@]}" : \
'--render=[Write the samples to this directory, as HTML and as text, and send nothing]:DIR:_files -/' \
'*--event=[Only the mail and the webhook document of this event\: success, failure, recovered, cleanup, frozen, stats or health (may be given several times)]:NAME:(success failure recovered cleanup frozen stats health)' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'(--render)--test[Send a sample of each mail in BACKUP_NOTIFY (of all mails if it is not set) and of each signal]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(keygen)
_arguments "${_arguments_options[@]}" : \
'--out=[Write the secret key to this file, which must not exist]:FILE:_files' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--signing[Make a key that signs backups]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Also append the log and the result to this file; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print only errors]' \
'(-v --verbose)--quiet[Print only errors]' \
'*-v[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'*--verbose[Log more; given twice, log everything (RUST_LOG is more selective)]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_uzima-backup__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:uzima-backup-help-command-$line[1]:"
        case $line[1] in
            (init)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(backup)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(oplog)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(get)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(cleanup)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(copy)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(pin)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(unpin)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(stats)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(timeline)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(health)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(notify)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(keygen)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_uzima-backup_commands] )) ||
_uzima-backup_commands() {
    local commands; commands=(
'init:Write a configuration file for this machine, try it, and install the schedule' \
'backup:Dump a MongoDB server into one artifact in the bucket or directory' \
'oplog:Store what the server wrote since the last run, in slices of its oplog' \
'restore:Restore a backup, or chosen namespaces of it, into a server' \
'get:Print documents of one collection of a backup' \
'list:List the backups that exist, and the runs that made none, or show everything about one of them' \
'cleanup:Delete backups that are older than necessary, never the last good ones' \
'copy:Copy backups and oplog slices to the places that lack them' \
'pin:Protect a backup from every cleanup' \
'unpin:Let retention decide on a backup again' \
'verify:Read a backup again, and compare every byte with its manifest' \
'diff:Show what changed between two backups' \
'stats:Show the statistics of a job' \
'timeline:Show which points in time can be restored, and what happened when' \
'health:Check that tonight'\''s backup will work, and that there is a good one' \
'notify:Send a sample of each mail and signal, or write the mails to files' \
'keygen:Make a key for encrypted or signed backups' \
'config:Show the merged settings and where each came from, without secrets' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'uzima-backup commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__backup_commands] )) ||
_uzima-backup__subcmd__backup_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup backup commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__cleanup_commands] )) ||
_uzima-backup__subcmd__cleanup_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup cleanup commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__config_commands] )) ||
_uzima-backup__subcmd__config_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup config commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__copy_commands] )) ||
_uzima-backup__subcmd__copy_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup copy commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__diff_commands] )) ||
_uzima-backup__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup diff commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__get_commands] )) ||
_uzima-backup__subcmd__get_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup get commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__health_commands] )) ||
_uzima-backup__subcmd__health_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup health commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help_commands] )) ||
_uzima-backup__subcmd__help_commands() {
    local commands; commands=(
'init:Write a configuration file for this machine, try it, and install the schedule' \
'backup:Dump a MongoDB server into one artifact in the bucket or directory' \
'oplog:Store what the server wrote since the last run, in slices of its oplog' \
'restore:Restore a backup, or chosen namespaces of it, into a server' \
'get:Print documents of one collection of a backup' \
'list:List the backups that exist, and the runs that made none, or show everything about one of them' \
'cleanup:Delete backups that are older than necessary, never the last good ones' \
'copy:Copy backups and oplog slices to the places that lack them' \
'pin:Protect a backup from every cleanup' \
'unpin:Let retention decide on a backup again' \
'verify:Read a backup again, and compare every byte with its manifest' \
'diff:Show what changed between two backups' \
'stats:Show the statistics of a job' \
'timeline:Show which points in time can be restored, and what happened when' \
'health:Check that tonight'\''s backup will work, and that there is a good one' \
'notify:Send a sample of each mail and signal, or write the mails to files' \
'keygen:Make a key for encrypted or signed backups' \
'config:Show the merged settings and where each came from, without secrets' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'uzima-backup help commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__backup_commands] )) ||
_uzima-backup__subcmd__help__subcmd__backup_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help backup commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__cleanup_commands] )) ||
_uzima-backup__subcmd__help__subcmd__cleanup_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help cleanup commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__config_commands] )) ||
_uzima-backup__subcmd__help__subcmd__config_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help config commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__copy_commands] )) ||
_uzima-backup__subcmd__help__subcmd__copy_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help copy commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__diff_commands] )) ||
_uzima-backup__subcmd__help__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help diff commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__get_commands] )) ||
_uzima-backup__subcmd__help__subcmd__get_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help get commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__health_commands] )) ||
_uzima-backup__subcmd__help__subcmd__health_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help health commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__help_commands] )) ||
_uzima-backup__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help help commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__init_commands] )) ||
_uzima-backup__subcmd__help__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help init commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__keygen_commands] )) ||
_uzima-backup__subcmd__help__subcmd__keygen_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help keygen commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__list_commands] )) ||
_uzima-backup__subcmd__help__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help list commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__notify_commands] )) ||
_uzima-backup__subcmd__help__subcmd__notify_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help notify commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__oplog_commands] )) ||
_uzima-backup__subcmd__help__subcmd__oplog_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help oplog commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__pin_commands] )) ||
_uzima-backup__subcmd__help__subcmd__pin_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help pin commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__restore_commands] )) ||
_uzima-backup__subcmd__help__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help restore commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__stats_commands] )) ||
_uzima-backup__subcmd__help__subcmd__stats_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help stats commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__timeline_commands] )) ||
_uzima-backup__subcmd__help__subcmd__timeline_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help timeline commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__unpin_commands] )) ||
_uzima-backup__subcmd__help__subcmd__unpin_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help unpin commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help__subcmd__verify_commands] )) ||
_uzima-backup__subcmd__help__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup help verify commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__init_commands] )) ||
_uzima-backup__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup init commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__keygen_commands] )) ||
_uzima-backup__subcmd__keygen_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup keygen commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__list_commands] )) ||
_uzima-backup__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup list commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__notify_commands] )) ||
_uzima-backup__subcmd__notify_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup notify commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__oplog_commands] )) ||
_uzima-backup__subcmd__oplog_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup oplog commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__pin_commands] )) ||
_uzima-backup__subcmd__pin_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup pin commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__restore_commands] )) ||
_uzima-backup__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup restore commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__stats_commands] )) ||
_uzima-backup__subcmd__stats_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup stats commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__timeline_commands] )) ||
_uzima-backup__subcmd__timeline_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup timeline commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__unpin_commands] )) ||
_uzima-backup__subcmd__unpin_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup unpin commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__verify_commands] )) ||
_uzima-backup__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup verify commands' commands "$@"
}

# Ids, jobs, places and namespaces that this machine knows, without the network.
(( $+functions[_uzima_backup_offers] )) ||
_uzima_backup_offers() {
    local value described
    local -a offers
    while IFS=$'\t' read -r value described; do
        offers+=("${value}${described:+:$described}")
    done < <(uzima-backup __complete "${_uzima_backup_words[@]}" 2>/dev/null </dev/null)
    # Without a cache, the value that is always there.
    (( $#offers )) || offers=("$@")
    _describe -V 'known' offers
}

if [ "$funcstack[1]" = "_uzima-backup" ]; then
    _uzima-backup "$@"
else
    compdef _uzima-backup uzima-backup
fi
