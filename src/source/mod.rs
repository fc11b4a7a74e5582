//! Reading MongoDB: two engines, which make the same artifact, and the oplog slice.

pub mod describe;
pub mod engine;
pub mod mongodump;
pub mod native;
pub mod oplog;
pub mod snapshot;

use std::time::Duration;

use mongodb::error::Error as Driver;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Result};

/// Why a cursor ends early.
enum ReadFailure {
    /// The driver's error, which may be temporary.
    Driver(Driver),
    /// An error that is final.
    Error(Error),
}

impl From<Driver> for ReadFailure {
    fn from(error: Driver) -> ReadFailure {
        ReadFailure::Driver(error)
    }
}

impl From<Error> for ReadFailure {
    fn from(error: Error) -> ReadFailure {
        ReadFailure::Error(error)
    }
}

/// Does work on a runtime of the calling thread, until the run is cancelled. A member that does not answer must not delay the
/// end of a cancelled run.
pub(crate) fn run_here<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    run_on(1, cancel, work)
}

/// As [`run_here`]; the tasks that the work starts run on this number of threads. If it is 1, that is the calling thread, which
/// saves the cost of handing tasks over.
fn run_on<T>(threads: usize, cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Error::failed("cannot start a runtime for reading").caused_by(e))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            () = cancel.cancelled() => Err(Error::aftermath("the run was cancelled")),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
