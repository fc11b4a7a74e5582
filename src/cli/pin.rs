//! `uzima-backup pin` and `unpin`.

use chrono::Utc;
use serde_json::json;

use super::args::{PinArgs, UnpinArgs};
use super::output::{self, Output};
use super::{machine, store};
use crate::catalog::marks::{self, Mark};
use crate::config::layers::Layers;
use crate::error::Result;
use crate::exit::Exit;
use crate::ops::pin::{self, Report};

pub async fn pin(args: &PinArgs, layers: &Layers, output: &Output) -> Result<Exit> {
    let mark = Mark {
        format: marks::FORMAT,
        id: args.id.clone(),
        at: Utc::now(),
        host: machine(),
        reason: args.reason.clone(),
    };
    let report = pin::pin(&*store(layers).await?, &mark).await?;
    told(&report, output);
    Ok(report.exit())
}

pub async fn unpin(args: &UnpinArgs, layers: &Layers, output: &Output) -> Result<Exit> {
    let report = pin::unpin(&*store(layers).await?, &args.id).await?;
    told(&report, output);
    Ok(report.exit())
}

fn told(report: &Report, output: &Output) {
    let json = json!({"version": 1, "id": report.id, "pinned": report.pinned, "doomed": report.doomed});
    output.result(&json, || match report.pinned {
        true => format!("{} is pinned: no clean-up deletes it\n", report.id),
        false => format!("{} is not pinned: retention decides\n", report.id),
    });
    if report.doomed {
        output::needs_look(&format!(
            "a clean-up has begun to delete {}: run `uzima-backup list` to see whether it is still there",
            report.id
        ));
    }
}
