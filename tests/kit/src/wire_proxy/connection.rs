//! One client's connection: reads commands, applies the rules, and sends answers.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::action::{Action, CommandError};
use super::hello;
use super::log::{Command, cursor_id};
use super::message::Message;
use super::shared::Shared;

/// The owner of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub member: usize,
    pub number: u64,
}

/// Runs until one side closes or a rule ends it; the sockets close when the streams are dropped.
pub(super) fn serve(
    mut client: TcpStream,
    mut server: TcpStream,
    place: Place,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(mut request) = Message::read(&mut client)? {
        let command = Command::parse(&request, place.member, place.number);
        let is_hello = command.as_ref().is_some_and(Command::is_hello);
        if is_hello {
            hello::strip_request(&mut request);
        }
        let (entry, action) = match command {
            Some(command) => shared.decide(command, request.document().unwrap_or_default()),
            None => (None, Action::Pass),
        };
        match &action {
            Action::Close => return Ok(()),
            Action::Fail(error) => {
                if !request.more_to_come() {
                    fail(&mut client, &request, error, place, shared)?;
                }
                continue;
            }
            Action::Stall(time) => {
                let start = Instant::now();
                hold(&mut client, shared, || start.elapsed() >= *time)?;
            }
            Action::Hold(gate) => hold(&mut client, shared, || gate.is_open())?,
            Action::Rewrite(change) => {
                if let Some(changed) = request.document().map(|document| change(document)) {
                    request.set_document(&changed);
                }
            }
            _ => {}
        }
        if is_hello {
            shared.heartbeat(place, true);
        }
        server.write_all(&request.bytes())?;
        if request.more_to_come() {
            continue;
        }
        let Some(mut answer) = Message::read(&mut server)? else { return Ok(()) };
        if is_hello {
            shared.heartbeat(place, false);
            hello::rewrite_answer(&mut answer, &shared.hosts);
        }
        if let (Some(entry), Some(cursor)) = (entry, answer.document().and_then(cursor_id)) {
            shared.note_cursor(entry, cursor);
        }
        match action {
            Action::CloseAfter => return Ok(()),
            Action::CutAnswer(bytes) => {
                let whole = answer.bytes();
                return client.write_all(&whole[..bytes.min(whole.len())]);
            }
            Action::FailAfter(error) => fail(&mut client, &request, &error, place, shared)?,
            Action::Malform(how) => client.write_all(&how.apply(answer))?,
            Action::Bytes(bytes) => client.write_all(&bytes)?,
            Action::Edit(change) => {
                if let Some(changed) = answer.document().map(|document| change(document)) {
                    answer.set_document(&changed);
                }
                client.write_all(&answer.bytes())?;
            }
            Action::Pass
            | Action::Stall(_)
            | Action::Hold(_)
            | Action::Close
            | Action::Fail(_)
            | Action::Rewrite(_) => {
                client.write_all(&answer.bytes())?;
            }
        }
    }
    Ok(())
}

/// Sends the error. A server whose state changes answers the waiting heartbeat at once. If only a rule claims a
/// change, the server keeps the heartbeat for 10 s, and a driver waits that long. So the proxy ends the heartbeat
/// after the driver had time to read the error.
fn fail(
    client: &mut TcpStream,
    request: &Message,
    error: &CommandError,
    place: Place,
    shared: &Shared,
) -> io::Result<()> {
    client.write_all(&Message::answer(request, &error.document()).bytes())?;
    if error.is_state_change() {
        std::thread::sleep(Duration::from_millis(50));
        shared.wake_heartbeats(place.member);
    }
    Ok(())
}

/// Waits until the hold is over, the client has gone away, or the proxy ends.
fn hold(client: &mut TcpStream, shared: &Shared, is_over: impl Fn() -> bool) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !is_over() {
        if shared.is_stopped() {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        match client.peek(&mut [0]) {
            Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
            Ok(_) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    client.set_read_timeout(None)
}
