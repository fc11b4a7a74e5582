//! The user's crontab: a block between two marker lines for each configuration file. All other lines stay as they are.

use std::path::Path;

use super::{Host, Installed, Step, StepKind, changed};
use crate::base::error::{Error, Result};
use crate::ops::init::schedule::Schedule;

/// The longest command that cron runs: Vixie cron and Debian's cut a longer one (MAX_COMMAND).
const LONGEST: usize = 998;

/// The marker lines of the block for a configuration file. A second configuration file has a block of its own, so that
/// its installation does not end the backups of the first.
fn markers(file: &Path) -> [String; 2] {
    ["BEGIN", "END"].map(|word| format!("# {word} uzima-backup init {}", file.display()))
}

/// The block of this schedule, with its marker lines.
fn block(schedule: &Schedule, file: &Path) -> Result<String> {
    let [begin, end] = markers(file);
    let jobs = schedule.crontab();
    if let Some(long) = jobs.iter().find(|job| job.len() > LONGEST) {
        return Err(Error::usage(format!(
            "a line of the crontab is longer than cron's {LONGEST} bytes: {long}"
        ))
        .hint("Write the secrets to the configuration file (--with-secrets), or use shorter paths"));
    }
    let note = "# Written by `uzima-backup init --install`, which replaces these lines.";
    Ok([&[begin, note.to_string()], jobs.as_slice(), &[end]].concat().join("\n") + "\n")
}

/// The user's crontab; empty if there is none.
///
/// # Errors
/// Returns an error if `crontab -l` fails for any other reason: a crontab that cannot be read must not be replaced.
async fn read(host: &Host) -> Result<Vec<u8>> {
    let ended = host.run("crontab", &["-l"], b"").await?;
    let stderr = ended.stderr.to_lowercase();
    // cronie and Debian's cron; BusyBox.
    let none =
        stderr.contains("no crontab for") || stderr.contains("can't open") && stderr.contains("no such file");
    match ended.status.success() {
        true => Ok(ended.stdout),
        false if none && ended.stdout.is_empty() => Ok(Vec::new()),
        false => Err(Error::failed("`crontab -l` cannot read the crontab, so it is not changed")
            .hint("Correct what it says; a user may need an entry in /etc/cron.allow")
            .caused_by(Error::failed(ended.why()))),
    }
}

/// Splits a crontab into the bytes before the block, the block and the bytes after it. Without a block, everything is
/// before it.
///
/// # Errors
/// Returns an error if a marker line is missing, or is there twice.
fn split<'a>(crontab: &'a [u8], file: &Path) -> Result<(&'a [u8], &'a [u8], &'a [u8])> {
    let [begin, end] = markers(file);
    let (mut at, mut starts, mut ends) = (0, Vec::new(), Vec::new());
    for line in crontab.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        if text == begin.as_bytes() {
            starts.push(at);
        }
        at += line.len();
        if text == end.as_bytes() {
            ends.push(at);
        }
    }
    match (&starts[..], &ends[..]) {
        ([], []) => Ok((crontab, b"", b"")),
        ([start], [end]) if start < end => Ok((&crontab[..*start], &crontab[*start..*end], &crontab[*end..])),
        _ => Err(Error::failed(format!(
            "the lines `{begin}` and `{end}` are not in the crontab exactly once each, in this order"
        ))
        .hint("Correct them with `crontab -e`: delete the lines from the first to the last of them")),
    }
}

/// The crontab with the new block in place of the old one, or at its end. All other bytes stay, but a last line without a
/// line break gets one.
fn merged(crontab: &[u8], file: &Path, block: &str) -> Result<Vec<u8>> {
    let (before, _, after) = split(crontab, file)?;
    let mut new = before.to_vec();
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(block.as_bytes());
    new.extend_from_slice(after);
    Ok(new)
}

