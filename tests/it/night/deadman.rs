//! The mail that the service keeps and sends if backups stop.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::support::{JOB, holds, sending_only, server};
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, NOWHERE, Ran, run};
use crate::notify::support::{KEY, refused};

/// The scheduled mails of a service.
#[derive(Default)]
struct Kept {
    /// The times of the mails that are scheduled, by their ids.
    mails: BTreeMap<String, DateTime<Utc>>,
    /// The requests, in order: `schedule ID` and `cancel ID`.
    asked: Vec<String>,
    /// The mails themselves.
    bodies: Vec<Value>,
    /// The longest time that the service keeps a mail.
    hours: i64,
    refuses: Option<ResponseTemplate>,
    /// The key may only send.
    restricted: bool,
}

/// A mail service that keeps mails.
struct Keeper {
    service: MockServer,
    kept: Arc<Mutex<Kept>>,
    home: Home,
}

fn locked(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    async fn new() -> Keeper {
        let keeper = Keeper {
            service: MockServer::start().await,
            kept: Arc::new(Mutex::new(Kept { hours: 30 * 24, ..Kept::default() })),
            home: Home::new(),
        };
        let kept = keeper.kept.clone();
        let sent = move |request: &Request| {
            assert!(request.headers["user-agent"].to_str().expect("ASCII").starts_with("uzima-backup/"));
            let mail: Value = request.body_json().expect("JSON");
            let mut kept = locked(&kept);
            let Some(at) = mail["scheduled_at"].as_str() else {
                return ResponseTemplate::new(200).set_body_json(json!({"id": "sent-at-once"}));
            };
            let at: DateTime<Utc> = at.parse().expect("a time in ISO 8601");
            if let Some(refusal) = kept.refuses.clone() {
                return refusal;
            }
            if at > Utc::now() + TimeDelta::hours(kept.hours) {
                return refused(
                    422,
                    "validation_error",
                    "The `scheduled_at` field is too far in the future.",
                );
            }
            let id = format!("49a3999c-0ce1-4ea6-ab68-{:012}", kept.asked.len());
            kept.asked.push(format!("schedule {id}"));
            kept.mails.insert(id.clone(), at);
            kept.bodies.push(mail);
            ResponseTemplate::new(200).set_body_json(json!({"id": id}))
        };
        Mock::given(method("POST")).and(path("/emails")).respond_with(sent).mount(&keeper.service).await;
        let kept = keeper.kept.clone();
        let cancelled = move |request: &Request| {
            let mut kept = locked(&kept);
            let id = request.url.path().split('/').nth(2).expect("an id").to_string();
            if kept.restricted {
                return sending_only();
            }
            kept.asked.push(format!("cancel {id}"));
            match kept.mails.remove(&id) {
                Some(_) => ResponseTemplate::new(200).set_body_json(json!({"object": "email", "id": id})),
                None => refused(422, "validation_error", "The email is sent or canceled."),
            }
        };
        let at = path_regex("^/emails/[0-9a-f-]+/cancel$");
        Mock::given(method("POST")).and(at).respond_with(cancelled).mount(&keeper.service).await;
        let kept = keeper.kept.clone();
        let key = move |_: &Request| match locked(&kept).restricted {
            true => sending_only(),
            false => ResponseTemplate::new(200).set_body_json(json!({"data": []})),
        };
        Mock::given(method("GET")).and(path("/domains")).respond_with(key).mount(&keeper.service).await;
        keeper
    }

    fn mailing(&self, mut command: Command) -> Command {
        command.envs([("RESEND_API_KEY", KEY), ("ADMIN_EMAILS", "ops@example.com"), ("BACKUP_JOB", JOB)]);
        command.env("RESEND_BASE_URL", self.service.uri()).env("MAIL_DEAD_MAN", "true");
        command
    }

    fn tool(&self, uri: &str) -> Command {
        self.mailing(self.home.to_dir(uri))
    }

    #[track_caller]
    fn backup(&self, uri: &str, code: i32) -> Ran {
        run(self.tool(uri).args(["backup", "--json"])).ends(code)
    }

    /// The report of `health`, with single spaces.
    #[track_caller]
    fn health(&self, code: i32) -> String {
        spaced(&run(self.tool(NOWHERE).args(["health", "--only", "deadman,mail"])).ends(code))
    }

    /// The object in the store.
    fn object(&self) -> Option<Value> {
        let path = self.home.backups().join(format!(".scheduled/{JOB}.json"));
        let object: Value = serde_json::from_slice(&std::fs::read(path).ok()?).expect("JSON");
        crate::docs::schema::check("stored-scheduled", &object);
        Some(object)
    }

    /// The ids of the mails that the service keeps.
    fn ids(&self) -> Vec<String> {
        locked(&self.kept).mails.keys().cloned().collect()
    }

    fn asked(&self) -> Vec<String> {
        locked(&self.kept).asked.clone()
    }
}

