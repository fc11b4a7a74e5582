//! `uzima-backup config`.

use serde_json::json;

use super::backup::options;
use super::output::Output;
use crate::artifact::manifest::Engine;
use crate::config::layers::Layers;
use crate::config::{mail, place, signals};
use crate::error::Result;
use crate::exit::Exit;
use crate::ops::backup;

pub fn run(layers: &Layers, output: &Output) -> Result<Exit> {
    let rows: Vec<serde_json::Value> = layers
        .shown()
        .into_iter()
        .map(|(setting, value, origin)| {
            let origin = origin.map(ToString::to_string);
            let value = origin.as_ref().map(|_| value);
            json!({"key": setting.key, "env": setting.env, "value": value, "origin": origin})
        })
        .collect();
    let misspelt: Vec<serde_json::Value> =
        layers.misspelt().iter().map(|found| json!({"env": found.name, "near": found.near})).collect();
    // What is shown is checked as well: a mistake is told here rather than at night.
    let engine = options(layers).and_then(|options| backup::engine(&options));
    let shown = engine.as_ref().ok();
    output.result(&json!({"version": 1, "settings": rows, "engine": shown, "misspelt": misspelt}), || {
        text(layers, shown)
    });
    engine?;
    place::place(layers)?;
    mail::mail(layers)?;
    signals::webhook(layers)?;
    signals::signals(layers)?;
    Ok(Exit::Done)
}

fn text(layers: &Layers, engine: Option<&Engine>) -> String {
    let mut text = String::new();
    for (setting, value, origin) in layers.shown() {
        let line = match origin {
            Some(origin) => format!("{} = {}  ({origin})", setting.key, setting.measured(&value)),
            None => format!("{} is not set  ({}: {})", setting.key, setting.env, setting.help),
        };
        text.push_str(&line);
        text.push('\n');
    }
    for misspelt in layers.misspelt() {
        text.push_str(&format!("{misspelt}\n"));
    }
    if let Some(engine) = engine {
        text.push_str(&format!("a backup would read with the {} engine: {}\n", engine.name, engine.why));
    }
    text
}
