//! Decides what follows a failed attempt: the same attempt once more, or an attempt with a weaker consistency.
//!
//! A rename never prevents a backup unless `--consistency oplog` was asked for. With `auto`, if the oplog slice cannot
//! hold an operation of the run, a snapshot follows on servers that have snapshots. If that fails, too, each collection
//! is read at its own time. The last attempt is tolerant: it keeps what it can read of each collection, and warns.

use super::BackupOptions;
use super::attempt::{Otherwise, Seen};
use crate::base::error::{Error, Kind};
use crate::config::choices::{ConsistencyChoice, EngineChoice};

/// The attempts of one run.
pub struct Tries {
    asked: ConsistencyChoice,
    engine: EngineChoice,
    /// The last attempt.
    tried: Next,
    /// One attempt was already followed by another like it.
    repeated: bool,
}

/// An attempt.
#[derive(Debug, Clone)]
pub struct Next {
    pub consistency: ConsistencyChoice,
    pub engine: EngineChoice,
    /// How it differs from the run's options.
    pub other: Otherwise,
    /// Why there is one more attempt, for the log and the manifest.
    pub note: String,
}

impl Tries {
    /// The first attempt is as the options say.
    pub fn new(options: &BackupOptions) -> Tries {
        let (asked, engine) = (options.settings.consistency, options.settings.engine);
        let (other, note) = (Otherwise::default(), String::new());
        Tries { asked, engine, tried: Next { consistency: asked, engine, other, note }, repeated: false }
    }

    /// The attempt after one that failed with `error`; `None` if there is none left.
    pub fn next(&mut self, error: &Error, seen: Seen) -> Option<Next> {
        use ConsistencyChoice::{Auto, None as NoInstant, Oplog, Snapshot};
        let moved = error.kind() == Kind::Moved;
        // A collection that was renamed once may keep its name the next time.
        let may_repeat = !self.repeated && matches!(error.kind(), Kind::Moved | Kind::Restart);
        let by_mongodump = self.tried.engine == EngineChoice::Mongodump;
        let next = match (self.asked, self.tried.consistency) {
            _ if error.kind() == Kind::Restart => may_repeat.then(|| self.again(error)),
            (Snapshot, Snapshot) if error.kind() == Kind::Instant => Some(self.with_a_slice(error)),
            (Oplog | Snapshot, _) => may_repeat.then(|| self.again(error)),
            // An engine that was asked for by name is given up only after it failed twice.
            (Auto | NoInstant, Auto | NoInstant) if by_mongodump && may_repeat => Some(self.again(error)),
            (Auto, Auto) if seen.slice && by_mongodump && error.kind() == Kind::NoSlice => {
                Some(self.without_a_slice(error))
            }
            (Auto, Auto) if seen.slice && seen.snapshot => Some(self.by_snapshot(error)),
            (Auto, Auto) if seen.slice && may_repeat => Some(self.again(error)),
            (Auto, Auto) if seen.slice => Some(self.tolerant(error, true)),
            (Auto, Snapshot) => Some(self.tolerant(error, true)),
            _ if moved && !self.tried.other.tolerant => Some(self.tolerant(error, false)),
            _ => None,
        };
        if let Some(next) = &next {
            self.tried = next.clone();
        }
        next
    }

    /// The same attempt once more.
    fn again(&mut self, error: &Error) -> Next {
        self.repeated = true;
        let note = format!("started once more from the beginning, because {}", error.chain());
        Next { note, ..self.tried.clone() }
    }

    /// After a snapshot that the server could not keep long enough: a second one would take as long and fail in the
    /// same way, but an oplog slice needs no history.
    fn with_a_slice(&mut self, error: &Error) -> Next {
        self.repeated = true;
        let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
        let why = error.chain();
        Next {
            consistency: ConsistencyChoice::Oplog,
            engine: self.engine,
            other: Otherwise {
                consistency: Some(format!("consistency = snapshot, but {why}")),
                ..Otherwise::default()
            },
            note: format!("started once more with an oplog slice, because {why}{step}"),
        }
    }

    fn by_snapshot(&self, error: &Error) -> Next {
        let why = error.chain();
        let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
        let other =
            Otherwise { consistency: Some(format!("consistency = auto, but {why}")), ..self.native() };
        Next {
            consistency: ConsistencyChoice::Snapshot,
            engine: EngineChoice::Native,
            other,
            note: format!("started once more as of one instant (snapshot), because {why}{step}"),
        }
    }

