//! The messages in a chat behind the webhook.

use serde_json::Value;
use wiremock::ResponseTemplate;

use super::support::{Signalled, keeps_quiet};
use crate::cli::support::{NOWHERE, run};
use crate::night::support::{holds, server};

const CHATS: [&str; 3] = ["slack", "discord", "teams"];

/// The schema of a service's messages, which names its source.
fn schema(chat: &str) -> Value {
    let text = match chat {
        "slack" => include_str!("schemas/slack.json"),
        "discord" => include_str!("schemas/discord.json"),
        _ => include_str!("schemas/teams.json"),
    };
    serde_json::from_str(text).expect("JSON")
}

/// The bodies that the chat received. Each fits the schema that the service documents.
async fn bodies(signalled: &Signalled, chat: &str) -> Vec<Value> {
    let validator = jsonschema::validator_for(&schema(chat)).expect("a schema");
    let asked = signalled.asked().await;
    let posts = asked.iter().filter(|request| request.url.path() == "/hooks");
    posts
        .map(|request| {
            assert_eq!(request.headers["content-type"], "application/json");
            let body = request.body_json().expect("JSON");
            let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{body:#}");
            body
        })
        .collect()
}

/// A chat is for people, so it gets the messages that would be mailed: not each of several failures.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_gets_the_messages_that_would_be_mailed() {
    let server = server().await;
    for chat in CHATS {
        let signalled = Signalled::new().await;
        let night =
            |uri: &str, code| run(signalled.hooked(uri).env("WEBHOOK_FORMAT", chat).arg("backup")).ends(code);
        night(&server.uri(), 0);
        night(NOWHERE, 1);
        night(NOWHERE, 1);
        night(&server.uri(), 0);
        let bodies = bodies(&signalled, chat).await;
        assert_eq!(bodies.len(), 3, "{chat}");
        for (body, words) in bodies.iter().zip([
            ["All is well", "nightly is backed up"],
            ["Failed", "connection refused"],
            ["All is well", "work again"],
        ]) {
            holds(&body.to_string(), &words);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_posts_a_sample_of_each_event() {
    for chat in CHATS {
        let signalled = Signalled::new().await;
        let mut command = signalled.hooked(NOWHERE);
        let said = run(command.env("WEBHOOK_FORMAT", chat).args(["notify", "--test"])).ends(0);
        holds(&said.stdout, &["webhook_url: given about success", "given about frozen"]);
        let bodies = bodies(&signalled, chat).await;
        assert_eq!(bodies.len(), 5, "{chat}");
        for body in bodies {
            holds(&body.to_string(), &["TEST", "This is a test"]);
        }
    }
}

/// The refusals are those of the services' documentation.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_refuses_costs_no_backup_and_shows_no_address() {
    let server = server().await;
    for (chat, status, answer) in [
        ("slack", 404, "no_service"),
        ("discord", 404, r#"{"message": "Unknown Webhook", "code": 10015}"#),
        ("teams", 401, r#"{"error":{"code":"DirectApiAuthorizationRequired","message":"not allowed"}}"#),
    ] {
        let signalled = Signalled::silent().await;
        signalled.answer(".*", ResponseTemplate::new(status).set_body_string(answer)).await;
        let mut command = signalled.hooked(&server.uri());
        let ran = run(command.env("WEBHOOK_FORMAT", chat).args(["backup", "--json"])).ends(3);
        let problems = ran.json()["problems"].to_string();
        holds(&problems, &["webhook_url: http://127.0.0.1", &status.to_string(), "WEBHOOK_URL"]);
        keeps_quiet(&ran);
        assert_eq!(signalled.home.manifests().len(), 1, "{chat}");
    }
}

#[test]
fn a_format_needs_an_address_and_a_known_word() {
    let home = crate::cli::support::Home::new();
    run(home.to_dir(NOWHERE).env("WEBHOOK_FORMAT", "slack").arg("backup"))
        .ends(2)
        .says(&["WEBHOOK_URL is missing", "next step: Set WEBHOOK_URL"]);
    let mut command = home.to_dir(NOWHERE);
    command.env("WEBHOOK_URL", "http://127.0.0.1:1/canary").env("WEBHOOK_FORMAT", "mattermost");
    let ran = run(command.arg("backup")).ends(2).says(&["json, slack, discord, teams"]);
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
}
