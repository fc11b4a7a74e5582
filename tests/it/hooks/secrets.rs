//! A hook sees no secret of its job, and a secret that it finds elsewhere is in no log, record or mail.

use std::os::unix::fs::PermissionsExt;

use uzima_testkit::s3_server::{S3Server, SECRET_KEY};

use super::support::{environment, hooked, writes_environment};
use crate::cli::s3::to_s3;
use crate::cli::secrets::{PASSWORD, assert_clean, server};
use crate::cli::support::run;
use crate::night::support::{Nights, holds};
use crate::notify::support::{KEY, asked};
use crate::records::support::recorded;

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_reaches_a_hook_or_leaves_through_one() {
    let secrets = [PASSWORD, KEY, SECRET_KEY];
    let (server, uri) = server(&[("backup", "admin"), ("readWrite", "uzima_backup")]).await;
    let (nights, bucket) = (Nights::new().await, S3Server::start());
    let home = &nights.home;
    let at = |name: &str| home.path().join(name);
    // The file from which the tool reads the connection string, and an application its password.
    std::fs::write(at("uri"), &uri).expect("a file");
    std::fs::set_permissions(at("uri"), std::fs::Permissions::from_mode(0o600)).expect("its mode");
    std::fs::write(at("password"), format!("the password is {PASSWORD}\n")).expect("a file");
    let script = |name: &str| {
        let environment = writes_environment(&at(&format!("{name}.env")));
        let found = at(&format!("{name}.found"));
        format!(
            "{environment}\nenv; tr '\\0' ' ' < /proc/$$/cmdline | tee {found}; ls -l /proc/$$/fd >> {found}; \
             cat {password}; cat {password} >&2",
            found = found.display(),
            password = at("password").display(),
        )
    };
    let log = at("log");
    let tool = |before: &str, after: &str| {
        let mut command = to_s3(home, "", &bucket);
        nights.mailing(&mut command);
        command.env_remove("MONGO_URI").env("MONGO_URI_FILE", at("uri"));
        command.env_remove("BACKUP_RECORDS").env("BACKUP_JOB", "nightly").env("BACKUP_LOG_FILE", &log);
        let (before, after) =
            (format!("{}\n{before}", script("before")), format!("{}\n{after}", script("after")));
        hooked(&mut command, home, &before, &after);
        let ran = run(command.args(["backup", "--json"]));
        assert_clean("the output", &[ran.stdout.as_bytes(), ran.stderr.as_bytes()].concat(), &secrets);
        ran
    };
    let report = tool("", "exit 1").ends(3).json();
    holds(&report["problems"].to_string(), &["its last line: the password is ***"]);
    let failed = tool("exit 1", "exit 1").ends(1).says(&["its last line: the password is ***"]);
    holds(&failed.stderr, &["before_backup: the password is ***", "after_backup: the password is ***"]);

    let own = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let links = own.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let inherited: Vec<String> = links.map(|link| link.display().to_string()).collect();
    for name in ["before", "after"] {
        for file in [format!("{name}.env"), format!("{name}.found")] {
            assert_clean(&file, &std::fs::read(at(&file)).expect("a file"), &secrets);
        }
        // A hook inherits no lock, log or connection of the tool. What the test itself was started with passes through.
        let found = std::fs::read_to_string(at(&format!("{name}.found"))).expect("a file");
        let files: Vec<&str> = found.lines().filter_map(|line| Some(line.split_once(" -> ")?.1)).collect();
        let expected = ["sh", "found"].map(|end| at(&format!("{name}.{end}")).display().to_string());
        let strange = |file: &&&str| {
            let of_tool =
                file.starts_with("socket:") || file.starts_with(home.path().to_str().expect("UTF-8"));
            of_tool && !expected.iter().chain(&inherited).any(|known| known == **file)
        };
        assert!(files.len() >= 3, "{found}");
        assert_eq!(files.iter().filter(strange).collect::<Vec<_>>(), Vec::<&&str>::new());
        let names: Vec<String> = environment(&at(&format!("{name}.env"))).into_keys().collect();
        let ours = |name: &String| name == "PATH" || name.starts_with("UZIMA_") && !name.contains("BACKUP");
        assert!(names.iter().all(ours), "{names:?}");
    }
    assert_clean("the log file", &std::fs::read(&log).expect("a log"), &secrets);
    let records = format!("{:?}", recorded(&server.client().await.expect("a client")).await);
    assert_eq!(records.matches("the password is ***").count(), 2, "{records}");
    assert_clean("the records", records.as_bytes(), &secrets);
    let mails = asked(&nights.service).await;
    assert_eq!(mails.len(), 2);
    for mail in mails {
        assert_clean("a mail", &mail.body, &secrets);
        holds(&String::from_utf8_lossy(&mail.body), &["the password is ***"]);
    }
    for (key, object) in bucket.objects() {
        assert_clean(&key, &object, &secrets);
    }
}
