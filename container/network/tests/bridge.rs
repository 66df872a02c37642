//! Networks as the kernel has them, in a network namespace that each test makes for itself.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keelbox_network::{Bridge, ErrorKind, NewBridge, Publish};
use keelbox_testkit as testkit;
use nix::sched::{CloneFlags, setns};
use testkit::network::{own_router, picture, run};
use testkit::{alone, require};

/// A host of its own: the calling thread's network from now on. Locks are kept in a directory that goes with it.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> testkit::Result<Self> {
        own_router()?;
        Ok(Self(tempfile::tempdir()?))
    }

    fn bridge(&self, name: &str) -> NewBridge {
        Bridge::builder(name).state(self.0.path().join("networks"))
    }
}

/// A process with a network namespace of its own.
struct Inside(Child);

impl Inside {
    fn new() -> testkit::Result<Self> {
        let script = "ip link set lo up; echo ready; exec sleep 600";
        let mut child = Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn()?;
        let mut said = [0; 6];
        child.stdout.take().expect("a pipe").read_exact(&mut said)?;
        Ok(Self(child))
    }

    /// Does something by a thread that is inside.
    fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> testkit::Result<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.0.id()))?;
        let thread = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter");
            work()
        });
        Ok(thread.join().expect("it does not panic"))
    }

    /// A server inside that answers each connection with a word and who it is from.
    fn serve(&self, port: u16) -> testkit::Result<()> {
        let listener = self.within(move || TcpListener::bind(("0.0.0.0", port)))??;
        std::thread::spawn(move || {
            while let Ok((mut client, from)) = listener.accept() {
                let _closed = write!(client, "served {}", from.ip());
            }
        });
        Ok(())
    }

    fn ask(&self, address: SocketAddr) -> testkit::Result<String> {
        Ok(self.within(move || ask(address))?.unwrap_or_else(|error| error.to_string()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(1500))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

#[test]
fn members_reach_each_other_and_nothing_is_left() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    let before = picture()?;
    let shop = host.bridge("shop").create()?;
    assert_eq!(shop.gateway().to_string(), "10.83.0.1");
    let (one, two) = (Inside::new()?, Inside::new()?);
    let first = shop.endpoint().attach(one.0.id(), Some("db"), &[])?;
    let second = shop.endpoint().attach(two.0.id(), Some("web"), &[])?;
    assert_eq!(first.addresses(), ["10.83.0.2".parse::<IpAddr>()?]);
    assert_eq!(second.addresses(), ["10.83.0.3".parse::<IpAddr>()?]);
    one.serve(3306)?;
    assert_eq!(two.ask("10.83.0.2:3306".parse()?)?, "served 10.83.0.3");
    assert_eq!(ask("10.83.0.2:3306".parse()?)?, "served 10.83.0.1", "the host reaches it too");
    let members = shop.members()?;
    assert!(members.iter().any(|(name, list)| name == "db" && list == first.addresses()), "{members:?}");
    drop((first, second));
    assert_eq!(shop.members()?, []);
    drop(shop);
    assert_eq!(picture()?, before);
    Ok(())
}

#[test]
fn addresses_belong_to_one_each() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    let small = host.bridge("small").subnet("192.168.77.0/29".parse()?).create()?;
    // Another program's handle, which knows nothing of the first but what the kernel tells.
    let other = host.bridge("small").create()?;
    let boxes = (0..6).map(|_| Inside::new()).collect::<testkit::Result<Vec<_>>>()?;
    let fixed = small.endpoint().address([192, 168, 77, 4]);
    let held = fixed.attach(boxes[0].0.id(), None, &[])?;
    let taken = fixed.attach(boxes[1].0.id(), None, &[]).expect_err("it is held");
    assert_eq!(taken.kind(), ErrorKind::Taken);
    assert_eq!(taken.to_string(), "the address 192.168.77.4 in the network small is another container's");
    let mut attached = Vec::new();
    for (network, each) in [&small, &other, &small, &other].iter().zip(&boxes[1..5]) {
        attached.push(network.endpoint().attach(each.0.id(), None, &[])?);
    }
    let mut addresses: Vec<String> = attached.iter().map(|each| each.addresses()[0].to_string()).collect();
    addresses.sort();
    assert_eq!(addresses, ["192.168.77.2", "192.168.77.3", "192.168.77.5", "192.168.77.6"]);
    let none = other.endpoint().attach(boxes[5].0.id(), None, &[]).expect_err("there is none left");
    assert_eq!(none.kind(), ErrorKind::Exhausted);
    assert!(none.to_string().contains("192.168.77.0/29"), "{none}");
    // The kernel takes a namespace apart a moment after its last process.
    drop(held);
    other.endpoint().attach(boxes[5].0.id(), None, &[])?;
    let wrong = small.endpoint().address([10, 0, 0, 1]).check().expect_err("not of this network");
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    Ok(())
}

