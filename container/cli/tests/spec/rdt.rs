//! Classes of resctrl, from outside: most machines have none, and there it is an error to ask for one.

use std::fs;

use keelbox_testkit::{self as testkit, require};
use serde_json::json;

use crate::common::Bench;

#[test]
fn rs_076_without_resctrl_a_class_is_an_error() -> testkit::Result {
    require!(Root, Program("busybox"));
    if fs::read_to_string("/proc/self/mountinfo")?.contains(" - resctrl ") {
        return Ok(());
    }
    let bench = Bench::new("rs-076")?;
    let mut config = bench.config("true");
    for rdt in [json!({}), json!({ "closID": "some" }), json!({ "l3CacheSchema": "L3:0=f", "enableMonitoring": true })]
    {
        config["linux"]["intelRdt"] = rdt.clone();
        let ran = bench.run(&config)?;
        assert!(ran.status != Some(0) && !ran.stderr.is_empty(), "{rdt}: {ran:?}");
    }
    Ok(())
}
