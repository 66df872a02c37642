//! The table of commands and options: all that the command line can say. Needs no kernel.

use crate::failure::Failure;
use crate::grammar::Count::{One, Optional, Rest};
use crate::grammar::{Command, Count, Opt, Word};
use crate::{checkpoint, completions, events, exec, features, life, list, manual, plan, ps, run, spec, update};
#[cfg(feature = "images")]
use crate::{image, up};

pub(crate) const fn word(name: &'static str, what: &'static str, count: Count) -> Word {
    Word { name, what, count }
}

const ID: Word = word("ID", "the id of a container", One);

/// The options that stand before a command.
pub(crate) const GLOBAL: &[Opt] = &[
    Opt::value(
        "root",
        "DIRECTORY",
        "where states are kept; default: /run/keelbox, or for an ordinary user $XDG_RUNTIME_DIR/keelbox",
    ),
    Opt::value("log", "FILE", "gets failures, and what --debug adds; may be file:FILE"),
    Opt::value("log-format", "FORM", "text (default) or json").choices("text json"),
    Opt::flag("debug", "more lines in the log"),
    Opt::flag("systemd-cgroup", "as --cgroup-manager=systemd"),
    Opt::value(
        "cgroup-manager",
        "MANAGER",
        "who makes control groups: cgroupfs (default), systemd, or disabled for none",
    )
    .choices("cgroupfs systemd disabled"),
    Opt::value("rootless", "WHEN", "auto, true: as it is anyway; false is refused to an ordinary user")
        .choices("auto true false"),
    Opt::value("criu", "PROGRAM", "ignored, as runc does: criu is found by PATH").ignored(),
];

/// What makes a container.
const NEW: &[Opt] = &[
    Opt::value("bundle", "DIRECTORY", "the bundle; default: the current directory").letter('b'),
    Opt::value("config", "FILE", "the configuration, by a path from the bundle; default: config.json").letter('f'),
    Opt::value("pid-file", "FILE", "gets the process id of the container"),
    Opt::value("console-socket", "SOCKET", "gets the host's side of the container's terminal"),
    Opt::value("pidfd-socket", "SOCKET", "gets a descriptor of the container's process"),
    Opt::value("preserve-fds", "COUNT", "hands on this many descriptors from 3 on, beside those that LISTEN_FDS tells"),
    Opt::flag("no-new-keyring", "leaves the caller's session keyring to the container"),
    Opt::flag("no-pivot", "refused: the old root could be reached again")
        .refused("without pivot_root(2) a privileged program could reach the host's files again"),
];

const RUN: &[Opt] = &[
    Opt::flag("detach", "returns when the program runs").letter('d'),
    Opt::flag("keep", "does not delete the container when it has ended"),
    Opt::flag("no-subreaper", "ignored: this program never adopts processes").ignored(),
];

const EXEC: &[Opt] = &[
    Opt::value("process", "FILE", "the program and all its settings, as in config.json").letter('p'),
    Opt::flag("tty", "gives the program a terminal").letter('t'),
    Opt::value("user", "USER[:GROUP]", "by name or number; default: the container's").letter('u'),
    Opt::value("additional-gids", "GROUP", "one more group; may be repeated").letter('g'),
    Opt::value("env", "NAME=VALUE", "one more variable; may be repeated").letter('e'),
    Opt::value("cwd", "DIRECTORY", "the working directory; default: the container's"),
    Opt::value("cap", "CAPABILITY", "one more capability; may be repeated").letter('c'),
    Opt::flag("no-new-privs", "the program can gain no privileges by executing others"),
    Opt::value("apparmor", "PROFILE", "the AppArmor profile"),
    Opt::value("process-label", "LABEL", "the SELinux label"),
    Opt::flag("detach", "returns when the program runs").letter('d'),
    Opt::value("pid-file", "FILE", "gets the process id of the program"),
    Opt::value("console-socket", "SOCKET", "gets the host's side of the program's terminal"),
    Opt::value("pidfd-socket", "SOCKET", "gets a descriptor of the program's process"),
    Opt::value("preserve-fds", "COUNT", "hands on this many descriptors from 3 on, beside those that LISTEN_FDS tells"),
    Opt::value("cgroup", "PATH", "a control group below the container's"),
    Opt::flag("ignore-paused", "also in a container that is paused: the program waits for its resumption"),
];

