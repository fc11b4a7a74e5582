//! Mails by SMTP, to a real server.

use std::path::PathBuf;
use std::time::Duration;

use uzima_backup::base::exit::Exit;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::notify::MailOptions;
use uzima_backup::config::transport::{MailTransport, SmtpLogin, SmtpOptions, SmtpSecurity};
use uzima_backup::notify::mailer::Mailer;
use uzima_testkit::mongod::TlsFiles;
use uzima_testkit::smtp_server::{Encryption, Fault, SmtpServer};

use super::support::{LONG, message, now, options};

const USER: &str = "backup@example.com";
const PASSWORD: &str = "swordfish canary";
/// `PASSWORD` as AUTH LOGIN sends it.
const ENCODED: &str = "c3dvcmRmaXNoIGNhbmFyeQ==";

/// A server with a certificate and a login, and how to reach it.
struct Place {
    server: SmtpServer,
    folder: tempfile::TempDir,
    security: SmtpSecurity,
}

impl Place {
    fn new(security: SmtpSecurity) -> Place {
        Place::named(security, &["localhost"])
    }

    /// A server with these names in its certificate.
    fn named(security: SmtpSecurity, names: &[&str]) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let files = TlsFiles::create_for(folder.path(), names).expect("certificates");
        let encryption = match security {
            SmtpSecurity::StartTls => Encryption::StartTls,
            SmtpSecurity::Tls => Encryption::Implicit,
            SmtpSecurity::Plain => Encryption::Never,
        };
        let server = SmtpServer::start(encryption, Some(&files), Some((USER, PASSWORD)));
        Place { server, folder, security }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn smtp(&self) -> SmtpOptions {
        let login = SmtpLogin { user: USER.into(), password: Secret::from(PASSWORD) };
        SmtpOptions {
            host: "localhost".into(),
            port: self.server.port(),
            security: self.security,
            login: Some(login),
            ca_file: Some(self.ca()),
        }
    }

    fn mailer_with(&self, change: impl FnOnce(&mut SmtpOptions)) -> Mailer {
        let mut smtp = self.smtp();
        change(&mut smtp);
        Mailer::new(MailOptions { by: MailTransport::Smtp(smtp), ..options("") })
    }

    fn mailer(&self) -> Mailer {
        self.mailer_with(|_| {})
    }

    /// The commands of all clients, without their arguments.
    fn commands(&self) -> Vec<String> {
        let word = |line: &str| line.split([' ', ':']).next().unwrap_or_default().to_string();
        self.server.lines().iter().map(|(_, line)| word(line)).collect()
    }

    /// Nothing of the password was sent unencrypted.
    #[track_caller]
    fn kept_the_secret(&self) {
        for (encrypted, line) in self.server.lines() {
            assert!(encrypted || !(line.contains("AUTH") || line.contains(ENCODED)), "{line}");
        }
    }
}

fn header(mail: &str, name: &str) -> String {
    let start = format!("{name}: ");
    mail.lines().find_map(|line| line.strip_prefix(&start)).expect("the header").to_string()
}

#[tokio::test]
async fn a_mail_arrives_encrypted_after_a_login() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let place = Place::new(security);
        for mechanisms in ["PLAIN LOGIN", "LOGIN", "XOAUTH2 PLAIN"] {
            place.server.offer(mechanisms);
            let sent = place.mailer().send(&message(), "run", now(), LONG).await.expect("it is sent");
            assert!(sent.is_none());
        }
        let mails = place.server.mails();
        assert_eq!(mails.len(), 3);
        for mail in &mails {
            assert_eq!(mail.from, "backups@example.com");
            assert_eq!(mail.to, ["ops@example.com", "oncall@example.org"]);
            assert_eq!((mail.encrypted, mail.user.as_deref()), (true, Some(USER)));
            assert_eq!(header(&mail.text, "Subject"), message().subject);
            assert_eq!(header(&mail.text, "Date"), "Mon, 23 Nov 2026 03:00:00 +0000");
            assert!(mail.text.contains("What failed  cannot connect"), "{}", mail.text);
            assert!(mail.text.contains("</html>"), "{}", mail.text);
        }
        place.kept_the_secret();
        assert!(place.commands().ends_with(&["QUIT".into()]), "{:?}", place.commands());
    }
}

