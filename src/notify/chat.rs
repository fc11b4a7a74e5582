//! Messages for chats: the mail about an event in the form that Slack, Discord or Teams accepts from a webhook.
//!
//! Names of databases, errors of servers and log lines may contain anything. Here they can neither mention people nor hide an
//! address behind a link. Each service refuses a whole message that exceeds one of its limits, so long texts are shortened.

use serde_json::{Value, json};

use super::message::{Message, Table, Tone};
use crate::base::units;
use crate::config::notify::WebhookFormat;

/// The most rows of a table that a message shows. The mail has all of them.
const ROWS: usize = 10;

/// The most blocks of a message of Slack (<https://docs.slack.dev/reference/block-kit/blocks>).
const SLACK_BLOCKS: usize = 50;
/// The longest text of a header (<https://docs.slack.dev/reference/block-kit/blocks/header-block>).
const SLACK_HEADER: usize = 150;
/// The longest text of a section (<https://docs.slack.dev/reference/block-kit/blocks/section-block>).
const SLACK_SECTION: usize = 3000;
/// The most fields of a section.
const SLACK_FIELDS: usize = 10;
/// The longest text of a field.
const SLACK_FIELD: usize = 2000;

/// The longest content of a message of Discord (<https://docs.discord.com/developers/resources/webhook>).
const DISCORD_CONTENT: usize = 2000;
/// The longest texts of an embed (<https://docs.discord.com/developers/resources/message>, "Embed Limits").
const DISCORD_TITLE: usize = 256;
const DISCORD_DESCRIPTION: usize = 4096;
const DISCORD_NAME: usize = 256;
const DISCORD_VALUE: usize = 1024;
const DISCORD_FOOTER: usize = 2048;
/// The most fields of an embed.
const DISCORD_FIELDS: usize = 25;
/// The most characters in all texts of all embeds.
const DISCORD_TOTAL: usize = 6000;

/// The most bytes of the texts of a card. Teams accepts messages of about 28 KB, with all JSON
/// (<https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>).
const TEAMS_TEXTS: usize = 12_000;
/// The most facts and paragraphs of a card.
const TEAMS_LINES: usize = 60;

/// The body of the webhook's request; `None` for [`WebhookFormat::Json`]. `message` is cleaned of secrets.
pub(super) fn body(format: WebhookFormat, message: &Message) -> Option<Value> {
    match format {
        WebhookFormat::Json => None,
        WebhookFormat::Slack => Some(slack(message)),
        WebhookFormat::Discord => Some(discord(message)),
        WebhookFormat::Teams => Some(teams(message)),
    }
}

/// The subject without the tool's name, which the chat shows as the sender or in the last line.
fn title(message: &Message) -> &str {
    or_dash(message.subject.strip_prefix("[uzima-backup] ").unwrap_or(&message.subject))
}

/// The texts below the title: what happened, what to do, and what else to know.
fn paragraphs(message: &Message) -> Vec<String> {
    let mut texts = vec![message.headline.clone()];
    texts.extend(message.next_step.as_ref().map(|step| format!("Next step: {step}")));
    texts.extend(message.paragraphs.iter().cloned());
    texts.extend(message.tables.iter().map(rows));
    texts.iter().map(|text| or_dash(text).into()).collect()
}

/// A table in lines, because chats have no columns.
fn rows(table: &Table) -> String {
    let mut lines = vec![format!("{}:", table.title())];
    lines.extend(table.rows.iter().take(ROWS).map(|row| row.join(" · ")));
    let more = (table.rows.len().saturating_sub(ROWS) as u64).saturating_add(table.more());
    if more > 0 {
        lines.push(format!("and {} more", units::count(more)));
    }
    lines.join("\n")
}

fn sender(message: &Message) -> String {
    format!("{} on {}", message.sender.tool, message.sender.host)
}

/// The services count in units of UTF-16, or in characters, which are fewer.
fn length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Escapes a text, as far as `most` units of UTF-16 have room for it. No escape is cut in two.
fn escaped(text: &str, most: usize, escape: impl Fn(char, &mut String)) -> String {
    let mut whole = String::new();
    text.chars().for_each(|c| escape(c, &mut whole));
    if length(&whole) <= most {
        return whole;
    }
    let (mut cut, mut one) = (String::new(), String::new());
    let mut left = most.saturating_sub(1);
    for c in text.chars() {
        one.clear();
        escape(c, &mut one);
        match left.checked_sub(length(&one)) {
            Some(rest) => left = rest,
            None => break,
        }
        cut.push_str(&one);
    }
    if most > 0 {
        cut.push('…');
    }
    cut
}

/// The three characters that Slack gives a meaning, such as in `<!channel>`
/// (<https://docs.slack.dev/messaging/formatting-message-text#escaping>).
fn slack_text(text: &str, most: usize) -> String {
    escaped(text, most, |c, out| match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    })
}

