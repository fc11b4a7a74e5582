//! An SMTP server (RFC 5321) that keeps the mails it gets, with STARTTLS, TLS and logins. It can answer each command with
//! any reply, break the connection, or fall silent.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::mongod::TlsFiles;

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    Never,
    /// The server offers STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// What the server does instead of the right thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It replies with this line, or lines.
    Reply(String),
    /// It closes the connection.
    Close,
    /// It does nothing until the client closes the connection.
    Silence,
    /// It does the right thing, and closes the connection instead of its reply.
    CloseInsteadOfReply,
}

/// A mail that the server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMail {
    pub from: String,
    pub to: Vec<String>,
    /// The lines with CR LF, without the dots that SMTP adds.
    pub text: String,
    pub encrypted: bool,
    pub user: Option<String>,
}

/// A running server.
pub struct SmtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    encryption: Encryption,
    tls: Option<Arc<ServerConfig>>,
    login: Option<(String, String)>,
    stopped: AtomicBool,
    state: Mutex<State>,
}

struct State {
    faults: Vec<(String, Fault, u32)>,
    mechanisms: String,
    /// Sent in the clear together with the reply to STARTTLS.
    injected: String,
    mails: Vec<ReceivedMail>,
    /// Each line of a client, with whether it was encrypted.
    lines: Vec<(bool, String)>,
    connections: u32,
}

impl SmtpServer {
    /// Listens on a free port of 127.0.0.1. With `login`, the server accepts mails only after it.
    ///
    /// # Panics
    /// Panics if it cannot listen, or if the files are not usable.
    pub fn start(
        encryption: Encryption,
        files: Option<&TlsFiles>,
        login: Option<(&str, &str)>,
    ) -> SmtpServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
        let address = listener.local_addr().expect("the port");
        let state = State {
            faults: Vec::new(),
            mechanisms: "PLAIN LOGIN".into(),
            injected: String::new(),
            mails: Vec::new(),
            lines: Vec::new(),
            connections: 0,
        };
        let shared = Arc::new(Shared {
            encryption,
            tls: files.map(tls),
            login: login.map(|(user, password)| (user.into(), password.into())),
            stopped: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let shared = accepting.clone();
                // A client that closes the connection ends the thread.
                std::thread::spawn(move || Session::run(shared, stream).ok());
            }
        });
        SmtpServer { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Applies a fault to the next `times` commands that begin with `command`, in upper case: `EHLO`, `RCPT TO:<a@b.example>`.
    /// `GREETING` is the begin of a connection, and `.` the end of a mail.
    pub fn fail(&self, command: &str, fault: Fault, times: u32) {
        self.shared.state().faults.push((command.into(), fault, times));
    }

    /// Applies a reply to all later commands that begin with `command`.
    pub fn refuse(&self, command: &str, reply: &str) {
        self.fail(command, Fault::Reply(reply.into()), u32::MAX);
    }

    /// Offers only these mechanisms for logins; none with an empty text.
    pub fn offer(&self, mechanisms: &str) {
        self.shared.state().mechanisms = mechanisms.into();
    }

    /// Sends a text in the clear, in the same packet as the reply to STARTTLS, as an attacker could.
    pub fn inject(&self, text: &str) {
        self.shared.state().injected = text.into();
    }

    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.shared.state().mails.clone()
    }

    /// The lines of all clients outside of mails, each with whether it was encrypted.
    pub fn lines(&self) -> Vec<(bool, String)> {
        self.shared.state().lines.clone()
    }

    pub fn connections(&self) -> u32 {
        self.shared.state().connections
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, command: &str) -> Option<Fault> {
        let mut state = self.state();
        let (_, fault, times) = state
            .faults
            .iter_mut()
            .find(|(start, _, times)| *times > 0 && command.starts_with(start.as_str()))?;
        *times -= 1;
        Some(fault.clone())
    }
}

fn tls(files: &TlsFiles) -> Arc<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter(&files.server).expect("a file");
    let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&files.server).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the usual versions");
    Arc::new(builder.with_no_client_auth().with_single_cert(certificates, key).expect("a key that fits"))
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn encrypted(self, tls: &Arc<ServerConfig>) -> io::Result<Wire> {
        let Wire::Plain(stream) = self else { return Ok(self) };
        let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        match self {
            Wire::Plain(stream) => stream.read_exact(&mut byte)?,
            Wire::Tls(stream) => stream.read_exact(&mut byte)?,
        }
        Ok(byte[0])
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.byte()?);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        let text = format!("{text}\r\n");
        match self {
            Wire::Plain(stream) => stream.write_all(text.as_bytes()),
            Wire::Tls(stream) => stream.write_all(text.as_bytes()).and_then(|()| stream.flush()),
        }
    }
}

/// A connection of a client.
struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    user: Option<String>,
    from: String,
    to: Vec<String>,
}

/// The end of a connection that a fault asks for.
fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

