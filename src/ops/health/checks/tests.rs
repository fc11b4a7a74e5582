//! The selection and order of the checks, and the consequences of a failure.

use super::super::HealthSubject;
use super::*;
use crate::config::JobSettings;
use crate::config::RecordsAt;
use crate::config::machine::Machine;
use crate::config::place::Place;
use crate::config::store::DirOptions;

const fn check(name: &'static str, after: &'static [&'static str]) -> Check {
    let run = |_: &Context| Box::pin(async { Finding::ok("two\n lines") }) as _;
    Check { name, after, run, otherwise: "look" }
}

const fn broken(name: &'static str, after: &'static [&'static str]) -> Check {
    Check { run: |_| Box::pin(async { Err(Error::failed("it\nbroke")) }), ..check(name, after) }
}

fn context() -> Context {
    let machine = Machine { host: "test".into(), search_path: None, state_dir: None, cores: 1 };
    let mut settings = JobSettings::with_defaults("mongodb://localhost", "all@db1", &machine).unwrap();
    settings.records = RecordsAt::Off;
    let subject = HealthSubject {
        settings,
        place: Place::Dir(DirOptions::new("/nonexistent/backups")),
        mail: None,
        metrics: None,
        misspelt: vec![],
        exposed: vec![],
        identity_file: None,
        copies: vec![],
    };
    let options = HealthOptions { patience: Duration::from_millis(50), ..HealthOptions::default() };
    Context::new(subject, &options, chrono::Utc::now())
}

/// Each row as `name outcome: detail`.
fn ran(checks: &[Check], only: &[&str], skip: &[&str]) -> Vec<String> {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let options = HealthOptions { only: list(only), skip: list(skip), ..HealthOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let rows = runtime.block_on(run(checks, &context(), &options));
    for row in &rows {
        assert_eq!(row.next_step.as_deref(), (row.outcome == CheckOutcome::Failed).then_some("look"));
    }
    rows.iter().map(|row| format!("{} {:?}: {}", row.name, row.outcome, row.detail)).collect()
}

#[test]
fn a_failure_skips_the_checks_that_depend_on_it() {
    let checks =
        [check("a", &[]), broken("b", &["a"]), check("c", &["b"]), check("d", &["c"]), check("e", &[])];
    assert_eq!(
        ran(&checks, &[], &[]),
        [
            "a Ok: two lines",
            "b Failed: it broke",
            "c Skipped: because b failed",
            "d Skipped: because b failed",
            "e Ok: two lines"
        ]
    );
}

#[test]
fn a_check_that_is_not_selected_delays_no_other() {
    let checks = [check("a", &[]), broken("b", &["a"]), check("c", &["b"]), check("d", &["c"])];
    assert_eq!(ran(&checks, &["c"], &[]), ["c Ok: two lines"]);
    assert_eq!(
        ran(&checks, &[], &["b", "a"]),
        ["a Skipped: by --skip", "b Skipped: by --skip", "c Ok: two lines", "d Ok: two lines"]
    );
    assert_eq!(ran(&checks, &["b", "d"], &["d"]), ["b Failed: it broke", "d Skipped: by --skip"]);
}

#[test]
fn a_check_that_hangs_fails() {
    let hangs = Check { run: |_| Box::pin(std::future::pending()), ..check("a", &[]) };
    let checks = [hangs, check("b", &["a"]), check("c", &[])];
    let want = ["a Failed: no answer within 1 s", "b Skipped: because a failed", "c Ok: two lines"];
    assert_eq!(ran(&checks, &[], &[]), want);
}
