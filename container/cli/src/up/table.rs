//! The options of `up`: those of docker run, as far as they mean something here. Needs no kernel.

use crate::grammar::Opt;

pub(crate) const UP: &[Opt] = &[
    Opt::flag("interactive", "hands standard input on").letter('i'),
    Opt::flag("tty", "gives the program a terminal").letter('t'),
    Opt::flag("detach", "returns when the program runs; the container is then in keelbox list").letter('d'),
    Opt::value(
        "name",
        "ID",
        "an id for keelbox exec, kill and others; default: none, and with --detach one of its own",
    ),
    Opt::value("pull", "WHEN", "missing (default): if the store has no such image; always; never")
        .choices("missing always never"),
    Opt::value("env", "NAME[=VALUE]", "one more variable; without a VALUE it is the caller's; may be repeated")
        .letter('e'),
    Opt::value("env-file", "FILE", "variables, one in a line; may be repeated"),
    Opt::value("workdir", "DIRECTORY", "the working directory; default: the image's").letter('w'),
    Opt::value("user", "USER[:GROUP]", "by name or number; default: the image's").letter('u'),
    Opt::value("group-add", "GROUP", "one more group, by number; may be repeated"),
    Opt::value("entrypoint", "PROGRAM", "in the place of the image's"),
    Opt::value("hostname", "NAME", "the host name inside"),
    Opt::value("volume", "SOURCE:TARGET[:ro]", "shares a directory or file, or a named volume; may be repeated")
        .letter('v'),
    Opt::value("tmpfs", "TARGET[:size=BYTES]", "an empty file system in memory, of 64m; may be repeated"),
    Opt::value("device", "PATH", "a device of the host; may be repeated"),
    Opt::flag("read-only", "nothing in the root file system can be changed"),
    Opt::value("memory", "BYTES", "the most memory, such as 64m").letter('m'),
    Opt::value("memory-swap", "BYTES", "the most memory and swap together; -1 is no limit"),
    Opt::value("cpus", "COUNT", "how many processors' time, such as 0.5"),
    Opt::value("cpu-shares", "SHARES", "the weight among others: 2 to 262144, 1024 is usual").letter('c'),
    Opt::value("cpuset-cpus", "LIST", "processors, such as 0-3,8"),
    Opt::value("pids-limit", "COUNT", "processes and threads"),
    Opt::value("ulimit", "NAME=SOFT[:HARD]", "a limit of each process, such as nofile=1024; may be repeated"),
    Opt::value("oom-score-adj", "SCORE", "whom the kernel ends first when memory is out: -1000 to 1000"),
    Opt::value("timeout", "SECONDS", "how long the program may run; then all of it is killed"),
    Opt::value(
        "network",
        "NETWORK",
        "none (default), host, container:ID, bridge[:NAME] (root), or pasta; with --publish bridge, for a user pasta",
    )
    .also("net"),
    Opt::value(
        "publish",
        "[ADDRESS:]PORT:PORT",
        "leads a port of this machine, of 127.0.0.1 unless told, inside; may be repeated",
    )
    .letter('p'),
    Opt::value("pid", "host", "shares the host's processes").choices("host"),
    Opt::value("ipc", "host", "shares the host's shared memory").choices("host"),
    Opt::value("uts", "host", "shares the host's name").choices("host"),
    Opt::value("cgroupns", "host", "shows the host's control groups").choices("host"),
    Opt::value("profile", "PROFILE", "how much it is trusted: trusted, ordinary (default) or hostile")
        .choices("trusted ordinary hostile"),
    Opt::value("cap-add", "CAPABILITY", "one more capability; may be repeated"),
    Opt::value("cap-drop", "CAPABILITY|ALL", "one capability less; may be repeated"),
    Opt::value(
        "security-opt",
        "OPTION",
        "seccomp=FILE, seccomp=unconfined, apparmor=PROFILE, no-new-privileges[=false]; may be repeated",
    ),
    Opt::value("sysctl", "NAME=VALUE", "a kernel parameter of its own namespaces; may be repeated"),
    Opt::flag("rm", "ignored: it is cleaned up anyway").ignored(),
    Opt::flag("privileged", "refused: --profile trusted is what comes near")
        .refused("nothing here takes all walls down; --profile trusted takes the filter and the masks away"),
];
