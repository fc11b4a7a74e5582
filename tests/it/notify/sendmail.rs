//! Mails by the machine's sendmail.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use uzima_backup::config::notify::MailOptions;
use uzima_backup::config::transport::MailTransport;
use uzima_backup::notify::mailer::Mailer;

use super::support::{LONG, message, now, options};

/// A folder with a program that writes down its input, its arguments and its environment.
struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    /// Ends with the exit codes of `ends`, in order, and repeats the last one.
    fn ending(ends: &[u8]) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let ends: Vec<String> = ends.iter().map(ToString::to_string).collect();
        let script = format!(
            "#!/bin/sh\nn=$(ls {at} | grep -c '^input')\ncat > {at}/input.$n\nprintf '%s\\n' \"$@\" > {at}/args.$n\n\
             env > {at}/env.$n\nset -- {}\nwhile [ $n -gt 0 ] && [ $# -gt 1 ]; do shift; n=$((n-1)); done\n\
             [ $1 = 0 ] || echo 'the queue is full' >&2\nexit $1\n",
            ends.join(" ")
        );
        let program = Program { folder };
        fs::write(program.path(), script).expect("a script");
        fs::set_permissions(program.path(), Permissions::from_mode(0o755)).expect("its mode");
        program
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sendmail")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a file")
    }

    fn runs(&self) -> usize {
        let files = fs::read_dir(self.folder.path()).expect("a folder").flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("input")).count()
    }

    fn mailer(&self) -> Mailer {
        mailer(self.path())
    }
}

fn mailer(path: PathBuf) -> Mailer {
    Mailer::new(MailOptions { by: MailTransport::Sendmail(path), ..options("") })
}

#[tokio::test]
async fn the_program_gets_the_mail_and_its_recipients_and_no_secret() {
    let program = Program::ending(&[0]);
    let sent = program.mailer().send(&message(), "run", now(), LONG).await.expect("it is sent");
    assert!(sent.is_none());
    assert_eq!(
        program.read("args.0"),
        "-i\n-f\nbackups@example.com\n--\nops@example.com\noncall@example.org\n"
    );
    let mail = program.read("input.0");
    assert!(!mail.contains('\r'), "{mail}");
    assert!(mail.contains(&format!("Subject: {}\n", message().subject)), "{mail}");
    assert!(mail.contains("\nMessage-ID: <uzima-backup.failure.") && mail.contains("</html>"), "{mail}");
    let names: Vec<String> = program
        .read("env.0")
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.to_string())
        .filter(|name| !["PATH", "LC_ALL", "PWD", "_", "SHLVL", "OLDPWD"].contains(&name.as_str()))
        .collect();
    assert_eq!(names, Vec::<String>::new());
    let found = program.mailer().check(LONG).await.expect("a good program");
    assert!(found.ends_with("sendmail takes the mails"), "{found}");
    assert_eq!(program.runs(), 1, "a check sends nothing");
}

#[tokio::test]
async fn a_temporary_failure_is_tried_again_and_another_is_final() {
    let program = Program::ending(&[75, 75, 0]);
    program.mailer().send(&message(), "run", now(), LONG).await.expect("it is sent in the end");
    assert_eq!(program.runs(), 3);
    assert_eq!(program.read("input.0"), program.read("input.2"), "with the same Message-ID");
    for (code, step) in
        [(67, "ADMIN_EMAILS"), (77, "EMAIL_FROM"), (78, "SENDMAIL_PATH"), (1, "SENDMAIL_PATH")]
    {
        let program = Program::ending(&[code]);
        let error = program.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
        let words = format!("sendmail ended with exit code {code}: the queue is full");
        assert!(error.chain().contains(&words), "{}", error.chain());
        assert!(error.next_step().expect("a next step").contains(step), "{code}: {error:?}");
        assert_eq!(program.runs(), 1, "{code}");
    }
    let program = Program::ending(&[75]);
    let error = program.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert_eq!(program.runs(), 4);
    assert!(error.next_step().expect("a next step").contains("mailq"), "{error:?}");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_named() {
    let program = Program::ending(&[0]);
    let missing = program.folder.path().join("missing");
    let error = mailer(missing).check(LONG).await.unwrap_err();
    assert!(error.chain().contains("missing does not exist"), "{}", error.chain());
    assert!(error.next_step().expect("a next step").contains("SENDMAIL_PATH"), "{error:?}");
    fs::set_permissions(program.path(), Permissions::from_mode(0o644)).expect("its mode");
    let error = program.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(error.chain().contains("is not a program"), "{}", error.chain());
    // Another user could replace it.
    fs::set_permissions(program.path(), Permissions::from_mode(0o777)).expect("its mode");
    let error = program.mailer().send(&message(), "run", now(), LONG).await.unwrap_err();
    assert!(error.chain().contains("is not run, because"), "{}", error.chain());
    assert_eq!(program.runs(), 0);
}

#[tokio::test]
async fn a_program_that_does_not_end_has_a_time_limit() {
    let program = Program::ending(&[0]);
    fs::write(program.path(), "#!/bin/sh\nexec sleep 600\n").expect("a script");
    let error = program.mailer().send(&message(), "run", now(), Duration::from_secs(1)).await.unwrap_err();
    assert!(error.chain().contains("it did not end within"), "{}", error.chain());
}
