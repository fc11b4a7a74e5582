//! The answers of the mail service, one by one.

use std::time::{Duration, Instant};

use uzima_backup::base::exit::Exit;
use uzima_backup::config::notify::MailOptions;
use uzima_backup::notify::mailer::Mailer;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{
    KEY, LONG, accepted, asked, header, mailer, mails, message, now, options, picky, refused, resend, service,
};

#[tokio::test]
async fn a_mail_has_both_bodies_and_all_recipients() {
    let server = service(vec![accepted()]).await;
    mailer(&server).send(&message(), "20261123T030000Z-7k3q9d", now(), LONG).await.expect("it is sent");
    let request = &asked(&server).await[0];
    assert_eq!(header(request, "authorization"), format!("Bearer {KEY}"));
    assert_eq!(header(request, "content-type"), "application/json");
    assert_eq!(header(request, "idempotency-key"), "uzima-backup/failure/20261123T030000Z-7k3q9d/0");
    assert!(header(request, "user-agent").starts_with("uzima-backup/"));
    let mail = &mails(&server).await[0];
    assert_eq!(mail["from"], "Backups <backups@example.com>");
    assert_eq!(mail["to"], serde_json::json!(["ops@example.com", "oncall@example.org"]));
    assert_eq!(mail["subject"], message().subject);
    assert_eq!(mail["html"], message().html());
    assert_eq!(mail["text"], message().text());
}

#[tokio::test]
async fn errors_of_the_service_are_tried_again_under_the_same_key() {
    let server = service(vec![refused(500, "", ""), refused(503, "", ""), accepted()]).await;
    mailer(&server).send(&message(), "run", now(), LONG).await.expect("it is sent in the end");
    let asked = asked(&server).await;
    assert_eq!(asked.len(), 3);
    for request in &asked {
        assert_eq!(header(request, "idempotency-key"), header(&asked[0], "idempotency-key"));
        assert_eq!(request.body, asked[0].body, "Resend refuses the same key with another body");
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_it_says() {
    let limited = refused(429, "rate_limit_exceeded", "Too many requests").insert_header("retry-after", "2");
    let server = service(vec![limited, accepted()]).await;
    let began = Instant::now();
    mailer(&server).send(&message(), "run", now(), LONG).await.expect("it is sent");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(asked(&server).await.len(), 2);
}

#[tokio::test]
async fn a_pause_beyond_the_limit_is_not_waited_for() {
    let limited = refused(429, "rate_limit_exceeded", "Too many requests").insert_header("retry-after", "20");
    let server = service(vec![limited]).await;
    let began = Instant::now();
    let error = mailer(&server).send(&message(), "run", now(), Duration::from_secs(5)).await.unwrap_err();
    assert!(error.chain().contains("429"), "{}", error.chain());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(asked(&server).await.len(), 1);
}

#[tokio::test]
async fn a_mail_is_tried_four_times() {
    let server = service(vec![refused(502, "", "").insert_header("retry-after", "0")]).await;
    let error = mailer(&server).send(&message(), "run", now(), LONG).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    assert_eq!(asked(&server).await.len(), 4);
}

#[tokio::test]
async fn an_error_in_a_setting_is_final_and_names_the_setting() {
    for (status, name, words, setting) in [
        (401, "missing_api_key", "Missing API key in the authorization header.", "RESEND_API_KEY"),
        (403, "invalid_api_key", "API key is invalid", "RESEND_API_KEY"),
        (403, "validation_error", "The example.com domain is not verified.", "EMAIL_FROM"),
        (422, "missing_required_field", "The request body is missing", "ADMIN_EMAILS"),
        (429, "daily_quota_exceeded", "You have reached your daily email sending quota.", "quota"),
        (301, "", "", "RESEND_BASE_URL"),
    ] {
        let server = service(vec![refused(status, name, words)]).await;
        let error = mailer(&server).send(&message(), "run", now(), LONG).await.unwrap_err();
        let message = error.chain();
        assert!(message.contains(&status.to_string()) && message.contains(words), "{message}");
        let step = error.next_step().expect("a next step");
        assert!(step.contains(setting), "{name}: {step}");
        assert_eq!(asked(&server).await.len(), 1, "{name}");
    }
}

/// A followed redirection would send the key to any host.
#[tokio::test]
async fn a_redirection_is_not_followed() {
    let elsewhere = service(vec![accepted()]).await;
    let location = format!("{}/emails", elsewhere.uri());
    let server = service(vec![refused(307, "", "").insert_header("location", location)]).await;
    let error = mailer(&server).send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(error.next_step().expect("a next step").contains("RESEND_BASE_URL"), "{error:?}");
    assert_eq!(asked(&elsewhere).await.len(), 0);
}

#[tokio::test]
async fn a_service_that_does_not_answer_has_a_time_limit() {
    let server = service(vec![accepted().set_delay(Duration::from_secs(30))]).await;
    let began = Instant::now();
    let error = mailer(&server).send(&message(), "run", now(), Duration::from_secs(2)).await.unwrap_err();
    assert!(error.chain().contains("no answer from the service"), "{}", error.chain());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    // A closed port on any machine.
    let mailer = Mailer::new(options("http://127.0.0.1:1"));
    let began = Instant::now();
    let error = mailer.send(&message(), "run", now(), LONG).await.unwrap_err();
    // Four attempts have three pauses between them.
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let step = error.next_step().expect("a next step");
    assert!(error.chain().contains("refused") && step.contains("127.0.0.1:1"), "{} {step}", error.chain());
}

#[tokio::test]
async fn mails_to_more_than_fifty_recipients_are_sent_in_groups() {
    let server = service(vec![accepted()]).await;
    let all: Vec<String> = (0..120).map(|n| format!("admin{n}@example.com")).collect();
    let mut options = options(&server.uri());
    options.to = all.clone();
    Mailer::new(options.clone()).send(&message(), "run", now(), LONG).await.expect("it is sent");
    let mails = mails(&server).await;
    let groups: Vec<Vec<String>> =
        mails.iter().map(|mail| serde_json::from_value(mail["to"].clone()).expect("a list")).collect();
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 20]);
    assert_eq!(groups.concat(), all);
    let mut keys: Vec<String> = asked(&server).await.iter().map(|r| header(r, "idempotency-key")).collect();
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");

    let server = service(vec![accepted(), refused(422, "", "no")]).await;
    options.by = resend(&server.uri());
    let sent =
        Mailer::new(options).send(&message(), "run", now(), LONG).await.expect("the first group got it");
    let message = sent.expect("the others are refused").chain();
    assert!(message.contains("not sent to 70 of 120 (") && message.contains(" and 65 more)"), "{message}");
}

