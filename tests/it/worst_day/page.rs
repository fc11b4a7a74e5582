//! The commands that the page of `stats --html` shows for each backup.

use uzima_testkit::read_all::read_all;

use super::data::one;
use super::shell::Shell;
use crate::cli::support::run;
use crate::restore::support::{Backup, rows, server};

/// The commands of each backup, in the order of the page.
fn commands(page: &str) -> Vec<Vec<String>> {
    let of_backup = |part: &str| {
        let (commands, _) = part.split_once("</details>").expect("an end");
        let blocks =
            commands.split("<pre>").skip(1).map(|block| block.split("</pre>").next().expect("an end"));
        blocks.flat_map(str::lines).map(|line| line.replace("&#39;", "'")).collect()
    };
    page.split("<details class=\"commands\">").skip(1).map(of_backup).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_on_the_page_look_into_each_backup_and_restore_it() {
    let ((source, original), (target, restored)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..10).await;
    let backup = Backup::of(&source, &[]);
    let mut states = vec![read_all(&original).await.expect("the source")];
    rows(&original, "shop", "orders", 10..20).await;
    run(backup.home.to_dir(&source.uri()).arg("backup")).ends(0);
    states.push(read_all(&original).await.expect("the source"));
    let file = backup.home.path().join("page.html");
    run(backup.home.to_dir(&source.uri()).args(["stats", "--html"]).arg(&file)).ends(0);

    let mut shell = Shell::new(&backup.home.backups(), &target.uri());
    shell.env =
        vec![("BACKUP_DIR", backup.home.backups().display().to_string()), ("RESTORE_URI", target.uri())];
    let rows = commands(&std::fs::read_to_string(&file).expect("a page"));
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0], rows[1]);
    let manifests = backup.home.manifests();
    for commands in &rows {
        let of_row = |id: &str| commands[0].ends_with(id);
        let at = manifests.iter().position(|manifest| of_row(manifest.id.as_str())).expect("a backup");
        let (id, state) = (manifests[at].id.as_str(), &states[at]);
        assert_eq!(commands.len(), 7, "{commands:?}");
        for command in commands {
            assert!(command.contains(id), "{command}");
            let asks = command.contains(" restore ") && !command.contains("--dry-run");
            let command = command.replace("DATABASE.COLLECTION", "shop.orders").replace("DATABASE", "shop");
            let said = shell.run(&format!("{command}{}", if asks { " --yes" } else { "" }));
            if let Some((_, kept)) = said.split_once("restore --undo ") {
                let id: String = kept.chars().take_while(|letter| *letter != '`').collect();
                shell.run(&format!("uzima-backup restore --discard {id} --yes"));
            }
        }
        let mut found = read_all(&restored).await.expect("the target");
        assert_eq!(one(&found, "rescue"), one(state, "shop"));
        found.retain(|db, _| db == "shop");
        assert_eq!(state.diff(&found), Vec::<String>::new());
        restored.database("rescue").drop().await.expect("a drop");
        restored.database("shop").drop().await.expect("a drop");
    }
}
