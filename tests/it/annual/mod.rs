//! A year of two jobs, from a seed: nights, cleanups, reports and people's actions, with everything that goes
//! wrong in such a year. After every step the test checks the promises of the design. At the end it prints
//! the figures of the year:
//!
//! `UZIMA_YEAR=42 cargo test -p uzima-backup --test it annual:: -- --nocapture`
//!
//! The expectations are written from the design ([`ledger`], and the cleanup's oracle); the tool is not asked
//! for them. The time is that of [`clock`]. Of `health` only the check of the backups runs, because the
//! others look at this machine.

mod afternoons;
mod cleanups;
mod clock;
mod fate;
mod fickle;
mod ledger;
mod life;
mod mail;
mod nights;
mod standing;
mod telling;
mod world;

use life::Life;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_through_a_year_of_faults() {
    let seed = std::env::var("UZIMA_YEAR").ok().map_or(20_270_101, |seed| seed.parse().expect("a number"));
    let began = std::time::Instant::now();
    let mut life = Life::begin(seed).await;
    println!("UZIMA_YEAR={seed}");
    for (n, day) in fate::year(seed).iter().enumerate() {
        // Shown when the test fails.
        println!("day {n}: {day:?}");
        // Boxed, because a thread of a test has a stack of 2 MiB.
        Box::pin(life.day(n, day)).await;
    }
    life.end().await;
    life.tally.print(seed);
    println!("it took {:.1?}", began.elapsed());
}
