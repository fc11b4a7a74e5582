//! `uzima-backup config`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::output::Output;
use crate::base::error::{Error, Result};
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::config::table::CopySetting;
use crate::config::{Config, Origin};
use crate::model::manifest::EngineUsed;
use crate::source::engine;

/// The settings. Serializes as docs/json.md describes it.
#[derive(JsonSchema, Serialize)]
pub(super) struct ConfigReport<'a> {
    version: u32,
    settings: Vec<SettingRow>,
    /// The copies, with the settings that are set for each.
    copies: Vec<CopyRows>,
    /// The job of these settings. `None` if a setting is wrong.
    job: Option<&'a String>,
    state_dir: Option<&'a Path>,
    /// The engine of a backup. `None` if a setting is wrong.
    engine: Option<&'a EngineUsed>,
    misspelt: Vec<MisspeltVariable<'a>>,
}

#[derive(JsonSchema, Serialize)]
struct SettingRow {
    key: &'static str,
    /// The variable.
    env: &'static str,
    /// The value, without secrets. `None` if the setting is not set.
    value: Option<String>,
    origin: Option<String>,
}

#[derive(JsonSchema, Serialize)]
struct CopyRows {
    name: String,
    settings: Vec<CopyRow>,
}

#[derive(JsonSchema, Serialize)]
struct CopyRow {
    /// The key in the table `[[copies]]`.
    key: &'static str,
    /// The value, without secrets.
    value: String,
    origin: String,
}

#[derive(JsonSchema, Serialize)]
struct MisspeltVariable<'a> {
    env: &'a str,
    /// The setting that may be meant.
    near: &'a str,
}

pub async fn run(config: &Config, output: &Output) -> Result<Exit> {
    let settings = config
        .layers
        .shown()
        .into_iter()
        .map(|(setting, value, origin)| {
            let origin = origin.map(ToString::to_string);
            let value = origin.as_ref().map(|_| value);
            SettingRow { key: setting.key, env: setting.env, value, origin }
        })
        .collect();
    let copies = config.layers.copy_names().map(|name| {
        let row = |(setting, value, origin): (&'static CopySetting, String, &Origin)| CopyRow {
            key: setting.key,
            value,
            origin: origin.to_string(),
        };
        let settings = config.layers.shown_of_copy(name).into_iter().map(row).collect();
        CopyRows { name: name.into(), settings }
    });
    let misspelt = config
        .misspelt
        .iter()
        .map(|found| MisspeltVariable { env: &found.name, near: &found.near })
        .collect();
    // The settings are also checked, so that mistakes are found now and not at night.
    let resolved = config.job.as_ref().map_err(Error::clone);
    let engine = match &resolved {
        Ok(settings) => engine::choose(settings).await.map(|chosen| Some(chosen.entry())),
        Err(_) => Ok(None),
    };
    let (job, shown) = (resolved.as_ref().ok().map(|options| &options.job), engine.as_ref().ok());
    let result = ConfigReport {
        version: 1,
        settings,
        copies: copies.collect(),
        job,
        state_dir: config.state_dir.as_deref(),
        engine: shown.and_then(Option::as_ref),
        misspelt,
    };
    output.result(&result, || text(config, job, shown.and_then(Option::as_ref)));
    let copies = config.layers.copy_names().map(|name| {
        let view = config.at(name)?;
        view.place.map(drop).and(view.job.map(drop))
    });
    let copies: Vec<Option<Error>> = copies.map(Result::err).collect();
    let others = vec![
        resolved.and(engine).err(),
        config.place.as_ref().err().cloned(),
        config.mail.as_ref().err().cloned(),
        config.webhook.as_ref().err().cloned(),
        config.signals.as_ref().err().cloned(),
        config.hooks.clone().and_then(|hooks| hooks.check()).err(),
    ];
    joined(others.into_iter().chain(copies).collect())?;
    Ok(Exit::Done)
}

/// Joins the errors into one.
fn joined(errors: Vec<Option<Error>>) -> Result<()> {
    let mut errors: Vec<Error> = errors.into_iter().flatten().collect();
    if errors.len() < 2 {
        return errors.pop().map_or(Ok(()), Err);
    }
    let chains: Vec<String> = errors.iter().map(Error::chain).collect();
    let mut steps: Vec<&str> = errors.iter().filter_map(Error::next_step).collect();
    steps.dedup();
    Err(Error::new(errors[0].kind(), chains.join("; ")).hint(steps.join(". ")))
}

fn text(config: &Config, job: Option<&String>, engine: Option<&EngineUsed>) -> String {
    let mut text = String::new();
    let state_dir = config.state_dir.as_ref().map(|dir| dir.display().to_string());
    for (setting, value, origin) in config.layers.shown() {
        // Each run finds these values if they are not set.
        let found = match setting.key {
            "job" => job,
            "state_dir" => state_dir.as_ref(),
            _ => None,
        };
        let line = match (origin, found) {
            (Some(origin), _) => format!("{} = {}  ({origin})", setting.key, setting.measured(&value)),
            (None, Some(found)) => {
                format!("{} = {found}  (not set; {}: {})", setting.key, setting.env, setting.help)
            }
            (None, None) => format!("{} is not set  ({}: {})", setting.key, setting.env, setting.help),
        };
        push_line(&mut text, &line);
    }
    for name in config.layers.copy_names() {
        for (setting, value, origin) in config.layers.shown_of_copy(name) {
            let value = setting.setting().measured(&value);
            push_line(&mut text, &format!("copies: {} of '{name}' = {value}  ({origin})", setting.key));
        }
    }
    for misspelt in &config.misspelt {
        push_line(&mut text, &misspelt.to_string());
    }
    if let Some(engine) = engine {
        push_line(&mut text, &format!("a backup would read with the {} engine: {}", engine.name, engine.why));
    }
    text
}
