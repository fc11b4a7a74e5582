//! The versions of MongoDB that this tool supports. docs/compatibility.md has the facts behind each.

use super::server::Fcv;

/// The oldest version that is supported.
pub const OLDEST: Fcv = Fcv { major: 4, minor: 4 };
/// The newest version whose release notes and sources were read. A newer version may behave in ways that this tool does
/// not expect.
pub const NEWEST: Fcv = Fcv { major: 9, minor: 0 };
/// The versions whose real servers the tests run.
pub const TESTED: [Fcv; 3] =
    [Fcv { major: 4, minor: 4 }, Fcv { major: 5, minor: 0 }, Fcv { major: 6, minor: 0 }];
/// From this version on, `rawData: true` reads the buckets of a time series under the series' own name. Since 9.0 there is no
/// bucket collection (SERVER-114505). mongorestore reads archives by the same rule.
const RAW_DATA: Fcv = Fcv { major: 8, minor: 3 };

/// How well a version of MongoDB is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Older than [`OLDEST`].
    TooOld,
    /// One of [`TESTED`].
    Tested,
    /// Supported by facts from documentation and sources; no test runs it.
    Expected,
    /// Newer than [`NEWEST`].
    Newer,
    /// The server reports no version: a service that only speaks MongoDB's protocol.
    Unknown,
}

/// Returns how well the version `a.b.c` is supported.
pub fn support(version: &str) -> Support {
    match Fcv::of_version(version) {
        None => Support::Unknown,
        Some(version) if version < OLDEST => Support::TooOld,
        Some(version) if version > NEWEST => Support::Newer,
        Some(version) if TESTED.contains(&version) => Support::Tested,
        Some(_) => Support::Expected,
    }
}

/// Returns a warning if the version is newer than [`NEWEST`].
pub fn newer(version: &str) -> Option<String> {
    (support(version) == Support::Newer).then(|| {
        format!(
            "MongoDB {version} is newer than {NEWEST}, the newest version that this uzima-backup knows: look for a newer \
             uzima-backup, and prove this backup with `uzima-backup verify latest --drill`"
        )
    })
}

/// Returns true if a server of this version has the buckets of a time series under the series' own name.
pub fn has_raw_data(version: &str) -> bool {
    Fcv::of_version(version).is_some_and(|version| version >= RAW_DATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
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
