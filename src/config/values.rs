//! Values that several settings share the shape of.

use std::path::PathBuf;
use std::str::FromStr;

use super::layers::Layers;
use crate::base::error::Result;

/// A path that means the same wherever cron starts.
pub fn absolute(layers: &Layers, key: &'static str) -> Result<Option<PathBuf>> {
    layers.parsed(key, |text| match PathBuf::from(text) {
        path if path.is_absolute() => Ok(path),
        _ => Err("it must be an absolute path: cron starts in another directory"),
    })
}

/// A switch.
pub fn boolean(layers: &Layers, key: &'static str) -> Result<Option<bool>> {
    layers.parsed(key, |text| match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it is true or false"),
    })
}

/// A whole number, at least `least`.
pub fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    layers: &Layers,
    key: &'static str,
    least: T,
) -> Result<Option<T>> {
    layers.parsed(key, |text| match text.parse::<T>() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("it is a whole number, at least {least}")),
    })
}
