//! The root file system.

use keelbox_testkit::{self as testkit, require};

use crate::common::Bench;

#[test]
fn rs_012_the_root_is_read_only_if_asked_for() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-012")?;
    let mut config = bench.config("touch /made 2>&1; test -e /made && echo made");
    config["root"]["readonly"] = true.into();
    let ran = bench.run(&config)?;
    assert_eq!(ran.stdout, "touch: /made: Read-only file system\n");
    config["root"]["readonly"] = false.into();
    assert_eq!(bench.printed(&config)?, "made\n");
    Ok(())
}
