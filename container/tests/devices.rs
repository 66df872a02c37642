//! Device rules of a bundle: what they deny cannot be opened, whatever node leads there.

use keelbox::{Container, MIB};
use keelbox_testkit::{self as testkit, require};

/// Whether a bundle whose `linux.resources.devices` is `rules` can open the host's `/dev/zero` by another name, and open `/dev/net/tun`.
fn opens(rules: &str) -> testkit::Result<(bool, bool)> {
    let root = testkit::busybox_root()?;
    let bundle = tempfile::tempdir()?;
    let script = "(: < /zero) && echo zero; (: < /tun) && echo tun; true";
    let built = Container::from_rootfs(root.path())
        .args(["sh", "-c", script])
        .bind("/dev/zero", "/zero")
        .bind("/dev/net/tun", "/tun")
        .memory(64 * MIB)
        .build()?;
    built.write_bundle(bundle.path())?;
    let file = bundle.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["linux"]["resources"]["devices"] = serde_json::from_str(rules)?;
    std::fs::write(&file, config.to_string())?;
    let out = Container::from_bundle(bundle.path())?.output()?;
    assert!(out.status.success(), "{out:?}");
    Ok((out.text().contains("zero"), out.text().contains("tun")))
}

#[test]
fn what_is_denied_cannot_be_opened() -> testkit::Result {
    require!(Root, Program("busybox"), Exists("/dev/net/tun"), Cgroup("devices"));
    assert_eq!(opens("[]")?, (true, true), "no rules");
    assert_eq!(opens(r#"[{"allow":false,"access":"rwm"}]"#)?, (true, false), "the default devices");
    let tun = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":200,"access":"r"}]"#;
    assert_eq!(opens(tun)?, (true, true), "one more");
    Ok(())
}
