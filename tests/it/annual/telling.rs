//! The contents of the mails, and the reports on Sundays and on the first of each month.

use chrono::TimeDelta;
use std::time::Duration;
use uzima_backup::catalog::records;
use uzima_backup::config::notify::Event;
use uzima_backup::config::place::Place;
use uzima_backup::config::store::DirOptions;
use uzima_backup::notify::events::ReportMail;
use uzima_backup::notify::message::Tone;
use uzima_backup::ops::{health, stats};

use super::clock;
use super::ledger::{JOBS, Job, Made};
use super::life::Life;
use super::mail::Mail;
use super::world::MAX_AGE;

impl Life {
    /// Asserts that exactly this mail was sent about an operation of a job, and no other.
    pub fn mailed(
        &mut self,
        job: usize,
        operation: &str,
        want: Option<&str>,
        mails: &[Mail],
        unsent: &[String],
    ) {
        let of_job = |mail: &&Mail| mail.subject.contains(JOBS[job].name);
        let got: Vec<&Mail> = mails.iter().filter(of_job).collect();
        let events: Vec<&str> = got.iter().map(|mail| mail.event()).collect();
        assert_eq!(events, want.into_iter().collect::<Vec<_>>(), "{operation} of {}", JOBS[job].name);
        for mail in got {
            assert!(
                mail.subject.to_lowercase().contains(operation) || mail.subject.contains("BACKUP"),
                "{}",
                mail.subject
            );
            let ends = if mail.accepted { "" } else { " (not taken)" };
            self.tally.add(format!("mails: {operation} {}{ends}", mail.event()), 1);
        }
        let up = self.world.inbox.is_up();
        assert_eq!(unsent.len(), usize::from(want.is_some() && !up), "{unsent:?}");
    }

    /// Asserts that a mail about a failure gives the age of the newest good backup.
    pub fn tells_the_newest_good(&self, job: usize, mails: &[Mail]) {
        let newest = self.ledger.newest_good(job, clock::machine());
        let words = newest
            .map_or("there is none".into(), |made| made.started.format("%Y-%m-%d %H:%M UTC").to_string());
        let mail = mails.iter().find(|mail| mail.subject.contains(JOBS[job].name)).expect("a mail");
        assert!(mail.text.contains(&words), "{words} is not in {}", mail.text);
    }

    /// `stats --email` with a fixed body, because the contents of the statistics are tested elsewhere.
    pub async fn statistics(&mut self) {
        let (store, now) = (self.world.store(None), clock::machine());
        for (job, Job { name, policy, .. }) in JOBS.iter().enumerate() {
            let known = records::known_runs(&self.world.records(job), Some(name)).await;
            let options = stats::StatsOptions {
                job: name.to_string(),
                policy: *policy,
                max_age: MAX_AGE,
                oplog_days: 7,
            };
            let report =
                stats::gather(&*store, &known, &options, &self.world.reading()).await.expect("figures");
            let good = report.standing.newest_good;
            assert_eq!(good, self.ledger.newest_good(job, now).map(|made| made.id().clone()));
            assert_eq!(report.backups, self.ledger.listed(job).count());
            let past = |made: &&Made| made.started <= now + TimeDelta::minutes(10);
            let newest = self.ledger.listed(job).filter(past).max_by_key(|made| (made.started, made.id()));
            assert_eq!(report.newest.map(|run| run.id), newest.map(|made| made.id().clone()));
            self.report(Event::Stats, format!("stats: {name}")).await;
        }
    }

    /// `health --email`, limited to the check of the newest good backup's age.
    pub async fn health(&mut self) {
        let now = clock::machine();
        for job in 0..JOBS.len() {
            let mut settings = self.world.options(job).settings;
            settings.records = self.world.records(job);
            settings.max_age = MAX_AGE;
            let subject = health::HealthSubject {
                settings,
                place: Place::Dir(DirOptions { min_free: 0.0, ..DirOptions::new(self.world.root()) }),
                mail: None,
                metrics: None,
                misspelt: vec![],
                exposed: vec![],
                identity_file: None,
                copies: vec![],
            };
            let options = health::HealthOptions {
                only: vec!["freshness".into()],
                patience: Duration::from_secs(10),
                ..Default::default()
            };
            let report =
                health::health(Ok(subject), &options, now, &Default::default()).await.expect("a report");
            let newest = self.ledger.newest_good(job, now);
            let fresh = newest.is_some_and(|made| now - made.started <= TimeDelta::hours(30));
            let failed: &[&str] = if fresh { &[] } else { &["freshness"] };
            assert_eq!(report.failed(), failed, "{:?}", report.checks);
            self.tally.add("health: asked", 1);
            self.tally.add("health: no fresh backup", usize::from(!fresh));
            let report = report.mail(now);
            self.report(Event::Health, report.subject).await;
        }
    }

    async fn report(&mut self, event: Event, subject: String) {
        let report = ReportMail {
            tone: Tone::Good,
            subject,
            headline: "figures".into(),
            facts: vec![],
            paragraphs: vec![],
            tables: vec![],
            next_step: None,
        };
        let run = format!("{event}-{}-{}", clock::truth().timestamp(), self.tally.of("reports"));
        self.tally.add("reports", 1);
        let unsent = self.world.notifier().report(event, report, &run, clock::truth()).await;
        let mails = self.world.inbox.take();
        assert_eq!((mails.len(), unsent.is_empty()), (1, self.world.inbox.is_up()), "{unsent:?}");
        let ends = if mails[0].accepted { "" } else { " (not taken)" };
        self.tally.add(format!("mails: {event}{ends}"), 1);
    }
}
