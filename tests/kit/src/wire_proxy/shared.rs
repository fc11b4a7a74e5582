//! The state that the threads of one proxy share, and the begin and end of connections.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use super::RuleId;
use super::action::Action;
use super::connection::{self, Place};
use super::hello::HostMap;
use super::log::Command;
use super::rule::Rule;

pub(super) struct Shared {
    pub hosts: HostMap,
    pub stopped: AtomicBool,
    pub refusing: AtomicBool,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub rules: Vec<(RuleId, bool, Rule)>,
    pub log: Vec<Command>,
    /// Entries that were cleared from the front of the log.
    pub forgotten: usize,
    sockets: Vec<Socket>,
    connections: u64,
    /// Connections whose `hello` the server has not answered yet.
    heartbeats: Vec<Place>,
}

struct Socket {
    place: Place,
    stream: TcpStream,
}

impl State {
    /// Closes both sides of the chosen connections.
    pub fn close(&mut self, which: impl Fn(Place) -> bool) {
        for socket in self.sockets.extract_if(.., |socket| which(socket.place)) {
            let _ = socket.stream.shutdown(Shutdown::Both);
        }
    }

    fn begin(&mut self, member: usize, streams: [TcpStream; 2]) -> Place {
        let place = Place { member, number: self.connections };
        self.connections += 1;
        self.sockets.extend(streams.map(|stream| Socket { place, stream }));
        place
    }
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Logs the command and finds its action. Returns the entry's place in the log too.
    pub fn decide(&self, mut command: Command, document: &[u8]) -> (Option<usize>, Action) {
        let mut state = self.state();
        let mut on = state.rules.iter_mut().filter(|rule| rule.1).map(|rule| &mut rule.2);
        let acting = on.find_map(|rule| rule.acts_on(&command, document).then(|| rule.action.clone()));
        let action = acting.unwrap_or(Action::Pass);
        if !matches!(action, Action::Pass) {
            command.action = Some(format!("{action:?}"));
        }
        state.log.push(command);
        (Some(state.forgotten + state.log.len() - 1), action)
    }

    /// Notes whether the server keeps this connection's `hello` waiting, or has answered it.
    pub fn heartbeat(&self, place: Place, waiting: bool) {
        let mut state = self.state();
        state.heartbeats.retain(|other| *other != place);
        state.heartbeats.extend(waiting.then_some(place));
    }

    /// Closes the connections whose `hello` this member keeps waiting.
    pub fn wake_heartbeats(&self, member: usize) {
        let mut state = self.state();
        let held: Vec<_> = state.heartbeats.extract_if(.., |place| place.member == member).collect();
        state.close(|place| held.contains(&place));
    }

    pub fn note_cursor(&self, entry: usize, cursor: i64) {
        let mut state = self.state();
        let place = entry.checked_sub(state.forgotten);
        if let Some(command) = place.and_then(|place| state.log.get_mut(place)) {
            command.cursor.get_or_insert(cursor);
        }
    }
}

pub(super) fn accept(listener: &TcpListener, upstream: &str, member: usize, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.is_stopped() {
            return;
        }
        if shared.refusing.load(Ordering::SeqCst) {
            continue;
        }
        // If the server cannot be reached, the client sees a closed connection.
        if let Ok(client) = client {
            let _ = connect(client, upstream, member, shared);
        }
    }
}

fn connect(client: TcpStream, upstream: &str, member: usize, shared: &Arc<Shared>) -> Result<()> {
    let server = TcpStream::connect(upstream).with_context(|| upstream.to_owned())?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let place = shared.state().begin(member, [client.try_clone()?, server.try_clone()?]);
    let shared = shared.clone();
    std::thread::spawn(move || {
        let _ = connection::serve(client, server, place, &shared);
        shared.heartbeat(place, false);
        shared.state().close(|other| other == place);
    });
    Ok(())
}
