//! A server of HTTP/1.1 on loopback that answers as it is told, right or wrong, and remembers what it was asked.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What follows the headers.
#[derive(Clone)]
enum Rest {
    Bytes(Vec<u8>),
    /// Pieces of this until the other side goes away.
    Endless(Vec<u8>),
    /// Byte by byte, with a pause before each.
    Slow(Vec<u8>, Duration),
    /// These bytes, and then nothing for as long as the other side stays.
    Silence(Vec<u8>),
}

#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    rest: Rest,
    length: Option<String>,
    raw: Option<Vec<u8>>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), rest: Rest::Bytes(Vec::new()), length: Some(String::new()), raw: None }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    /// These bytes, and then the connection is closed.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::new(0) }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.rest = Rest::Bytes(body.into());
        self
    }

    pub fn endless(mut self, piece: impl Into<Vec<u8>>) -> Self {
        self.rest = Rest::Endless(piece.into());
        self.length = None;
        self
    }

    pub fn slow(mut self, body: impl Into<Vec<u8>>, pause: Duration) -> Self {
        self.rest = Rest::Slow(body.into(), pause);
        self
    }

    pub fn silence(mut self) -> Self {
        self.rest = Rest::Silence(Vec::new());
        self.length = Some("10".to_owned());
        self
    }

    /// The first bytes of a body of that length, and then silence.
    pub fn begun(mut self, start: impl Into<Vec<u8>>, length: usize) -> Self {
        self.rest = Rest::Silence(start.into());
        self.length(length)
    }

    /// Says this length, whatever follows.
    pub fn length(mut self, length: impl ToString) -> Self {
        self.length = Some(length.to_string());
        self
    }

    /// Says no length: the end of the connection is the end.
    pub fn unmeasured(mut self) -> Self {
        self.length = None;
        self
    }

    /// Writes it; false when the connection is to be closed.
    fn write(&self, stream: &mut TcpStream, head: bool) -> std::io::Result<bool> {
        if let Some(raw) = &self.raw {
            stream.write_all(raw)?;
            return Ok(false);
        }
        let mut text = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let known = match &self.rest {
            Rest::Bytes(bytes) | Rest::Slow(bytes, _) => bytes.len(),
            _ => 0,
        };
        let truthful = match self.length.as_deref() {
            None => {
                text.push_str("Connection: close\r\n");
                false
            }
            Some("") => {
                text.push_str(&format!("Content-Length: {known}\r\n"));
                true
            }
            Some(length) => {
                text.push_str(&format!("Content-Length: {length}\r\n"));
                *length == known.to_string()
            }
        };
        text.push_str("\r\n");
        stream.write_all(text.as_bytes())?;
        if head {
            return Ok(true);
        }
        match &self.rest {
            Rest::Bytes(bytes) => stream.write_all(bytes)?,
            Rest::Endless(piece) => loop {
                stream.write_all(piece)?;
            },
            Rest::Slow(bytes, pause) => {
                for byte in bytes {
                    std::thread::sleep(*pause);
                    stream.write_all(&[*byte])?;
                }
            }
            Rest::Silence(start) => {
                stream.write_all(start)?;
                // Until the other side closes.
                stream.read_to_end(&mut Vec::new())?;
            }
        }
        Ok(truthful)
    }
}

type Handler = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// A running server. Dropping it ends it.
pub struct Scripted {
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Scripted {
    /// Answers each request by `handler`, which also learns how many there were before with the same method and target.
    pub fn start(handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1", handler)
    }

    /// The same at another address of loopback, which is another host.
    pub fn at(host: &str, handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let handler: Arc<Handler> = Arc::new(handler);
        let server = Self { address, seen: Arc::clone(&seen), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(stream), handler, seen) = (stream, Arc::clone(&handler), Arc::clone(&seen)) else { continue };
                std::thread::spawn(move || drop(serve(stream, &*handler, &seen)));
            }
        });
        server
    }

    /// All requests up to now.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("requests").clone()
    }

    /// How many requests there were for paths with `part` in them.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target.contains(part)).count()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.address));
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, seen: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut request = Seen { method, target, headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
        let before = {
            let mut seen = seen.lock().expect("requests");
            let same = |old: &&Seen| old.method == request.method && old.target == request.target;
            let before = seen.iter().filter(same).count();
            seen.push(request.clone());
            before
        };
        let reply = handler(&request, before);
        if !reply.write(&mut stream, request.method == "HEAD")? {
            // Not a reset: what was written shall arrive.
            stream.shutdown(std::net::Shutdown::Write)?;
            return Ok(());
        }
    }
}
