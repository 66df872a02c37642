//! The table for `linux.resources` of `config.json` (config-linux.md#control-groups). Needs no kernel.
use super::{I64, Object, STRINGS, Shape, U16, U32, U64, optional, required, vital};
use crate::rules;

/// The limits, in the order of the specification.
pub(crate) static RESOURCES: Object = Object {
    rule: rules::VALUES,
    fields: &[
        optional("devices", Shape::List(&Shape::Object(&DEVICE_RULE))).by(rules::DEVICE_RULES),
        optional("memory", Shape::Object(&MEMORY)).by(rules::MEMORY),
        optional("cpu", Shape::Object(&CPU)).by(rules::CPU),
        optional("blockIO", Shape::Object(&BLOCK_IO)).by(rules::BLOCK_IO),
        optional("hugepageLimits", Shape::List(&Shape::Object(&HUGE_PAGES))).by(rules::HUGE_PAGES),
        optional("network", Shape::Object(&NETWORK)).by(rules::NETWORK),
        optional("pids", Shape::Object(&PIDS)).by(rules::PIDS),
        optional("rdma", Shape::Map(&Shape::Object(&RDMA))).by(rules::RDMA),
        optional("unified", STRINGS).by(rules::UNIFIED),
    ],
};

static DEVICE_RULE: Object = Object {
    rule: rules::DEVICE_RULES,
    fields: &[
        required("allow", Shape::Flag),
        optional("type", Shape::Word(&["a", "c", "b"])),
        optional("major", I64),
        optional("minor", I64),
        optional("access", Shape::Text),
    ],
};

static MEMORY: Object = Object {
    rule: rules::MEMORY,
    fields: &[
        optional("limit", I64),
        optional("reservation", I64),
        optional("swap", I64),
        optional("kernel", I64),
        optional("kernelTCP", I64),
        optional("swappiness", U64),
        optional("disableOOMKiller", Shape::Flag),
        optional("useHierarchy", Shape::Flag),
        optional("checkBeforeUpdate", Shape::Flag),
    ],
};

static CPU: Object = Object {
    rule: rules::CPU,
    fields: &[
        optional("shares", U64),
        optional("quota", I64),
        optional("burst", U64),
        optional("period", U64),
        optional("realtimeRuntime", I64),
        optional("realtimePeriod", U64),
        optional("cpus", Shape::Text),
        optional("mems", Shape::Text),
        optional("idle", I64),
    ],
};

static BLOCK_IO: Object = Object {
    rule: rules::BLOCK_IO,
    fields: &[
        optional("weight", U16),
        optional("leafWeight", U16),
        optional("weightDevice", Shape::List(&Shape::Object(&WEIGHT_DEVICE))),
        optional("throttleReadBpsDevice", THROTTLE_LIST),
        optional("throttleWriteBpsDevice", THROTTLE_LIST),
        optional("throttleReadIOPSDevice", THROTTLE_LIST),
        optional("throttleWriteIOPSDevice", THROTTLE_LIST),
    ],
};

static WEIGHT_DEVICE: Object = Object {
    rule: rules::BLOCK_IO,
    fields: &[vital("major", I64), vital("minor", I64), optional("weight", U16), optional("leafWeight", U16)],
};

const THROTTLE_LIST: Shape = Shape::List(&Shape::Object(&THROTTLE_DEVICE));

static THROTTLE_DEVICE: Object =
    Object { rule: rules::BLOCK_IO, fields: &[vital("major", I64), vital("minor", I64), required("rate", U64)] };

static HUGE_PAGES: Object =
    Object { rule: rules::HUGE_PAGES, fields: &[vital("pageSize", Shape::Text), vital("limit", U64)] };

static NETWORK: Object = Object {
    rule: rules::NETWORK,
    fields: &[optional("classID", U32), optional("priorities", Shape::List(&Shape::Object(&PRIORITY)))],
};

static PRIORITY: Object =
    Object { rule: rules::NETWORK, fields: &[vital("name", Shape::Text), vital("priority", U32)] };

static PIDS: Object = Object { rule: rules::PIDS, fields: &[required("limit", I64)] };

static RDMA: Object = Object { rule: rules::RDMA, fields: &[optional("hcaHandles", U32), optional("hcaObjects", U32)] };
