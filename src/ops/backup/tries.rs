//! Decides what follows a failed attempt: the same attempt once more, or an attempt with a weaker consistency.
//!
//! A rename never prevents a backup unless `--consistency oplog` was asked for. With `auto`, if the oplog slice cannot
//! hold an operation of the run, a snapshot follows on servers that have snapshots. If that fails, too, each collection
//! is read at its own time. The last attempt is tolerant: it keeps what it can read of each collection, and warns.

use super::BackupOptions;
use crate::base::error::{Error, Kind};
use crate::config::choices::{ConsistencyChoice, EngineChoice};

/// The attempts of one run.
pub(super) struct Tries {
    /// The plan of the first attempt, from the options.
    first: AttemptPlan,
    /// The plan of the last attempt.
    tried: AttemptPlan,
    /// True if an attempt was already repeated.
    repeated: bool,
}

/// How an attempt is made.
#[derive(Debug, Clone)]
pub(super) struct AttemptPlan {
    pub consistency: ConsistencyChoice,
    pub engine: EngineChoice,
    /// Why the consistency differs from the options.
    pub consistency_why: Option<String>,
    /// Why the engine differs from the options.
    pub engine_why: Option<String>,
    /// Collections that are renamed or replaced while they are read do not end the attempt. It keeps the documents that it
    /// has read.
    pub tolerant: bool,
    /// Warnings about the differences from the options.
    pub warnings: Vec<String>,
    /// Why there is one more attempt, for the log and the manifest.
    pub note: String,
}

/// What an attempt found out about its server before it read anything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The attempt began an oplog slice.
    pub slice: bool,
    /// The server can be read as of one instant.
    pub snapshot: bool,
}

impl AttemptPlan {
    fn new(consistency: ConsistencyChoice, engine: EngineChoice) -> AttemptPlan {
        AttemptPlan {
            consistency,
            engine,
            consistency_why: None,
            engine_why: None,
            tolerant: false,
            warnings: Vec::new(),
            note: String::new(),
        }
    }
}

impl Tries {
    pub fn new(options: &BackupOptions) -> Tries {
        let first = AttemptPlan::new(options.settings.consistency, options.settings.engine);
        Tries { tried: first.clone(), first, repeated: false }
    }

    /// The plan of the first attempt.
    pub fn first(&self) -> AttemptPlan {
        self.first.clone()
    }

    /// The plan after an attempt that failed with `error`; `None` if there is none left.
    pub fn next(&mut self, error: &Error, seen: Seen) -> Option<AttemptPlan> {
        use ConsistencyChoice::{Auto, None as NoInstant, Oplog, Snapshot};
        let moved = error.kind() == Kind::Moved;
        // A collection that was renamed during one attempt may keep its name during the next one.
        let may_repeat = !self.repeated && matches!(error.kind(), Kind::Moved | Kind::Restart);
        let by_mongodump = self.tried.engine == EngineChoice::Mongodump;
        let next = match (self.first.consistency, self.tried.consistency) {
            _ if error.kind() == Kind::Restart => may_repeat.then(|| self.again(error)),
            (Snapshot, Snapshot) if error.kind() == Kind::Instant => Some(self.with_a_slice(error)),
            (Oplog | Snapshot, _) => may_repeat.then(|| self.again(error)),
            // An explicit engine is given up only after it failed twice.
            (Auto | NoInstant, Auto | NoInstant) if by_mongodump && may_repeat => Some(self.again(error)),
            (Auto, Auto) if seen.slice && by_mongodump && error.kind() == Kind::NoSlice => {
                Some(self.without_a_slice(error))
            }
            (Auto, Auto) if seen.slice && seen.snapshot => Some(self.by_snapshot(error)),
            (Auto, Auto) if seen.slice && may_repeat => Some(self.again(error)),
            (Auto, Auto) if seen.slice => Some(self.tolerant(error, true)),
            (Auto, Snapshot) => Some(self.tolerant(error, true)),
            _ if moved && !self.tried.tolerant => Some(self.tolerant(error, false)),
            _ => None,
        };
        if let Some(next) = &next {
            self.tried = next.clone();
        }
        next
    }

    /// The same attempt once more.
    fn again(&mut self, error: &Error) -> AttemptPlan {
        self.repeated = true;
        let note = format!("started once more from the beginning, because {}", error.chain());
        AttemptPlan { note, ..self.tried.clone() }
    }

    /// For a snapshot that the server could not keep long enough. A second one would take as long and fail in the same way,
    /// but an oplog slice needs no history.
    fn with_a_slice(&mut self, error: &Error) -> AttemptPlan {
        self.repeated = true;
        AttemptPlan {
            consistency_why: Some(format!("consistency = snapshot, but {}", error.chain())),
            note: format!("started once more with an oplog slice, because {}", error.chain_with_step()),
            ..AttemptPlan::new(ConsistencyChoice::Oplog, self.first.engine)
        }
    }

    fn by_snapshot(&self, error: &Error) -> AttemptPlan {
        self.natively(AttemptPlan {
            consistency_why: Some(format!("consistency = auto, but {}", error.chain())),
            note: format!(
                "started once more as of one instant (snapshot), because {}",
                error.chain_with_step()
            ),
            ..AttemptPlan::new(ConsistencyChoice::Snapshot, self.first.engine)
        })
    }

