//! An S3 service inside the test process, which can cause the faults of real services.
//!
//! The `s3s` crate implements the protocol (XML, signatures, routing). The objects are in [memory](memory).
//! [Faults](Faults) are injected at the HTTP level, where answers can also be lost. Every call is recorded, so
//! that tests can check the requests and not only the result.
//!
//! `s3s-fs` is not used, because it refuses parts under 5 MiB and part numbers with gaps, has no
//! ListMultipartUploads and does not check the checksums of parts.

mod checks;
mod faults;
mod memory;
mod operations;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::auth::SimpleAuth;
use s3s::dto::TimestampFormat;
use s3s::service::S3ServiceBuilder;
use tokio::sync::oneshot;

use checks::Sums;
pub use faults::{Fault, Faults, Rule};
pub use memory::Limits;
use memory::Stored;
pub use wire::Call;

/// The only bucket.
pub const BUCKET: &str = "backups";
/// The only access key id that is accepted.
pub const ACCESS_KEY: &str = "test-key-id";
/// The secret of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test-secret";

/// A running server. Dropping it stops it, and its objects are lost.
pub struct S3Server {
    address: SocketAddr,
    memory: memory::Memory,
    wire: Arc<wire::Wire>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server with Amazon's limits, but parts of any size, on a free port.
    pub fn start() -> S3Server {
        S3Server::with(Limits::default())
    }

    /// Starts a server with its own limits.
    ///
    /// # Panics
    /// Panics if it cannot listen on the loopback interface.
    pub fn with(limits: Limits) -> S3Server {
        let memory = memory::Memory::new(BUCKET, limits);
        let mut builder = S3ServiceBuilder::new(memory.clone());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let wire = Arc::new(wire::Wire::new(builder.build(), memory.clone()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the port");
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&wire);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a tokio listener");
                tokio::select! {
                    () = wire::serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        S3Server { address, memory, wire, stop: Some(stop), thread: Some(thread) }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The rules that cause faults.
    pub fn faults(&self) -> &Faults {
        &self.wire.faults
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.wire.calls()
    }

    /// The number of calls of an operation, such as `UploadPart`.
    pub fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// All objects.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.memory.state().objects.iter().map(|(key, stored)| (key.clone(), stored.body.clone())).collect()
    }

    /// Stores an object without a request.
    pub fn insert(&self, key: &str, body: impl Into<Bytes>) {
        let body = body.into();
        let stored = Stored {
            etag: checks::etag(&body),
            sums: Sums::default(),
            metadata: None,
            modified: SystemTime::now(),
            archived: false,
            retained: None,
            body,
        };
        self.memory.state().objects.insert(key.to_owned(), stored);
    }

    /// Changes the bytes of an object without a request. Its checksums stay the same.
    ///
    /// # Panics
    /// Panics if the object does not exist.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.memory.tamper(key, change);
    }

    /// The keys and ids of the multipart uploads that are neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.memory.state().uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    }

    /// From now on the bucket keeps versions: a deletion only hides the object, and the answer says so.
    pub fn keep_versions(&self) {
        self.memory.state().versioned = true;
    }

    /// From now on the bucket has Object Lock, and keeps versions.
    pub fn lock_objects(&self) {
        let mut state = self.memory.state();
        (state.versioned, state.locks) = (true, true);
    }

    /// From now on everybody may read the lifecycle rules: one rule that deletes old versions, or no rule.
    pub fn expire_versions(&self, expires: bool) {
        self.memory.state().expires = Some(expires);
    }

    /// Moves an object to the class GLACIER, in which it cannot be read.
    ///
    /// # Panics
    /// Panics if the object does not exist.
    pub fn archive(&self, key: &str) {
        self.memory.change(key, |object| object.archived = true);
    }

    /// Gives an object a retention period that ends in this number of seconds.
    ///
    /// # Panics
    /// Panics if the object does not exist.
    pub fn retain(&self, key: &str, seconds: u64) {
        let until = SystemTime::now() + Duration::from_secs(seconds);
        self.memory.change(key, |object| object.retained = Some(until.into()));
    }

    /// The end of each object's retention period, in whole seconds since 1970.
    pub fn retained(&self) -> BTreeMap<String, i64> {
        let until = |stored: &Stored| {
            let mut seconds = Vec::new();
            stored.retained.clone()?.format(TimestampFormat::EpochSeconds, &mut seconds).ok()?;
            String::from_utf8(seconds).ok()?.split('.').next()?.parse().ok()
        };
        let state = self.memory.state();
        state.objects.iter().filter_map(|(key, stored)| Some((key.clone(), until(stored)?))).collect()
    }

    /// From now on nobody may delete this key (403, and an entry in the errors of DeleteObjects).
    pub fn protect(&self, key: &str) {
        self.memory.state().protected.insert(key.to_owned());
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
