//! The shell script. Its PATH is its own, because the caller's environment may be empty.

use std::path::Path;

use super::{Ending, Play};

const HEAD: &str = r##"#!/bin/sh
PATH=/usr/local/bin:/usr/bin:/bin
export PATH
for argument in "$@"; do
    if [ "$argument" = --version ]; then
        echo asked >>"$home/version-calls"
        cat "$home/version"
        exit 0
    fi
done

number=1
until mkdir "$home/run-$number" 2>/dev/null; do
    number=$((number + 1))
done
run=$home/run-$number

# NUL cannot be in an argument, and a new line can.
: >"$run/argv"
[ $# -eq 0 ] || printf '%s\0' "$@" >"$run/argv"
# Values by hash: some are secrets.
awk 'BEGIN { for (name in ENVIRON) print name }' | while IFS= read -r name; do
    printf '%s=' "$name"
    awk -v name="$name" 'BEGIN { printf "%s", ENVIRON[name] }' | sha256sum | cut -d" " -f1
done >"$run/env"

config= archive= previous=
for argument in "$@"; do
    case $argument in
    --config=*) config=${argument#--config=} ;;
    --archive | --archive=-) archive=stdout ;;
    esac
    [ "$previous" = --config ] && config=$argument
    previous=$argument
done
if [ -n "$config" ]; then
    if [ -p "$config" ]; then echo pipe; else echo file; fi >"$run/config-via"
    # key: value, where the value may be in quotes, with YAML's escapes of a quote and of a backslash.
    while IFS= read -r line || [ -n "$line" ]; do
        key=${line%%:*}
        value=$(printf '%s' "${line#*:}" | sed -e 's/^ *//' -e 's/ *$//')
        case $value in
        \"*\") value=$(printf '%s' "$value" | sed -e 's/^"//' -e 's/"$//' -e 's/\\\(["\\/]\)/\1/g') ;;
        \'*\') value=$(printf '%s' "$value" | sed -e "s/^'//" -e "s/'\$//" -e "s/''/'/g") ;;
        esac
        printf '%s=%s\n' "$key" "$(printf '%s' "$value" | sha256sum | cut -d' ' -f1)"
    done <"$config" >"$run/config"
fi
# Last: a run is complete on record when this is there.
echo $$ >"$run/pid.new"
mv "$run/pid.new" "$run/pid"

if [ "$archive" != stdout ]; then
    echo "stand-in: --archive to stdout is all it can do" >&2
    exit 64
fi
"##;

pub(super) fn script(home: &Path, plays: &[Play]) -> String {
    let (first, rest) = HEAD.split_once('\n').unwrap_or((HEAD, ""));
    // Our own temporary folder's name: no quote in it that would end the string.
    let mut out = format!("{first}\nhome='{}'\n{rest}", home.display());
    out += &format!("[ $number -gt {0} ] && number={0}\ncase $number in\n", plays.len());
    for (number, play) in (1..).zip(plays) {
        let trap = if play.ignores_term { "trap '' TERM INT; " } else { "" };
        let silent = if play.silent > 0 { format!("sleep {}; ", play.silent) } else { String::new() };
        let ending = match play.ending {
            Ending::Exit(status) => format!("exit {status}"),
            Ending::Killed => "kill -9 $$".to_owned(),
            // In this process's place, so that nothing is left when it is killed.
            Ending::Hangs => "exec sleep 100000".to_owned(),
        };
        out += &format!(
            "{number}) {trap}{silent}cat \"$home/archive-{number}\"; cat \"$home/stderr-{number}\" >&2; {ending} ;;\n"
        );
    }
    out + "esac\n"
}
