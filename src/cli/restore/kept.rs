//! `restore --kept`, `--undo` and `--discard`.

use chrono::{DateTime, Utc};

use super::super::args::RestoreArgs;
use super::super::output::{self, Output};
use super::super::{ask, units};
use super::UNCHANGED;
use crate::base::error::{Error, Result};
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::notify::run::Run;
use crate::ops::restore::{AsideReport, InterruptedRestore, KeptReport, LoadState, Marks, SwapState};
use crate::restore_target::RestoreTarget;

/// An action on the collections that swaps keep.
pub(super) enum Wanted<'a> {
    List,
    Undo(&'a str),
    Discard(&'a str),
}

pub(super) fn wanted(args: &RestoreArgs) -> Option<Wanted<'_>> {
    match (args.kept, &args.undo, &args.discard) {
        (true, _, _) => Some(Wanted::List),
        (_, Some(id), _) => Some(Wanted::Undo(id.as_str())),
        (_, _, Some(id)) => Some(Wanted::Discard(id.as_str())),
        _ => None,
    }
}

pub(super) async fn run(
    wanted: Wanted<'_>,
    args: &RestoreArgs,
    run: &Run<'_>,
    output: &Output,
) -> Result<Exit> {
    let (config, cancel) = (run.config, run.cancel);
    let asks = !matches!(wanted, Wanted::List) && !args.yes;
    if asks && !ask::at_terminal() {
        return Err(Error::usage("this changes a server, and there is no terminal to ask for confirmation")
            .hint("Look at --kept, then add --yes"));
    }
    let server = config.restore_target.as_ref()?;
    let target = cancel.or(RestoreTarget::connect(&server.uri, config.patience.as_ref()?)).await?;
    let marks = Marks { target, clock: run.clock };
    if asks {
        let kept = cancel.or(marks.kept()).await?;
        let question = question(&wanted, &kept);
        ask::confirm(&format!("{}{question}", kept_text(&kept)), "nothing was done", UNCHANGED, cancel)
            .await?;
    }
    let report = match wanted {
        Wanted::List => {
            let kept = cancel.or(marks.kept()).await?;
            output.result(&kept, || kept_text(&kept));
            return Ok(Exit::Done);
        }
        Wanted::Undo(id) => marks.undo(id).await?,
        Wanted::Discard(id) => marks.discard(id).await?,
    };
    let dropped = matches!(wanted, Wanted::Discard(_));
    output.result(&report, || aside_text(&report, dropped));
    if output.quiet {
        report.notes.iter().for_each(|note| output::needs_look(note));
    }
    Ok(if report.notes.is_empty() { Exit::Done } else { Exit::NeedsLook })
}

/// The question before a change.
fn question(wanted: &Wanted<'_>, kept: &KeptReport) -> String {
    match wanted {
        Wanted::List => String::new(),
        Wanted::Undo(id) => format!("Exchange the live collections of {id} and those that are kept? [y/N] "),
        Wanted::Discard(id) if kept.interrupted.iter().any(|one| one.id == *id) => format!(
            "Drop the collections that the interrupted restore {id} made? Documents that were written to them since then are lost, \
             too. [y/N] "
        ),
        Wanted::Discard(id) => format!("Drop the collections that {id} keeps? [y/N] "),
    }
}

fn kept_text(report: &KeptReport) -> String {
    if report.restores.is_empty() && report.interrupted.is_empty() {
        return format!(
            "no collections of restores are kept in {}, and no restore was interrupted\n",
            report.target
        );
    }
    let mut text = String::new();
    for one in &report.restores {
        let state = match one.state {
            SwapState::Loading if one.staging => {
                "staging collections of --filter or --merge, under way or interrupted: --discard drops them"
                    .to_string()
            }
            SwapState::Loading => {
                "loading, or interrupted while it loaded: --discard drops what it loaded".to_string()
            }
            SwapState::Moving => {
                "interrupted while it moved collections: --undo moves all of them back".to_string()
            }
            SwapState::Settled => format!("the {} collections are live", one.live.word()),
        };
        push_line(&mut text, &format!("{}: {state}", one.id));
        from_text(&mut text, &one.from, one.started_at);
        for collection in &one.collections {
            let live = match collection.live {
                _ if one.staging => "stays as it is".into(),
                Some(side) => format!("the {} one is live", side.word()),
                None => "neither is live".into(),
            };
            push_line(&mut text, &format!("  {}: {live}", collection.namespace));
            for (name, documents) in collection.kept.iter().zip(&collection.documents) {
                push_line(&mut text, &format!("    {name}: {}", documents_text(*documents)));
            }
        }
    }
    report.interrupted.iter().for_each(|one| interrupted_text(&mut text, one));
    text
}

fn interrupted_text(text: &mut String, one: &InterruptedRestore) {
    let doing = match one.state {
        LoadState::Loading => "while it loaded",
        LoadState::Replaying => "while it replayed the oplog",
    };
    let state = match one.at_work {
        true => format!("at work, or killed within the last minute {doing}"),
        false => format!("interrupted {doing}"),
    };
    push_line(text, &format!("{}: {state}", one.id));
    from_text(text, &one.from, one.started_at);
    for made in &one.namespaces {
        let complete = if made.complete { ", complete" } else { "" };
        push_line(text, &format!("  made {}: {}{complete}", made.namespace, documents_text(made.documents)));
    }
    push_line(text, &format!("  to go on: {}", one.command));
    push_line(text, &format!("  to drop what it made: uzima-backup restore --discard {}", one.id));
}

fn from_text(text: &mut String, from: &str, started_at: DateTime<Utc>) {
    push_line(text, &format!("  from {from}, begun {}", started_at.format("%Y-%m-%d %H:%M:%S UTC")));
}

fn documents_text(documents: Option<u64>) -> String {
    documents.map_or_else(|| "an unknown number of documents".into(), |n| units::several(n, "document"))
}

fn aside_text(report: &AsideReport, dropped: bool) -> String {
    let mut text = String::new();
    let done = match report.live {
        Some(live) if !dropped => {
            format!("the {} collections of {} are live in {}", live.word(), report.id, report.target)
        }
        Some(_) => format!("dropped what {} kept in {}", report.id, report.target),
        None => format!("dropped what the interrupted restore {} made in {}", report.id, report.target),
    };
    push_line(&mut text, &done);
    report.collections.iter().for_each(|name| push_line(&mut text, &format!("  {name}")));
    report.notes.iter().for_each(|note| push_line(&mut text, &format!("  needs a look: {note}")));
    if !dropped {
        let id = &report.id;
        push_line(
            &mut text,
            &format!(
                "  the others are kept: `uzima-backup restore --undo {id}` exchanges them again, --discard {id} drops them"
            ),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_about_an_interrupted_restore_says_that_later_documents_are_lost() {
        let interrupted = InterruptedRestore {
            id: "of-a-load".into(),
            from: "backup".into(),
            started_at: chrono::DateTime::UNIX_EPOCH,
            state: LoadState::Loading,
            at_work: false,
            command: String::new(),
            namespaces: Vec::new(),
        };
        let target = "localhost:27017".into();
        let kept = KeptReport { version: 1, target, restores: Vec::new(), interrupted: vec![interrupted] };
        let asked = question(&Wanted::Discard("of-a-load"), &kept);
        assert!(asked.contains("Documents that were written to them since then are lost"), "{asked}");
        let asked = question(&Wanted::Discard("of-a-swap"), &kept);
        assert_eq!(asked, "Drop the collections that of-a-swap keeps? [y/N] ");
    }
}
