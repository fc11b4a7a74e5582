#compdef uzima-backup

autoload -U is-at-least

_uzima-backup() {
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
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
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
'--mongo-uri=[The server; one with a password comes from MONGO_URI or MONGO_URI_FILE, which nobody else sees]:URI:' \
'--dir=[Back up to this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--with-secrets[Put the secrets of the environment into the file]' \
'--force[Replace the configuration file that is there; a copy of it is kept (.bak), its owner and group stay]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(backup)
_arguments "${_arguments_options[@]}" : \
'*--db=[Only this database (may be given several times)]:NAME:' \
'*--include=[Only namespaces that match, e.g. '\''shop.*'\'' (may be given several times)]:PATTERN:' \
'*--exclude=[No namespace that matches (may be given several times)]:PATTERN:' \
'--job=[The line of backups this one belongs to; default\: what is read, at which host]:NAME:' \
'--engine=[What reads\: auto, native or mongodump]:ENGINE:(auto native mongodump)' \
'--consistency=[That the data is of one instant\: auto, oplog, snapshot or none]:CONSISTENCY:(auto oplog snapshot none)' \
'--format=[tar.gz, tar.zst, archive.gz or archive.zst]:FORMAT:(tar.gz tar.zst archive.gz archive.zst)' \
'--level=[Compression level\: gzip 1 to 12, zstd 1 to 19]:LEVEL:' \
'--dir=[Back up to this directory]:DIR:_files -/' \
'--wait=[Wait so long for another run of this job to end, e.g. 90s, 10m or 2h; without it, exit 75 at once]:DURATION:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--check-compression[Decompress every block again and compare it before it counts]' \
'--allow-empty[A server without collections is not an error]' \
'--new-place[The place is new\: go on although backups that are known of it are not there]' \
'--dry-run[Print what would be read, and stop]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
'(--job --dir)--from=[Restore this archive, tar or folder, of mongodump or of this tool, instead of a backup in the store]:PATH:_files' \
'--job=[The line of backups of which \`latest\` is]:NAME:' \
'--to-uri=[The server to restore into, without a password\: give that in RESTORE_URI]:URI:' \
'*--ns-include=[Only namespaces that match, e.g. '\''shop.*'\'' (may be given several times)]:PATTERN:' \
'*--ns-exclude=[No namespace that matches (may be given several times)]:PATTERN:' \
'*--ns-from=[Restore what matches under another name, see --ns-to (may be given several times)]:PATTERN:' \
'*--ns-to=[The other name, one for each --ns-from]:PATTERN:' \
'*--no-index=[Do not build this index, '\''database.collection.index'\'' (may be given several times)]:PATTERN:' \
'(--no-replay)--at=[Restore only if all is then as of this instant\: a time (RFC 3339) or seconds\:ordinal]:TIME:' \
'--dir=[The backup is in this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--drop[Replace what is there under the names that are restored]' \
'--exact[Also drop what the backup does not have\: other collections of its databases, other users]' \
'--no-indexes[Build no indexes]' \
'--convert-legacy-indexes[Convert indexes that servers since 3.4 refuse\: a key value such as true or "" becomes 1]' \
'--no-replay[Do not replay the oplog slice\: each collection is as it was when it was read]' \
'(--no-users)--users[Restore users and roles although namespaces are chosen]' \
'--no-users[Restore no users and roles]' \
'--yes[Do not ask]' \
'--dry-run[Print the plan, check what would be restored and whether the server accepts it, and stop]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::which -- `latest`, or the id of a backup:(latest)' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'*--status=[Only what is completed, running, failed, interrupted, deleted, damaged, artifact_missing, index_missing, manifest_missing, unreadable_manifest or archived, with commas between (may be given several times); default\: all but deleted]:STATUS:(running completed failed interrupted deleted damaged artifact_missing index_missing manifest_missing unreadable_manifest archived)' \
'--job=[Only backups of this job]:NAME:' \
'--limit=[At most so many]:N:' \
'--dir=[List this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(cleanup)
_arguments "${_arguments_options[@]}" : \
'*--accept=[This backup is right although it collapsed or is of another server (may be given several times)]:ID:' \
'--job=[The line of backups; default\: what is read, at which host]:NAME:' \
'--dir=[Clean up this directory]:DIR:_files -/' \
'--wait=[Wait so long for another run of this job to end, e.g. 90s, 10m or 2h; without it, exit 75 at once]:DURATION:' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--dry-run[Print the plan, and stop]' \
'--force[Delete although it would be more than three, and more than a quarter, of the good backups at once; whatever else freezes the plan still does]' \
'--orphans[Delete artifacts without a manifest that are older than 2 days as well, of all jobs]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(pin)
_arguments "${_arguments_options[@]}" : \
'--reason=[Why, for people]:TEXT:' \
'--job=[The line of backups of which \`latest\` is]:NAME:' \
'--dir=[It is in this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help]' \
'--help[Print help]' \
':which -- `latest`, or the id of a backup:(latest)' \
&& ret=0
;;
(unpin)
_arguments "${_arguments_options[@]}" : \
'--job=[The line of backups of which \`latest\` is]:NAME:' \
'--dir=[It is in this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help]' \
'--help[Print help]' \
':which -- `latest`, or the id of a backup:(latest)' \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
'--sample=[With --all\: so many percent of them, chosen by chance]:N%:' \
'--to-uri=[Drill on this server, without a password\: give that in DRILL_URI]:URI:' \
'--job=[Only backups of this job]:NAME:' \
'--dir=[Backups are in this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--all[Every backup]' \
'(--all)--drill[Then restore it into a scratch server, compare everything with the manifest, and remove it again]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::which -- The backup\: an id, or latest:(latest)' \
&& ret=0
;;
(stats)
_arguments "${_arguments_options[@]}" : \
'--html=[Write a page with charts, a forecast and the retention calendar to this file as well; it needs no network and no script, and is replaced whole]:FILE:_files' \
'--job=[The line of backups; default\: what is read, at which host]:NAME:' \
'--dir=[Backups are in this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--email[Mail them as well]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(health)
_arguments "${_arguments_options[@]}" : \
'*--skip=[Not these checks, with commas between (may be given several times)\: a new installation has no backup to be fresh]:CHECK:(configuration mongodb namespaces engine store disk clock freshness backups drill records mail state)' \
'*--only=[Only these checks, with commas between (may be given several times)]:CHECK:(configuration mongodb namespaces engine store disk clock freshness backups drill records mail state)' \
'--job=[The line of backups; default\: what is read, at which host]:NAME:' \
'--dir=[Backups are in this directory]:DIR:_files -/' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--allow-empty[A server without collections is not an error]' \
'--email[Mail what was found as well]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(notify)
_arguments "${_arguments_options[@]}" : \
'--render=[Write the samples to this directory, as HTML and as text, and send nothing]:DIR:_files -/' \
'*--event=[Only the mail, and what a webhook is told, about this event\: success, failure, recovered, cleanup, frozen, stats or health (may be given several times)]:NAME:(success failure recovered cleanup frozen stats health)' \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'(--render)--test[Send a sample of each mail that BACKUP_NOTIFY names (without it, of all), and of each signal]' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
'--config=[Read this configuration file instead of /etc/uzima-backup/config.toml]:FILE:_files' \
'--log-file=[Append the log to this file as well, with the result; rotate it with logrotate'\''s copytruncate]:FILE:_files' \
'--json[Print the result as JSON on standard output]' \
'(-v --verbose)-q[Print nothing but errors]' \
'(-v --verbose)--quiet[Print nothing but errors]' \
'*-v[Log more; twice, everything (RUST_LOG is finer)]' \
'*--verbose[Log more; twice, everything (RUST_LOG is finer)]' \
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
(restore)
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
(stats)
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
'init:Write a configuration file for this machine, and try it' \
'backup:Dump a MongoDB server into one artifact in the bucket or directory' \
'restore:Bring a backup, or chosen namespaces of it, back into a server' \
'list:List the backups that exist, and the runs that made none, newest first' \
'cleanup:Delete backups that are older than they need be, never the last good ones' \
'pin:Keep a backup from every cleanup' \
'unpin:Let retention decide on a backup again' \
'verify:Read a backup again, and hold every byte of it against its manifest' \
'stats:Tell what the runs of a job tell together' \
'health:Check that tonight'\''s backup will work, and that there is a good one' \
'notify:Send a sample of each mail and signal, or write the mails to files' \
'config:Show the merged settings, secrets hidden, and where each came from' \
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
(( $+functions[_uzima-backup__subcmd__health_commands] )) ||
_uzima-backup__subcmd__health_commands() {
    local commands; commands=()
    _describe -t commands 'uzima-backup health commands' commands "$@"
}
(( $+functions[_uzima-backup__subcmd__help_commands] )) ||
_uzima-backup__subcmd__help_commands() {
    local commands; commands=(
'init:Write a configuration file for this machine, and try it' \
'backup:Dump a MongoDB server into one artifact in the bucket or directory' \
'restore:Bring a backup, or chosen namespaces of it, back into a server' \
'list:List the backups that exist, and the runs that made none, newest first' \
'cleanup:Delete backups that are older than they need be, never the last good ones' \
'pin:Keep a backup from every cleanup' \
'unpin:Let retention decide on a backup again' \
'verify:Read a backup again, and hold every byte of it against its manifest' \
'stats:Tell what the runs of a job tell together' \
'health:Check that tonight'\''s backup will work, and that there is a good one' \
'notify:Send a sample of each mail and signal, or write the mails to files' \
'config:Show the merged settings, secrets hidden, and where each came from' \
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

if [ "$funcstack[1]" = "_uzima-backup" ]; then
    _uzima-backup "$@"
else
    compdef _uzima-backup uzima-backup
fi
