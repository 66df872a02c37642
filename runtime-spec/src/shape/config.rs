//! The table for `config.json`: what all platforms share (config.md). Needs no kernel.
use super::{I32, I64, Object, STRINGS, Shape, TEXTS, U32, U64, expected, linux, optional, other, required, vital};
use crate::{names, rules};

/// The whole document, in the order of the specification.
pub(crate) static CONFIG: Shape = Shape::Object(&Object {
    rule: rules::VALUES,
    fields: &[
        required("ociVersion", Shape::Text).by(rules::VERSION),
        optional("root", Shape::Object(&ROOT)).by(rules::ROOT),
        optional("process", Shape::Object(&PROCESS)).by(rules::PROCESS),
        optional("hostname", Shape::Text).by(rules::HOSTNAME),
        optional("domainname", Shape::Text).by(rules::HOSTNAME),
        optional("mounts", Shape::List(&Shape::Object(&MOUNT))).by(rules::DESTINATION),
        optional("hooks", Shape::Object(&HOOKS)).by(rules::HOOKS),
        optional("annotations", Shape::Map(&Shape::Data)).by(rules::ANNOTATIONS),
        optional("linux", Shape::Object(&linux::LINUX)),
        optional("solaris", Shape::Object(&other::SOLARIS)),
        optional("windows", Shape::Object(&other::WINDOWS)),
        optional("vm", Shape::Object(&other::VM)),
        optional("zos", Shape::Object(&other::ZOS)),
        optional("freebsd", Shape::Object(&other::FREEBSD)),
    ],
});

static ROOT: Object =
    Object { rule: rules::ROOT, fields: &[vital("path", Shape::Text), optional("readonly", Shape::Flag)] };

static PROCESS: Object = Object {
    rule: rules::PROCESS,
    fields: &[
        optional("terminal", Shape::Flag).by(rules::TERMINAL),
        optional("consoleSize", Shape::Object(&CONSOLE)).by(rules::TERMINAL),
        optional("user", Shape::Object(&USER)).by(rules::USER),
        optional("args", TEXTS).by(rules::ARGS),
        optional("commandLine", Shape::Text).by(rules::ARGS),
        optional("env", TEXTS).by(rules::ARGS),
        vital("cwd", Shape::Text).by(rules::CWD),
        optional("capabilities", Shape::Object(&CAPABILITIES)).by(rules::CAPABILITIES),
        optional("rlimits", Shape::List(&Shape::Object(&RLIMIT))).by(rules::RLIMITS),
        optional("noNewPrivileges", Shape::Flag).by(rules::NO_NEW_PRIVILEGES),
        optional("apparmorProfile", Shape::Text).by(rules::LABELS),
        optional("selinuxLabel", Shape::Text).by(rules::LABELS),
        optional("oomScoreAdj", I32).by(rules::OOM_SCORE),
        optional("scheduler", Shape::Object(&SCHEDULER)).by(rules::SCHEDULER),
        optional("ioPriority", Shape::Object(&IO_PRIORITY)).by(rules::IO_PRIORITY),
        optional("execCPUAffinity", Shape::Object(&AFFINITY)).by(rules::EXEC_AFFINITY),
    ],
};

static CONSOLE: Object = Object { rule: rules::TERMINAL, fields: &[required("height", U64), required("width", U64)] };

static USER: Object = Object {
    rule: rules::USER,
    fields: &[
        expected("uid", U32),
        expected("gid", U32),
        optional("umask", U32),
        optional("additionalGids", Shape::List(&U32)),
        optional("username", Shape::Text),
    ],
};

const CAPABILITY_LIST: Shape = Shape::List(&Shape::Word(names::CAPABILITIES));

static CAPABILITIES: Object = Object {
    rule: rules::CAPABILITIES,
    fields: &[
        optional("bounding", CAPABILITY_LIST),
        optional("effective", CAPABILITY_LIST),
        optional("inheritable", CAPABILITY_LIST),
        optional("permitted", CAPABILITY_LIST),
        optional("ambient", CAPABILITY_LIST),
    ],
};

