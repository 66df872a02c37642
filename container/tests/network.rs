//! Containers in networks of this machine, in a network namespace that each test makes for itself.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio as StdStdio};
use std::time::{Duration, Instant};

use keelbox::{Bridge, Container, ErrorKind, Kind, Network, NewBridge, Stdio, tcp};
use keelbox_testkit::network::{ask, own_router, picture, run};
use keelbox_testkit::{self as testkit, alone, require};
use tempfile::TempDir;

/// A host of its own: the calling thread's network from now on. Locks are kept in a directory that goes with it.
struct Host {
    directory: TempDir,
    root: TempDir,
}

impl Host {
    fn new() -> testkit::Result<Self> {
        own_router()?;
        Ok(Self { directory: tempfile::tempdir()?, root: testkit::busybox_root()? })
    }

    fn bridge(&self, name: &str) -> NewBridge {
        Network::bridge(name).state(self.directory.path().join("networks"))
    }

    fn sh(&self, script: &str) -> Container {
        Container::from_rootfs(self.root.path()).args(["sh", "-c", script]).stdin(Stdio::null())
    }

    /// A server that answers each connection with a word.
    fn server(&self, port: u16) -> Container {
        self.sh(&format!("while true; do hostname | nc -l -p {port}; done"))
    }
}

/// Waits for what the kernel does a moment later.
fn soon(what: &str, mut done: impl FnMut() -> testkit::Result<bool>) -> testkit::Result {
    let begun = Instant::now();
    while !done()? {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn program_12_two_that_belong_together() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("busybox"));
    alone!();
    let host = Host::new()?;
    let before = picture()?;
    let net = host.bridge("shop").create()?;
    let mut db = host.server(3306).name("db").network(&net).ready_when(tcp(3306)).spawn()?;
    let script =
        "nc db 3306 </dev/null; hostname; ip -o link | wc -l; grep -c . /etc/resolv.conf; exec nc -l -p 80 -e hostname";
    let mut web = host.sh(script).name("web").network(&net).publish("127.0.0.1:0:80").stdout(Stdio::piped());
    web = web.ready_when(tcp(80));
    let mut web = web.spawn()?;
    assert_eq!(web.addresses(), ["10.83.0.3".parse::<IpAddr>()?]);
    let mut lines = BufReader::new(web.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line")?, "db", "what is reached by the name db");
    assert_eq!(lines.next().expect("a line")?, "web", "the name is the host name too");
    assert_eq!(lines.next().expect("a line")?, "2", "the loopback interface and this one");
    assert_eq!(lines.next().expect("a line")?, "2", "who is asked about names");
    assert_eq!(ask(web.published()[0].1)?, "web\n");
    assert!(web.wait()?.success());
    assert_eq!(web.published(), []);
    db.kill()?;
    db.wait()?;
    drop(net);
    drop((db, web));
    assert_eq!(picture()?, before);
    Ok(())
}

#[test]
fn twenty_side_by_side_have_addresses_of_their_own() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("busybox"));
    alone!();
    let host = Host::new()?;
    let before = picture()?;
    let net = host.bridge("crowd").create()?;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(host.sh("ip -o -4 addr show eth0 | tr -s ' ' | cut -d' ' -f4; read x").network(&net));
    }
    // From threads of their own, which are born into this one's network.
    let threads: Vec<std::thread::JoinHandle<keelbox::Result<(keelbox::Process, String)>>> = all
        .into_iter()
        .map(|container| {
            std::thread::spawn(move || {
                let mut process = container.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
                let mut said = String::new();
                BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut said).expect("a line");
                Ok((process, said))
            })
        })
        .collect();
    let mut running = Vec::new();
    for thread in threads {
        running.push(thread.join().expect("it does not panic")?);
    }
    let mut addresses = Vec::new();
    for (process, said) in &running {
        assert_eq!(said.trim(), format!("{}/24", process.addresses()[0]));
        addresses.push(process.addresses()[0]);
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 20);
    assert_eq!(net.members()?.len(), 20);
    drop(running);
    assert_eq!(net.members()?, []);
    drop(net);
    assert_eq!(picture()?, before);
    Ok(())
}

