//! What a network costs, beside the kernel's own price: `cargo bench --bench network -- [ROUNDS]`.
//!
//! *Connecting*: a container's way into a bridge's network, and the same devices, addresses and routes by `ip -batch`, less what `ip` needs
//! for an empty batch. *Carrying*: bytes over one connection that comes by a published port, and by a port that `nft` leads to a process
//! behind a bridge made by hand. Everything is in a network namespace of its own. Needs root, ip, nft, nsenter and busybox.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keelbox::crates::network::Attachment;
use keelbox::{Bridge, Network, Publish};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Containers in a round, so that one start of `ip` is nothing among them.
const MANY: usize = 20;
const BYTES: usize = 512 << 20;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["send", address] => return send(address.parse()?),
        ["apart", rounds] => return apart(rounds.parse()?),
        _ => {}
    }
    let rounds = arguments.first().map_or(Ok(7), |rounds| rounds.parse::<usize>())?;
    let own = std::env::current_exe()?;
    Err(Command::new("unshare").arg("--net").arg(own).args(["apart", &rounds.to_string()]).exec().into())
}

fn apart(rounds: usize) -> Result {
    run("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1")?;
    let place = tempfile::tempdir()?;
    let net = Network::bridge("ours").state(place.path()).create()?;
    run("ip link add hand type bridge; ip addr add 10.99.0.1/24 dev hand; ip link set hand up")?;
    connecting(&net, rounds)?;
    carrying(&net, rounds)
}

fn connecting(net: &Bridge, rounds: usize) -> Result {
    let (mut ours, mut kernel) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let inside = (0..MANY).map(|_| Inside::new()).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        let attached: Vec<Attachment> = inside
            .iter()
            .map(|each| net.endpoint().attach(each.id(), None, &[]))
            .collect::<std::result::Result<_, _>>()?;
        ours.push(begun.elapsed() / MANY as u32);
        drop((attached, inside));

        let inside = (0..MANY).map(|_| Inside::new()).collect::<Result<Vec<_>>>()?;
        let lines = inside.iter().enumerate().map(|(index, each)| {
            let (pid, name) = (each.id(), format!("h{index}"));
            format!("link add {name} type veth peer name eth0 netns {pid}\nlink set {name} master hand up\n")
        });
        let outside = batch(&[], &lines.collect::<String>())?.saturating_sub(batch(&[], "")?);
        let mut within = Duration::ZERO;
        for (index, each) in inside.iter().enumerate() {
            let pid = each.id().to_string();
            let enter = ["nsenter", "--net", "-t", &pid];
            let lines = format!(
                "addr add 10.99.0.{}/24 dev eth0\nlink set eth0 up\nroute add default via 10.99.0.1\n",
                index + 2
            );
            let empty = batch(&enter, "")?;
            within += batch(&enter, &lines)?.saturating_sub(empty);
        }
        kernel.push((outside + within) / MANY as u32);
    }
    let (ours, kernel) = (median(ours).as_secs_f64() * 1e6, median(kernel).as_secs_f64() * 1e6);
    println!("connecting: keelbox {ours:.0} us, the kernel's own price {kernel:.0} us");
    tell("connecting", ours / kernel, 1.5, |ratio, most| ratio <= most);
    Ok(())
}

