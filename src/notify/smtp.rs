//! Sends mails to an SMTP server (RFC 5321). The connection is encrypted by STARTTLS or from its first byte; a server without
//! encryption gets neither the password nor a mail, unless it runs on this machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::http;
use super::mime::{self, Letter};
use super::posting::{PAUSE, Posting, REPEATS, refused_step};
use crate::base::error::{Error, Result};
use crate::base::retry;
use crate::base::secret::{ExposeSecret, Redactor};
use crate::config::notify::MailOptions;
use crate::config::transport::{SmtpLogin, SmtpOptions, SmtpSecurity};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take for any other step. Some wait for half a minute before they greet a client, against spam.
const STEP: Duration = Duration::from_secs(40);
/// How long the polite end of a connection may take.
const QUIT: Duration = Duration::from_secs(2);
/// The most bytes that are read of a connection that begins unencrypted. A server sends a hundred for each recipient, and its
/// certificates.
const MOST_READ: usize = 256 << 10;
/// The largest file with CA certificates, in bytes.
const LARGEST_CAS: u64 = 16 << 20;

/// A part of the conversation with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connect,
    Greeting,
    StartTls,
    Login,
    Sender,
    Recipient,
    Data,
}

impl Phase {
    fn words(self) -> &'static str {
        match self {
            Phase::Connect => "the connection",
            Phase::Greeting => "the greeting",
            Phase::StartTls => "the encryption (STARTTLS)",
            Phase::Login => "the login",
            Phase::Sender => "the sender",
            Phase::Recipient => "a recipient",
            Phase::Data => "the mail",
        }
    }
}

/// Why a mail was not accepted.
#[derive(Debug)]
struct SmtpFailure {
    /// Host and port.
    server: String,
    phase: Phase,
    /// The server's answer; `None` if there was none.
    code: Option<u16>,
    words: String,
    /// Returns true if the same mail may be accepted a little later.
    may_pass: bool,
}

impl SmtpFailure {
    fn of(server: &SmtpOptions, phase: Phase, error: &lettre::transport::smtp::Error) -> SmtpFailure {
        let mut words =
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
        while let Some(error) = cause {
            let text = error.to_string();
            if !words.contains(&text) {
                words.push_str(&format!(": {text}"));
            }
            cause = error.source();
        }
        let code = error.status().map(u16::from);
        // A certificate stays wrong, and so does a missing feature of the server.
        let may_pass = !error.is_permanent() && !error.is_client() && !words.contains("certificate");
        SmtpFailure { server: server.server(), phase, code, words: http::quoted(&words), may_pass }
    }

    fn new(server: &SmtpOptions, phase: Phase, words: impl Into<String>, may_pass: bool) -> SmtpFailure {
        SmtpFailure { server: server.server(), phase, code: None, words: words.into(), may_pass }
    }

    /// Returns true if the failure is about one recipient, and the conversation goes on. After 421 the server closes the
    /// connection (RFC 5321, 3.8).
    fn is_about_recipient(&self) -> bool {
        self.phase == Phase::Recipient && self.code.is_some_and(|code| code != 421)
    }

    /// Returns true if the server may have accepted the mail.
    fn is_unclear(&self) -> bool {
        self.phase == Phase::Data && self.code.is_none()
    }
}

impl fmt::Display for SmtpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, phase, words) = (&self.server, self.phase.words(), &self.words);
        match self.code {
            Some(code) => write!(f, "{server} refused {phase}: {code} {words}"),
            None => write!(f, "{phase} failed at {server}: {words}"),
        }
    }
}

/// The forms of a password in a conversation, which a server may quote.
pub(super) fn secrets(login: &SmtpLogin) -> Vec<String> {
    let password = login.password.expose_secret();
    let plain = STANDARD.encode(format!("\0{}\0{password}", login.user));
    vec![password.to_string(), plain, STANDARD.encode(password)]
}

