//! docs/stats.html is what is drawn of the sample, and whatever there is to draw, it is a page.
//! `UPDATE_GENERATED=1 cargo test --lib page` writes the sample anew.

use std::path::Path;

use super::*;
use crate::ops::stats::{JobHistory, report};
use fixture::{JOB, known, now, options, sample};

fn drawn(known: &JobHistory) -> String {
    render(&report(known, &options(), now()), &Sender::here("backup1"), &Redactor::default())
}

/// What a browser would have to put right: tags that do not match, entities that are none. Every empty
/// element is closed, so that the page is XML as well.
#[track_caller]
fn is_whole(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("the type of the document");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        assert!(!text.contains('>'), "a > in {text:?}");
        for entity in text.split('&').skip(1) {
            assert!(entity.starts_with('#') && entity.contains(';'), "&{entity}");
        }
        let end = tag.find('>').expect("a tag's end");
        let (inner, after) = (&tag[1..end], &tag[end + 1..]);
        assert!(inner.matches('"').count() % 2 == 0 && !inner.contains('<'), "<{inner}>");
        let acts = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!inner.split(' ').any(acts), "<{inner}> runs a script");
        let name = inner.split([' ', '/']).find(|part| !part.is_empty()).expect("a name");
        match (inner.strip_prefix('/'), inner.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name), "before {}", &after[..after.len().min(80)]),
            (None, true) => {}
            (None, false) => open.push(name),
        }
        // A style sheet is no text.
        rest = match name {
            "style" if !inner.starts_with('/') => &after[after.find("</style>").expect("its end")..],
            _ => after,
        };
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
    let unique: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    assert!(!page.contains("<script") && !page.contains("javascript:"), "a script");
    for word in ["src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(word), "{word} is of the network");
    }
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

#[test]
fn docs_stats_html_is_what_is_drawn() {
    let sender = Sender { tool: "uzima-backup".into(), host: "backup1.example.com".into() };
    let page = render(&sample(), &sender, &Redactor::default());
    is_whole(&page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stats.html");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "docs/stats.html: UPDATE_GENERATED=1 cargo test -p uzima-backup --lib page");
}

#[test]
fn no_run_one_run_and_more_than_a_year_of_them() {
    let none = drawn(&JobHistory::default());
    is_whole(&none);
    assert!(none.contains("no run yet") && !none.contains("<svg"), "{none}");
    let one = drawn(&known(1));
    is_whole(&one);
    assert_eq!(one.matches("<svg").count(), 4);
    let year = drawn(&known(800));
    is_whole(&year);
    assert_eq!(year.matches("class=\"dot\"").count(), 3 + 31, "a dot for each line, and all of the forecast");
    assert!(year.contains("Oct 2025"), "the last 400 nights are drawn");
}

#[test]
fn many_backups_with_long_faults_are_still_a_page() {
    let mut known = known(800);
    for run in &mut known.runs {
        (run.error, run.status) = (Some("x<&".repeat(5000)), Status::Failed);
    }
    for backup in &mut known.backups {
        backup.unsound = Some("its artifact is missing".into());
    }
    let page = drawn(&known);
    is_whole(&page);
    assert!(page.contains("there is no good backup"));
}

#[test]
fn names_are_text_and_no_markup() {
    let evil = "<script>alert('x')</script>&\"\u{202e}\u{7}";
    let mut known = known(3);
    known.place = evil.into();
    (known.problems, known.unreadable) = (vec![format!("its {evil}")], vec![evil.into()]);
    known.runs[0].warnings = vec![evil.into()];
    known.runs[2].error = Some(evil.into());
    known.backups[0].unsound = Some(evil.into());
    let (id, mut drill) = sample().drills[0].clone();
    (drill.findings, drill.version) = (vec![evil.into()], evil.into());
    known.drills = vec![(id, drill)];
    let page = drawn(&known);
    is_whole(&page);
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'), "what steers the browser");
    // Place, what to look at (3), the backup that is not good, a warning, an error, a drill (2).
    assert_eq!(page.matches("&#60;script&#62;").count(), 9, "{page}");
}

#[test]
fn secrets_are_not_drawn() {
    let mut known = known(3);
    known.runs[2].error = Some("mongodb://u:hunter22@db1 refused".into());
    let redactor = Redactor::new(&["mongodb://u:hunter22@db1"], &[]);
    let page = render(&report(&known, &options(), now()), &Sender::here("h"), &redactor);
    assert!(!page.contains("hunter22") && page.contains("mongodb://u:***@db1"));
}

#[test]
fn the_page_says_how_the_job_stands() {
    let says = |known: &JobHistory, words: &[&str]| {
        let page = drawn(known);
        is_whole(&page);
        for word in words {
            assert!(page.contains(word), "no {word:?} in {page}");
        }
    };
    says(&known(2), &["All is well", "all@db1: 2 backups", "<dd class=\"value good\">2 h 0 min old</dd>"]);
    let mut failing = known(4);
    (failing.runs[0].status, failing.runs[0].error) = (Status::Failed, Some("no".into()));
    failing.backups.retain(|backup| backup.id != fixture::id(0));
    says(
        &failing,
        &["Needs a look", "the last run made no backup", "1 d 2 h old", "<p class=\"said\">no</p>"],
    );
    let mut stale = known(9);
    stale.runs.drain(..5);
    stale.backups.retain(|backup| backup.started < now() - chrono::TimeDelta::days(5));
    says(&stale, &["Failed", "the newest good backup is 5 d 2 h old, 1 d 2 h are allowed"]);
    let mut frozen = known(9);
    frozen.unreadable = vec!["a manifest cannot be understood".into()];
    says(&frozen, &["Needs a look", "clean-ups are frozen", "A clean-up would delete nothing now"]);
    assert_eq!(sample().job, JOB);
}