/// One bad address is named, and the other recipients get the mail.
#[tokio::test]
async fn a_refused_address_is_named_and_the_others_get_the_mail() {
    let all: Vec<String> = (0..7).map(|n| format!("admin{n}@example.com")).collect();
    for bad in [vec![0], vec![6], vec![2, 3], vec![0, 1, 2, 4, 5, 6]] {
        let bad: Vec<&str> = bad.into_iter().map(|n: usize| all[n].as_str()).collect();
        let server = picky(&bad).await;
        let options = MailOptions { to: all.clone(), ..options(&server.uri()) };
        let error = Mailer::new(options).send(&message(), "run", now(), LONG).await.expect("others got it");
        let error = error.expect("one is refused");
        let message = error.chain();
        assert!(message.contains(&format!("not sent to {} of 7 (", bad.len())), "{message}");
        assert!(
            bad.iter().take(5).all(|address| message.contains(address)) && message.contains("422"),
            "{message}"
        );
        assert!(error.next_step().expect("a next step").contains("ADMIN_EMAILS"), "{error:?}");
        let mut got = Vec::new();
        for mail in mails(&server).await {
            let to: Vec<String> = serde_json::from_value(mail["to"].clone()).expect("a list");
            if !to.iter().any(|address| bad.contains(&address.as_str())) {
                got.extend(to);
            }
        }
        let good: Vec<String> = all.iter().filter(|one| !bad.contains(&one.as_str())).cloned().collect();
        assert_eq!(got, good, "each once");
        let asked = asked(&server).await;
        let mut keys: Vec<String> = asked.iter().map(|request| header(request, "idempotency-key")).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), asked.len(), "Resend refuses the same key with another body");
    }
    let server = picky(&["ops@example.com", "oncall@example.org"]).await;
    let error = mailer(&server).send(&message(), "run", now(), LONG).await.expect_err("nobody got it");
    let message = error.chain();
    assert!(message.contains("was not sent (ops@example.com, oncall@example.org)"), "{message}");
}

#[tokio::test]
async fn a_key_is_checked_without_sending() {
    let restricted = refused(401, "restricted_api_key", "This API key is restricted to only send emails");
    let list = ResponseTemplate::new(200).set_body_json(serde_json::json!({"data": []}));
    for (answer, want) in [
        (restricted, Ok("the key may send, and nothing else")),
        (list, Ok("the key may do more than send: a sending-only key is enough")),
        (refused(401, "missing_api_key", "Missing API key"), Err("RESEND_API_KEY")),
        (refused(403, "invalid_api_key", "API key is invalid"), Err("RESEND_API_KEY")),
        (refused(400, "validation_error", "API key is invalid"), Err("RESEND_API_KEY")),
        (refused(404, "not_found", "no such endpoint"), Err("RESEND_BASE_URL")),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET")).and(path("/domains")).respond_with(answer).mount(&server).await;
        let found = mailer(&server).check(LONG).await;
        match want {
            Ok(check) => assert_eq!(found.expect("a good key"), check),
            Err(setting) => {
                let error = found.unwrap_err();
                assert!(error.next_step().expect("a next step").contains(setting), "{error:?}");
                assert!(!format!("{error:?}").contains(KEY));
            }
        }
        let asked = asked(&server).await;
        assert!(asked.iter().all(|request| request.method == "GET"), "{asked:?}");
        assert_eq!(header(&asked[0], "authorization"), format!("Bearer {KEY}"));
    }
}