static RLIMIT: Object = Object {
    rule: rules::RLIMITS,
    fields: &[vital("type", Shape::Word(names::RLIMITS)), vital("soft", U64), vital("hard", U64)],
};

static SCHEDULER: Object = Object {
    rule: rules::SCHEDULER,
    fields: &[
        vital("policy", Shape::Word(names::SCHEDULER_POLICIES)),
        optional("nice", I32),
        optional("priority", I32),
        optional("flags", Shape::List(&Shape::Word(names::SCHEDULER_FLAGS))),
        optional("runtime", U64),
        optional("deadline", U64),
        optional("period", U64),
    ],
};

static IO_PRIORITY: Object = Object {
    rule: rules::IO_PRIORITY,
    fields: &[vital("class", Shape::Word(names::IO_PRIORITY_CLASSES)), expected("priority", I32)],
};

static AFFINITY: Object =
    Object { rule: rules::EXEC_AFFINITY, fields: &[optional("initial", Shape::Text), optional("final", Shape::Text)] };

static MOUNT: Object = Object {
    rule: rules::DESTINATION,
    fields: &[
        vital("destination", Shape::Text),
        optional("type", Shape::Text),
        optional("source", Shape::Text),
        optional("options", TEXTS).by(rules::MOUNT_OPTIONS),
        optional("uidMappings", linux::MAPPINGS).by(rules::MOUNT_MAPPINGS),
        optional("gidMappings", linux::MAPPINGS).by(rules::MOUNT_MAPPINGS),
    ],
};

const HOOK_LIST: Shape = Shape::List(&Shape::Object(&HOOK));

static HOOKS: Object = Object {
    rule: rules::HOOKS,
    fields: &[
        optional("prestart", HOOK_LIST),
        optional("createRuntime", HOOK_LIST),
        optional("createContainer", HOOK_LIST),
        optional("startContainer", HOOK_LIST),
        optional("poststart", HOOK_LIST),
        optional("poststop", HOOK_LIST),
    ],
};

static HOOK: Object = Object {
    rule: rules::HOOKS,
    fields: &[vital("path", Shape::Text), optional("args", TEXTS), optional("env", TEXTS), optional("timeout", I64)],
};

/// The state of a container (runtime.md).
pub(crate) static STATE: Shape = Shape::Object(&STATE_OBJECT);

static STATE_OBJECT: Object = Object {
    rule: rules::STATE,
    fields: &[
        vital("ociVersion", Shape::Text),
        vital("id", Shape::Text),
        vital("status", Shape::Word(crate::state::STATUSES)).by(rules::STATUS),
        optional("pid", Shape::Integer(0, i32::MAX as i128)),
        vital("bundle", Shape::Text),
        optional("annotations", Shape::Map(&Shape::Data)).by(rules::ANNOTATIONS),
    ],
};

/// What a seccomp agent is sent (config-linux.md).
pub(crate) static PROCESS_STATE: Shape = Shape::Object(&Object {
    rule: rules::PROCESS_STATE,
    fields: &[
        vital("ociVersion", Shape::Text),
        vital("fds", TEXTS),
        vital("pid", Shape::Integer(0, i32::MAX as i128)),
        optional("metadata", Shape::Data),
        vital("state", Shape::Object(&STATE_OBJECT)),
    ],
});

/// What a runtime can do (features.md).
pub(crate) static FEATURES: Shape = Shape::Object(&Object {
    rule: rules::FEATURES,
    fields: &[
        vital("ociVersionMin", Shape::Text).by(rules::FEATURES_VERSION),
        vital("ociVersionMax", Shape::Text).by(rules::FEATURES_VERSION),
        optional("hooks", TEXTS),
        optional("mountOptions", TEXTS),
        optional("linux", Shape::Object(&linux::FEATURES)),
        optional("annotations", STRINGS),
        optional("potentiallyUnsafeConfigAnnotations", TEXTS),
    ],
});