#[test]
fn ports_lead_inside_by_every_way() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    // A neighbour of the host.
    let outside = Inside::new()?;
    run("ip", &["link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", &outside.0.id().to_string()])?;
    run("ip", &["addr", "add", "198.51.100.1/24", "dev", "wan"])?;
    run("ip", &["link", "set", "wan", "up"])?;
    outside
        .within(|| {
            run("ip", &["addr", "add", "198.51.100.2/24", "dev", "wan"])?;
            run("ip", &["link", "set", "wan", "up"])?;
            run("ip", &["route", "add", "10.83.0.0/16", "via", "198.51.100.1"]).map(drop)
        })?
        .expect("the neighbour's side");
    let shop = host.bridge("shop").create()?;
    let (web, other) = (Inside::new()?, Inside::new()?);
    let _other = shop.endpoint().attach(other.0.id(), None, &[])?;
    let before = picture()?;
    let ports: Vec<Publish> = ["8080:80".parse()?, "0.0.0.0:8081:80".parse()?, "80".parse()?].to_vec();
    let attached = shop.endpoint().attach(web.0.id(), Some("web"), &ports)?;
    web.serve(80)?;
    outside.serve(7)?;
    let inside = attached.addresses()[0];
    let free = attached.published()[2].1;
    assert!(free.port() != 0 && free.ip().is_loopback());
    // From the host: by the loopback addresses, carried; by its own address, led by the packet filter.
    assert_eq!(ask("127.0.0.1:8080".parse()?)?, "served 10.83.0.1");
    assert_eq!(ask(free)?, "served 10.83.0.1");
    assert_eq!(ask("127.0.0.1:8081".parse()?)?, "served 10.83.0.1");
    assert_eq!(ask("198.51.100.1:8081".parse()?)?, "served 198.51.100.1");
    // From outside: by the published address, with the sender's own address, and by no other way.
    assert_eq!(outside.ask("198.51.100.1:8081".parse()?)?, "served 198.51.100.2");
    assert!(outside.ask("198.51.100.1:8080".parse()?)?.contains("refused"), "that is published for this machine alone");
    assert!(outside.ask(SocketAddr::new(inside, 80))?.contains("timed out"), "a way past the published ports");
    // From inside: other members, and outwards with the host's address.
    assert_eq!(other.ask("198.51.100.1:8081".parse()?)?, "served 10.83.0.1");
    assert_eq!(web.ask("198.51.100.2:7".parse()?)?, "served 198.51.100.1");
    let taken = shop.endpoint().attach(Inside::new()?.0.id(), None, &["8080:80".parse()?]).expect_err("taken");
    assert_eq!(taken.kind(), ErrorKind::Taken);
    drop(attached);
    assert_eq!(picture()?, before);
    assert!(ask("127.0.0.1:8080".parse()?).is_err());
    Ok(())
}

#[test]
fn nobody_pretends_to_be_another() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    let shop = host.bridge("shop").create()?;
    let (bad, good) = (Inside::new()?, Inside::new()?);
    let _bad = shop.endpoint().attach(bad.0.id(), None, &[])?;
    let _good = shop.endpoint().attach(good.0.id(), None, &[])?;
    let socket = good.within(|| UdpSocket::bind("0.0.0.0:9"))??;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let send = |from: &'static str| {
        bad.within(move || {
            let socket = UdpSocket::bind((from, 0))?;
            socket.send_to(from.as_bytes(), "10.83.0.3:9")
        })
    };
    let heard = || {
        let mut room = [0; 64];
        socket.recv_from(&mut room).map(|(length, _)| String::from_utf8_lossy(&room[..length]).into_owned()).ok()
    };
    send("10.83.0.2")??;
    assert_eq!(heard().as_deref(), Some("10.83.0.2"));
    bad.within(|| run("ip", &["addr", "add", "10.83.0.99/24", "dev", "eth0"]).map(drop))?.expect("an address more");
    send("10.83.0.99")??;
    assert_eq!(heard(), None, "another address");
    bad.within(|| run("ip", &["link", "set", "eth0", "address", "02:00:00:00:00:77"]).map(drop))?.expect("a new one");
    let _lost = send("10.83.0.2")?;
    assert_eq!(heard(), None, "another hardware address");
    Ok(())
}