fn carrying(net: &Bridge, rounds: usize) -> Result {
    // A neighbour of the host, from which connections come.
    let outside = Inside::new()?;
    run(&format!(
        "ip link add wan type veth peer name wan netns {}; ip addr add 198.51.100.1/24 dev wan; ip link set wan up",
        outside.id()
    ))?;
    outside.run("ip addr add 198.51.100.2/24 dev wan; ip link set wan up")?;
    let (ours, hand) = (Inside::new()?, Inside::new()?);
    let ports: [Publish; 2] = ["198.51.100.1:8080:80".parse()?, "127.0.0.1:8080:80".parse()?];
    let attached = net.endpoint().attach(ours.id(), None, &ports)?;
    run(&format!("ip link add hand0 type veth peer name eth0 netns {}; ip link set hand0 master hand up", hand.id()))?;
    hand.run("ip addr add 10.99.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.99.0.1")?;
    run("nft add table ip hand; nft add chain ip hand in '{ type nat hook prerouting priority -100; }'; \
        nft add rule ip hand in ip daddr 198.51.100.1 tcp dport 9090 dnat to 10.99.0.2:80")?;
    let _sinks = [ours.sink()?, hand.sink()?];
    std::thread::sleep(Duration::from_millis(500));
    let own = std::env::current_exe()?;
    let (mut led, mut by_hand, mut carried, mut direct) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (address, times) in [("198.51.100.1:8080", &mut led), ("198.51.100.1:9090", &mut by_hand)] {
            let begun = Instant::now();
            let mut sender = Command::new("nsenter");
            sender.args(["--net", "-t", &outside.id().to_string()]).arg(&own).args(["send", address]);
            let done = sender.status()?;
            assert!(done.success(), "{address}");
            times.push(begun.elapsed());
        }
        let inside = SocketAddr::new(attached.addresses()[0], 80);
        for (address, times) in [(ports[1].outside(), &mut carried), (inside, &mut direct)] {
            let begun = Instant::now();
            send(address)?;
            times.push(begun.elapsed());
        }
    }
    let rate = |times: Vec<Duration>| BYTES as f64 / median(times).as_secs_f64() / 1e6;
    let (led, by_hand, carried, direct) = (rate(led), rate(by_hand), rate(carried), rate(direct));
    println!("carrying, from a neighbour: published {led:.0} MB/s, the kernel's NAT by hand {by_hand:.0} MB/s");
    tell("published", led / by_hand, 0.9, |ratio, least| ratio >= least);
    println!("carrying, from this machine: by 127.0.0.1 {carried:.0} MB/s, straight to the container {direct:.0} MB/s");
    println!("ratio loopback {:.2}", carried / direct);
    Ok(())
}

fn tell(name: &str, ratio: f64, promised: f64, kept: impl Fn(f64, f64) -> bool) {
    println!("ratio {name} {ratio:.2}");
    if !kept(ratio, promised) {
        println!("missed: {name} is {ratio:.2}, promised is {promised}");
    }
}

/// Sends bytes, and waits until the other side has taken them all.
fn send(address: SocketAddr) -> Result {
    let mut stream = TcpStream::connect(address)?;
    let block = vec![0u8; 1 << 20];
    for _ in 0..BYTES / block.len() {
        stream.write_all(&block)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn run(line: &str) -> Result {
    let done = Command::new("sh").args(["-ec", line]).status()?;
    if done.success() { Ok(()) } else { Err(format!("{line}: {done}").into()) }
}

/// How long `ip` takes for these lines.
fn batch(before: &[&str], lines: &str) -> Result<Duration> {
    let words: Vec<&str> = before.iter().copied().chain(["ip", "-batch", "-"]).collect();
    let begun = Instant::now();
    let mut child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(lines.as_bytes())?;
    let done = child.wait()?;
    let elapsed = begun.elapsed();
    if done.success() { Ok(elapsed) } else { Err(format!("ip -batch: {done}").into()) }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A process with a network namespace of its own.
struct Inside(Child);

impl Inside {
    fn new() -> Result<Self> {
        let script = "ip link set lo up; echo ready; exec sleep 3600";
        let mut child = Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn()?;
        child.stdout.take().ok_or("no pipe")?.read_exact(&mut [0; 6])?;
        Ok(Self(child))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn run(&self, line: &str) -> Result {
        run(&format!("nsenter --net -t {} sh -ec '{line}'", self.id()))
    }

    /// A server inside that throws away what it is sent.
    fn sink(&self) -> Result<Inside> {
        let program = "exec busybox nc -ll -p 80 -e busybox dd of=/dev/null bs=1M 2>/dev/null";
        let child =
            Command::new("nsenter").args(["--net", "-t", &self.id().to_string(), "sh", "-c", program]).spawn()?;
        Ok(Inside(child))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}