/// Of checkpoint and restore.
const DISK: &[Opt] = &[
    Opt::value("image-path", "DIRECTORY", "the images; default: checkpoint in the current directory"),
    Opt::value("work-path", "DIRECTORY", "gets the log of criu; default: the images"),
    Opt::flag("tcp-established", "with open connections of TCP"),
    Opt::flag("tcp-skip-in-flight", "without connections of TCP that are being made"),
    Opt::flag("ext-unix-sk", "with unix sockets whose other end is outside"),
    Opt::flag("shell-job", "in a session that began outside"),
    Opt::flag("file-locks", "with locks of files"),
    Opt::flag("link-remap", "with files that have no name any more"),
    Opt::value(
        "manage-cgroups-mode",
        "MODE",
        "soft (default), ignore: groups are made anew by the bundle; others are refused",
    ),
    Opt::value("empty-ns", "NAMESPACE", "network: what is in the container's own is left to others"),
    Opt::flag("lazy-pages", "refused").refused("pages are not fetched on demand"),
    Opt::flag("auto-dedup", "ignored: it only saves room").ignored(),
];

const CHECKPOINT: &[Opt] = &[
    Opt::value("parent-path", "DIRECTORY", "images written before, relative to the images"),
    Opt::flag("leave-running", "lets the container go on"),
    Opt::flag("pre-dump", "the memory alone, for a later --parent-path; the container goes on"),
    Opt::value("page-server", "ADDRESS:PORT", "refused").refused("images are written to a directory"),
    Opt::value("status-fd", "NUMBER", "refused").refused("pages are not fetched on demand"),
];

const RESTORE: &[Opt] = &[
    Opt::value("bundle", "DIRECTORY", "the bundle; default: the current directory").letter('b'),
    Opt::value("pid-file", "FILE", "gets the process id of the container"),
    Opt::flag("detach", "returns when the program runs").letter('d'),
    Opt::value("lsm-profile", "TYPE:NAME", "another profile of a security module, such as apparmor:NAME"),
    Opt::value("console-socket", "SOCKET", "refused").refused("a terminal is not read from disk"),
    Opt::value("lsm-mount-context", "CONTEXT", "refused").refused("mounts have the contexts that the bundle says"),
    Opt::flag("no-subreaper", "ignored: this program never adopts processes").ignored(),
    Opt::flag("no-pivot", "ignored: the root is put together by criu").ignored(),
];

const UPDATE: &[Opt] = &[
    Opt::value(
        "resources",
        "FILE",
        "limits as in config.json's linux.resources; - is standard input; all else is ignored then",
    )
    .letter('r'),
    Opt::value("memory", "BYTES", "memory; -1 is no limit"),
    Opt::value("memory-reservation", "BYTES", "memory that is kept when it gets scarce"),
    Opt::value("memory-swap", "BYTES", "memory and swap; -1 is no limit"),
    Opt::value("kernel-memory", "BYTES", "ignored: the kernel has no such limit any more").ignored(),
    Opt::value("kernel-memory-tcp", "BYTES", "ignored: the kernel has no such limit any more").ignored(),
    Opt::value("cpu-quota", "MICROSECONDS", "processor time in a period; -1 is no limit"),
    Opt::value("cpu-period", "MICROSECONDS", "the period of the quota"),
    Opt::value("cpu-burst", "MICROSECONDS", "unused quota that may be kept for later"),
    Opt::value("cpu-share", "SHARES", "the weight among others: 2 to 262144, 1024 is usual").also("cpu-shares"),
    Opt::value("cpu-rt-period", "MICROSECONDS", "the period of the real-time quota"),
    Opt::value("cpu-rt-runtime", "MICROSECONDS", "real-time processor time in a period"),
    Opt::value("cpu-idle", "0|1", "runs only when nothing else does"),
    Opt::value("cpuset-cpus", "LIST", "processors, such as 0-3,8"),
    Opt::value("cpuset-mems", "LIST", "memory nodes, such as 0"),
    Opt::value("pids-limit", "COUNT", "processes and threads; -1 is no limit"),
    Opt::value("blkio-weight", "WEIGHT", "the weight for disks: 10 to 1000"),
    Opt::value("l3-cache-schema", "SCHEMA", "refused: see the specification's intelRdt")
        .refused("a resctrl group is made when the container is created, by linux.intelRdt"),
    Opt::value("mem-bw-schema", "SCHEMA", "refused: see the specification's intelRdt")
        .refused("a resctrl group is made when the container is created, by linux.intelRdt"),
];

