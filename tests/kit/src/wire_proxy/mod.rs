//! A TCP proxy for the MongoDB wire protocol that causes faults for chosen commands.
//!
//! It is in front of one server or of all members of a replica set, and its rules can be changed while it
//! runs. The protocol is specified in MongoDB's manual, "MongoDB Wire Protocol" (mongodb.com/docs/manual/reference/
//! mongodb-wire-protocol): OP_MSG, and OP_QUERY with OP_REPLY for a driver's first `hello`. Compression is taken
//! out of the handshake, and so is the permission to answer a heartbeat many times, so that each command has one
//! answer. The proxy does not speak TLS: use the plain TCP proxy for TLS.
//!
//! It runs in threads, because a test may block the runtime while its child process talks to the proxy.

mod action;
mod connection;
mod hello;
mod log;
pub mod malform;
mod message;
mod rule;
mod shared;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::Result;

pub use action::{Action, CommandError, Edit, Gate};
pub use log::Command;
pub use malform::Malformed;
pub use rule::Rule;
use shared::{Shared, accept};

/// A running proxy. Dropping it ends it with all its connections.
pub struct WireProxy {
    upstreams: Vec<String>,
    addresses: Vec<String>,
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

/// The id of a rule, for [`WireProxy::hits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(pub(self) u64);

impl WireProxy {
    /// Listens on a port of its own for each server (`host:port`). All have the same rules.
    pub fn start(upstreams: &[String]) -> Result<WireProxy> {
        let listeners: Vec<_> = upstreams
            .iter()
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<_>>()?;
        let addresses = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.to_string()))
            .collect::<Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            hosts: upstreams.iter().cloned().zip(addresses.iter().cloned()).collect(),
            stopped: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let threads = listeners
            .into_iter()
            .zip(upstreams.iter().cloned())
            .enumerate()
            .map(|(member, (listener, upstream))| {
                let shared = shared.clone();
                std::thread::spawn(move || accept(&listener, &upstream, member, &shared))
            })
            .collect();
        Ok(WireProxy { upstreams: upstreams.to_vec(), addresses, shared, listeners: threads })
    }

    /// The proxy's `host:port` for the nth server.
    pub fn host(&self, member: usize) -> &str {
        &self.addresses[member]
    }

    /// Changes a URI of the servers so that it leads through the proxy.
    pub fn uri(&self, uri: &str) -> String {
        let pairs = self.upstreams.iter().zip(&self.addresses);
        pairs.fold(uri.to_owned(), |uri, (server, proxy)| uri.replace(server, proxy))
    }

    /// Adds a rule after the existing rules. It stays until [`clear`](Self::clear).
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.shared.state();
        let id = RuleId(state.rules.len() as u64);
        state.rules.push((id, true, rule));
        id
    }

    /// Switches all rules off. Their counts stay.
    pub fn clear(&self) {
        self.shared.state().rules.iter_mut().for_each(|rule| rule.1 = false);
    }

    /// How often a rule acted. A test should check that its fault really happened.
    pub fn hits(&self, id: RuleId) -> u64 {
        self.shared.state().rules.iter().find(|rule| rule.0 == id).map_or(0, |rule| rule.2.hits)
    }

    /// How often a rule matched, even if it did not act.
    pub fn seen(&self, id: RuleId) -> u64 {
        self.shared.state().rules.iter().find(|rule| rule.0 == id).map_or(0, |rule| rule.2.seen)
    }

    /// Answers like a server without resume tokens: an error for each `find` that requests them. `code` is 40415 for
    /// servers that parse strictly, and 9 for older servers.
    pub fn without_resume_tokens(&self, code: i32) -> [RuleId; 2] {
        ["$_requestResumeToken", "$_resumeAfter"].map(|field| {
            let text = match code {
                9 => format!("Unrecognized field '{field}'"),
                _ => format!("BSON field 'FindCommandRequest.{field}' is an unknown field."),
            };
            let error = CommandError::new(code).message(&text);
            self.add(Rule::on("find").having(field).then(Action::Fail(error)))
        })
    }

    /// Every command so far, in the order of arrival.
    pub fn log(&self) -> Vec<Command> {
        self.shared.state().log.clone()
    }

    /// All commands with this name so far.
    pub fn commands(&self, name: &str) -> Vec<Command> {
        self.log().into_iter().filter(|command| command.name == name).collect()
    }

    pub fn clear_log(&self) {
        let mut state = self.shared.state();
        state.forgotten += state.log.len();
        state.log.clear();
    }

    /// Closes all connections now. New connections are accepted.
    pub fn close_all(&self) {
        self.shared.state().close(|_| true);
    }

    /// While `refusing` is true, closes new connections at once, like a server that is down.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
    }
}

impl Drop for WireProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.close_all();
        for (address, thread) in self.addresses.iter().zip(self.listeners.drain(..)) {
            // Wakes the thread up from `accept`.
            let _ = TcpStream::connect(address);
            let _ = thread.join();
        }
    }
}