/// A server on this machine needs neither encryption nor a login.
#[tokio::test]
async fn a_server_on_this_machine_may_be_plain() {
    let server = SmtpServer::start(Encryption::Never, None, None);
    for host in ["localhost", "127.0.0.1"] {
        let smtp = SmtpOptions {
            host: host.into(),
            port: server.port(),
            security: SmtpSecurity::Plain,
            login: None,
            ca_file: None,
        };
        let mailer = Mailer::new(MailOptions { by: MailTransport::Smtp(smtp), ..options("") });
        mailer.send(&message(), "run", now(), LONG).await.expect("it is sent");
        let found = mailer.check(LONG).await.expect("a good server");
        assert!(found.contains("accepts mails without a login (no encryption)"), "{found}");
    }
    assert_eq!(server.mails().len(), 2);
}

/// An attacker on the way can remove STARTTLS from the answer.
#[tokio::test]
async fn a_server_without_starttls_gets_neither_password_nor_mail() {
    let place = Place::new(SmtpSecurity::Plain);
    let mailer = place.mailer_with(|smtp| smtp.security = SmtpSecurity::StartTls);
    let error = mailer.send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(error.chain().contains("does not offer STARTTLS"), "{}", error.chain());
    assert!(error.next_step().expect("a next step").contains("SMTP_SECURITY"), "{error:?}");
    assert_eq!(place.commands(), ["EHLO"], "and it is asked once");
    place.kept_the_secret();

    let place = Place::new(SmtpSecurity::StartTls);
    place.server.refuse("STARTTLS", "502 5.5.1 not today");
    let error = place.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(
        error.chain().contains("refused the encryption (STARTTLS): 502 5.5.1 not today"),
        "{}",
        error.chain()
    );
    place.kept_the_secret();
    assert!(!place.commands().contains(&"MAIL".into()));
}

/// The injected lines would be the answers to EHLO, AUTH, MAIL, RCPT, DATA and the mail.
#[tokio::test]
async fn answers_from_before_the_encryption_are_never_used() {
    let place = Place::new(SmtpSecurity::StartTls);
    place.server.refuse(".", "554 5.7.1 refused");
    place.server.inject("250-x\r\n250 AUTH PLAIN\r\n235 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n250 x");
    let sent = place.mailer().send(&message(), "run", now(), Duration::from_secs(4)).await;
    assert!(sent.is_err(), "{sent:?}");
    place.kept_the_secret();
    assert!(!place.commands().contains(&"MAIL".into()), "{:?}", place.commands());
}

#[tokio::test]
async fn the_servers_certificate_is_checked() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let (place, other) = (Place::new(security), Place::new(security));
        let named = Place::named(security, &["127.0.0.1", "mail.example.com"]);
        // The machine's CAs, another CA, and another name.
        for (place, ca, word) in [
            (&place, None, "SMTP_CA_FILE"),
            (&place, Some(other.ca()), "SMTP_CA_FILE"),
            (&named, Some(named.ca()), "SMTP_HOST"),
        ] {
            let mailer = place.mailer_with(|smtp| smtp.ca_file = ca);
            let error = mailer.send(&message(), "run", now(), LONG).await.unwrap_err();
            assert!(error.chain().contains("certificate"), "{}", error.chain());
            assert!(error.next_step().expect("a next step").contains(word), "{error:?}");
            place.kept_the_secret();
            assert!(place.server.mails().is_empty());
        }
        assert_eq!(
            (place.server.connections(), named.server.connections()),
            (2, 1),
            "a certificate stays wrong"
        );
    }
    let place = Place::new(SmtpSecurity::Tls);
    let key = place.folder.path().join("key.pem");
    std::fs::write(&key, "-----BEGIN NOTHING-----\n").expect("a file");
    let mailer = place.mailer_with(|smtp| smtp.ca_file = Some(key));
    let error = mailer.send(&message(), "run", now(), LONG).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.chain().contains("contains no CA certificate"), "{}", error.chain());
}