/// All commands, in the order of a container's life.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "plan",
        words: &[word("BUNDLE", "a bundle", One)],
        options: &[&[Opt::flag("explain", "says why each step is there"), Opt::flag("json", "the steps as JSON")]],
        about: "what the kernel will be asked for, step by step; nothing is run",
        more: "",
        perform: plan::plan,
    },
    Command {
        name: "spec",
        words: &[],
        options: &[&[
            Opt::value("bundle", "DIRECTORY", "where to write it; default: the current directory").letter('b'),
            Opt::flag("rootless", "for an ordinary user, with a user namespace"),
        ]],
        about: "writes a config.json to start from",
        more: "It is not written over a file that is there.",
        perform: spec::spec,
    },
    Command {
        name: "run",
        words: &[ID],
        options: &[NEW, RUN],
        about: "creates, starts, waits and deletes; ends as the program does",
        more: "Signals to a waiting run go to the program. The first program of a pid namespace gets only those that it has asked for.",
        perform: run::run,
    },
    Command {
        name: "create",
        words: &[ID],
        options: &[NEW],
        about: "sets up a container, whose program waits for its start",
        more: "The container has the standard streams of this command, and holds them open as long as it lives.",
        perform: life::create,
    },
    Command {
        name: "start",
        words: &[ID],
        options: &[],
        about: "lets the program run",
        more: "",
        perform: life::start,
    },
    Command {
        name: "exec",
        words: &[ID, word("PROGRAM", "a program behind the id of the container", Rest)],
        options: &[EXEC],
        about: "one more program in a running container; ends as that does",
        more: "What is behind the ID belongs to the program. Without --process a PROGRAM is needed.",
        perform: exec::exec,
    },
    Command { name: "state", words: &[ID], options: &[], about: "the state, as JSON", more: "", perform: life::state },
    Command {
        name: "list",
        words: &[],
        options: &[&[
            Opt::flag("quiet", "the ids alone").letter('q'),
            Opt::value("format", "FORM", "table (default) or json").letter('f').choices("table json"),
        ]],
        about: "the containers",
        more: "",
        perform: list::list,
    },
    Command {
        name: "ps",
        words: &[ID, word("OPTION", "an option of ps", Rest)],
        options: &[&[Opt::value("format", "FORM", "table (default) or json: the process ids")
            .letter('f')
            .choices("table json")]],
        about: "the processes of a container",
        more: "The table is that of ps(1) with the options behind the ID, or with -ef.",
        perform: ps::ps,
    },
    Command {
        name: "events",
        words: &[ID],
        options: &[&[
            Opt::flag("stats", "what it uses now, once"),
            Opt::value("interval", "TIME", "how often it is told what it uses, such as 500ms; default: 5s"),
        ]],
        about: "what a container uses, and that it ran out of memory, as lines of JSON",
        more: "Ends when the container does.",
        perform: events::events,
    },
    Command {
        name: "update",
        words: &[ID],
        options: &[UPDATE],
        about: "changes limits; what is not named stays",
        more: "",
        perform: update::update,
    },
    Command {
        name: "pause",
        words: &[ID],
        options: &[],
        about: "stops all processes of a container",
        more: "",
        perform: life::pause,
    },
    Command { name: "resume", words: &[ID], options: &[], about: "lets them go on", more: "", perform: life::resume },
    Command {
        name: "kill",
        words: &[ID, word("SIGNAL", "a signal", Optional)],
        options: &[&[Opt::flag("all", "to every process, not the first alone").letter('a')]],
        about: "sends a signal, by name or number; default: TERM",
        more: "",
        perform: life::kill,
    },
    Command {
        name: "delete",
        words: &[ID],
        options: &[&[Opt::flag("force", "kills what has not ended; that there is none is no failure").letter('f')]],
        about: "removes a container that has ended; by force, any",
        more: "",
        perform: life::delete,
    },
    Command {
        name: "checkpoint",
        words: &[ID],
        options: &[DISK, CHECKPOINT],
        about: "writes a running container to disk, with the program criu",
        more: "The container is deleted then, unless it is left running. Its root file system and volumes are not written.",
        perform: checkpoint::checkpoint,
    },
    Command {
        name: "restore",
        words: &[ID],
        options: &[DISK, RESTORE],
        about: "makes a container anew from disk, and lets it go on",
        more: "Its control group, volumes and streams are those of the bundle and of this command.",
        perform: checkpoint::restore,
    },
    #[cfg(feature = "images")]
    Command {
        name: "up",
        words: &[word("IMAGE", "an image", One), word("PROGRAM", "a program of the image", Rest)],
        options: &[image::table::STORE, image::table::REGISTRY, up::table::UP],
        about: "runs a program of an image in a container and cleans up; ends as the program does",
        more: "An IMAGE is a name in the store, or else in a registry, or oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE. The \
            options are docker run's. Without a PROGRAM it is the image's own; what is behind the IMAGE belongs to it.",
        perform: up::up,
    },
    #[cfg(feature = "images")]
    Command {
        name: "image",
        words: &[word("COMMAND", "what to do with images", One), word("ARGUMENT", "its options and words", Rest)],
        options: &[],
        about: "images: pulls, pushes, lists, inspects, changes and removes them",
        more: image::table::MORE,
        perform: image::image,
    },
    Command {
        name: "features",
        words: &[],
        options: &[],
        about: "what this runtime can do, as JSON",
        more: "",
        perform: features::features,
    },
    Command {
        name: "completions",
        words: &[word("SHELL", "a shell: bash, zsh or fish", One)],
        options: &[],
        about: "completions for bash, zsh or fish",
        more: "",
        perform: completions::completions,
    },
    Command {
        name: "man",
        words: &[],
        options: &[],
        about: "the manual page keelbox(8), for man(1)",
        more: "",
        perform: manual::manual,
    },
    Command {
        name: "help",
        words: &[word("COMMAND", "a command", Optional)],
        options: &[],
        about: "about all commands, or one",
        more: "",
        perform: crate::help::help,
    },
    Command {
        name: "version",
        words: &[],
        options: &[],
        about: "the version",
        more: "",
        perform: crate::help::version,
    },
];

