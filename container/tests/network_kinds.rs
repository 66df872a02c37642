//! The other kinds of networks: ports without any network, a device on the host's, plug-ins, and pasta for an ordinary user; each in a
//! network namespace that the test makes for itself.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use keelbox::{Container, ErrorKind, Network, Stdio, tcp};
use keelbox_testkit::network::{ask, devices, own_network, run};
use keelbox_testkit::{self as testkit, alone, as_user, require};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// A network of the calling thread's own, with a device `wan` that has an address and a way to everybody.
fn connected_network() -> testkit::Result {
    own_network()?;
    run("ip", &["link", "add", "wan", "type", "veth", "peer", "name", "far"])?;
    run("ip", &["addr", "add", "198.51.100.1/24", "dev", "wan"])?;
    run("ip", &["link", "set", "wan", "up"])?;
    run("ip", &["link", "set", "far", "up"])?;
    run("ip", &["route", "add", "default", "via", "198.51.100.2"])?;
    Ok(())
}

/// As [`connected_network`], where `/dev/net/tun` is anybody's, as it is on most machines: in mounts of the calling thread's own.
fn open_tun() -> testkit::Result<TempDir> {
    connected_network()?;
    let place = tempfile::tempdir()?;
    let node = place.path().join("tun");
    let node = node.to_str().ok_or("a path that is no text")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    run("mount", &["--make-rprivate", "/"])?;
    run("mknod", &["-m", "666", node, "c", "10", "200"])?;
    run("mount", &["--bind", node, "/dev/net/tun"])?;
    Ok(place)
}

fn sh(root: &TempDir, script: &str) -> Container {
    Container::from_rootfs(root.path()).args(["sh", "-c", script]).stdin(Stdio::null())
}

/// Asks until somebody answers: who listens inside may not yet.
fn ask_until(address: SocketAddr) -> testkit::Result<String> {
    let begun = Instant::now();
    loop {
        match ask(address) {
            Ok(said) if !said.is_empty() => return Ok(said),
            _ if begun.elapsed() < Duration::from_secs(20) => std::thread::sleep(Duration::from_millis(20)),
            said => return Err(format!("{said:?}").into()),
        }
    }
}

#[test]
fn ports_of_a_container_without_any_network() -> testkit::Result {
    require!(Root, LinkKind("veth"), Program("busybox"));
    alone!();
    connected_network()?;
    let before = devices()?;
    let root = testkit::busybox_root()?;
    let script = "ip -o link | wc -l > /links; while true; do echo served | nc -l -p 80; done";
    let web = sh(&root, script).publish("80").publish("198.51.100.1:0:80").ready_when(tcp(80)).spawn()?;
    assert_eq!(devices()?, before, "nothing was made");
    for (_, address) in web.published() {
        assert_eq!(ask_until(*address)?, "served\n", "{address}");
    }
    assert_eq!(std::fs::read_to_string(root.path().join("links"))?, "1\n", "only the loopback device");
    let address = web.published()[0].1;
    drop(web);
    assert!(ask(address).is_err());
    Ok(())
}

#[test]
fn a_device_on_the_hosts_own() -> testkit::Result {
    require!(Root, LinkKind("macvlan"), Program("busybox"));
    alone!();
    connected_network()?;
    let root = testkit::busybox_root()?;
    let lan = Network::macvlan("wan").address([198, 51, 100, 50], 24).gateway([198, 51, 100, 2]);
    let lan = lan.hardware_address("02:00:00:00:00:09".parse()?).mtu(1400);
    let out = sh(&root, "ip -o -4 addr show eth0; ip link show eth0; ip route").network(lan).output()?;
    for word in ["198.51.100.50/24", "02:00:00:00:00:09", "mtu 1400", "default via 198.51.100.2"] {
        assert!(out.text().contains(word), "{word}: {}", out.text());
    }
    let error = sh(&root, "true").network(Network::macvlan("nowhere")).output().expect_err("no such device");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nowhere"), "{error}");
    let error = sh(&root, "true").network(Network::macvlan("wan")).publish("80").spawn().map(drop);
    assert_eq!(error.expect_err("it is reached by itself").kind(), ErrorKind::Invalid);
    Ok(())
}