/// Sends a mail to all recipients. A recipient that the server refuses for now is tried again, and a refused one does not stop
/// the mail to the others.
///
/// # Errors
/// Returns an error if nobody got the mail.
pub(super) async fn send(server: &SmtpOptions, posting: &Posting<'_>) -> Result<Option<Error>> {
    let letter = mime::letter(posting)?;
    let tls = tls(server)?;
    let conversation = Conversation { server, tls, hello: hello(&posting.message.sender.host), posting };
    let mut waiting: Vec<&Address> = letter.to.iter().collect();
    let (mut reached, mut refused, mut last) = (0, Vec::new(), None);
    let (mut pauses, mut unclear) = (retry::pauses(PAUSE).take(REPEATS), false);
    while !waiting.is_empty() {
        let round = conversation.round(&letter, &waiting).await;
        reached += round.reached;
        refused.extend(round.refused.iter().map(|(address, _)| *address));
        last = round.refused.into_iter().map(|(_, failure)| failure).next_back().or(last);
        let Some(failure) = round.failure else { break };
        waiting = round.waiting;
        // A second try after an unclear end risks a second copy. A third one would not be worth it.
        let again = failure.may_pass && !(unclear && failure.is_unclear());
        unclear |= failure.is_unclear();
        let pause = pauses.next().filter(|pause| again && Instant::now() + *pause < posting.deadline);
        let Some(pause) = pause else {
            // The mail was not accepted for these recipients. If the server named none of them, neither does the error.
            if failure.is_about_recipient() {
                refused.append(&mut waiting);
            }
            last = Some(failure);
            break;
        };
        let why = posting.redactor.clean(&failure.to_string());
        log::debug!("{why}; trying again in {:.1} s", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
    let Some(failure) = last else { return Ok(None) };
    let hint = next_step(&failure, server, posting.options, reached);
    let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let error = posting.not_sent(reached, &refused, failure, hint);
    if reached > 0 { Ok(Some(error)) } else { Err(error) }
}

/// Connects and logs in, within `limit`.
///
/// # Errors
/// Returns an error if the server does not answer or refuses the login.
pub(super) async fn check(
    server: &SmtpOptions,
    options: &MailOptions,
    redactor: &Redactor,
    limit: Duration,
) -> Result<String> {
    let deadline = Instant::now() + limit;
    let connected = open(server, tls(server)?, &hello(""), deadline).await;
    let mut connection = connected.map_err(|failure| {
        let hint = next_step(&failure, server, options, 0);
        Error::failed(redactor.clean(&failure.to_string())).hint(hint)
    })?;
    end(&mut connection).await;
    let login = server.login.as_ref().map_or("without a login".into(), |login| format!("as {}", login.user));
    Ok(format!("{} accepts mails {login} ({})", server.server(), server.security))
}

/// The attempts to send one mail.
struct Conversation<'a> {
    server: &'a SmtpOptions,
    tls: Option<TlsParameters>,
    hello: ClientId,
    posting: &'a Posting<'a>,
}

/// The result of one attempt.
struct Round<'a> {
    reached: usize,
    /// The recipients that the server does not accept, now or later.
    refused: Vec<(&'a Address, SmtpFailure)>,
    /// The recipients that did not get the mail, but may get it later.
    waiting: Vec<&'a Address>,
    /// Why the last of the waiting recipients did not get it.
    failure: Option<SmtpFailure>,
}

impl Conversation<'_> {
    /// Sends the mail once, to these recipients.
    async fn round<'b>(&self, letter: &Letter, to: &[&'b Address]) -> Round<'b> {
        let mut round = Round { reached: 0, refused: Vec::new(), waiting: Vec::new(), failure: None };
        let mut accepted = Vec::new();
        if let Err(failure) = self.converse(letter, to, &mut round, &mut accepted).await {
            // The recipients that were refused stay so.
            round.waiting = to.to_vec();
            round.waiting.retain(|address| !round.refused.iter().any(|(refused, _)| refused == address));
            round.failure = Some(failure);
        } else {
            round.reached = accepted.len();
        }
        round
    }

    async fn converse<'b>(
        &self,
        letter: &Letter,
        to: &[&'b Address],
        round: &mut Round<'b>,
        accepted: &mut Vec<&'b Address>,
    ) -> Result<(), SmtpFailure> {
        let (server, deadline) = (self.server, self.posting.deadline);
        let mut connection = open(server, self.tls.clone(), &self.hello, deadline).await?;
        let sender = Mail::new(Some(letter.from.clone()), Vec::new());
        let mut ended = step(server, Phase::Sender, deadline, connection.command(sender)).await;
        for address in to {
            if ended.is_err() {
                break;
            }
            let recipient = Rcpt::new((*address).clone(), Vec::new());
            match step(server, Phase::Recipient, deadline, connection.command(recipient)).await {
                Ok(_) => accepted.push(*address),
                Err(failure) if !failure.is_about_recipient() => ended = Err(failure),
                Err(failure) if failure.may_pass => {
                    round.waiting.push(*address);
                    round.failure = Some(failure);
                }
                Err(failure) => round.refused.push((*address, failure)),
            }
        }
        if ended.is_ok() && !accepted.is_empty() {
            ended = step(server, Phase::Data, deadline, connection.command(Data)).await;
            if ended.is_ok() {
                ended = step(server, Phase::Data, deadline, connection.message(&letter.bytes)).await;
            }
        }
        if ended.as_ref().err().is_none_or(|failure| failure.code.is_some()) {
            end(&mut connection).await;
        }
        ended.map(drop)
    }
}

