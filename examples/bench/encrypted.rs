//! Measures backups and restores with and without encryption.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use uzima_testkit::mongod::Mongod;

use crate::backups;
use crate::cost::{Costs, Way, binary, measure};
use crate::restores::OPLOG_MB;

/// The ways without and with a key, in turn, `rounds` times each.
pub fn compare(mut source: Mongod, rounds: u64) -> Result<()> {
    let kept = tempfile::tempdir()?;
    let key = kept.path().join("key");
    let made = Command::new(binary()?).arg("keygen").arg("--out").arg(&key).output().context("keygen")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let recipient = String::from_utf8(made.stdout)?.lines().next().context("a recipient")?.to_string();

    let backup = |name, folder: &str, recipient: Option<&str>| {
        let recipients = recipient.map(|key| format!("BACKUP_RECIPIENTS={key} ")).unwrap_or_default();
        let line = format!(
            "{recipients}BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst BACKUP_DIR={folder} \"$UZIMA\" backup --quiet"
        );
        Way { name, line }
    };
    backups::compare(
        &source,
        &[backup("uzima backup", "$OUT", None), backup("uzima backup, encrypted", "$OUT", Some(&recipient))],
        rounds,
    )?;
    let [plain, sealed] = ["plain", "sealed"].map(|name| kept.path().join(name));
    measure(&source, &backup("plain", &plain.to_string_lossy(), None))?;
    measure(&source, &backup("sealed", &sealed.to_string_lossy(), Some(&recipient)))?;
    source.stop()?;

    let restore = |name, folder: &Path| Way {
        name,
        line: format!(
            "BACKUP_DIR={} BACKUP_IDENTITY_FILE={} \"$UZIMA\" restore latest --yes --quiet",
            folder.display(),
            key.display()
        ),
    };
    let ways = [restore("uzima restore", &plain), restore("uzima restore, encrypted", &sealed)];
    let mut costs = Costs::default();
    for _ in 0..rounds {
        for way in &ways {
            let target = Mongod::builder().cache_gb(2.0).replica_set("rs").oplog_mb(OPLOG_MB);
            costs.add(way, measure(&target.start_blocking()?, way)?);
        }
    }
    costs.print(&ways, rounds);
    Ok(())
}