#[tokio::test]
async fn a_refusal_names_server_phase_and_next_step_and_never_the_password() {
    let answer = format!("550 no, {PASSWORD} {ENCODED}");
    for (command, reply, phase, step) in [
        ("GREETING", "554 5.3.2 no mails here", "the greeting", "administrator"),
        ("EHLO", "550 who are you", "the greeting", "administrator"),
        ("AUTH", "535 5.7.8 authentication failed", "the login", "SMTP_USER and SMTP_PASSWORD"),
        ("AUTH", &answer, "the login", "SMTP_USER and SMTP_PASSWORD"),
        ("MAIL", "530 5.7.0 log in first", "the sender", "SMTP_USER and SMTP_PASSWORD"),
        ("MAIL", "553 5.7.1 not your address", "the sender", "EMAIL_FROM (mail.from, now Backups"),
        ("RCPT", "554 5.7.1 relay access denied", "a recipient", "ADMIN_EMAILS"),
        ("DATA", "554 5.5.1 no", "the mail", "administrator"),
        (".", "552 5.3.4 too large", "the mail", "administrator"),
    ] {
        let place = Place::new(SmtpSecurity::StartTls);
        place.server.refuse(command, reply);
        let error = place.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        let text = error.chain();
        let server = format!("localhost:{} refused {phase}: {}", place.server.port(), &reply[..3]);
        assert!(text.contains(&server), "{command}: {text}");
        assert!(error.next_step().expect("a next step").contains(step), "{command}: {error:?}");
        let debug = format!("{error:?}");
        assert!(!debug.contains(PASSWORD) && !debug.contains(ENCODED), "{debug}");
        assert_eq!(place.server.connections(), 1, "{command}: a refusal is final");
        assert!(place.server.mails().is_empty());
    }
    let place = Place::new(SmtpSecurity::StartTls);
    place.server.offer("GSSAPI");
    let error = place.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(error.chain().contains("the login failed at localhost"), "{}", error.chain());
    assert!(error.next_step().expect("a next step").contains("PLAIN or LOGIN"), "{error:?}");
}

#[tokio::test]
async fn a_temporary_refusal_is_tried_again_with_the_same_id() {
    for command in ["GREETING", "AUTH", "MAIL", "RCPT", "DATA", "."] {
        let place = Place::new(SmtpSecurity::Tls);
        place.server.fail(command, Fault::Reply("451 4.7.1 try again later".into()), 1);
        let sent = place.mailer().send(&message(), "run", now(), LONG).await.expect("it is sent in the end");
        assert!(sent.is_none(), "{command}: {sent:?}");
        let mails = place.server.mails();
        let mut got: Vec<&String> = mails.iter().flat_map(|mail| &mail.to).collect();
        got.sort();
        assert_eq!(got, ["oncall@example.org", "ops@example.com"], "{command}: each once");
    }
    let place = Place::new(SmtpSecurity::Tls);
    place.server.refuse("MAIL", "450 4.7.1 greylisted");
    let error = place.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert_eq!(place.server.connections(), 4, "four tries");
    assert!(error.chain().contains("450 4.7.1 greylisted"), "{}", error.chain());
    assert!(error.next_step().expect("a next step").contains("not on this machine"), "{error:?}");
}

