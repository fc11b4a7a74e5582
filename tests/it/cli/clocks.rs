//! A time daemon steps the machine's clock during a run.

use bson::rawdoc;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uzima_testkit::clock::SteppedClock;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Home, run};

/// Longer than any run of these tests, and shorter than the step of the clock.
const SENSIBLE: TimeDelta = TimeDelta::minutes(30);

/// The time between two fields of a JSON object.
fn between(object: &Value, from: &str, to: &str) -> TimeDelta {
    let time = |name: &str| -> DateTime<Utc> { object[name].as_str().expect(name).parse().expect("a time") };
    time(to) - time(from)
}

#[track_caller]
fn assert_sensible(took: TimeDelta) {
    assert!(TimeDelta::zero() <= took && took < SENSIBLE, "{took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn durations_stay_true_when_the_clock_is_set_during_a_run() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let rows: Vec<_> = (0..500).map(|n| rawdoc! {"_id": n}).collect();
    let rows: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
    raw::insert(&client.database("shop"), "orders", &rows).await.expect("rows");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    for seconds in [-3600, 3600] {
        let clock = SteppedClock::by(seconds).expect("a clock");
        let (home, stepped) = (Home::new(), clock.stepped());
        let metrics = home.path().join("figures.prom");
        let read = Rule::on("find").namespace("shop.orders").nth(1);
        let set = |answer: &[u8]| answer.to_vec();
        let step = proxy.add(read.clone().then(Action::edit(move |answer| {
            std::fs::write(&stepped, "").expect("the clock is set");
            set(answer)
        })));
        let mut backup = home.to_dir(&proxy.uri(&server.uri()));
        backup.env("METRICS_FILE", &metrics);
        let report = run(clock.of(&mut backup).args(["backup", "--json"])).ends(0).json();
        assert_eq!(proxy.hits(step), 1, "the clock was set during the run");
        assert_sensible(between(&report, "started_at", "finished_at"));
        let manifest = &home.manifests()[0];
        assert_sensible(manifest.finished_at - manifest.started_at);
        let text = std::fs::read_to_string(&metrics).expect("figures");
        let seconds = |name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("no {name} in {text}"));
            line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
        };
        for name in ["uzima_backup_last_success_duration_seconds", "uzima_backup_last_run_duration_seconds"] {
            let took = seconds(name);
            assert!(0.0 < took && took < SENSIBLE.num_seconds() as f64, "{name}: {took}");
        }

        // A run that fails after the step.
        std::fs::remove_file(clock.stepped()).expect("the clock is right again");
        let stepped = clock.stepped();
        proxy.clear();
        proxy.add(read.then(Action::edit(move |_| {
            std::fs::write(&stepped, "").expect("the clock is set");
            rawdoc! {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on shop"}
                .into_bytes()
        })));
        run(clock.of(&mut home.to_dir(&proxy.uri(&server.uri()))).arg("backup")).ends(1);
        let failure = &home.failures()[0];
        assert_sensible(failure.failed_at - failure.started_at);
        proxy.clear();
    }
}
