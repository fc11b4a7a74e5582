use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::base::secret::Redactor;
use crate::config::notify::Event;
use crate::notify::message::Sender;

const SLACK: &str = include_str!("../../../tests/it/signals/schemas/slack.json");
const DISCORD: &str = include_str!("../../../tests/it/signals/schemas/discord.json");
const TEAMS: &str = include_str!("../../../tests/it/signals/schemas/teams.json");

/// Teams refuses larger messages, in bytes.
const TEAMS_MESSAGE: usize = 28 * 1024;

fn validator(schema: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

fn check(validator: &jsonschema::Validator, body: &Value) -> Result<(), String> {
    let errors: Vec<String> =
        validator.iter_errors(body).map(|e| format!("{e} at {}", e.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(format!("{errors:?} in {body:#}")) }
}

/// All texts of a body, except its constants.
fn texts(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => {
            let shown = ["text", "content", "title", "description", "name", "value"];
            let is_text = |key: &str, value: &Value| !value.is_string() || shown.contains(&key);
            fields
                .iter()
                .filter(|(key, value)| is_text(key, value))
                .flat_map(|(_, value)| texts(value))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn message(text: &str) -> Message {
    let mut message = Message::new(Event::Failure, Tone::Bad, text, text, &Sender::here(text));
    message = message.fact("What failed", text).fact(text, "").fact("Job", "nightly");
    message.paragraphs.push(text.into());
    message.next_step = Some(text.into());
    message.tables.push(Table::new(
        text,
        &["Namespace", "Before"],
        &[1],
        vec![vec![text.into(), "5".into()]; 20],
    ));
    message.log.push("a line of the log".into());
    message.cleaned(&Redactor::default())
}

#[test]
fn a_message_has_what_a_person_needs_and_no_log() {
    let message = message("shop.orders");
    for (format, schema) in
        [(WebhookFormat::Slack, SLACK), (WebhookFormat::Discord, DISCORD), (WebhookFormat::Teams, TEAMS)]
    {
        let body = body(format, &message).unwrap();
        check(&validator(schema), &body).unwrap();
        let shown = texts(&body).join("\n");
        for word in
            ["shop.orders", "Failed", "Next step: ", "What failed", "Job", "nightly", "and 10 more", "uzima"]
        {
            let word =
                if format == WebhookFormat::Discord { word.replace(": ", "\\: ") } else { word.into() };
            assert!(shown.contains(&word), "{format:?}: no {word} in {shown}");
        }
        assert!(!shown.contains("a line of the log"), "{shown}");
    }
    assert_eq!(body(WebhookFormat::Json, &message), None);
}

/// Names of databases come from a server.
#[test]
fn a_name_mentions_nobody_and_hides_no_address() {
    let evil = "@everyone <!channel> <@U024BE7LH> <https://evil.example|harmless> [harmless](https://evil.example) `x` *b* &amp;";
    let message = message(evil);
    let slack = slack(&message);
    for text in texts(&slack) {
        assert!(!text.contains(['<', '>']) && !text.contains("harmless](<"), "{text}");
    }
    assert!(texts(&slack).iter().any(|text| text.contains("&lt;!channel&gt;") && text.contains("&amp;amp;")));
    // Slack makes no mention of @everyone in text that is verbatim.
    assert!(
        !slack.to_string().contains("\"verbatim\":false") && slack.to_string().contains("\"verbatim\":true")
    );

    let discord = discord(&message);
    assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
    for text in texts(&discord) {
        assert!(!text.contains("@everyone") && !text.contains("@U024"), "{text}");
        let mut before = ' ';
        for c in text.chars() {
            assert!(!"<[]()*`".contains(c) || before == '\\', "{text}");
            before = if before == '\\' && c == '\\' { ' ' } else { c };
        }
    }
    // Runs of text have no Markdown, and nothing is a mention without `entities`.
    let teams = teams(&message).to_string();
    assert!(
        !teams.contains("TextBlock\",\"text") && !teams.contains("entities") && teams.contains("@everyone")
    );
}

fn any_message() -> impl Strategy<Value = Message> {
    // A short text, repeated, because long random texts take long to make.
    let text = || {
        let short = "(\\PC|[\\\\*_~`|><#\\[\\]():@&\"\n\u{1}名😀]){0,12}";
        (short, 0_usize..150).prop_map(|(short, times)| short.repeat(times))
    };
    let facts = proptest::collection::vec((text(), text()), 0..45);
    let paragraphs = proptest::collection::vec(text(), 0..60);
    (text(), text(), facts, paragraphs, proptest::option::of(text())).prop_map(
        |(subject, headline, facts, paragraphs, step)| {
            let mut message =
                Message::new(Event::Success, Tone::Warning, &subject, &headline, &Sender::here(&headline));
            message.facts = facts;
            message.paragraphs = paragraphs;
            message.next_step = step;
            message.cleaned(&Redactor::default())
        },
    )
}

#[test]
fn every_body_fits_its_schema_and_its_limits() {
    let (slack_schema, discord_schema, teams_schema) =
        (validator(SLACK), validator(DISCORD), validator(TEAMS));
    let test = |message: Message| {
        prop_assert_eq!(check(&slack_schema, &slack(&message)), Ok(()));
        let discord = discord(&message);
        prop_assert_eq!(check(&discord_schema, &discord), Ok(()));
        let in_embeds: usize = texts(&discord["embeds"]).iter().map(|text| length(text)).sum();
        prop_assert!(in_embeds <= DISCORD_TOTAL, "{}", in_embeds);
        let teams = teams(&message);
        prop_assert_eq!(check(&teams_schema, &teams), Ok(()));
        prop_assert!(teams.to_string().len() <= TEAMS_MESSAGE, "{}", teams.to_string().len());
        Ok(())
    };
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() });
    runner.run(&any_message(), test).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_shortened_text_fits_and_ends_with_a_whole_escape(text in "(\\PC|[<>&*@]){0,60}", most in 0_usize..80) {
        for shown in [slack_text(&text, most), discord_text(&text, most)] {
            prop_assert!(length(&shown) <= most);
        }
        let shown = slack_text(&text, most);
        let whole = slack_text(&text, usize::MAX);
        let begin = shown.strip_suffix('…').unwrap_or(&shown);
        prop_assert!(whole.starts_with(begin));
        let rest = begin.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
        prop_assert!(!rest.contains(['&', '<', '>']), "{}", shown);
    }
}
