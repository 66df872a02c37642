//! The talk with a systemd that answers as it is told, and with a real bus that has none. A real one is met in `.ci/systemd`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use super::*;

/// What the peer answers to a call.
enum Answer {
    /// A reply with the path of an object, and then signals: job and result.
    Job(&'static str, Vec<(&'static str, &'static str)>),
    /// A refusal by its name.
    Refusal(&'static str),
    /// Nothing: it hangs up.
    End,
}

/// A peer that lets anybody in and gives these answers, one for each call behind the greeting; tells the members that were called.
fn peer(socket: &Path, answers: Vec<Answer>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "\0AUTH EXTERNAL\r\n");
        stream.write_all(b"DATA\r\n").unwrap();
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "DATA\r\n");
        stream.write_all(b"OK 0123\r\n").unwrap();
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "BEGIN\r\n");
        let mut called = Vec::new();
        let mut answers = answers.into_iter();
        while let Some((serial, member)) = call(&mut lines) {
            let greeting = called.len() < 3;
            called.push(member);
            match answers.next_if(!greeting) {
                None if greeting => write(&mut stream, &[2, 5, 0], serial, None, &Body::default()),
                Some(Answer::Job(job, signals)) => {
                    let mut body = Body::default();
                    write(&mut stream, &[2, 5, 0], serial, None, body.text(job));
                    for (job, result) in signals {
                        let mut body = Body::default();
                        body.number(7).text(job).text("x.scope").text(result);
                        write(&mut stream, &[4, 0, 3], 0, Some("JobRemoved"), &body);
                    }
                }
                Some(Answer::Refusal(name)) => {
                    let mut body = Body::default();
                    write(&mut stream, &[3, 5, 4], serial, Some(name), body.text("no\nway"));
                }
                _ => break,
            }
        }
        called
    })
}

trait NextIf {
    fn next_if(&mut self, wanted: bool) -> Option<Answer>;
}

impl<I: Iterator<Item = Answer>> NextIf for I {
    fn next_if(&mut self, wanted: bool) -> Option<Answer> {
        if wanted { self.next() } else { None }
    }
}

/// The serial number and the member of the next call, by the places that this crate's own calls have them in.
fn call(stream: &mut impl Read) -> Option<(u32, String)> {
    let mut fixed = [0; wire::FIXED];
    stream.read_exact(&mut fixed).ok()?;
    let mut rest = vec![0; wire::rest(&fixed).unwrap()];
    stream.read_exact(&mut rest).unwrap();
    let serial = u32::from_le_bytes(fixed[8..12].try_into().unwrap());
    let place = rest.windows(4).position(|bytes| bytes == [3, 1, b's', 0]).unwrap() + 4;
    let length = u32::from_le_bytes(rest[place..place + 4].try_into().unwrap()) as usize;
    Some((serial, String::from_utf8(rest[place + 4..place + 4 + length].to_vec()).unwrap()))
}

/// A message of a kind; with the serial number that it answers, and a text field, if it has them.
fn write(stream: &mut UnixStream, [kind, to, name]: &[u8; 3], serial: u32, text: Option<&str>, body: &Body) {
    let mut fields = Vec::new();
    if *to != 0 {
        fields.extend([*to, 1, b'u', 0]);
        fields.extend(serial.to_le_bytes());
    }
    if let Some(text) = text {
        fields.extend([*name, 1, b's', 0]);
        fields.extend((text.len() as u32).to_le_bytes());
        fields.extend(text.bytes());
        fields.push(0);
    }
    let mut message = vec![b'l', *kind, 1, 1];
    message.extend((body.bytes().len() as u32).to_le_bytes());
    message.extend(1u32.to_le_bytes());
    message.extend((fields.len() as u32).to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body.bytes());
    stream.write_all(&message).unwrap();
}

/// What `work` comes to with a peer that answers so, and what that was called with.
fn talk<T>(answers: Vec<Answer>, work: impl FnOnce(&mut Systemd) -> Result<T>) -> (Result<T>, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("bus");
    let peer = peer(&socket, answers);
    let mut systemd = Systemd::on(&Bus::at(&socket)).unwrap();
    let done = work(&mut systemd);
    drop(systemd);
    let mut called = peer.join().unwrap();
    assert_eq!(called.drain(..3).collect::<Vec<_>>(), ["Hello", "AddMatch", "Get"]);
    (done, called)
}

