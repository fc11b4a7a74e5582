//! A place that lost its backups, such as the mount point of an unmounted disk.

use bson::doc;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::WireProxy;

use crate::cleanup::support::Place;
use crate::cli::support::{Home, Ran, run};
use crate::health::support::Health;
use crate::records::support::{of_each, recording, server};

/// A directory whose disk can be unmounted.
struct Disk {
    server: Mongod,
    client: mongodb::Client,
    home: Home,
}

impl Disk {
    /// A disk with three backups.
    async fn with_backups() -> Disk {
        let ((server, client), home) = (server().await, Home::new());
        let disk = Disk { server, client, home };
        for _ in 0..3 {
            disk.run(&["backup"]).ends(0);
        }
        disk
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(recording(&self.home, &self.server.uri()).env("BACKUP_JOB", "j").args(args))
    }

    fn away(&self) -> std::path::PathBuf {
        self.home.path().join("disk")
    }

    /// Leaves an empty folder.
    fn unmount(&self) {
        std::fs::rename(self.home.backups(), self.away()).expect("a folder");
        std::fs::create_dir(self.home.backups()).expect("a folder");
    }

    fn mount(&self) {
        std::fs::remove_dir_all(self.home.backups()).expect("a folder");
        std::fs::rename(self.away(), self.home.backups()).expect("a folder");
    }

    async fn statuses(&self) -> Vec<String> {
        of_each(&self.client, "status").await
    }
}

const QUESTION: &str = "3 known backups are not in ";

#[tokio::test]
async fn a_disk_that_is_not_mounted_gets_no_backup() {
    // Either the state folder or only the records know the backups.
    for state_is_lost in [false, true] {
        let disk = Disk::with_backups().await;
        disk.unmount();
        if state_is_lost {
            std::fs::remove_dir_all(disk.home.state()).expect("a folder");
        }
        let proxy = WireProxy::start(&[disk.server.host()]).expect("a proxy");
        let mut backup = recording(&disk.home, &disk.server.uri());
        backup.env("BACKUP_JOB", "j").env("MONGO_URI", proxy.uri(&disk.server.uri()));
        backup.env("BACKUP_RECORDS", disk.server.uri()).arg("backup");
        run(&mut backup).ends(1).says(&[QUESTION, "is the disk mounted?", "--new-place"]);
        assert_eq!(proxy.log().len(), 0, "MongoDB is not read");
        assert_eq!(disk.home.files(), Vec::<String>::new());
        let mut health = recording(&disk.home, &disk.server.uri());
        health.env("BACKUP_JOB", "j");
        let health = Health::of(&mut health, &["--only", "backups"]);
        health.only("backups", &[QUESTION, "Mount the disk"], &[]);
        let cleanup = disk.run(&["cleanup", "--json"]).ends(3);
        assert!(cleanup.json()["frozen"].to_string().contains(QUESTION), "{}", cleanup.stdout);
        // The failed runs are listed beside them.
        let statuses = disk.statuses().await;
        assert_eq!(statuses.iter().filter(|status| status.contains("completed")).count(), 3, "{statuses:?}");
        assert!(!statuses.iter().any(|status| status.contains("deleted")), "{statuses:?}");
        disk.mount();
        disk.run(&["backup"]).ends(0);
        disk.run(&["cleanup"]).ends(0);
    }
}

#[tokio::test]
async fn a_place_that_lost_most_backups_is_reported() {
    for (lost, code) in [([0, 1], 3), ([1, 2], 1)] {
        let disk = Disk::with_backups().await;
        let mut manifests = disk.home.manifests();
        // Backups of the same second have no other order.
        manifests.sort_by(|a, b| a.id.cmp(&b.id));
        for manifest in lost.map(|at| &manifests[at]) {
            let path = disk.home.backups().join(&manifest.artifact.key);
            std::fs::remove_dir_all(path.parent().expect("a folder")).expect("a folder");
        }
        let question = "2 known backups are not in ";
        // A cleanup on another machine may have deleted older backups, but never the newest.
        disk.run(&["cleanup", "--quiet"]).ends(if code == 1 { 3 } else { 0 });
        let ran = disk.run(&["backup", "--json"]).ends(code);
        assert!(ran.stdout.contains(question) || ran.stderr.contains(question), "{ran:?}");
        // The backups were deleted by hand, so no record says that a cleanup deleted them.
        assert!(!disk.statuses().await.iter().any(|status| status.contains("deleted")));
        // A loss that was reported is not reported again.
        disk.run(&["backup"]).ends(if code == 1 { 1 } else { 0 });
    }
}

#[tokio::test]
async fn a_new_disk_is_accepted_with_new_place() {
    let disk = Disk::with_backups().await;
    disk.unmount();
    disk.run(&["backup"]).ends(1).says(&[QUESTION]);
    disk.run(&["backup", "--new-place"]).ends(0);
    disk.run(&["backup"]).ends(0);
    disk.run(&["cleanup"]).ends(0);
    let statuses = disk.statuses().await;
    assert_eq!(statuses.iter().filter(|status| status.contains("deleted")).count(), 3, "{statuses:?}");
    // This also holds if the state folder is lost again.
    std::fs::remove_dir_all(disk.home.state()).expect("a folder");
    disk.run(&["backup"]).ends(0);
}

/// The state folder knows thirty backups, and the cleanup deletes all but three.
#[test]
fn backups_that_a_cleanup_deleted_are_not_missed() {
    let place = Place::dir();
    let backups = place.nightly((0..3).chain(40..70));
    place.run(&["list"]).ends(0);
    place.run(&["cleanup", "--force"]).ends(0);
    place.holds(&backups[..3]);
    for args in [&["cleanup"][..], &["stats"], &["health", "--only", "backups"]] {
        place.run(args).ends(0);
    }
}

/// The records of another machine are about another disk, even if its directory has the same name.
#[tokio::test]
async fn records_of_another_machine_are_about_another_disk() {
    let disk = Disk::with_backups().await;
    let runs = crate::records::support::runs(&disk.client);
    runs.update_many(doc! {}, doc! {"$set": {"host": "another"}}).await.expect("an update");
    disk.unmount();
    std::fs::remove_dir_all(disk.home.state()).expect("a folder");
    disk.run(&["backup"]).ends(0);
}