pub(crate) fn find(name: &str) -> Result<&'static Command, Failure> {
    let found = COMMANDS.iter().find(|command| command.name == name);
    found.ok_or_else(|| Failure::new(format!("there is no command {name:?}: see keelbox --help")))
}

/// The commands behind `image`.
pub(crate) fn of_images() -> &'static [Command] {
    #[cfg(feature = "images")]
    return image::table::COMMANDS;
    #[cfg(not(feature = "images"))]
    &[]
}

/// All commands, those behind `image` last.
pub(crate) fn every() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().chain(of_images())
}

/// Whether any command has an option of this name.
pub(crate) fn is_known(option: &str) -> bool {
    GLOBAL.iter().chain(every().flat_map(Command::every_option)).any(|known| known.name == option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for command in every() {
            let options: Vec<&Opt> = command.every_option().collect();
            for (index, option) in options.iter().enumerate() {
                let same = options[index + 1..].iter().find(|other| {
                    other.name == option.name || (other.letter.is_some() && other.letter == option.letter)
                });
                assert!(same.is_none(), "{} of {}", option.name, command.name);
                assert!(!["help", "h"].contains(&option.name) && option.letter != Some('h'), "{}", command.name);
            }
        }
    }

    #[test]
    fn words_that_may_be_missing_stand_last() {
        for command in every() {
            let needed = command.words.iter().take_while(|word| word.count.is_needed()).count();
            assert!(command.words[needed..].iter().all(|word| !word.count.is_needed()), "{}", command.name);
            let rest = command.words.iter().position(|word| word.count.is_rest());
            assert!(rest.is_none_or(|rest| rest + 1 == command.words.len()), "{}", command.name);
        }
    }
}