    /// Keeps the engine that was asked for, because only the slice failed.
    fn without_a_slice(&self, error: &Error) -> Next {
        let why = error.chain();
        let step = error.next_step().map(|step| format!(". {step}")).unwrap_or_default();
        Next {
            consistency: ConsistencyChoice::None,
            engine: self.engine,
            other: Otherwise {
                consistency: Some(format!("consistency = auto, but {why}")),
                less: vec![format!(
                    "the backup is of no instant: each collection was read at its own time, because {why}{step}"
                )],
                ..Otherwise::default()
            },
            note: format!("started once more without an oplog slice, because {why}"),
        }
    }

    /// The last attempt. With `less` it gives up the consistency as well.
    fn tolerant(&self, error: &Error, less: bool) -> Next {
        let mut next = if less { self.without_a_slice(error) } else { self.tried.clone() };
        let native = self.native();
        next.engine = EngineChoice::Native;
        next.other.engine = native.engine;
        next.other.less.extend(native.less);
        next.other.tolerant = true;
        let what = if less { " without an oplog slice" } else { "" };
        let why = error.chain();
        next.note =
            format!("started once more{what}, with what can be read of each collection, because {why}");
        next
    }

    /// mongodump ends with an error when a collection is dropped or renamed while it reads (QueryPlanKilled,
    /// 100.18.0), so the native engine reads.
    fn native(&self) -> Otherwise {
        match self.engine {
            EngineChoice::Native => Otherwise::default(),
            EngineChoice::Auto => Otherwise {
                engine: Some("mongodump fails when a collection is renamed or dropped while it reads".into()),
                ..Otherwise::default()
            },
            EngineChoice::Mongodump => Otherwise {
                engine: Some(
                    "engine = mongodump, but that fails when a collection is renamed or dropped while it reads".into(),
                ),
                less: vec![
                    "read with the native engine: mongodump ends with an error (QueryPlanKilled) when a collection is \
                     renamed or dropped while it reads"
                        .into(),
                ],
                ..Otherwise::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConsistencyChoice::{Auto, None as NoInstant, Oplog, Snapshot};
    use super::EngineChoice::{Mongodump, Native};
    use super::Kind::{Instant, Moved, NoSlice, Restart};
    use super::*;

    /// The attempts of a run whose attempts fail with these errors; how each reads, and with how many warnings.
    fn run(
        asked: ConsistencyChoice,
        engine: EngineChoice,
        seen: Seen,
        errors: &[Kind],
    ) -> Vec<(ConsistencyChoice, EngineChoice, bool, usize)> {
        let (other, note) = (Otherwise::default(), String::new());
        let tried = Next { consistency: asked, engine, other, note };
        let mut tries = Tries { asked, engine, tried, repeated: false };
        let next = |kind: &Kind| tries.next(&Error::new(*kind, "it"), seen);
        let attempts = errors.iter().map_while(next);
        attempts.map(|n| (n.consistency, n.engine, n.other.tolerant, n.other.less.len())).collect()
    }

    #[test]
    fn a_rename_ends_a_run_only_where_a_slice_was_asked_for() {
        let (all, slice) = (Seen { slice: true, snapshot: true }, Seen { slice: true, snapshot: false });
        let last = (NoInstant, Native, true, 1);
        let auto = EngineChoice::Auto;
        assert_eq!(run(Auto, auto, all, &[Moved, Instant]), [(Snapshot, Native, false, 0), last]);
        assert_eq!(run(Auto, Native, all, &[NoSlice, Moved]), [(Snapshot, Native, false, 0), last]);
        assert_eq!(run(Auto, auto, slice, &[Moved, Moved]), [(Auto, auto, false, 0), last]);
        assert_eq!(run(Auto, auto, slice, &[NoSlice]), [last]);
        // A member that was restarted is met once; a rename after that is another matter.
        assert_eq!(run(Auto, auto, slice, &[Restart, Moved]), [(Auto, auto, false, 0), last]);
        assert_eq!(run(Auto, auto, all, &[Restart, Restart]), [(Auto, auto, false, 0)]);
        // Without an oplog nothing is given up but the collection that was renamed.
        let alone = Seen::default();
        assert_eq!(run(Auto, auto, alone, &[Moved, Moved]), [(Auto, Native, true, 0)]);
        assert_eq!(run(NoInstant, Native, all, &[Moved]), [(NoInstant, Native, true, 0)]);
        // An engine or consistency that was asked for by name is not replaced.
        assert_eq!(run(Oplog, auto, all, &[Moved, Moved]), [(Oplog, auto, false, 0)]);
        assert_eq!(run(Oplog, auto, all, &[NoSlice]), []);
        assert_eq!(run(Snapshot, Native, all, &[Instant, Moved]), [(Oplog, Native, false, 0)]);
    }

    #[test]
    fn an_engine_that_was_asked_for_is_given_up_last_and_with_a_warning() {
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