const VICTIM: &str = "KEELBOX_TEST_NETWORK_OF";

/// The program that is killed in the test below.
fn victim(place: &str) -> testkit::Result {
    let root = testkit::busybox_root()?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", root.path().display())?;
    let net = Network::bridge("shop").state(place).create()?;
    let mut all = Vec::new();
    for _ in 0..5 {
        let container = Container::from_rootfs(root.path()).args(["sleep", "600"]).network(&net);
        all.push(container.publish("0.0.0.0:0:80").stdin(Stdio::null()).spawn()?);
    }
    writeln!(out, "ready")?;
    out.flush()?;
    std::thread::sleep(Duration::from_secs(600));
    drop(all);
    Ok(())
}

#[test]
fn a_killed_program_leaves_no_address_and_no_rule() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("busybox"));
    if let Ok(place) = std::env::var(VICTIM) {
        return victim(&place);
    }
    alone!();
    let host = Host::new()?;
    let before = picture()?;
    let place = host.directory.path().join("networks");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "a_killed_program_leaves_no_address_and_no_rule", "--nocapture"]).env(VICTIM, &place);
    let mut killed = command.stdin(StdStdio::null()).stdout(StdStdio::piped()).spawn()?;
    let mut root = None;
    for line in BufReader::new(killed.stdout.take().expect("a pipe")).lines() {
        let line = line?;
        root = line.starts_with('/').then_some(line.clone()).or(root);
        if line.ends_with("ready") {
            break;
        }
    }
    let net = host.bridge("shop").create()?;
    assert_eq!(net.members()?.len(), 5, "another program sees them");
    let beside = host.sh("read x").network(&net).stdin(Stdio::piped()).spawn()?;
    assert_eq!(beside.addresses(), ["10.83.0.7".parse::<IpAddr>()?], "and takes none of their addresses");
    killed.kill()?;
    killed.wait()?;
    soon("their addresses are free", || Ok(net.members()?.len() == 1))?;
    let tables = run("nft", &["list", "tables"])?;
    assert!(!tables.contains(&format!("-{}-", killed.id())), "{tables}");
    let again = host.sh("true").network(net.endpoint().address([10, 83, 0, 2])).spawn()?;
    assert_eq!(again.addresses(), ["10.83.0.2".parse::<IpAddr>()?]);
    drop((again, beside, net));
    assert_eq!(picture()?, before);
    // Nobody is left who would remove the bridge of a program that is killed: the next one that makes a network does.
    let mut killed = Command::new(std::env::current_exe()?);
    killed.args(["--exact", "a_killed_program_leaves_no_address_and_no_rule", "--nocapture"]).env(VICTIM, &place);
    let mut killed = killed.stdin(StdStdio::null()).stdout(StdStdio::piped()).spawn()?;
    let mut second = None;
    for line in BufReader::new(killed.stdout.take().expect("a pipe")).lines() {
        let line = line?;
        second = line.starts_with('/').then_some(line.clone()).or(second);
        if line.ends_with("ready") {
            break;
        }
    }
    killed.kill()?;
    killed.wait()?;
    soon("their devices are gone", || Ok(!picture()?.contains("kb")))?;
    assert!(picture()?.contains("shop"));
    host.bridge("other").create()?;
    assert_eq!(picture()?, before);
    for root in [root, second].into_iter().flatten() {
        // What a killed test cannot remove: a directory of a few small files and nothing mounted.
        std::fs::remove_dir_all(root)?;
    }
    Ok(())
}

