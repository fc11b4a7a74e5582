use super::*;

#[test]
fn secrets_and_steering_characters_are_removed() {
    let redactor = Redactor::new(&[], &["canary-of-a-key"]);
    let sender = Sender::here("host\u{1b}[31m canary-of-a-key");
    let hostile = "a\r\nBcc: x canary-of-a-key \u{202e}";
    let mut message = Message::new(Event::Failure, Tone::Bad, hostile, hostile, &sender);
    message = message.fact(hostile, hostile);
    message.paragraphs.push(hostile.into());
    message.tables.push(Table::new(hostile, &[hostile], &[], vec![vec![hostile.into()]]));
    message.next_step = Some(hostile.into());
    message.log.push(hostile.into());
    let shown = format!("{:?}", message.cleaned(&redactor));
    for bad in ["canary", "\\r", "\\n", "\\u{1b}", "\\u{202e}"] {
        assert!(!shown.contains(bad), "{bad} in {shown}");
    }
    assert_eq!(shown.matches("***").count(), 11, "{shown}");
}

#[test]
fn a_subject_stays_short() {
    let sender = Sender::here("h");
    let message = Message::new(Event::Success, Tone::Good, &"ü".repeat(500), "x", &sender);
    let subject = message.cleaned(&Redactor::default()).subject;
    assert!(subject.chars().count() == 200 && subject.ends_with('…'), "{subject}");
}

#[test]
fn a_loud_server_does_not_fill_the_mail() {
    let mut message = Message::new(Event::Failure, Tone::Bad, "x", "x", &Sender::here("h"));
    message = message.fact("error", "e".repeat(100_000));
    message.log = (0..1000).map(|n| format!("line {n}")).collect();
    let cleaned = message.cleaned(&Redactor::default());
    assert_eq!(cleaned.facts[0].1.chars().count(), 1500);
    assert_eq!((cleaned.log.len(), cleaned.log[29].as_str()), (30, "line 999"));
}

#[test]
fn rows_that_do_not_fit_are_counted() {
    let table = Table::new("t", &["a", "n"], &[1], vec![vec!["x".into(), "1".into()]; 100]);
    assert_eq!((table.rows.len(), table.more), (60, 40));
    assert!(table.columns[1].numeric && !table.columns[0].numeric);
}

fn hostile() -> Message {
    let evil = "<script>alert('x')</script>&\"";
    let mut message = Message::new(Event::Failure, Tone::Bad, evil, evil, &Sender::here(evil));
    message = message.fact(evil, evil);
    message.paragraphs.push(evil.into());
    message.tables.push(Table::new(evil, &[evil, evil], &[1], vec![vec![evil.into(), evil.into()]]));
    message.next_step = Some(evil.into());
    message.log.push(evil.into());
    message
}

#[test]
fn names_are_escaped_in_html() {
    let html = hostile().html();
    assert!(!html.contains("<script") && !html.contains("alert('x')"), "{html}");
    // Title, headline, fact (2), paragraph, table (title, 2 heads, 2 cells with their labels for
    // phones), next step, log, host.
    assert_eq!(html.matches("&#60;script&#62;").count(), 15, "{html}");
}

#[test]
fn the_text_has_every_part() {
    let text = hostile().text();
    // Headline, fact (2), paragraph, table (title, 2 cells), next step, log, host; heads are capitals.
    assert_eq!(text.matches("<script>alert('x')</script>&\"").count(), 10, "{text}");
    assert_eq!(text.matches("<SCRIPT>").count(), 2, "{text}");
}

/// Gmail cuts a mail off at 102 kB.
#[test]
fn a_long_table_fits_into_a_mail() {
    let row = vec!["20261123T030000Z-7k3q9d".into(), "older than need be ".repeat(8)];
    let mut message = hostile();
    message.tables = vec![Table::new("Deleted", &["Backup", "Why"], &[], vec![row; 1000])];
    let html = message.html();
    assert!(html.len() < 100_000 && html.contains("and 940 more"), "{}", html.len());
    assert!(message.text().contains("and 940 more"));
}

#[test]
fn every_tone_is_shown_in_words() {
    for tone in [Tone::Good, Tone::Warning, Tone::Bad] {
        let message = Message { tone, ..hostile() };
        assert!(message.html().contains(tone.word()) && message.text().contains(tone.word()));
    }
}
