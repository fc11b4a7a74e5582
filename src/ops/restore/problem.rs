//! What is not as it was in the backup.

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub trouble: Trouble,
    /// What it is, in words.
    pub text: String,
}

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Documents that the target did not take, or that the replay had no place for.
    Documents,
    /// The target counts another number of documents than were written.
    Count,
    /// An index that the target did not take.
    Index,
    /// The namespace, or users and roles, could not be restored completely: restoring them again may help.
    Incomplete,
}

impl Trouble {
    /// A problem of this kind.
    pub fn told(self, text: String) -> Problem {
        Problem { trouble: self, text }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
