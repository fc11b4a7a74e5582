//! `uzima-backup config`.

use serde_json::json;

use super::machine;
use super::output::Output;
use crate::config::layers::Layers;
use crate::config::settings::{self, Settings};
use crate::error::Result;
use crate::exit::Exit;

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
    output.result(&json!({"version": 1, "settings": rows}), || text(layers));
    // What is shown is checked as well: a mistake is told here rather than at night.
    Settings::resolve(layers, &machine())?;
    settings::place(layers)?;
    Ok(Exit::Done)
}

fn text(layers: &Layers) -> String {
    let mut text = String::new();
    for (setting, value, origin) in layers.shown() {
        let line = match origin {
            Some(origin) => format!("{} = {value}  ({origin})", setting.key),
            None => format!("{} is not set  ({}: {})", setting.key, setting.env, setting.help),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
