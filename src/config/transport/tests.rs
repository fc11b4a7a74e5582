use super::*;
use crate::base::exit::Exit;
use crate::base::secret::ExposeSecret;
use crate::config::notify::mail;

const TO: (&str, &str) = ("ADMIN_EMAILS", "ops@example.com");
const HOST: (&str, &str) = ("SMTP_HOST", "mail.example.com");

fn by(env: &[(&str, &str)]) -> MailTransport {
    mail(&Layers::of(&[&[TO], env].concat())).unwrap().expect("mails are set up").by
}

fn smtp(env: &[(&str, &str)]) -> SmtpOptions {
    match by(env) {
        MailTransport::Smtp(server) => server,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_transport_that_has_settings_is_chosen() {
    assert!(matches!(by(&[("RESEND_API_KEY", "re_x")]), MailTransport::Resend(_)));
    assert!(matches!(by(&[HOST]), MailTransport::Smtp(_)));
    let path = |by| match by {
        MailTransport::Sendmail(path) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(path(by(&[("SENDMAIL_PATH", "/opt/bin/sendmail")])), PathBuf::from("/opt/bin/sendmail"));
    assert_eq!(path(by(&[("MAIL_BY", "sendmail")])), PathBuf::from("/usr/sbin/sendmail"));
}

#[test]
fn with_settings_of_several_transports_one_must_be_named() {
    let both = [HOST, ("RESEND_API_KEY", "re_canary")];
    let error = mail(&Layers::of(&[&[TO], &both[..]].concat())).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    let text = format!("{} {}", error.chain(), error.next_step().unwrap());
    assert!(text.contains("mail.resend_api_key, mail.smtp_host are set"), "{text}");
    assert!(text.contains("MAIL_BY (mail.by) to resend or smtp") && !text.contains("canary"), "{text}");
    assert!(matches!(by(&[&both[..], &[("MAIL_BY", "smtp")]].concat()), MailTransport::Smtp(_)));
    assert!(matches!(by(&[&both[..], &[("MAIL_BY", "resend")]].concat()), MailTransport::Resend(_)));
    assert!(matches!(by(&[&both[..], &[("MAIL_BY", "sendmail")]].concat()), MailTransport::Sendmail(_)));
}

/// Containers pass the variables of an application to the backup as well.
#[test]
fn the_variables_of_another_programs_mails_ask_for_none() {
    assert!(mail(&Layers::of(&[HOST, ("SMTP_USER", "app")])).unwrap().is_none());
    assert!(
        mail(&Layers::of(&[HOST, ("MAIL_BY", "smtp")]))
            .unwrap_err()
            .chain()
            .contains("ADMIN_EMAILS is missing")
    );
}

#[test]
fn port_and_security_follow_from_each_other() {
    let of = |env: &[(&str, &str)]| {
        let server = smtp(env);
        (server.port, server.security)
    };
    assert_eq!(of(&[HOST]), (587, SmtpSecurity::StartTls));
    assert_eq!(of(&[HOST, ("SMTP_PORT", "465")]), (465, SmtpSecurity::Tls));
    assert_eq!(of(&[HOST, ("SMTP_PORT", "25")]), (25, SmtpSecurity::StartTls));
    assert_eq!(of(&[HOST, ("SMTP_SECURITY", "tls")]), (465, SmtpSecurity::Tls));
    assert_eq!(
        of(&[HOST, ("SMTP_PORT", "465"), ("SMTP_SECURITY", "starttls")]),
        (465, SmtpSecurity::StartTls)
    );
    assert_eq!(of(&[("SMTP_HOST", "localhost"), ("SMTP_SECURITY", "none")]), (25, SmtpSecurity::Plain));
}

#[test]
fn without_encryption_only_this_machine_gets_mails() {
    for here in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"] {
        assert_eq!(
            smtp(&[("SMTP_HOST", here), ("SMTP_SECURITY", "none")]).security,
            SmtpSecurity::Plain,
            "{here}"
        );
    }
    for elsewhere in
        ["mail.example.com", "localhost.example.com", "10.0.0.1", "[::2]", "0.0.0.0", "127.0.0.1.example"]
    {
        let env = [TO, ("SMTP_HOST", elsewhere), ("SMTP_SECURITY", "none")];
        let error = mail(&Layers::of(&env)).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{elsewhere}");
        assert!(error.chain().contains("SMTP_SECURITY"), "{}", error.chain());
        assert!(error.next_step().unwrap().contains("starttls or tls"), "{error:?}");
    }
}

#[test]
fn a_login_has_both_parts_and_each_can_be_in_a_file() {
    assert!(smtp(&[HOST]).login.is_none());
    let dir = tempfile::tempdir().unwrap();
    let (user, password) = (dir.path().join("user"), dir.path().join("password"));
    std::fs::write(&user, "backup@example.com\n").unwrap();
    std::fs::write(&password, "swordfish with spaces \n").unwrap();
    let (user, password) = (user.to_str().unwrap(), password.to_str().unwrap());
    let login = smtp(&[HOST, ("SMTP_USER_FILE", user), ("SMTP_PASSWORD_FILE", password)]).login.unwrap();
    assert_eq!(login.user, "backup@example.com");
    assert_eq!(login.password.expose_secret(), "swordfish with spaces ");
    assert!(!format!("{login:?}").contains("swordfish"));
}

#[test]
fn a_mistake_names_its_variable_and_never_the_password() {
    for (env, words) in [
        (vec![("MAIL_BY", "smpt")], vec!["MAIL_BY", "resend, smtp or sendmail"]),
        (vec![("MAIL_BY", "smtp")], vec!["SMTP_HOST is missing"]),
        (vec![("SMTP_PORT", "587")], vec!["SMTP_HOST is missing"]),
        (vec![("MAIL_BY", "resend"), HOST], vec!["RESEND_API_KEY is missing"]),
        (vec![("SMTP_HOST", "smtp://mail.example.com")], vec!["SMTP_HOST", "without a scheme"]),
        (vec![("SMTP_HOST", "mail.example.com:587")], vec!["SMTP_HOST", "without a scheme and a port"]),
        (vec![HOST, ("SMTP_PORT", "0")], vec!["SMTP_PORT"]),
        (vec![HOST, ("SMTP_PORT", "70000")], vec!["SMTP_PORT"]),
        (vec![HOST, ("SMTP_SECURITY", "ssl")], vec!["SMTP_SECURITY", "starttls, tls or none"]),
        (vec![HOST, ("SMTP_USER", "u")], vec!["SMTP_USER is set"]),
        (vec![HOST, ("SMTP_PASSWORD", "canary")], vec!["SMTP_PASSWORD is set"]),
        (
            vec![HOST, ("SMTP_USER", "u"), ("SMTP_PASSWORD", "canary\nx")],
            vec!["mail.smtp_password", "one line"],
        ),
        (vec![HOST, ("SMTP_CA_FILE", "ca.pem")], vec!["SMTP_CA_FILE", "absolute"]),
        (vec![("SENDMAIL_PATH", "sendmail")], vec!["SENDMAIL_PATH", "absolute"]),
    ] {
        let error = mail(&Layers::of(&[&[TO], &env[..]].concat())).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        for word in words {
            assert!(error.chain().contains(word), "{env:?}: {}", error.chain());
        }
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert!(error.next_step().is_some());
    }
}

#[test]
fn the_shown_server_has_its_port() {
    assert_eq!(smtp(&[HOST]).server(), "mail.example.com:587");
    assert_eq!(smtp(&[("SMTP_HOST", "[::1]")]).server(), "[::1]:587");
    assert_eq!(smtp(&[("SMTP_HOST", "Mail.Bücher.example")]).host, "mail.xn--bcher-kva.example");
}
