use super::*;
use crate::base::exit::Exit;
use crate::base::secret::ExposeSecret;
use crate::config::Raw;

const KEY: (&str, &str) = ("RESEND_API_KEY", "re_canary_key");
const TO: (&str, &str) = ("ADMIN_EMAILS", "ops@example.com, on.call+x@b.example.org, ops@example.com");

#[test]
fn no_setting_means_no_mail_and_no_error() {
    assert!(mail(&Layers::of(&[])).unwrap().is_none());
    assert!(mail(&Layers::of(&[("BACKUP_FORMAT", "nonsense")])).unwrap().is_none());
}

#[test]
fn two_settings_are_enough_even_if_other_settings_are_wrong() {
    let options = mail(&Layers::of(&[KEY, TO, ("BACKUP_FORMAT", "nonsense")])).unwrap().unwrap();
    let MailTransport::Resend(service) = &options.by else { panic!("{options:?}") };
    assert_eq!(service.key.expose_secret(), "re_canary_key");
    assert_eq!(options.to, ["ops@example.com", "on.call+x@b.example.org"]);
    assert_eq!(options.from, "uzima-backup@example.com");
    assert_eq!(service.base_url, "https://api.resend.com");
    assert_eq!(options.events, EVENTS);
}

#[test]
fn set_values_replace_the_defaults() {
    let more = [
        ("EMAIL_FROM", "Back-ups of db1 <backups@example.com>"),
        ("RESEND_BASE_URL", "http://127.0.0.1:8025/"),
        ("BACKUP_NOTIFY", "failure, recovered"),
    ];
    let options = mail(&Layers::of(&[&[KEY, TO], &more[..]].concat())).unwrap().unwrap();
    assert_eq!(options.from, "Back-ups of db1 <backups@example.com>");
    let MailTransport::Resend(service) = &options.by else { panic!("{options:?}") };
    assert_eq!(service.base_url, "http://127.0.0.1:8025");
    assert_eq!(options.events, [Event::Failure, Event::Recovered]);
}

#[test]
fn a_mistake_names_its_variable_and_never_the_key() {
    for (env, words) in [
        (vec![KEY], vec!["ADMIN_EMAILS is missing"]),
        (vec![TO], vec!["neither RESEND_API_KEY, SMTP_HOST nor SENDMAIL_PATH is set"]),
        (vec![("EMAIL_FROM", "a@b.example")], vec!["mail.from is set, but", "neither RESEND_API_KEY"]),
        (
            vec![TO, ("RESEND_BASE_URL", "https://x")],
            vec!["mail.base_url, mail.to are set, but no mail", "RESEND_API_KEY is missing"],
        ),
        (vec![("BACKUP_NOTIFY", "failure")], vec!["notify is set, but", "neither RESEND_API_KEY"]),
        (
            vec![KEY, TO, ("BACKUP_NOTIFY", "failure,succes")],
            vec!["'succes'", "BACKUP_NOTIFY", "success, fail"],
        ),
        (vec![KEY, TO, ("RESEND_BASE_URL", "api.resend.com")], vec!["RESEND_BASE_URL", "https://"]),
        (vec![KEY, TO, ("RESEND_BASE_URL", "https://u:p@x")], vec!["RESEND_BASE_URL", "login"]),
        (vec![KEY, TO, ("RESEND_BASE_URL", "https://")], vec!["RESEND_BASE_URL"]),
        (vec![KEY, TO, ("EMAIL_FROM", "nobody")], vec!["EMAIL_FROM", "'nobody'"]),
        (vec![KEY, ("ADMIN_EMAILS", ", ,")], vec!["ADMIN_EMAILS", "nobody"]),
        (
            vec![KEY, ("ADMIN_EMAILS", "jörg@b.example")],
            vec!["ADMIN_EMAILS", "'jörg@b.example'", "non-ASCII"],
        ),
        (vec![KEY, ("ADMIN_EMAILS", "Ops, Team <a@b.example>")], vec!["ADMIN_EMAILS", "'Ops'"]),
        (vec![KEY, ("ADMIN_EMAILS", "a@b.example c@d.example")], vec!["ADMIN_EMAILS", "'a@b.example c@d"]),
        (vec![TO, ("RESEND_API_KEY", "re_canary_key\nx")], vec!["mail.resend_api_key", "without spaces"]),
    ] {
        let error = mail(&Layers::of(&env)).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        for word in words {
            assert!(error.chain().contains(word), "{env:?}: {}", error.chain());
        }
        let text = format!("{error:?}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn empty_lists_are_refused() {
    let load = |toml: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, toml).unwrap();
        let flags = [("mail.resend_api_key", Raw::Text("re_x".into()))].into_iter().collect();
        mail(&Layers::load(flags, &|_| None, Some(&path)).unwrap()).unwrap_err().chain()
    };
    assert!(load("[mail]\nto = []").contains("nobody"));
    assert!(load("notify = []\n[mail]\nto = ['a@b.example']").contains("no event"));
}

#[test]
fn addresses_are_checked_and_normalised() {
    for (good, sent) in [
        ("a@b.example", "a@b.example"),
        ("a.b+c_d@x-y.example.org", "a.b+c_d@x-y.example.org"),
        ("o'neil@B.Example", "o'neil@b.example"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ] {
        assert_eq!(address(good), Ok(sent.to_string()), "{good}");
        assert_eq!(sender(&format!("N. N. <{good}>")), Ok(format!("N. N. <{sent}>")));
        assert_eq!(sender(&format!(" <{good}> ")), Ok(sent.to_string()));
    }
    let long = format!("{}@b.example", "a".repeat(300));
    for bad in [
        "",
        "a",
        "@b.example",
        "a@",
        "a@b",
        "a@b..c",
        "a@-b.example",
        "a b@c.example",
        "a@b.example\nBcc: x@y.example",
        "a@b.example,c@d.example",
        "<a@b.example>",
        "N <a@b.example>",
        "a@c@b.example",
        ".a@b.example",
        "a.@b.example",
        "a..b@b.example",
        "ü@bücher.example",
        "a@127.0.0.1",
        "a@[127.0.0.1]",
        "a@b.e",
        "a@b.example.",
        "a@b_c.example",
        "\"a b\"@b.example",
        "a@b.example ",
        "a\r@b.example",
        &long,
    ] {
        assert!(address(bad).is_err(), "{bad:?}");
    }
    for bad in
        ["N <a@b>", "N\n <a@b.example>", "N <a@b.example> x", "a, b <a@b.example>", "N <x <a@b.example>>"]
    {
        assert!(sender(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_usual_forms_of_a_list_are_accepted() {
    for (list, want) in [
        ("a@b.example,", vec!["a@b.example"]),
        ("a@b.example, , c@d.example ,", vec!["a@b.example", "c@d.example"]),
        ("a@b.example; c@d.example;", vec!["a@b.example", "c@d.example"]),
        ("Ops <a@b.example>, <c@d.example>", vec!["a@b.example", "c@d.example"]),
        ("Jörg Müller <joerg@müller.example>", vec!["joerg@xn--mller-kva.example"]),
        (r#""Ops; the \"best\", Team" <a@b.example>, c@d.example"#, vec!["a@b.example", "c@d.example"]),
        ("a@b.example, A <a@B.example>", vec!["a@b.example"]),
    ] {
        let options = mail(&Layers::of(&[KEY, ("ADMIN_EMAILS", list)])).unwrap().unwrap();
        assert_eq!(options.to, want, "{list}");
        let domain = want[0].rsplit_once('@').unwrap().1;
        assert_eq!(options.from, format!("uzima-backup@{domain}"), "{list}");
    }
}
