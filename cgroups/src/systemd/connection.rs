//! A connection to a message bus: who we are, calls and their answers, one signal. Oldest kernel: 2.6.
//!
//! Our own, since of D-Bus systemd is asked five methods: a library for all of it is larger than the rest of the program. Leaves out
//! descriptors, being called, and reading the environment.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::{self, Body, FIXED, Kind, Message, Method};
use crate::error::{Error, ErrorKind, Result};

/// How long one answer may take: what D-Bus libraries wait.
const PATIENCE: Duration = Duration::from_secs(25);

/// A connection to a bus.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    path: PathBuf,
    serial: u32,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects to the bus at `path` and says hello to it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let socket = UnixStream::connect(path).map_err(|error| absent(path, error))?;
        let mut connection = Self { socket, path: path.to_owned(), serial: 0, signals: VecDeque::new() };
        connection.patience(PATIENCE)?;
        connection.authenticate()?;
        connection.call(&bus("Hello", ""), &Body::default())?;
        Ok(connection)
    }

    /// As the user that the kernel tells the bus: the number that we know ourselves by is another one in a user namespace.
    fn authenticate(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\n")?;
        let mut answer = self.line()?;
        if answer == "DATA" || answer.starts_with("DATA ") {
            self.send(b"DATA\r\n")?;
            answer = self.line()?;
        }
        if !answer.starts_with("OK") {
            let why = format!("{}: the message bus does not know this user", self.attempt());
            return Err(Error::new(ErrorKind::PermissionDenied, why));
        }
        self.send(b"BEGIN\r\n")
    }

    /// A line of the authentication, byte by byte: nothing behind it may be taken away.
    fn line(&mut self) -> Result<String> {
        const LONGEST: usize = 4096;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LONGEST {
                return Err(self.nonsense());
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Has the bus pass on what matches `rule`.
    pub(super) fn listen(&mut self, rule: &str) -> Result<()> {
        let mut body = Body::default();
        body.text(rule);
        self.call(&bus("AddMatch", "s"), &body).map(drop)
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call(&mut self, method: &Method<'_>, body: &Body) -> Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        self.patience(PATIENCE)?;
        self.send(&method.message(serial, body))?;
        loop {
            let message = self.message()?;
            match &message.kind {
                Kind::Reply(to) if *to == serial => return Ok(message),
                Kind::Error(to, name) if *to == serial => {
                    let text = message.arguments().text().unwrap_or_default();
                    return Err(self.refusal(method.member, name, text));
                }
                Kind::Signal(_) => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The next signal, those first that came earlier; nothing if `deadline` comes before it.
    pub(super) fn signal(&mut self, deadline: Instant) -> Result<Option<Message>> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(Some(signal));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.patience(left)?;
            match self.message() {
                Ok(message) if matches!(message.kind, Kind::Signal(_)) => return Ok(Some(message)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn message(&mut self) -> Result<Message> {
        let mut bytes = vec![0; FIXED];
        self.receive(&mut bytes)?;
        let fixed = bytes.as_slice().try_into().map_err(|_| self.nonsense())?;
        let rest = wire::rest(fixed).ok_or_else(|| self.nonsense())?;
        bytes.resize(FIXED + rest, 0);
        self.receive(&mut bytes[FIXED..])?;
        Message::parse(&bytes).ok_or_else(|| self.nonsense())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).map_err(|error| self.lost(error))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.socket.read_exact(bytes).map_err(|error| self.lost(error))
    }

    fn patience(&self, patience: Duration) -> Result<()> {
        let set =
            self.socket.set_read_timeout(Some(patience)).and_then(|()| self.socket.set_write_timeout(Some(patience)));
        set.map_err(|error| self.lost(error))
    }

    fn attempt(&self) -> String {
        format!("cannot ask systemd by way of {}", self.path.display())
    }

    fn nonsense(&self) -> Error {
        Error::new(ErrorKind::Os(0), format!("{}: what came is no message of D-Bus", self.attempt()))
    }

    fn lost(&self, error: io::Error) -> Error {
        let kind = error.kind();
        let error = Error::io(self.attempt(), error);
        match kind {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => error.of_kind(ErrorKind::TimedOut),
            _ => error,
        }
    }

    fn refusal(&self, member: &str, name: &str, text: &str) -> Error {
        let kind = kind_of(name);
        let why = if kind == ErrorKind::Unsupported { "systemd does not answer there".to_owned() } else { clean(text) };
        Error::new(kind, format!("{} ({member}): {why} [{}]", self.attempt(), clean(name)))
    }
}

/// A method of the bus itself.
fn bus<'a>(member: &'a str, signature: &'a str) -> Method<'a> {
    let name = "org.freedesktop.DBus";
    Method { destination: name, path: "/org/freedesktop/DBus", interface: name, member, signature }
}

/// That there is no bus is how a machine without systemd looks.
fn absent(path: &Path, error: io::Error) -> Error {
    let gone = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    let attempt = format!("cannot ask systemd for a control group: there is no message bus at {}", path.display());
    let error = Error::io(attempt, error);
    if gone { error.of_kind(ErrorKind::Unsupported) } else { error }
}

/// What others say goes into one line of ours.
fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

fn kind_of(name: &str) -> ErrorKind {
    let dbus = |last: &str| name.strip_prefix("org.freedesktop.DBus.Error.").is_some_and(|rest| rest.starts_with(last));
    match name {
        "org.freedesktop.systemd1.UnitExists" => ErrorKind::AlreadyExists,
        "org.freedesktop.systemd1.NoSuchUnit" => ErrorKind::NotFound,
        _ if dbus("AccessDenied") || dbus("InteractiveAuthorizationRequired") || dbus("AuthFailed") => {
            ErrorKind::PermissionDenied
        }
        _ if dbus("ServiceUnknown") || dbus("NameHasNoOwner") || dbus("Spawn.") => ErrorKind::Unsupported,
        _ if dbus("InvalidArgs") => ErrorKind::InvalidLimit,
        _ if dbus("PropertyReadOnly") || dbus("UnknownProperty") => ErrorKind::NotApplied,
        _ if dbus("NoReply") || dbus("Timeout") => ErrorKind::TimedOut,
        _ => ErrorKind::Os(0),
    }
}
