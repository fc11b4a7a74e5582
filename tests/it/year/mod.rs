//! A year of two jobs: nights, clean-ups, reports, and persons in between, with everything that goes wrong in
//! such a year, from a seed. After every step it is looked whether what the design promises is so, and the
//! figures of the year are printed:
//!
//! `UZIMA_YEAR=42 cargo test -p uzima-backup --test it year:: -- --nocapture`
//!
//! What must be is written from the design ([`ledger`], and the clean-up's oracle), and not asked of the tool.
//! The days are those of [`clock`]. Of `health` only the check is asked
//! that looks at the backups: the others look at this machine, not at the year.

mod afternoons;
mod cleanups;
mod clock;
mod fate;
mod fickle;
mod files;
mod ledger;
mod life;
mod mail;
mod nights;
mod standing;
mod tally;
mod telling;
mod world;

use life::Life;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year() {
    let seed = std::env::var("UZIMA_YEAR").ok().map_or(20_270_101, |seed| seed.parse().expect("a number"));
    let began = std::time::Instant::now();
    let mut life = Life::begin(seed).await;
    println!("UZIMA_YEAR={seed}");
    for (n, day) in fate::year(seed).iter().enumerate() {
        // Shown when the test fails.
        println!("day {n}: {day:?}");
        life.day(n, day).await;
    }
    life.end().await;
    life.tally.print(seed);
    println!("it took {:.1?}", began.elapsed());
}
