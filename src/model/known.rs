//! The versions of MongoDB that this tool knows. docs/compatibility.md has the facts behind each.

use super::server::Fcv;

/// The oldest version that is supported.
pub const OLDEST: Fcv = Fcv { major: 4, minor: 4 };
/// The newest version whose release notes and sources were read. A newer version may behave in ways that this tool does
/// not expect.
pub const NEWEST: Fcv = Fcv { major: 9, minor: 0 };
/// The versions whose real servers the tests run.
pub const TESTED: [Fcv; 3] =
    [Fcv { major: 4, minor: 4 }, Fcv { major: 5, minor: 0 }, Fcv { major: 6, minor: 0 }];
/// From this version on the documents of a time series are found under its own name, with `rawData: true`; since
/// 9.0 there is no bucket collection any more (SERVER-114505). mongorestore reads archives by the same rule.
const RAW_DATA: Fcv = Fcv { major: 8, minor: 3 };

/// How well a version of MongoDB is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Older than [`OLDEST`].
    TooOld,
    /// One of [`TESTED`].
    Tested,
    /// Not run by the tests, but known.
    Expected,
    /// Newer than [`NEWEST`].
    Newer,
    /// The server reports no version: a service that only speaks MongoDB's protocol.
    Unknown,
}

/// How well the version `a.b.c` is known.
pub fn support(version: &str) -> Support {
    match Fcv::of_version(version) {
        None => Support::Unknown,
        Some(version) if version < OLDEST => Support::TooOld,
        Some(version) if version > NEWEST => Support::Newer,
        Some(version) if TESTED.contains(&version) => Support::Tested,
        Some(_) => Support::Expected,
    }
}

/// The warning of a backup of a server that is newer than all known ones.
pub fn newer(version: &str) -> Option<String> {
    (support(version) == Support::Newer).then(|| {
        format!(
            "MongoDB {version} is newer than {NEWEST}, the newest version that this uzima-backup knows: look for a newer \
             uzima-backup, and prove this backup with `uzima-backup verify latest --drill`"
        )
    })
}

/// Returns true if a server of this version has the documents of a time series under the series' own name.
pub fn has_raw_data(version: &str) -> bool {
    Fcv::of_version(version).is_some_and(|version| version >= RAW_DATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged_by_number() {
        for (version, expected) in [
            ("4.2.25", Support::TooOld),
            ("4.4.2", Support::Tested),
            ("5.0.32", Support::Tested),
            ("5.3.1", Support::Expected),
            ("6.0.27", Support::Tested),
            ("7.0.0", Support::Expected),
            ("8.2.0-rc0", Support::Expected),
            ("9.0.1", Support::Expected),
            ("9.1.0", Support::Newer),
            ("10.0.0", Support::Newer),
            ("unknown", Support::Unknown),
        ] {
            assert_eq!(support(version), expected, "{version}");
            assert_eq!(newer(version).is_some(), expected == Support::Newer, "{version}");
        }
        let raw: Vec<bool> = ["8.2.9", "8.3.0", "9.0.0", "10.0.0"].map(has_raw_data).to_vec();
        assert_eq!(raw, [false, true, true, true]);
    }
}