#[test]
fn plug_ins_set_a_network_up_and_take_it_back() -> testkit::Result {
    require!(
        Root,
        LinkKind("bridge"),
        PacketFilter,
        Exists("/usr/lib/cni/bridge"),
        Program("iptables"),
        Program("busybox")
    );
    alone!();
    connected_network()?;
    // The plug-in turns it on by itself; before, so that the picture is the same afterwards.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let root = testkit::busybox_root()?;
    let place = tempfile::tempdir()?;
    let leases = place.path().join("leases");
    let list = place.path().join("lan.conflist");
    let text = format!(
        r#"{{"cniVersion": "1.0.0", "name": "lan", "plugins": [
            {{"type": "bridge", "bridge": "cni-lan", "isGateway": true, "ipMasq": false,
              "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.99.0.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#,
        leases.display()
    );
    std::fs::write(&list, &text)?;
    let network = Network::cni(&list)?;
    let script = "ip -o -4 addr show eth0; while true; do echo served | nc -l -p 80; done";
    let web = sh(&root, script).network(network.clone()).publish("198.51.100.1:8080:80").ready_when(tcp(80)).spawn()?;
    assert_eq!(web.addresses(), ["10.99.0.2".parse::<std::net::IpAddr>()?]);
    assert_eq!(ask_until("198.51.100.1:8080".parse()?)?, "served\n");
    let lease = leases.join("lan/10.99.0.2");
    assert!(lease.exists());
    drop(web);
    assert!(!lease.exists(), "the plug-in was told to take it back");
    assert!(!run("iptables", &["-t", "nat", "-S"])?.contains("8080"));
    // A plug-in that refuses is quoted, and those before it take back what they made.
    std::fs::write(&list, text.replace(r#"{"type": "portmap""#, r#"{"type": "bandwidth", "ingressRate": -1"#))?;
    let error = sh(&root, "true").network(Network::cni(&list)?).output().expect_err("it refuses");
    assert!(error.to_string().starts_with("cannot set up the network lan by the plug-in bandwidth: "), "{error}");
    assert!(
        std::fs::read_dir(leases.join("lan"))?
            .flatten()
            .all(|file| !file.file_name().to_string_lossy().contains("10.99.0."))
    );
    std::fs::write(&list, text.replace(r#""type": "portmap""#, r#""type": "no-such""#))?;
    let error = sh(&root, "true").network(Network::cni(&list)?).output().expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(Network::cni(place.path().join("none")).expect_err("no file").kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn pasta_connects_an_ordinary_user() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Program("pasta"), Exists("/dev/net/tun"), Program("busybox"));
    let mut node = None;
    if nix::unistd::geteuid().is_root() {
        require!(LinkKind("veth"));
        node = Some(open_tun()?);
    }
    as_user!();
    drop(node);
    let root = testkit::busybox_root()?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let script = "ip -o link | wc -l > /links; while true; do echo served | nc -l -p 80; done";
    let container = || sh(&root, script).network(Network::pasta());
    let web = container().publish(&format!("{free}:80")).ready_when(tcp(80)).spawn()?;
    assert_eq!(ask_until(free)?, "served\n");
    assert_eq!(std::fs::read_to_string(root.path().join("links"))?, "2\n");
    // What listens on the host's loopback address is nobody's inside.
    let host = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = host.local_addr()?.port();
    let inside = web.exec(["sh", "-c", &format!("echo x | nc -w 1 127.0.0.1 {port}; echo $?")]).output()?;
    assert_eq!(inside.text(), "1\n");
    drop(web);
    assert!(ask(free).is_err(), "its pasta is gone");
    let missing = sh(&root, "true").network(keelbox::Pasta::new().program("/nowhere/pasta")).output();
    let missing = missing.expect_err("there is none");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("/nowhere/pasta"), "{missing}");
    let lot = container().publish("80").spawn().map(drop).expect_err("no free port is found");
    assert_eq!(lot.kind(), ErrorKind::Unsupported);
    // A bridge is nothing for an ordinary user.
    let place = tempfile::tempdir()?;
    let bridge = Network::bridge("shop").internal().state(place.path().join("networks")).create();
    assert_eq!(
        bridge.map(drop).expect_err("not permitted").kind(),
        keelbox::crates::network::ErrorKind::PermissionDenied
    );
    assert!(Path::new("/usr/bin/pasta").exists() || Path::new("/usr/local/bin/pasta").exists());
    Ok(())
}