/// Opens a connection, encrypts it and logs in.
async fn open(
    server: &SmtpOptions,
    tls: Option<TlsParameters>,
    hello: &ClientId,
    deadline: Instant,
) -> Result<AsyncSmtpConnection, SmtpFailure> {
    let mut connection = match (server.security, tls) {
        (SmtpSecurity::Tls, tls @ Some(_)) => {
            let host = (server.host.as_str(), server.port);
            let connect = AsyncSmtpConnection::connect_tokio1(host, Some(CONNECT_TIMEOUT), hello, tls, None);
            step(server, Phase::Connect, deadline, connect).await?
        }
        (_, tls) => {
            let stream = Box::new(Unencrypted { stream: connect(server, deadline).await?, left: MOST_READ });
            let greeting = AsyncSmtpConnection::connect_with_transport(stream, hello);
            let mut connection = step(server, Phase::Greeting, deadline, greeting).await?;
            if let Some(tls) = tls {
                if !connection.can_starttls() {
                    let words =
                        "the server does not offer STARTTLS, so it got neither a password nor the mail";
                    return Err(SmtpFailure::new(server, Phase::StartTls, words, false));
                }
                step(server, Phase::StartTls, deadline, connection.starttls(tls, hello)).await?;
            }
            connection
        }
    };
    if let Some(login) = &server.login {
        let credentials = Credentials::new(login.user.clone(), login.password.expose_secret().into());
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        step(server, Phase::Login, deadline, connection.auth(&mechanisms, &credentials)).await?;
    }
    Ok(connection)
}

