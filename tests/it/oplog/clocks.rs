//! The clock of the machine jumps between and during runs.

use bson::{Document, doc};
use uzima_testkit::clock::SteppedClock;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::*;
use crate::cli::support::{Home, NOWHERE, run};
use crate::health::support::Health;

/// The clock of the tool is wrong in half of its runs, and jumps during one. The chain follows the clock of the server alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_an_hour_breaks_no_chain() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    // So many rows that an older backup is no collapse.
    rows.insert_many((-100..0).map(|n| doc! {"_id": n})).await.expect("rows");
    let mut inserted = 0;
    let mut insert = async || {
        rows.insert_one(doc! {"_id": inserted}).await.expect("a row");
        inserted += 1;
    };
    insert().await;
    for hours in [-1, 1, -25] {
        let clock = SteppedClock::by(hours * 3600).expect("a clock");
        let wrong = |args: &[&str]| {
            let mut command = tool(&home, &server.uri(), args);
            run(clock.of(&mut command)).ends(0)
        };
        std::fs::write(clock.stepped(), "").expect("the clock is wrong");
        wrong(&["backup"]);
        insert().await;
        wrong(&["oplog"]);
        std::fs::remove_file(clock.stepped()).expect("the clock is right again");
        insert().await;
        wrong(&["oplog"]);
        // It jumps while the run reads.
        insert().await;
        let (proxy, stepped) = (WireProxy::start(&[server.host()]).expect("a proxy"), clock.stepped());
        let jump = Rule::on("find").namespace("local.oplog.rs").having("filter").nth(2);
        let jump = proxy.add(jump.then(Action::edit(move |answer| {
            std::fs::write(&stepped, "").expect("the clock is wrong");
            answer.to_vec()
        })));
        run(clock.of(&mut tool(&home, &proxy.uri(&server.uri()), &["oplog"]))).ends(0);
        assert_eq!(proxy.hits(jump), 1, "{hours}");
        wrong(&["timeline", "--json"]);
        wrong(&["verify", "--oplog"]);
    }
    oplog(&home, &server.uri(), 0);
    let slices = one_chain(&home);
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&home, slice)).collect();
    assert!(bodies == oplog_itself(&client, slices[0].start, slices.last().expect("a slice").end.at).await);
    // A clock that is ahead deletes nothing that a restore needs.
    let (files, clock) = (home.files(), SteppedClock::by(3600).expect("a clock"));
    std::fs::write(clock.stepped(), "").expect("the clock is wrong");
    run(clock.of(&mut tool(&home, NOWHERE, &["cleanup", "--orphans"]))).ends(0);
    // For the right clock, a backup is dated in the future.
    let frozen = run(&mut tool(&home, NOWHERE, &["cleanup", "--orphans"])).ends(3);
    assert!(frozen.stdout.contains("a clock is or was wrong"), "{}", frozen.stdout);
    assert_eq!(home.files(), files);
    let health = Health::of(&mut tool(&home, &server.uri(), &[]), &["--only", "oplog"]);
    assert_eq!(health.row("oplog")["outcome"], "ok", "{}", health.report);
    let target = Mongod::builder().replica_set("target").start().await.expect("mongod");
    let mut restore = tool(&home, NOWHERE, &["restore", "--yes", "--at", "newest"]);
    run(restore.env("RESTORE_URI", target.uri())).ends(0);
    let restored = target.client().await.expect("a client");
    assert_eq!(live_differences(&client, &restored).await, Vec::<String>::new());
}