    /// Keeps the engine of the options, because only the slice failed.
    fn without_a_slice(&self, error: &Error) -> AttemptPlan {
        let why = error.chain();
        AttemptPlan {
            consistency_why: Some(format!("consistency = auto, but {why}")),
            warnings: vec![format!(
                "the backup is not consistent at one instant: each collection was read at its own time, because {}",
                error.chain_with_step()
            )],
            note: format!("started once more without an oplog slice, because {why}"),
            ..AttemptPlan::new(ConsistencyChoice::None, self.first.engine)
        }
    }

    /// The last attempt. With `weaker` it gives up the consistency as well.
    fn tolerant(&self, error: &Error, weaker: bool) -> AttemptPlan {
        let base = if weaker { self.without_a_slice(error) } else { self.tried.clone() };
        let what = if weaker { " without an oplog slice" } else { "" };
        let note = format!(
            "started once more{what}, keeping the documents that can be read of each collection, because {}",
            error.chain()
        );
        self.natively(AttemptPlan { note, tolerant: true, ..base })
    }

    /// mongodump ends with an error when a collection is dropped or renamed while it reads (QueryPlanKilled, 100.18.0), so
    /// the native engine reads.
    fn natively(&self, mut plan: AttemptPlan) -> AttemptPlan {
        plan.engine = EngineChoice::Native;
        plan.engine_why = match self.first.engine {
            EngineChoice::Native => None,
            EngineChoice::Auto => {
                Some("mongodump fails when a collection is renamed or dropped while it reads".into())
            }
            EngineChoice::Mongodump => {
                plan.warnings.push(
                    "read with the native engine: mongodump ends with an error (QueryPlanKilled) when a collection is \
                     renamed or dropped while it reads"
                        .into(),
                );
                Some(
                    "engine = mongodump, but that fails when a collection is renamed or dropped while it reads".into(),
                )
            }
        };
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::ConsistencyChoice::{Auto, None as NoInstant, Oplog, Snapshot};
    use super::EngineChoice::{Mongodump, Native};
    use super::Kind::{Instant, Moved, NoSlice, Restart};
    use super::*;

    /// The later attempts of a run whose attempts fail with these errors: consistency, engine, tolerance, number of warnings.
    fn run(
        asked: ConsistencyChoice,
        engine: EngineChoice,
        seen: Seen,
        errors: &[Kind],
    ) -> Vec<(ConsistencyChoice, EngineChoice, bool, usize)> {
        let first = AttemptPlan::new(asked, engine);
        let mut tries = Tries { tried: first.clone(), first, repeated: false };
        let next = |kind: &Kind| tries.next(&Error::new(*kind, "it"), seen);
        let attempts = errors.iter().map_while(next);
        attempts.map(|n| (n.consistency, n.engine, n.tolerant, n.warnings.len())).collect()
    }

    #[test]
    fn a_rename_ends_a_run_only_with_consistency_oplog() {
        let (all, slice) = (Seen { slice: true, snapshot: true }, Seen { slice: true, snapshot: false });
        let last = (NoInstant, Native, true, 1);
        let auto = EngineChoice::Auto;
        assert_eq!(run(Auto, auto, all, &[Moved, Instant]), [(Snapshot, Native, false, 0), last]);
        assert_eq!(run(Auto, Native, all, &[NoSlice, Moved]), [(Snapshot, Native, false, 0), last]);
        assert_eq!(run(Auto, auto, slice, &[Moved, Moved]), [(Auto, auto, false, 0), last]);
        assert_eq!(run(Auto, auto, slice, &[NoSlice]), [last]);
        // A restart repeats one attempt. A later rename is another cause.
        assert_eq!(run(Auto, auto, slice, &[Restart, Moved]), [(Auto, auto, false, 0), last]);
        assert_eq!(run(Auto, auto, all, &[Restart, Restart]), [(Auto, auto, false, 0)]);
        // Without an oplog, only the renamed collection is incomplete.
        let alone = Seen::default();
        assert_eq!(run(Auto, auto, alone, &[Moved, Moved]), [(Auto, Native, true, 0)]);
        assert_eq!(run(NoInstant, Native, all, &[Moved]), [(NoInstant, Native, true, 0)]);
        // An explicit engine or consistency is not replaced.
        assert_eq!(run(Oplog, auto, all, &[Moved, Moved]), [(Oplog, auto, false, 0)]);
        assert_eq!(run(Oplog, auto, all, &[NoSlice]), []);
        assert_eq!(run(Snapshot, Native, all, &[Instant, Moved]), [(Oplog, Native, false, 0)]);
    }

    #[test]
    fn an_explicit_engine_is_given_up_last_and_with_a_warning() {
        let (all, slice) = (Seen { slice: true, snapshot: true }, Seen { slice: true, snapshot: false });
        let again = (Auto, Mongodump, false, 0);
        assert_eq!(
            run(Auto, Mongodump, all, &[Moved, Moved, Instant]),
            [again, (Snapshot, Native, false, 1), (NoInstant, Native, true, 2)]
        );
        assert_eq!(run(Auto, Mongodump, slice, &[Moved, Moved]), [again, (NoInstant, Native, true, 2)]);
        assert_eq!(
            run(Auto, Mongodump, slice, &[NoSlice, Moved, Moved]),
            [
                (NoInstant, Mongodump, false, 1),
                (NoInstant, Mongodump, false, 1),
                (NoInstant, Native, true, 2)
            ]
        );
        assert_eq!(
            run(NoInstant, Mongodump, Seen::default(), &[Moved, Moved]),
            [(NoInstant, Mongodump, false, 0), (NoInstant, Native, true, 1)]
        );
    }
}