/// The step that changes the crontab, if it has to change, and notes about its other lines.
pub(super) async fn plan(host: &Host, schedule: &Schedule, file: &Path) -> Result<(Vec<Step>, Vec<String>)> {
    let crontab = read(host).await?;
    let block = block(schedule, file)?;
    let after = merged(&crontab, file, &block)?;
    let (above, old, below) = split(&crontab, file)?;
    let notes = notes(host, schedule, above, below).await;
    if crontab == after {
        return Ok((Vec::new(), notes));
    }
    let jobs = schedule.crontab().len();
    let user = host.user_name();
    let what = match old.is_empty() {
        true => format!("add {jobs} jobs to the crontab of {user}"),
        false => format!("change the jobs in the crontab of {user}"),
    };
    let old = String::from_utf8_lossy(old).into_owned();
    let (removed, added) = changed(&old, &block);
    let undo = "delete the lines of this tool with `crontab -e`".to_string();
    let step = Step {
        owner: Some(user),
        removed,
        added,
        before: Some(crontab.clone()),
        after,
        ..Step::new(StepKind::Crontab, what, undo)
    };
    Ok((vec![step], notes))
}

/// Notes about other lines of the crontab that concern the nightly runs.
async fn notes(host: &Host, schedule: &Schedule, above: &[u8], below: &[u8]) -> Vec<String> {
    let mut notes = foreign(above).chain(foreign(below)).collect::<Vec<_>>();
    // A variable in a line of its own holds for all lines below it.
    let text = String::from_utf8_lossy(above).into_owned();
    let mailto = text.lines().rev().find_map(|line| line.trim().strip_prefix("MAILTO="));
    if mailto.is_some_and(|value| value.trim_matches(['"', '\'', ' ']).is_empty()) && !schedule.mails {
        notes.push(
            "the crontab sets MAILTO to nothing, and mails of this tool are not set up: no mail reports a failure".into(),
        );
    }
    if host.user == 0 && host.is_booted() {
        let enabled = host.run("systemctl", &["is-enabled", "uzima-backup-backup.timer"], b"").await;
        if enabled.is_ok_and(|ended| ended.status.success()) {
            notes.push(
                "uzima-backup-backup.timer of systemd is enabled, too: backups would start twice".into(),
            );
        }
    }
    notes
}

/// Notes about lines outside of blocks that start this tool.
fn foreign(lines: &[u8]) -> impl Iterator<Item = String> {
    let mut inside = false;
    let text = String::from_utf8_lossy(lines).into_owned();
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    lines.into_iter().filter_map(move |line| {
        if line.starts_with("# BEGIN uzima-backup init ") || line.starts_with("# END uzima-backup init ") {
            inside = line.starts_with("# BEGIN");
        }
        let starts = !inside && !line.starts_with('#') && line.contains("uzima-backup ");
        starts.then(|| format!("the crontab starts the tool in another line, too, which stays: {line}"))
    })
}