fn slack(message: &Message) -> Value {
    // Verbatim: Slack makes no links and mentions of the text by itself.
    let text = |text: String| json!({"type": "mrkdwn", "text": text, "verbatim": true});
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": slack_text(title(message), SLACK_HEADER), "emoji": false},
    })];
    let state = format!("*{}*", message.tone.word());
    for (i, paragraph) in paragraphs(message).iter().enumerate() {
        let room = SLACK_SECTION - length(&state) - 1;
        let shown = slack_text(paragraph, room);
        let shown = if i == 0 { format!("{state}\n{shown}") } else { shown };
        blocks.push(json!({"type": "section", "text": text(shown)}));
    }
    for facts in message.facts.chunks(SLACK_FIELDS) {
        let field = |(label, value): &(String, String)| {
            let label = format!("*{}*\n", slack_text(label, SLACK_FIELD / 4));
            text(format!("{label}{}", slack_text(or_dash(value), SLACK_FIELD - length(&label))))
        };
        let fields: Vec<Value> = facts.iter().map(field).collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    blocks.truncate(SLACK_BLOCKS - 1);
    let from = slack_text(&sender(message), SLACK_FIELD);
    blocks.push(json!({"type": "context", "elements": [text(from)]}));
    // The text of the notification, and of clients without blocks.
    let summary = format!("{}: {}", message.tone.word(), title(message));
    json!({
        "text": slack_text(&summary, SLACK_SECTION),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// The characters of Discord's Markdown get a backslash. A zero-width space after @ keeps `@everyone` from looking like a
/// mention; `allowed_mentions` keeps it from being one.
fn discord_text(text: &str, most: usize) -> String {
    escaped(text, most, |c, out| match c {
        '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '#' | '-' | '[' | ']' | '(' | ')' | ':' => {
            out.extend(['\\', c]);
        }
        '@' => out.push_str("@\u{200b}"),
        c => out.push(c),
    })
}

fn discord(message: &Message) -> Value {
    let colour = match message.tone {
        Tone::Good => 0x1a_7f37,
        Tone::Warning => 0x9a_6700,
        Tone::Bad => 0xb4_2318,
    };
    let mut left = DISCORD_TOTAL;
    let mut take = |text: &str, most: usize| {
        let text = discord_text(text, most.min(left));
        left -= length(&text);
        text
    };
    let (title, footer) = (take(title(message), DISCORD_TITLE), take(&sender(message), DISCORD_FOOTER / 8));
    // The facts get at least a third of the room.
    let description = take(&paragraphs(message).join("\n\n"), DISCORD_DESCRIPTION.min(DISCORD_TOTAL / 2));
    let mut fields = Vec::new();
    for (label, value) in message.facts.iter().take(DISCORD_FIELDS) {
        let (name, value) = (take(or_dash(label), DISCORD_NAME / 2), take(or_dash(value), DISCORD_VALUE));
        // There was no more room.
        if name.is_empty() || value.is_empty() {
            break;
        }
        fields.push(json!({"name": name, "value": value, "inline": length(&value) <= 40}));
    }
    json!({
        "content": discord_text(&format!("{}: {}", message.tone.word(), message.headline), DISCORD_CONTENT),
        "embeds": [{
            "title": title,
            "description": description,
            "color": colour,
            "fields": fields,
            "footer": {"text": footer},
        }],
        "allowed_mentions": {"parse": []},
    })
}

/// A card for the workflow "Send webhook alerts to a channel". Its texts are runs, which have no Markdown.
fn teams(message: &Message) -> Value {
    let (style, colour) = match message.tone {
        Tone::Good => ("good", "good"),
        Tone::Warning => ("warning", "warning"),
        Tone::Bad => ("attention", "attention"),
    };
    let mut left = TEAMS_TEXTS;
    let mut take = |text: &str| {
        let mut shown = String::new();
        for c in text.chars() {
            // JSON writes some characters in six bytes.
            let size = if c.is_ascii_control() || c == '"' || c == '\\' { 6 } else { c.len_utf8() };
            let Some(rest) = left.checked_sub(size) else { break };
            left = rest;
            shown.push(c);
        }
        shown
    };
    let run = |text: String| json!({"type": "TextRun", "text": text});
    let bold = |text: String| json!({"type": "TextRun", "text": text, "weight": "bolder"});
    let block = |inlines: Vec<Value>| json!({"type": "RichTextBlock", "inlines": inlines});
    let name = json!({"type": "TextRun", "text": take(title(message)), "weight": "bolder", "size": "medium"});
    let state = json!({"type": "TextRun", "text": message.tone.word(), "color": colour});
    let heading = vec![block(vec![name]), block(vec![state])];
    let mut body = vec![json!({"type": "Container", "style": style, "bleed": true, "items": heading})];
    let mut lines: Vec<(String, String)> =
        paragraphs(message).into_iter().map(|text| (String::new(), text)).collect();
    lines.extend(message.facts.iter().map(|(label, value)| (format!("{label}: "), or_dash(value).into())));
    for (label, value) in lines.iter().take(TEAMS_LINES) {
        let (label, value) = (take(label), take(value));
        if value.is_empty() {
            break;
        }
        body.push(match label.is_empty() {
            true => block(vec![run(value)]),
            false => block(vec![bold(label), run(value)]),
        });
    }
    let from = json!({"type": "TextRun", "text": take(&sender(message)), "isSubtle": true, "size": "small"});
    body.push(block(vec![from]));
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "msteams": {"width": "Full"},
    });
    let attachment = json!({"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card});
    json!({"type": "message", "attachments": [attachment]})
}

/// The services refuse empty texts.
fn or_dash(text: &str) -> &str {
    if text.trim().is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests;