/// Standard output with single spaces.
fn spaced(ran: &Ran) -> String {
    ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn problems(ran: &Ran) -> String {
    ran.json()["problems"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_whole_backup_schedules_the_next_mail_and_then_cancels_the_earlier_one() {
    let (server, keeper) = (server().await, Keeper::new().await);
    holds(&keeper.health(5), &["failed", "no mail is scheduled", "uzima-backup backup"]);
    keeper.backup(&server.uri(), 0);
    let first = keeper.ids();
    keeper.backup(&server.uri(), 0);
    let second = keeper.ids();
    assert_eq!((first.len(), second.len()), (1, 1));
    let order =
        [format!("schedule {}", first[0]), format!("schedule {}", second[0]), format!("cancel {}", first[0])];
    assert_eq!(keeper.asked(), order);
    let object = keeper.object().expect("the object");
    assert_eq!((&object["mails"][0]["id"], &object["superseded"]), (&json!(second[0]), &json!([])));

    // 30 hours after the backup began, and an hour.
    let newest = keeper.home.manifests().pop().expect("a backup");
    let at = locked(&keeper.kept).mails[&second[0]];
    let late = (at - newest.started_at).num_seconds() - 31 * 3600;
    assert!((-1..=0).contains(&late), "in whole seconds: {late}");
    let mail = locked(&keeper.kept).bodies.pop().expect("a mail");
    assert_eq!(mail["subject"], "[uzima-backup] BACKUPS HAVE STOPPED: nightly");
    assert_eq!(mail["to"], json!(["ops@example.com"]));
    holds(
        mail["text"].as_str().expect("a text"),
        &[newest.id.as_str(), "there has been none since", "Next step: "],
    );
    let said = keeper.health(0);
    holds(
        &said,
        &["ok deadman", &format!("after the backup {}", newest.id), "may send, schedule and cancel"],
    );

    // Neither a failed run nor one of a part moves it.
    keeper.backup(NOWHERE, 1);
    run(keeper.tool(&server.uri()).args(["backup", "--include", "shop.*"])).ends(0);
    assert_eq!(keeper.ids(), second);
    // The object is no backup, and nothing that a cleanup knows.
    let listed = run(keeper.tool(NOWHERE).args(["list", "--json"])).ends(0);
    assert!(!listed.stdout.contains("scheduled"), "{}", listed.stdout);
    run(keeper.tool(NOWHERE).args(["cleanup", "--orphans"])).ends(0);
    assert_eq!(keeper.object(), Some(object));

    // The mail was sent, because the next backup is late.
    let path = keeper.home.backups().join(format!(".scheduled/{JOB}.json"));
    let mut sent = keeper.object().expect("the object");
    sent["mails"][0]["at"] = "2026-11-23T03:00:00Z".into();
    std::fs::write(&path, sent.to_string()).expect("a file");
    holds(&keeper.health(5), &["failed deadman", "the last one was due after the backup"]);
    let before = keeper.asked().len();
    keeper.backup(&server.uri(), 0);
    assert_eq!(keeper.asked().len(), before + 1, "a mail that was sent is not cancelled");
}

/// A mail that cannot be scheduled leaves the earlier one, and the backup is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_schedule_keeps_the_earlier_mail() {
    let (server, keeper) = (server().await, Keeper::new().await);
    keeper.backup(&server.uri(), 0);
    let (first, object) = (keeper.ids(), keeper.object());
    locked(&keeper.kept).refuses = Some(refused(403, "validation_error", "The domain is not verified."));
    let ran = keeper.backup(&server.uri(), 3);
    holds(&problems(&ran), &["the mail about stopped backups could not be scheduled", "403", "EMAIL_FROM"]);
    assert_eq!((keeper.ids(), keeper.object()), (first, object));
    assert_eq!(keeper.home.manifests().len(), 2, "the backup is good");
}

/// A key that may only send cannot cancel. The next backup with another key cancels all.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_cancel_earlier_mails_are_remembered() {
    let (server, keeper) = (server().await, Keeper::new().await);
    locked(&keeper.kept).restricted = true;
    keeper.backup(&server.uri(), 0);
    for night in 1..=2 {
        let ran = keeper.backup(&server.uri(), 3);
        holds(&problems(&ran), &["could not be cancelled", "restricted_api_key", "a key with full access"]);
        let object = keeper.object().expect("the object");
        assert_eq!(object["superseded"].as_array().map(Vec::len), Some(night));
        assert_eq!(keeper.ids().len(), night + 1, "all of them are scheduled");
    }
    let said = keeper.health(5);
    holds(
        &said,
        &["warning deadman", "2 earlier mails could not be cancelled", "failed mail", "MAIL_DEAD_MAN"],
    );
    locked(&keeper.kept).restricted = false;
    keeper.backup(&server.uri(), 0);
    let object = keeper.object().expect("the object");
    assert_eq!(
        (keeper.ids(), &object["superseded"]),
        (vec![object["mails"][0]["id"].as_str().expect("an id").into()], &json!([]))
    );
}

/// Older pages of the service say that it keeps a mail for 72 hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_too_far_away_becomes_the_latest_that_is_accepted() {
    let (server, keeper) = (server().await, Keeper::new().await);
    locked(&keeper.kept).hours = 72;
    let weekly = || {
        let mut command = keeper.tool(&server.uri());
        command.env("BACKUP_MAX_AGE", "200");
        command
    };
    let ran = run(weekly().arg("backup")).ends(0);
    holds(&ran.stderr, &["WARN", "the mail service keeps no mail longer"]);
    let at = *locked(&keeper.kept).mails.values().next().expect("a mail");
    let hours = (at - Utc::now()).num_minutes() as f64 / 60.0;
    assert!((71.0..72.0).contains(&hours), "{hours}");
    let said = spaced(&run(weekly().args(["health", "--only", "deadman"])).ends(0));
    holds(&said, &["warning deadman", "the mail service keeps no mail longer", "BACKUP_MAX_AGE"]);
    // The same for the limit of 30 days, which is known before the service is asked.
    locked(&keeper.kept).hours = 30 * 24;
    run(weekly().env("BACKUP_MAX_AGE", "1000").arg("backup")).ends(0);
    let at = *locked(&keeper.kept).mails.values().next().expect("a mail");
    assert_eq!((at - Utc::now()).num_days(), 29);
}