#[tokio::test]
async fn a_broken_connection_is_tried_again() {
    for command in ["GREETING", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "."] {
        let place = Place::new(SmtpSecurity::StartTls);
        place.server.fail(command, Fault::Close, 1);
        let sent = place.mailer().send(&message(), "run", now(), LONG).await.expect("it is sent in the end");
        assert!(sent.is_none(), "{command}: {sent:?}");
        assert_eq!((place.server.mails().len(), place.server.connections()), (1, 2), "{command}");
    }
}

/// The answer to the mail itself is lost: the server may have accepted it.
#[tokio::test]
async fn after_an_unclear_end_the_mail_is_sent_once_more_with_the_same_id() {
    let place = Place::new(SmtpSecurity::Tls);
    place.server.fail(".", Fault::CloseInsteadOfReply, u32::MAX);
    let error = place.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(error.chain().contains("the mail failed at localhost"), "{}", error.chain());
    let ids: Vec<String> = place.server.mails().iter().map(|mail| header(&mail.text, "Message-ID")).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_server_that_falls_silent_has_a_time_limit() {
    for command in ["GREETING", "AUTH", "."] {
        let place = Place::new(SmtpSecurity::StartTls);
        place.server.fail(command, Fault::Silence, u32::MAX);
        let limit = Duration::from_millis(1500);
        let error = place.mailer().send(&message(), "run", now(), limit).await.unwrap_err();
        assert!(error.chain().contains("no answer within"), "{command}: {}", error.chain());
        assert!(error.next_step().expect("a next step").contains("can be reached"), "{command}: {error:?}");
    }
    let place = Place::new(SmtpSecurity::Tls);
    // A closed port on any machine.
    let mailer = place.mailer_with(|smtp| smtp.port = 1);
    let error = mailer.send(&message(), "run", now(), Duration::from_millis(1500)).await.unwrap_err();
    assert!(error.chain().contains("localhost:1") && error.chain().contains("refused"), "{}", error.chain());
}

#[tokio::test]
async fn a_server_that_sends_without_end_is_left() {
    let place = Place::new(SmtpSecurity::StartTls);
    place.server.refuse("GREETING", &"x".repeat(512 << 10));
    let error = place.mailer().send(&message(), "run", now(), Duration::from_secs(4)).await.unwrap_err();
    assert!(error.chain().contains("the greeting failed at localhost"), "{}", error.chain());
}

#[tokio::test]
async fn a_refused_recipient_is_named_and_the_others_get_the_mail() {
    let place = Place::new(SmtpSecurity::StartTls);
    place.server.refuse("RCPT TO:<ops@example.com>", "550 5.1.1 no such user");
    let sent = place.mailer().send(&message(), "run", now(), LONG).await.expect("the other one got it");
    let error = sent.expect("one is refused");
    let text = error.chain();
    assert!(
        text.contains("not sent to 1 of 2 (ops@example.com)") && text.contains("550 5.1.1 no such user"),
        "{text}"
    );
    assert!(error.next_step().expect("a next step").contains("ADMIN_EMAILS"), "{error:?}");
    let mails = place.server.mails();
    assert_eq!((mails.len(), &mails[0].to[..]), (1, &["oncall@example.org".to_string()][..]));
    // Both are in the header, as in every mail.
    assert_eq!(header(&mails[0].text, "To"), "ops@example.com, oncall@example.org");
}

#[tokio::test]
async fn a_server_is_checked_without_a_mail() {
    let place = Place::new(SmtpSecurity::StartTls);
    let found = place.mailer().check(LONG).await.expect("a good login");
    assert_eq!(found, format!("localhost:{} accepts mails as {USER} (STARTTLS)", place.server.port()));
    assert!(!place.commands().contains(&"MAIL".into()));
    let wrong = place.mailer_with(|smtp| {
        smtp.login = Some(SmtpLogin { user: USER.into(), password: Secret::from("wrong") });
    });
    let error = wrong.check(LONG).await.unwrap_err();
    assert!(error.chain().contains("refused the login: 535"), "{}", error.chain());
    assert!(error.next_step().expect("a next step").contains("SMTP_PASSWORD"), "{error:?}");
}
