//! The `/dev` of a template's runs is the same whether the kernel lets them share it or not: read-only, with room to write where
//! programs need it.

use std::io::Read;

use keelbox::{Container, Kind, Template, Terminal};
use keelbox_testkit::{self as testkit, require};

/// What programs do in `/dev`, and what must not be done.
const SCRIPT: &str = "\
    echo shm > /dev/shm/x && cat /dev/shm/x
    test -d /dev/mqueue && echo queues
    echo nothing > /dev/null && echo null
    head -c 4 /dev/urandom | wc -c
    (: > /dev/new) 2>/dev/null || echo no file
    (mkdir /dev/directory) 2>/dev/null || echo no directory
    (rm /dev/null) 2>/dev/null || echo no removal
    (chmod 666 /dev/null) 2>/dev/null || echo no mode
    test -f /dev/console && echo console
    ls /dev";

const EXPECTED: &str = "shm\nqueues\nnull\n4\nno file\nno directory\nno removal\nno mode\nconsole\nconsole\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\n\
    stderr\nstdin\nstdout\ntty\nurandom\nzero\n";

fn check(template: &Template) -> testkit::Result {
    // The first runs are whole, later ones waited for their start.
    for _ in 0..4 {
        let out = template.args(["sh", "-c", SCRIPT]).output()?;
        assert_eq!(out.text(), EXPECTED, "{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

fn check_terminal(container: Container) -> testkit::Result {
    let script = "test -t 0 && echo hi > /dev/console && (: > /dev/new) 2>/dev/null || echo read-only";
    let template = container.args(["sh", "-c", script]).terminal(Terminal::size(5, 60)).template()?;
    let mut process = template.run().spawn()?;
    let mut text = String::new();
    process.terminal().ok_or("no terminal")?.read_to_string(&mut text)?;
    assert!(process.wait()?.success());
    assert_eq!(text, "hi\r\nread-only\r\n");
    Ok(())
}

#[test]
fn of_containers_that_share_it_where_the_kernel_can() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = testkit::busybox_root()?;
    check(&Container::from_rootfs(root.path()).args(["true"]).template()?)?;
    check_terminal(Container::from_rootfs(root.path()))
}

/// In a user namespace no node can be made and nothing is shared: each run has a `/dev` of its own.
#[test]
fn of_containers_that_have_each_their_own() -> testkit::Result {
    require!(Root, UserNamespace, Program("busybox"));
    let root = testkit::busybox_root()?;
    let container = || Container::from_rootfs(root.path()).args(["true"]).unshare(Kind::User);
    let template = container().template()?;
    assert!(template.plan()?.to_string().contains("make /dev ro"), "{}", template.plan()?);
    check(&template)?;
    check_terminal(container())
}