#[test]
fn what_cannot_be_made_is_told_and_leaves_nothing() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    run("ip", &["link", "add", "other", "type", "veth", "peer", "name", "more"])?;
    run("ip", &["link", "add", "theirs", "type", "bridge"])?;
    run("ip", &["addr", "add", "10.9.0.1/16", "dev", "theirs"])?;
    run("ip", &["link", "set", "theirs", "up"])?;
    let before = picture()?;
    let kind = |new: NewBridge| new.create().map(drop).map_err(|error| (error.kind(), error.to_string()));
    for name in ["other", "theirs", "lo"] {
        let (kind, text) = kind(host.bridge(name)).expect_err(name);
        assert_eq!(kind, ErrorKind::Taken);
        assert!(text.contains(name) && text.contains("something else"), "{text}");
    }
    let (taken, text) = kind(host.bridge("shop").subnet("10.9.8.0/24".parse()?)).expect_err("in use");
    assert_eq!(
        (taken, text.as_str()),
        (ErrorKind::Taken, "cannot make the network shop: 10.9.8.0/24 is in use here, by 10.9.0.0/16")
    );
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
    let (off, text) = kind(host.bridge("shop")).expect_err("no forwarding");
    assert_eq!(off, ErrorKind::Unsupported);
    assert!(text.contains("net.ipv4.ip_forward is 0"), "{text}");
    assert_eq!(picture()?, before);
    host.bridge("shop").internal().create()?;
    host.bridge("shop").forwarding().create()?;
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?, "1\n");
    let shop = host.bridge("shop").create()?;
    let (differs, _) = kind(host.bridge("shop").internal()).expect_err("it is not internal");
    assert_eq!(differs, ErrorKind::Taken);
    drop(shop);
    assert_eq!(picture()?, before);
    Ok(())
}

#[test]
fn ipv6_and_internal_networks() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    let shop = host.bridge("shop").subnet("fd00:83::/64".parse()?).mtu(1400).create()?;
    let inner = host.bridge("inner").internal().create()?;
    let (one, two, kept) = (Inside::new()?, Inside::new()?, Inside::new()?);
    let first = shop.endpoint().hardware_address("02:00:00:00:00:05".parse()?).attach(
        one.0.id(),
        None,
        &["[::1]:8086:80".parse()?],
    )?;
    let _second = shop.endpoint().attach(two.0.id(), None, &[])?;
    let _kept = inner.endpoint().attach(kept.0.id(), None, &[])?;
    assert_eq!(first.addresses(), ["10.83.0.2".parse::<IpAddr>()?, "fd00:83::2".parse()?]);
    let listener = one.within(|| TcpListener::bind("[::]:80"))??;
    std::thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            let _closed = write!(client, "served {}", from.ip());
        }
    });
    assert_eq!(two.ask("[fd00:83::2]:80".parse()?)?, "served fd00:83::3");
    assert_eq!(ask("[::1]:8086".parse()?)?, "served fd00:83::1");
    let told = one.within(|| run("ip", &["link", "show", "eth0"]))?.expect("its device");
    assert!(told.contains("mtu 1400") && told.contains("02:00:00:00:00:05"), "{told}");
    // Nothing leads out of an internal network, not even to a neighbouring one.
    let away = kept.ask("10.83.0.2:80".parse()?)?;
    assert!(away.contains("unreachable"), "{away}");
    kept.within(|| run("ip", &["route", "add", "default", "via", "10.83.1.1"]).map(drop))?.expect("a way by hand");
    let away = kept.ask("10.83.0.2:80".parse()?)?;
    assert!(away.contains("timed out"), "{away}");
    Ok(())
}

#[test]
fn names_are_answered() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    let shop = host.bridge("shop").internal().create()?;
    let (db, web) = (Inside::new()?, Inside::new()?);
    let _db = shop.endpoint().attach(db.0.id(), Some("db"), &[])?;
    let _web = shop.endpoint().attach(web.0.id(), Some("web"), &[])?;
    let look = |name: &'static str| {
        web.within(move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                question.push(label.len() as u8);
                question.extend(label.bytes());
            }
            question.extend([0, 0, 1, 0, 1]);
            socket.send_to(&question, "10.83.0.1:53")?;
            let mut room = [0; 512];
            let length = socket.recv(&mut room)?;
            std::io::Result::Ok(room[..length].to_vec())
        })
    };
    for name in ["db", "db.shop", "DB"] {
        let answer = look(name)??;
        assert!(answer.ends_with(&[10, 83, 0, 2]), "{answer:?}");
    }
    assert_eq!(look("nobody")??[3] & 15, 3);
    assert_eq!(look("example.org")??[3] & 15, 5, "an internal network asks nobody else");
    // A second program that uses the network answers as well, and goes on when the first has gone.
    let again = host.bridge("shop").internal().create()?;
    drop(again);
    assert!(look("db")??.ends_with(&[10, 83, 0, 2]));
    Ok(())
}

#[test]
fn a_container_is_held_to_its_rate() -> testkit::Result {
    require!(Root, LinkKind("bridge"), PacketFilter, Program("unshare"));
    alone!();
    let host = Host::new()?;
    let shop = host.bridge("shop").create()?;
    let slow = Inside::new()?;
    const RATE: u64 = 2_000_000;
    let attached = shop.endpoint().rate(RATE).attach(slow.0.id(), None, &[])?;
    let listener = slow.within(|| TcpListener::bind("0.0.0.0:80"))??;
    const BYTES: usize = 2_000_000;
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let _sent = client.write_all(&vec![0; BYTES]);
    });
    let mut stream = TcpStream::connect(SocketAddr::new(attached.addresses()[0], 80))?;
    let begun = Instant::now();
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    assert_eq!(all.len(), BYTES);
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?} for a second's worth", begun.elapsed());
    Ok(())
}