/// Connects without encryption. A server without encryption is on this machine, so its name is not looked up.
async fn connect(server: &SmtpOptions, deadline: Instant) -> Result<TcpStream, SmtpFailure> {
    let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let here = here.map(|ip| SocketAddr::new(ip, server.port));
    let connecting = async {
        match server.security == SmtpSecurity::Plain && server.host == "localhost" {
            true => TcpStream::connect(&here[..]).await,
            false => TcpStream::connect((server.host.as_str(), server.port)).await,
        }
    };
    let left = deadline.saturating_duration_since(Instant::now()).min(CONNECT_TIMEOUT);
    let failed = |words: String| SmtpFailure::new(server, Phase::Connect, words, true);
    match tokio::time::timeout(left, connecting).await {
        Ok(connected) => connected.map_err(|e| failed(e.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", left.as_secs()))),
    }
}

/// A step of the conversation, with its time limit. After a failure without an answer of the server, the connection is of no
/// more use.
async fn step<T>(
    server: &SmtpOptions,
    phase: Phase,
    deadline: Instant,
    work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, SmtpFailure> {
    let left = deadline.saturating_duration_since(Instant::now()).min(STEP);
    match tokio::time::timeout(left, work).await {
        Ok(ended) => ended.map_err(|error| SmtpFailure::of(server, phase, &error)),
        Err(_) => {
            Err(SmtpFailure::new(server, phase, format!("no answer within {} s", left.as_secs()), true))
        }
    }
}

/// Ends a conversation. The mail is already accepted or refused.
async fn end(connection: &mut AsyncSmtpConnection) {
    let _ = tokio::time::timeout(QUIT, connection.quit()).await;
}

/// The name of this machine for the server. Many servers accept a name without a dot from nobody, but an address from all.
fn hello(host: &str) -> ClientId {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match host.contains('.') && host.chars().all(name) {
        true => ClientId::Domain(host.into()),
        false => ClientId::Ipv4(Ipv4Addr::LOCALHOST),
    }
}

/// The settings of TLS; `None` if the connection is not encrypted.
fn tls(server: &SmtpOptions) -> Result<Option<TlsParameters>> {
    if server.security == SmtpSecurity::Plain {
        return Ok(None);
    }
    let failed = |e| Error::failed("cannot set up TLS for the mail server").caused_by(e);
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(path) = &server.ca_file {
        builder = builder.certificate_store(CertificateStore::None);
        for certificate in authorities(path)? {
            builder = builder.add_root_certificate(Certificate::from_der(certificate).map_err(failed)?);
        }
    }
    builder.build_rustls().map(Some).map_err(failed)
}

/// The certificates of a PEM file that can be CAs, in DER.
fn authorities(path: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = |why: String| {
        Error::usage(format!("cannot use the CA certificates in {}: {why}", path.display()))
            .hint("Set SMTP_CA_FILE (mail.smtp_ca_file) to a PEM file with the CA's certificate (BEGIN CERTIFICATE)")
    };
    let meta = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
    if !meta.is_file() || meta.len() > LARGEST_CAS {
        return Err(failed(format!("it is not a file of at most {} MiB", LARGEST_CAS >> 20)));
    }
    let pem = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    let usable = |certificate: &CertificateDer<'static>| {
        rustls::RootCertStore::empty().add(certificate.clone()).is_ok()
    };
    let all: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(&pem).flatten().filter(usable).map(|der| der.to_vec()).collect();
    if all.is_empty() { Err(failed("it contains no CA certificate".into())) } else { Ok(all) }
}

fn next_step(failure: &SmtpFailure, server: &SmtpOptions, options: &MailOptions, reached: usize) -> String {
    let host = &server.host;
    if failure.code.is_none() && failure.words.contains("certificate") {
        return "Check that SMTP_HOST (mail.smtp_host) is the name in the server's certificate, this machine's clock and its CA \
                certificates. For a private CA, set SMTP_CA_FILE (mail.smtp_ca_file)"
            .into();
    }
    match (failure.phase, failure.code) {
        (Phase::StartTls, None) if !failure.may_pass => {
            "Set SMTP_SECURITY (mail.smtp_security) to tls for a server that encrypts from the start, usually on port 465, or \
             turn STARTTLS on at the server"
                .into()
        }
        (Phase::Login, None) if !failure.may_pass => {
            "Correct SMTP_PORT (mail.smtp_port): the server offers no login by PLAIN or LOGIN there. For a server that asks for \
             none, unset SMTP_USER and SMTP_PASSWORD"
                .into()
        }
        (_, Some(_)) if failure.may_pass => {
            format!("The problem is not on this machine: check that {host} works, and send later")
        }
        (Phase::Recipient, Some(_)) if reached > 0 => refused_step(),
        (_, Some(530)) | (Phase::Login, Some(_)) => {
            "Correct SMTP_USER and SMTP_PASSWORD (mail.smtp_user, mail.smtp_password)".into()
        }
        (Phase::Sender, Some(_)) => format!(
            "Correct EMAIL_FROM (mail.from, now {}): {host} does not let this login send for it",
            options.from
        ),
        (Phase::Recipient, Some(_)) => format!(
            "Correct ADMIN_EMAILS (mail.to). If {host} delivers to others only after a login, set SMTP_USER and SMTP_PASSWORD"
        ),
        (_, Some(_)) => format!("Ask the administrator of {host} about this answer"),
        (_, None) => format!(
            "Check that {} can be reached from this machine, and that SMTP_PORT and SMTP_SECURITY (mail.smtp_port, \
             mail.smtp_security) fit together: 587 and starttls, or 465 and tls",
            server.server()
        ),
    }
}

/// A connection that is not encrypted, or not yet. It is read byte by byte, so that nothing that is sent before the handshake
/// can be taken for an answer after it (CVE-2011-0411 in servers, CVE-2021-39273 and others in clients).
#[derive(Debug)]
struct Unencrypted {
    stream: TcpStream,
    /// How many more bytes are read.
    left: usize,
}

impl AsyncRead for Unencrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the server sent too much")));
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut one))?;
        self.left -= one.filled().len();
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Unencrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Unencrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
