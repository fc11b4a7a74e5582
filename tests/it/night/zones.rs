//! Times are in UTC in every time zone, also in the hour that comes twice.

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};

use super::support::{Nights, holds, server};
use crate::cli::support::run;

/// A time zone whose clocks go back from summer to winter time one second after `now`, so that the hour
/// before comes twice.
fn going_back(now: DateTime<Utc>) -> String {
    let local = now + TimeDelta::hours(2) + TimeDelta::seconds(1);
    let time = format!("{}:{}:{}", local.hour(), local.minute(), local.second());
    // The day of the year, counted from 0, including the leap day.
    format!("WIN-1SUM-2,{}/0,{}/{time}", (local.ordinal0() + 183) % 365, local.ordinal0())
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_logs_and_mails_are_in_utc_in_every_time_zone() {
    let (server, nights) = (server().await, Nights::new().await);
    let back = going_back(Utc::now());
    let zones = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", back.as_str()];
    let began = Utc::now();
    let mut ids = Vec::new();
    for (n, zone) in zones.into_iter().enumerate() {
        let log = nights.home.path().join(format!("log{n}"));
        let mut command = nights.tool(&server.uri());
        command.env("TZ", zone).env("BACKUP_LOG_FILE", &log).args(["backup", "--json"]);
        let report = run(&mut command).ends(0).json();
        let (id, ended) = (report["id"].as_str().expect("an id").to_string(), Utc::now());
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap_or_else(|e| panic!("{e}: {text}"));
        let within = |at: DateTime<Utc>| began - TimeDelta::seconds(1) <= at && at <= ended;
        let started = time(report["started_at"].as_str().expect("a time"));
        assert!(within(started), "{zone}: {started}");
        assert_eq!(id[..16], started.format("%Y%m%dT%H%M%SZ").to_string(), "{zone}");
        let lines = std::fs::read_to_string(&log).expect("a log");
        assert!(lines.lines().count() > 2, "{lines}");
        for line in lines.lines() {
            let at = line.split(' ').next().expect("a time");
            assert!(at.ends_with('Z') && within(time(at)), "{zone}: {line}");
        }
        let mail = nights.last().await;
        holds(&mail, &[&id, &started.format("%Y-%m-%d %H:%M UTC").to_string()]);
        ids.push(id);
    }
    let mut sorted = ids.clone();
    sorted.sort_by_key(|id| id[..16].to_string());
    sorted.dedup();
    assert_eq!(sorted, ids, "they are unique, and in the order in which they were made");
    let mut listed = nights.tool(&server.uri());
    let listed = run(listed.env("TZ", "Asia/Kolkata").args(["list", "--json"])).ends(0).json();
    let first = listed["backups"].as_array().and_then(|rows| rows.last()).expect("a row");
    assert_eq!(first["id"], ids[0].as_str());
    assert!(first["started_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");
}
