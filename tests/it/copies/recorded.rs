//! What the records and the settings say of each place.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::Bson;
use uzima_backup::config::Config;
use uzima_backup::config::machine::Machine;
use uzima_backup::ops::backup::BackupPlace;
use uzima_backup::ops::places::Places;

use crate::cli::support::{Home, run};
use crate::records::support::{recorded, recording, server};

/// The record of a backup names the places that lack it, and later runs and corrections of records leave that as it is.
#[tokio::test]
async fn the_record_names_the_places_that_lack_the_backup() {
    let ((server, client), home) = (server().await, Home::new());
    let (copy, gone) = (home.path().join("copy"), home.path().join("gone"));
    std::fs::create_dir(&copy).expect("a folder");
    let backup = |code| {
        let mut tool = recording(&home, &server.uri());
        run(tool.env("COPY_DIR", &copy).args(["backup", "--json"])).ends(code).json()
    };
    backup(0);
    std::fs::rename(&copy, &gone).expect("the disk is taken out");
    backup(3);
    std::fs::remove_dir_all(&copy).ok();
    std::fs::rename(&gone, &copy).expect("the disk is back");
    backup(0);
    let records = recorded(&client).await;
    let missing: Vec<Option<&Bson>> = records.iter().map(|record| record.get("missing_from")).collect();
    assert_eq!(missing, [None, Some(&Bson::from(vec!["copy"])), None], "{records:?}");
}

#[tokio::test]
async fn each_place_has_its_own_time_to_catch_up() {
    let home = Home::new();
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let text = format!(
        "mongo_uri = 'mongodb://localhost'\ndir = '{}'\ncatch_up = 30\n[[copies]]\nname = 'usb'\ndir = '{}'\ncatch_up = 7\n",
        one.display(),
        two.display()
    );
    let path = home.path().join("config.toml");
    std::fs::write(&path, text).expect("a file");
    let machine = Machine { host: "db1".into(), search_path: None, state_dir: None, cores: 1 };
    let config = Config::load(BTreeMap::new(), &|_| None, std::iter::empty(), Some(&path), &machine);
    let places = Places::open(&config.expect("settings"), &|_| None, true).await.expect("two places");
    let times = places.open.into_iter().map(|place| BackupPlace::of(place).expect("settings").catch_up);
    assert_eq!(times.collect::<Vec<_>>(), [30, 7].map(Duration::from_mins));
}