/// A note if the crontab of root starts the tool, for a schedule of systemd.
pub(super) async fn also(host: &Host) -> Vec<String> {
    match (host.locate("crontab"), read(host).await) {
        (Some(_), Ok(crontab)) => {
            let text = String::from_utf8_lossy(&crontab).into_owned();
            let starts = |line: &&str| !line.trim().starts_with('#') && line.contains("uzima-backup ");
            let note = |line: &str| format!("the crontab of root starts the tool, too: {}", line.trim());
            text.lines().find(starts).map(note).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Writes the crontab, and reads it again.
pub(super) async fn write(host: &Host, before: Option<&[u8]>, after: &[u8]) -> Result<()> {
    if read(host).await? != before.unwrap_or_default() {
        return Err(Error::failed("the crontab was changed since the plan was made, so it is not replaced"));
    }
    let ended = host.run("crontab", &["-"], after).await?;
    let now = read(host).await;
    let is_as_before = now.as_ref().is_ok_and(|now| Some(now.as_slice()) == before);
    if ended.status.success() && now.is_ok_and(|now| now == after) {
        return Ok(());
    }
    let state = if is_as_before { "it is as it was" } else { "look at it with `crontab -l`" };
    Err(match ended.status.success() {
        true => Error::failed(format!("`crontab -` did not store the new crontab; {state}")),
        false => Error::failed(format!("`crontab -` refused the new crontab; {state}"))
            .caused_by(Error::failed(ended.why())),
    })
}

/// The jobs and variables in the block of an earlier installation.
pub(super) async fn installed(host: &Host, file: &Path) -> Result<Installed> {
    let crontab = read(host).await?;
    let (_, block, _) = split(&crontab, file)?;
    let block = String::from_utf8_lossy(block);
    let starts = |job: &str| block.lines().any(|line| !line.starts_with('#') && line.ends_with(job));
    Ok(Installed {
        variables: variables(&block),
        nightly: starts(" backup --quiet"),
        oplog: starts(" oplog --quiet"),
    })
}

fn variables(block: &str) -> Vec<(String, String)> {
    let job = block.lines().find(|line| !line.starts_with('#') && line.contains(" env "));
    let command = job.and_then(|job| job.split_once(" env ")).map(|(_, command)| command.replace("\\%", "%"));
    let words = unquoted(&command.unwrap_or_default());
    words
        .into_iter()
        .map_while(|word| word.split_once('=').map(|(name, value)| (name.into(), value.into())))
        .collect()
}

/// The words of a command that [`quoted`](crate::base::escape::quoted) made.
fn unquoted(command: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => inside = !inside,
            '\\' if !inside => word.extend(chars.next()),
            ' ' if !inside => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/c.toml";

    fn with(block: &str) -> String {
        let [begin, end] = markers(Path::new(FILE));
        format!("{begin}\n{block}\n{end}\n")
    }

    #[test]
    fn a_block_is_added_or_replaced_and_every_other_byte_stays() {
        let merge = |old: &[u8]| merged(old, Path::new(FILE), &with("new")).unwrap();
        for (old, want) in [
            (String::new(), with("new")),
            ("# mine\n\n".into(), format!("# mine\n\n{}", with("new"))),
            ("1 2 * * * x".into(), format!("1 2 * * * x\n{}", with("new"))),
            (format!("a\r\n{}\tb", with("old")), format!("a\r\n{}\tb", with("new"))),
            (with("new"), with("new")),
        ] {
            assert_eq!(String::from_utf8(merge(old.as_bytes())).unwrap(), want);
        }
        let foreign = b"0 1 * * * caf\xe9 \\%\n";
        assert!(merge(foreign).starts_with(foreign));
        // The block of another configuration file stays.
        let [begin, end] = markers(Path::new("/srv/other.toml"));
        let other = format!("{begin}\nx\n{end}\n");
        assert_eq!(merge(other.as_bytes()), format!("{other}{}", with("new")).into_bytes());
    }

    #[test]
    fn a_crontab_with_damaged_markers_is_not_changed() {
        let [begin, end] = markers(Path::new(FILE));
        for old in
            [format!("{begin}\n"), format!("{end}\n"), format!("{end}\n{begin}\n"), with("x") + &with("y")]
        {
            let error = merged(old.as_bytes(), Path::new(FILE), "").unwrap_err();
            assert!(error.next_step().unwrap().contains("crontab -e"), "{old}");
        }
    }

    #[test]
    fn the_variables_of_a_block_are_read_back() {
        let block =
            with("0 3 * * * env A_FILE=/x B_FILE='/my \\% '\\''s' /bin/uzima-backup --config /a=b backup");
        let pairs = [("A_FILE".to_string(), "/x".to_string()), ("B_FILE".into(), "/my % 's".into())];
        assert_eq!(variables(&block), pairs);
        assert_eq!(variables(&with("0 3 * * * /bin/uzima-backup backup")), []);
    }

    #[test]
    fn lines_outside_of_blocks_that_start_the_tool_are_noted() {
        let text =
            format!("# uzima-backup x\n0 3 * * * uzima-backup backup\n{}", with("0 4 * * * uzima-backup x"));
        let notes: Vec<String> = foreign(text.as_bytes()).collect();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].ends_with(": 0 3 * * * uzima-backup backup"), "{notes:?}");
    }
}
