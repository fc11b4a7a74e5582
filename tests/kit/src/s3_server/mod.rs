//! An S3 service inside the test process, which does on demand what real ones do on bad days.
//!
//! The protocol (XML, signatures, routing) is the `s3s` crate's; objects live in [memory](memory);
//! [faults](Faults) are injected at the HTTP level around it, where answers can also be lost. Every
//! call is recorded, so that tests assert what was asked and not only how it ended.
//!
//! Objects are kept in memory and not by `s3s-fs`, because that one refuses parts under 5 MiB and part
//! numbers with gaps, has no ListMultipartUploads and does not check the checksums of parts.

mod checks;
mod faults;
mod memory;
mod operations;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::sync::oneshot;

pub use faults::{Fault, Faults, Rule};
pub use memory::Limits;
pub use wire::Call;

/// The bucket that exists.
pub const BUCKET: &str = "backups";
/// The access key id that is accepted.
pub const ACCESS_KEY: &str = "test-key-id";
/// Its secret.
pub const SECRET_KEY: &str = "test-secret";

/// A running server; dropped, it stops and forgets everything.
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
    /// If it cannot listen on the loopback interface.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.wire.faults
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.wire.calls()
    }

    /// How often an operation was called, such as `UploadPart`.
    pub fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// All objects.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.memory.objects()
    }

    /// Puts an object behind the client's back.
    pub fn insert(&self, key: &str, body: impl Into<Bytes>) {
        self.memory.insert(key, body.into());
    }

    /// Changes an object's bytes behind the client's back, its checksums staying as they were.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.memory.tamper(key, change);
    }

    /// The multipart uploads that are neither completed nor aborted: key and id.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.memory.open_uploads()
    }

    /// From now on the bucket keeps versions: a delete only hides, and says so.
    pub fn keep_versions(&self) {
        self.memory.keep_versions();
    }

    /// From now on the bucket has Object Lock, and keeps versions.
    pub fn lock_objects(&self) {
        self.memory.lock_objects();
    }

    /// From now on everybody may ask for the lifecycle rules; there is one that deletes old versions, or none at all.
    pub fn expire_versions(&self, expires: bool) {
        self.memory.expire_versions(expires);
    }

    /// Moves an object to the class GLACIER, in which it cannot be read.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn archive(&self, key: &str) {
        self.memory.archive(key);
    }

    /// Gives an object a retention period that ends so many seconds from now.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn retain(&self, key: &str, seconds: u64) {
        self.memory.retain(key, seconds);
    }

    /// The end of each object's retention period, in whole seconds since 1970.
    pub fn retained(&self) -> BTreeMap<String, i64> {
        self.memory.retained()
    }

    /// Keys that nobody may delete from now on (403, and an entry in the errors of DeleteObjects).
    pub fn protect(&self, key: &str) {
        self.memory.protect(key);
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