fn start(systemd: &mut Systemd) -> Result<()> {
    let mut body = Body::default();
    body.text("x.scope").text("fail").properties(&[]).nothing();
    systemd.start(&body, "x.scope")
}

#[test]
fn a_job_is_waited_for_by_its_own_name() {
    let others = vec![("/job/1", "failed"), ("/job/22", "failed"), ("/job/2", "done")];
    let (done, called) = talk(vec![Answer::Job("/job/2", others)], start);
    done.unwrap();
    assert_eq!(called, ["StartTransientUnit"]);
}

#[test]
fn a_job_that_fails_is_an_error() {
    let (done, _) = talk(vec![Answer::Job("/job/2", vec![("/job/2", "dependency")])], start);
    let error = done.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotApplied);
    let text = "cannot have systemd do StartTransientUnit of x.scope: the job came to its end as dependency";
    assert_eq!(error.to_string(), text);
}

#[test]
fn refusals_are_told_apart() {
    let cases = [
        ("org.freedesktop.DBus.Error.AccessDenied", ErrorKind::PermissionDenied),
        ("org.freedesktop.DBus.Error.PropertyReadOnly", ErrorKind::NotApplied),
        ("org.freedesktop.DBus.Error.InvalidArgs", ErrorKind::InvalidLimit),
        ("org.freedesktop.systemd1.BadUnitSetting", ErrorKind::Os(0)),
    ];
    for (name, kind) in cases {
        let (done, _) = talk(vec![Answer::Refusal(name)], start);
        let error = done.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}");
        assert!(error.to_string().ends_with(&format!("(StartTransientUnit): noway [{name}]")), "{error}");
    }
}

#[test]
fn a_name_that_is_taken_is_tried_again_until_it_is_not() {
    let taken = || Answer::Refusal("org.freedesktop.systemd1.UnitExists");
    let nothing = || Answer::Refusal("org.freedesktop.systemd1.NoSuchUnit");
    let (done, called) = talk(vec![taken(), nothing(), Answer::Job("/job/2", vec![("/job/2", "done")])], start);
    done.unwrap();
    assert_eq!(called, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
    let (done, _) = talk((0..6).flat_map(|_| [taken(), nothing()]).collect(), start);
    assert_eq!(done.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn what_is_gone_need_not_be_stopped() {
    let nothing = || Answer::Refusal("org.freedesktop.systemd1.NoSuchUnit");
    let (done, called) = talk(vec![nothing(), nothing()], |systemd| systemd.stop("x.scope"));
    done.unwrap();
    assert_eq!(called, ["StopUnit", "ResetFailedUnit"]);
    let gone = vec![Answer::Job("/job/3", vec![("/job/3", "done")]), nothing()];
    talk(gone, |systemd| systemd.stop("x.scope")).0.unwrap();
}

#[test]
fn a_peer_that_hangs_up_is_an_error() {
    for answers in [vec![Answer::End], vec![Answer::Job("/job/2", vec![]), Answer::End]] {
        let (done, _) = talk(answers, |systemd| {
            let first = start_without_waiting(systemd);
            first.and_then(|()| systemd.stop("x.scope"))
        });
        done.unwrap_err();
    }
}

fn start_without_waiting(systemd: &mut Systemd) -> Result<()> {
    systemd.connection.call(&manager("StartTransientUnit", "ssa(sv)a(sa(sv))"), &Body::default()).map(drop)
}

#[test]
fn without_a_bus_or_without_systemd_on_it_that_is_said() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("bus");
    let error = Systemd::on(&Bus::at(&socket)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = format!("cannot ask systemd for a control group: there is no message bus at {}", socket.display());
    assert_eq!(error.to_string(), text);
    // A real one, which knows only those who are there.
    let configuration = place.path().join("bus.conf");
    let text = format!(
        "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context='default'>\
         <allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/><allow user='*'/></policy></busconfig>",
        socket.display()
    );
    std::fs::write(&configuration, text).unwrap();
    let daemon = Command::new("dbus-daemon")
        .arg("--nofork")
        .arg("--config-file")
        .arg(&configuration)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut daemon) = daemon else {
        assert!(std::env::var_os("KEELBOX_CI").is_none_or(|value| value != "1"), "dbus-daemon is not there");
        let _told =
            writeln!(std::io::stderr(), "SKIP without_systemd_on_the_bus: the program dbus-daemon is not there");
        return;
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let refused = Systemd::on(&Bus::at(&socket));
    let _killed = daemon.kill();
    daemon.wait().unwrap();
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("systemd does not answer there"), "{error}");
}
