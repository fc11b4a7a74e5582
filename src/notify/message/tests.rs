use super::*;

#[test]
fn nothing_secret_and_nothing_that_steers_leaves() {
    let redactor = Redactor::new(&[], &["canary-of-a-key"]);
    let sender = Sender::here("host\u{1b}[31m canary-of-a-key");
    let hostile = "a\r\nBcc: x canary-of-a-key \u{202e}";
    let mut message = Message::new(Event::Failure, Tone::Bad, hostile, hostile, &sender);
    message = message.fact(hostile, hostile);
    message.paragraphs.push(hostile.into());
    message.tables.push(Table::new(hostile, &[hostile], &[], vec![vec![hostile.into()]]));
    message.next_step = Some(hostile.into());
    message.log.push(hostile.into());
    let told = format!("{:?}", message.cleaned(&redactor));
    for bad in ["canary", "\\r", "\\n", "\\u{1b}", "\\u{202e}"] {
        assert!(!told.contains(bad), "{bad} in {told}");
    }
    assert_eq!(told.matches("***").count(), 11, "{told}");
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
fn rows_beyond_a_mails_size_are_counted() {
    let table = Table::new("t", &["a", "n"], &[1], vec![vec!["x".into(), "1".into()]; 100]);
    assert_eq!((table.rows.len(), table.more), (60, 40));
    assert!(table.columns[1].numeric && !table.columns[0].numeric);
}
