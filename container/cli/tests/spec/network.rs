//! Network devices that move into a container. The host's side is a network namespace that the test makes for itself.

use std::process::Command;

use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

use crate::common::{Bench, is_keelbox};

/// Makes two pairs of devices, of which `v0` has addresses, an own length of packets and a hardware address.
const DEVICES: &str = "set -e; ip link set lo up; ip link add v0 type veth peer name p0; ip link add v1 type veth peer name p1; \
    ip link set v0 address 02:00:00:00:00:42 mtu 1400; ip addr add 10.9.8.7/24 dev v0; ip addr add 10.9.8.9/24 dev v0 valid_lft 900 preferred_lft 900; \
    ip addr add 169.254.7.7/16 scope link dev v0; ip link set v0 up; ip link set p0 up";

/// A container with a network of its own that these devices move into.
fn config(bench: &Bench, script: &str, devices: Value) -> Value {
    let mut config = bench.config(script);
    let kinds = ["mount", "pid", "ipc", "uts", "network"];
    config["linux"]["namespaces"] = json!(kinds.map(|kind| json!({ "type": kind })));
    config["linux"]["netDevices"] = devices;
    config
}

/// What a line of the host's shell prints in a network namespace of its own, in which `$RUN` runs the container.
fn beside(bench: &Bench, config: &Value, line: &str) -> testkit::Result<(String, String)> {
    let bundle = bench.bundle("bundle", config)?;
    let program = bench.command(&[]).get_program().to_owned();
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &format!("{DEVICES}; {line}")]);
    let words = format!("{} --root {}", program.to_string_lossy(), bench.path("states").display());
    command.env("KEELBOX", &words).env("RUN", format!("{words} run --bundle {bundle} {}", bench.id));
    command.env("BUNDLE", &bundle).env("ID", &bench.id);
    let output = command.output()?;
    let errors = String::from_utf8(output.stderr)?;
    assert!(output.status.success(), "{errors}");
    Ok((String::from_utf8(output.stdout)?, errors))
}

#[test]
fn rs_058_a_device_moves_with_its_addresses_and_is_up() -> testkit::Result {
    require!(Root, NetNamespace, Program("busybox"), Program("ip"), Program("unshare"));
    let bench = Bench::new("rs-058")?;
    let script = "ip -o link show dev inner; ip -o addr show dev inner; ip -o link | wc -l";
    let (inside, errors) = beside(&bench, &config(&bench, script, json!({ "v0": { "name": "inner" } })), "$RUN")?;
    assert_eq!(errors, "");
    assert!(inside.contains("UP") && inside.contains("mtu 1400") && inside.contains("02:00:00:00:00:42"), "{inside}");
    assert!(inside.contains("inet 10.9.8.7/24") && inside.contains("scope global inner"), "{inside}");
    assert!(!inside.contains("10.9.8.9"), "an address with an end stays behind: {inside}");
    assert!(!inside.contains("169.254.7.7"), "so does one that means nothing elsewhere: {inside}");
    assert!(inside.ends_with("\n2\n"), "the loopback interface and this one: {inside}");
    // Without another name it keeps its own.
    let own = config(&bench, "ip -o link show dev v1 | cut -d: -f2 | cut -d@ -f1", json!({ "v1": {} }));
    assert_eq!(beside(&bench, &own, "$RUN")?.0, " v1\n");
    Ok(())
}

#[test]
fn rs_059_names_that_are_taken_and_names_with_a_number() -> testkit::Result {
    require!(Root, NetNamespace, Program("busybox"), Program("ip"), Program("unshare"));
    let bench = Bench::new("rs-059")?;
    let numbered = config(
        &bench,
        "ip -o link | cut -d: -f2 | cut -d@ -f1 | sort",
        json!({ "v0": { "name": "eth%d" }, "v1": { "name": "eth%d" } }),
    );
    assert_eq!(beside(&bench, &numbered, "$RUN")?.0, " eth0\n eth1\n lo\n");
    // The device stays as it was, whatever goes wrong before the container is made.
    let look = "ip -o addr show dev v0 | grep -c 'inet 10.9.8.7/24'; ip -o link show dev v0 | grep -c UP; ip -o link show dev v1 | wc -l";
    let mut absent = config(&bench, "true", json!({ "v0": { "name": "inner" }, "v1": {} }));
    absent["process"]["cwd"] = json!("/bin/sh/there");
    let taken = config(&bench, "true", json!({ "v0": { "name": "lo" } }));
    let missing = config(&bench, "true", json!({ "v0": {}, "v9": {} }));
    for (wrong, words) in [
        (taken, "cannot move the network device v0 into the container: it has a network device lo already"),
        (missing, "cannot move the network device v9 into the container: there is none of this name"),
        (absent, "/bin/sh/there"),
    ] {
        if is_keelbox() {
            let (after, errors) = beside(&bench, &wrong, &format!("$RUN && exit 9; {look}"))?;
            assert!(errors.contains(words), "{errors}");
            assert_eq!(after, "1\n1\n1\n", "{errors}");
        }
    }
    if is_keelbox() {
        let mut shared = config(&bench, "true", json!({ "v0": {} }));
        shared["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }]);
        shared.as_object_mut().ok_or("an object")?.remove("hostname");
        bench
            .run(&shared)?
            .failed_with("cannot move network devices into the container: it has the network of the host");
    }
    Ok(())
}

#[test]
fn rs_060_a_device_that_moved_is_the_container_s() -> testkit::Result {
    require!(Root, NetNamespace, Program("busybox"), Program("ip"), Program("unshare"));
    let bench = Bench::new("rs-060")?;
    let config = config(&bench, "sleep 600000", json!({ "v0": { "name": "inner" } }));
    let line = "$KEELBOX create --bundle $BUNDLE $ID >/dev/null; $KEELBOX start $ID; ip -o link show dev v0 2>/dev/null | wc -l; \
        $KEELBOX kill $ID KILL; until $KEELBOX state $ID | grep -q stopped; do sleep 0.05; done; \
        ip -o link show dev v0 2>/dev/null | wc -l; $KEELBOX delete $ID; ip -o link show dev v0 2>/dev/null | wc -l";
    // A virtual device ends with its namespace.
    assert_eq!(beside(&bench, &config, line)?.0, "0\n0\n0\n");
    Ok(())
}