impl Session {
    fn run(shared: Arc<Shared>, stream: TcpStream) -> io::Result<()> {
        shared.state().connections += 1;
        stream.set_nodelay(true)?;
        let mut wire = Wire::Plain(stream);
        if let (Encryption::Implicit, Some(tls)) = (shared.encryption, &shared.tls) {
            wire = wire.encrypted(tls)?;
        }
        let mut session = Session { shared, wire, user: None, from: String::new(), to: Vec::new() };
        session.reply("GREETING", |_| Ok("220 kit.example ESMTP".into()))?;
        loop {
            let line = session.heard()?;
            let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let command = line.to_ascii_uppercase();
            // Addresses keep their case.
            let command = if word == "MAIL" || word == "RCPT" { line.clone() } else { command };
            match word.as_str() {
                "STARTTLS" => session = session.start_tls(&command)?,
                "DATA" => session.data(&command)?,
                "QUIT" => return session.wire.say("221 bye"),
                _ => session.reply(&command, |session| session.answer(&word, &line))?,
            }
        }
    }

    fn is_encrypted(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }

    fn heard(&mut self) -> io::Result<String> {
        let line = self.wire.line()?;
        let encrypted = self.is_encrypted();
        self.shared.state().lines.push((encrypted, line.clone()));
        Ok(line)
    }

    /// Replies to a command, or does what a fault asks for.
    fn reply(
        &mut self,
        command: &str,
        answer: impl FnOnce(&mut Session) -> io::Result<String>,
    ) -> io::Result<()> {
        match self.shared.fault(command) {
            None => {
                let answer = answer(self)?;
                self.wire.say(&answer)
            }
            Some(Fault::Reply(reply)) => self.wire.say(&reply),
            Some(Fault::Close) => Err(closed()),
            Some(Fault::Silence) => loop {
                self.wire.byte()?;
            },
            Some(Fault::CloseInsteadOfReply) => answer(self).and(Err(closed())),
        }
    }

    fn answer(&mut self, word: &str, line: &str) -> io::Result<String> {
        let inside = |line: &str| {
            let rest = line.split_once('<').map_or("", |(_, rest)| rest);
            rest.split_once('>').map_or("", |(address, _)| address).to_string()
        };
        let login = self.shared.login.is_some();
        Ok(match word {
            "EHLO" => {
                let mut lines = vec!["kit.example".to_string(), "8BITMIME".into()];
                if self.shared.encryption == Encryption::StartTls && !self.is_encrypted() {
                    lines.push("STARTTLS".into());
                }
                let mechanisms = self.shared.state().mechanisms.clone();
                if login && !mechanisms.is_empty() {
                    lines.push(format!("AUTH {mechanisms}"));
                }
                let last = lines.pop().unwrap_or_default();
                lines.iter().map(|line| format!("250-{line}\r\n")).collect::<String>()
                    + &format!("250 {last}")
            }
            "AUTH" => self.log_in(line)?,
            "MAIL" if login && self.user.is_none() => "530 5.7.0 Authentication required".into(),
            "MAIL" => {
                (self.from, self.to) = (inside(line), Vec::new());
                "250 2.1.0 ok".into()
            }
            "RCPT" => {
                self.to.push(inside(line));
                "250 2.1.5 ok".into()
            }
            "RSET" | "NOOP" => "250 2.0.0 ok".into(),
            _ => "500 5.5.1 unknown command".into(),
        })
    }

    fn log_in(&mut self, line: &str) -> io::Result<String> {
        let mut words = line.split(' ').skip(1);
        let given = match (words.next(), words.next()) {
            (Some("PLAIN"), Some(first)) => {
                let text = decoded(first);
                let mut parts = text.split('\0').skip(1).map(str::to_string);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            (Some("LOGIN"), None) => {
                self.wire.say("334 VXNlcm5hbWU6")?;
                let user = decoded(&self.heard()?);
                self.wire.say("334 UGFzc3dvcmQ6")?;
                (user, decoded(&self.heard()?))
            }
            _ => return Ok("504 5.5.4 unknown mechanism".into()),
        };
        match self.shared.login.as_ref() == Some(&given) {
            true => {
                self.user = Some(given.0);
                Ok("235 2.7.0 welcome".into())
            }
            false => Ok("535 5.7.8 Error: authentication failed".into()),
        }
    }

    fn start_tls(mut self, command: &str) -> io::Result<Session> {
        let Some(tls) = self.shared.tls.clone() else { return self.wire.say("502 5.5.1 no").map(|()| self) };
        let injected = self.shared.state().injected.clone();
        let mut ready = false;
        self.reply(command, |_| {
            ready = true;
            Ok(format!(
                "220 2.0.0 ready{}",
                if injected.is_empty() { injected } else { format!("\r\n{injected}") }
            ))
        })?;
        if ready {
            self.wire = self.wire.encrypted(&tls)?;
        }
        Ok(self)
    }

    fn data(&mut self, command: &str) -> io::Result<()> {
        if self.to.is_empty() {
            return self.wire.say("503 5.5.1 no recipients");
        }
        let mut goes_on = false;
        self.reply(command, |_| {
            goes_on = true;
            Ok("354 end with a dot".into())
        })?;
        if !goes_on {
            return Ok(());
        }
        let mut text = String::new();
        loop {
            let line = self.wire.line()?;
            if line == "." {
                break;
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push_str("\r\n");
        }
        self.reply(".", |session| {
            let mail = ReceivedMail {
                from: session.from.clone(),
                to: session.to.clone(),
                text,
                encrypted: session.is_encrypted(),
                user: session.user.clone(),
            };
            session.shared.state().mails.push(mail);
            Ok("250 2.0.0 queued".into())
        })
    }
}

/// The text of a base64 (RFC 4648) word.
fn decoded(word: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for value in word.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)) {
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