/// Each step fails once. There is always a mail that is scheduled, and later runs cancel what is too many as far as they
/// know of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_between_two_steps_leaves_a_mail_too_many_and_never_none() {
    let (server, keeper, bucket) = (server().await, Keeper::new().await, S3Server::start());
    let night = |code| {
        let command = keeper.mailing(to_s3(&keeper.home, &server.uri(), &bucket));
        run({ command }.args(["backup", "--json"])).ends(code)
    };
    let key = format!(".scheduled/{JOB}.json");
    night(0);
    let first = keeper.ids();

    // The ids of the earlier mails cannot be read: nothing is scheduled, and the earlier one stays.
    bucket.faults().add(Rule::always("GetObject", Fault::Answer(403, "AccessDenied")).key(&key));
    holds(&problems(&night(3)), &["the mail about stopped backups could not be scheduled", &key]);
    assert_eq!(keeper.ids(), first);
    bucket.faults().clear();

    // The new id cannot be stored: both stay.
    bucket.faults().add(Rule::always("PutObject", Fault::Answer(403, "AccessDenied")).key(&key));
    holds(&problems(&night(3)), &["the mail about stopped backups could not be recorded", &key]);
    assert_eq!(keeper.ids().len(), 2);
    assert!(keeper.ids().contains(&first[0]));
    bucket.faults().clear();

    // The end of the run is lost after the cancellation: the next run asks once more, which is no problem.
    bucket.faults().add(Rule::at(1, "PutObject", Fault::Answer(403, "AccessDenied")).key(&key));
    night(0);
    assert!(!keeper.ids().contains(&first[0]), "the one that is known is cancelled");
    bucket.faults().clear();
    let before = keeper.asked().len();
    night(0);
    let asked = keeper.asked().split_off(before);
    let words: Vec<&str> = asked.iter().map(|line| line.split(' ').next().expect("a word")).collect();
    assert_eq!(words, ["schedule", "cancel", "cancel"], "{asked:?}");
    assert_eq!(keeper.ids().len(), 2, "the new one, and the one whose id was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_object_is_replaced_and_asks_the_service_for_nothing() {
    let (server, keeper) = (server().await, Keeper::new().await);
    let folder = keeper.home.backups().join(".scheduled");
    std::fs::create_dir(&folder).expect("a folder");
    let at = "2036-11-23T03:00:00Z";
    for planted in [
        json!("nonsense"),
        json!({"format": 1, "job": "other", "host": "h", "backup": "b", "mails": [], "superseded": []}),
        json!({"format": 1, "job": JOB, "host": "h", "backup": "b", "mails": [{"id": "../domains", "at": at}]}),
    ] {
        std::fs::write(folder.join(format!("{JOB}.json")), planted.to_string()).expect("a file");
        holds(&keeper.health(5), &["failed deadman"]);
        let ran = keeper.backup(&server.uri(), 3);
        holds(&problems(&ran), &["may be sent although backups are made", "is replaced"]);
        assert!(keeper.asked().iter().all(|line| line.starts_with("schedule ")), "{:?}", keeper.asked());
        holds(&keeper.health(0), &["ok deadman"]);
    }
}

#[test]
fn only_resend_keeps_a_mail() {
    let home = Home::new();
    let mut command = home.to_dir(NOWHERE);
    command.envs([
        ("SMTP_HOST", "localhost"),
        ("ADMIN_EMAILS", "ops@example.com"),
        ("MAIL_DEAD_MAN", "true"),
    ]);
    run(command.arg("backup")).ends(2).says(&["MAIL_DEAD_MAN", "only Resend", "PING_URL"]);
    // Without the setting, nothing is asked of it.
    let ran = run(home.to_dir(NOWHERE).args(["health", "--only", "deadman"])).ends(0);
    holds(&spaced(&ran), &["not configured deadman", "MAIL_DEAD_MAN is off"]);
    // To turn it off is no wish for mails.
    let mut command = home.to_dir(NOWHERE);
    command.env("MAIL_DEAD_MAN", "false");
    run(command.args(["health", "--only", "deadman"])).ends(0);
}
