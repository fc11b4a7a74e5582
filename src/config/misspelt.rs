//! Variables that look like settings and are none: the environment belongs to others as well, so one is not an
//! error, but a person who sets `BACKUP_FORMT` wants to hear of it.

use std::fmt;

use super::table::SETTINGS;
use crate::base::suggest;

/// A variable that is set, is no setting, and is written nearly as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misspelt {
    /// Its name.
    pub name: String,
    /// The variable that a person may have meant.
    pub near: String,
}

impl fmt::Display for Misspelt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variable {} is set, which is no setting: did you mean {}?", self.name, self.near)
    }
}

/// What other tools call some settings.
const ELSEWHERE: &[(&str, &str)] = &[
    ("BACKUP_CONFIG", "UZIMA_BACKUP_CONFIG"),
    ("BACKUP_STATE_DIR", "UZIMA_BACKUP_STATE_DIR"),
    ("MONGODB_URI", "MONGO_URI"),
    ("MONGO_URL", "MONGO_URI"),
    ("S3_BUCKET", "S3_BACKUP_BUCKET"),
    ("S3_ENDPOINT", "S3_ENDPOINT_URL"),
    ("S3_PREFIX", "S3_BACKUP_PREFIX"),
];

/// Those among the `names` of all variables, sorted. One is meant for another program where ours is set as well.
pub fn among(names: impl Iterator<Item = String>) -> Vec<Misspelt> {
    let (known, names) = (known(), names.collect::<Vec<String>>());
    let elsewhere = |name: &str| Some(ELSEWHERE.iter().find(|(other, _)| *other == name)?.1.to_string());
    let of_family = |name: &str| {
        let (family, rest) = family(name)?;
        // What all of a family begin with tells nothing of which is meant.
        let others = known.iter().filter_map(|known| known.strip_prefix(family));
        suggest::meant(rest, others).map(|near| format!("{family}{near}"))
    };
    let strange = names.iter().filter(|name| !known.contains(name));
    let is_set = |ours: &str| {
        let plain = ours.strip_suffix("_FILE").unwrap_or(ours);
        names.iter().any(|name| name.strip_suffix("_FILE").unwrap_or(name) == plain)
    };
    let near = |name: &str| elsewhere(name).or_else(|| of_family(name)).filter(|ours| !is_set(ours));
    let mut found: Vec<Misspelt> =
        strange.filter_map(|name| Some(Misspelt { name: name.clone(), near: near(name)? })).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Every variable that is read.
fn known() -> Vec<String> {
    let files =
        SETTINGS.iter().filter(|setting| setting.secret).map(|setting| format!("{}_FILE", setting.env));
    let own = SETTINGS.iter().map(|setting| setting.env.to_string());
    own.chain(files).chain(["UZIMA_BACKUP_CONFIG".into()]).collect()
}

/// What a variable begins with, and the rest. The AWS tools have many variables that are not in the table.
fn family(name: &str) -> Option<(&str, &str)> {
    let end = name.find('_')? + 1;
    Some(name.split_at(end)).filter(|(family, _)| *family != "AWS_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<(String, String)> {
        among(names.iter().map(ToString::to_string)).into_iter().map(|m| (m.name, m.near)).collect()
    }

    #[test]
    fn a_slip_in_a_variable_is_told_with_the_one_that_was_meant() {
        for (name, near) in [
            ("BACKUP_FORMT", "BACKUP_FORMAT"),
            ("S3_BACKUP_BUKET", "S3_BACKUP_BUCKET"),
            ("MONGO_URL", "MONGO_URI"),
            ("MONGO_URI_FLE", "MONGO_URI_FILE"),
            ("BACKUP_RETENTION_DAY", "BACKUP_RETENTION_DAYS"),
            ("RESTORE_URL", "RESTORE_URI"),
            ("ADMIN_EMAIL", "ADMIN_EMAILS"),
            ("UZIMA_BACKUP_CONFG", "UZIMA_BACKUP_CONFIG"),
        ] {
            assert_eq!(found(&[name]), [(name.to_string(), near.to_string())]);
        }
        assert_eq!(found(&["MONGO_URL", "BACKUP_FORMT"]).len(), 2);
        assert_eq!(found(&["S3_BUCKET"]), [("S3_BUCKET".to_string(), "S3_BACKUP_BUCKET".to_string())]);
        assert_eq!(found(&["MONGODB_URI", "MONGO_URI_FILE"]), [], "it is of another program");
        assert_eq!(found(&["MONGO_URL", "MONGO_URI"]), [], "Meteor's");
        assert_eq!(found(&["ADMIN_EMAIL", "ADMIN_EMAILS"]), []);
    }

    #[test]
    fn what_belongs_to_others_is_left_alone() {
        let known = known();
        assert_eq!(found(&known.iter().map(String::as_str).collect::<Vec<_>>()), []);
        let others = [
            "AWS_REGIO",
            "AWS_ACCESS_KEY",
            "BACKUP_SCRIPTS",
            "MONGO_INITDB_ROOT_USERNAME",
            "S3_HOME",
            "PATH",
            "HOME",
        ];
        assert_eq!(found(&others), []);
    }
}