#[test]
fn a_container_that_never_becomes_ready_is_gone() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("busybox"));
    alone!();
    let host = Host::new()?;
    let net = host.bridge("shop").create()?;
    let before = picture()?;
    let never = host.sh("sleep 600").network(&net).publish("80").ready_when(tcp(80).within(Duration::from_millis(200)));
    let error = never.spawn().expect_err("it never listens");
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().contains("TCP port 80: it has not for 200ms"), "{error}");
    let ended = host.sh("exit 3").network(&net).ready_when(tcp(80)).spawn().expect_err("it ends");
    assert_eq!(ended.kind(), ErrorKind::NotReady);
    assert!(ended.to_string().contains("it has ended"), "{ended}");
    assert_eq!(picture()?, before);
    Ok(())
}

#[test]
fn what_cannot_be_connected_is_told_before_it_runs() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("busybox"));
    alone!();
    let host = Host::new()?;
    let net = host.bridge("shop").subnet("192.168.77.0/30".parse()?).create()?;
    let marker = host.root.path().join("ran");
    let run = |container: Container| container.spawn().map(drop).expect_err("it cannot be");
    let touch = || host.sh("touch /ran").network(&net);
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = holder.local_addr()?.port();
    let cases = [
        (
            run(touch().publish(&format!("{port}:80"))),
            ErrorKind::Taken,
            format!("cannot publish 127.0.0.1:{port}:80/tcp"),
        ),
        (run(touch().publish("203.0.113.9:8080:80")), ErrorKind::NotFound, "no such address".into()),
        (run(touch().publish("x:80")), ErrorKind::Invalid, "\"x:80\" publishes nothing".into()),
        (
            run(host.sh("touch /ran").network(Network::Host).publish("80")),
            ErrorKind::Invalid,
            "no network namespace of its own".into(),
        ),
        (run(touch().share(Kind::Net)), ErrorKind::Invalid, "no network namespace of its own".into()),
        (run(touch().name("a b")), ErrorKind::Invalid, "\"a b\"".into()),
        (run(touch().detached()), ErrorKind::Unsupported, "goes with it".into()),
        (
            run(host.sh("touch /ran").network(net.endpoint().rate(9000)).capability("NET_ADMIN")),
            ErrorKind::Unsupported,
            "could lift the limit".into(),
        ),
        (
            run(host.sh("touch /ran").network(net.endpoint().address([10, 0, 0, 1]))),
            ErrorKind::Invalid,
            "10.0.0.1".into(),
        ),
    ];
    for (error, kind, text) in cases {
        assert_eq!(error.kind(), kind, "{error:#}");
        assert!(error.report().contains(&text), "{error:#}");
    }
    let _only = host.sh("sleep 600").network(&net).spawn()?;
    let full = run(touch());
    assert_eq!(full.kind(), ErrorKind::Exhausted);
    let taken = run(host.sh("touch /ran").network(net.endpoint().address([192, 168, 77, 2])));
    assert_eq!(taken.kind(), ErrorKind::Taken);
    let template = touch().publish("80").template().map(drop).expect_err("its ports would be taken once");
    assert_eq!(template.kind(), ErrorKind::Unsupported);
    let unready = Bridge::builder("shop").state(host.directory.path().join("networks")).internal().create();
    assert_eq!(unready.map(drop).expect_err("it is not internal").kind(), keelbox::crates::network::ErrorKind::Taken);
    assert!(!marker.exists(), "nothing has run");
    Ok(())
}

#[test]
fn runs_of_a_template_are_connected() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("busybox"));
    alone!();
    let host = Host::new()?;
    let net = host.bridge("shop").internal().create()?;
    let template = host.sh("true").network(&net).template()?;
    for _ in 0..6 {
        let script = "ip -o -4 addr show eth0 | wc -l; nslookup -type=a nobody 10.83.0.1 | grep -c NXDOMAIN";
        let out = template.args(["sh", "-c", script]).output()?;
        assert_eq!(out.text(), "1\n1\n");
    }
    drop(template);
    soon("they are gone", || Ok(net.members()?.is_empty()))
}
