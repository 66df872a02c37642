//! The other ways: the floor in C, crun, runc and bubblewrap, each told to build the same container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keelbox::seccomp::{Builtin, Target};
use keelbox::{Container, MIB};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::PROGRAM;
use crate::lane::{Lane, Result, Server, timed};

/// What the peers need, in a directory that goes at the end.
pub struct Peers {
    work: TempDir,
}

/// A peer that executes further programs.
#[derive(Clone, Copy)]
pub enum Exec {
    /// `crun exec`.
    Crun,
    /// `runc exec`.
    Runc,
}

/// A command that leaves our standard input alone, which is where a server gets its orders.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end, as a server.
pub fn run_once(arguments: &[String]) -> Result<Duration> {
    timed(|| {
        let status = command(Path::new(&arguments[0])).args(&arguments[1..]).status()?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", arguments.join(" ")).into()) }
    })
}

/// Whether a program can be executed; says so if not.
pub fn is_there(program: &str) -> bool {
    let there =
        command(Path::new(program)).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("SKIP {program} is not installed: it is missing below");
    }
    there
}

impl Peers {
    /// Compiles the floor, and writes the filter and the bundles.
    pub fn prepare(root: &Path) -> Result<Self> {
        let work = tempfile::Builder::new().prefix("keelbox-bench-").tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
        let compiled =
            command(Path::new("cc")).args(["-O2", "-o"]).arg(work.path().join("floor")).arg(source).status()?;
        if !compiled.success() {
            return Err("cannot compile floor.c".into());
        }
        fs::write(work.path().join("filter"), Builtin::Standard.filter(&Target::host()?)?.bytes())?;
        let plain = Container::from_rootfs(root);
        write_bundle(&work.path().join("plain"), plain.clone().args([PROGRAM]))?;
        write_bundle(&work.path().join("limited"), plain.clone().args([PROGRAM]).memory(64 * MIB).pids(32))?;
        write_bundle(&work.path().join("sleeping"), plain.args(["/bin/sleep", "100000"]))?;
        Ok(Self { work })
    }

    /// A file or a bundle of ours.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// The same system calls made directly.
    pub fn floor(&self, root: &Path, filtered: bool, limited: bool) -> Result<Server> {
        let filter = if filtered { self.path("filter") } else { "-".into() };
        let groups = if limited { group_directories()? } else { Vec::new() };
        Server::start(command(&self.path("floor")).arg(root).arg(filter).args(groups))
    }

    /// `bwrap`, with the same namespaces and most of the same mounts; it hides nothing below `/proc` and `/sys`.
    pub fn bwrap(&self, root: &Path) -> Result<Option<Lane<'static>>> {
        if !is_there("bwrap") {
            return Ok(None);
        }
        let words = "bwrap --unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try --proc /proc --dev /dev \
                     --mqueue /dev/mqueue --tmpfs /dev/shm --ro-bind /sys /sys --cap-drop ALL --new-session --die-with-parent";
        let mut arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        arguments.splice(1..1, ["--bind".into(), root.display().to_string(), "/".into()]);
        arguments.push(PROGRAM.into());
        Ok(Some(Lane::new("bwrap", move || run_once(&arguments))))
    }

    /// `crun run`: with control groups if limited, else without, as keelbox makes none then.
    pub fn crun(&self, limited: bool) -> Result<Option<Lane<'static>>> {
        let (name, manager, bundle) = match limited {
            true => ("limited crun", "cgroupfs", "limited"),
            false => ("crun", "disabled", "plain"),
        };
        self.runtime(name, &format!("crun --cgroup-manager={manager}"), bundle)
    }

    /// `runc run`, which always makes control groups.
    pub fn runc(&self) -> Result<Option<Lane<'static>>> {
        self.runtime("limited runc", "runc", "limited")
    }

    fn runtime(&self, name: &str, program: &str, bundle: &str) -> Result<Option<Lane<'static>>> {
        if !is_there(program.split(' ').next().unwrap_or_default()) {
            return Ok(None);
        }
        let (state, bundle) = (self.path("state"), self.path(bundle));
        let script = format!("{program} --root {} run --bundle {} keelbox-bench", state.display(), bundle.display());
        self.served(name, "", &script, "").map(Some)
    }

    /// A further program in a container that was started before.
    pub fn exec(&self, peer: Exec) -> Result<Option<Lane<'static>>> {
        let (name, program) = match peer {
            Exec::Crun => ("crun exec", "crun"),
            Exec::Runc => ("runc exec", "runc"),
        };
        if !is_there(program) {
            return Ok(None);
        }
        let (runtime, id) =
            (format!("{program} --root {}", self.path("state").display()), format!("keelbox-bench-{program}"));
        let bundle = self.path("sleeping");
        let before = format!("{runtime} run --detach --bundle {} {id} </dev/null >/dev/null 2>&1", bundle.display());
        self.served(name, &before, &format!("{runtime} exec {id} {PROGRAM}"), &format!("{runtime} delete --force {id}"))
            .map(Some)
    }

    /// A server in a mount namespace of its own, without the version 2 part of hybrid control groups: crun refuses those.
    fn served(&self, name: &str, before: &str, measured: &str, after: &str) -> Result<Lane<'static>> {
        let itself = std::env::current_exe()?;
        let script = format!(
            "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi\n{before}\n{} serve-command {measured}\n{after}\n",
            itself.display()
        );
        let mut server = Server::start(Command::new("unshare").args(["--mount", "sh", "-e", "-c", &script]))?;
        Ok(Lane::new(name, move || server.measure()))
    }
}

/// The bundle that keelbox writes for other runtimes, with what these two expect differently.
fn write_bundle(directory: &Path, container: Container) -> Result<()> {
    fs::create_dir(directory)?;
    container.build()?.write_bundle(directory)?;
    let file = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["ociVersion"] = json!("1.0.2"); // what Debian 12's crun and runc know
    config["root"]["readonly"] = json!(false);
    config["linux"]["seccomp"] = seccomp()?;
    fs::write(&file, serde_json::to_vec(&config)?)?;
    Ok(())
}

/// keelbox's standard filter in OCI's words: its rules without those that depend on a capability.
fn seccomp() -> Result<Value> {
    let profile: Value = serde_json::from_str(include_str!("../../container/profiles/default.json"))?;
    let rules = profile["syscalls"].as_array().ok_or("a profile has rules")?;
    let known = ["names", "action", "args", "errnoRet"];
    let plain = rules.iter().filter(|rule| rule.get("includes").is_none()).map(|rule| {
        let kept = known.iter().filter_map(|key| Some((key.to_string(), rule.get(key)?.clone())));
        Value::Object(kept.collect())
    });
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "syscalls": plain.collect::<Vec<_>>(),
    }))
}

/// Where this process may make groups that limit memory and processes.
fn group_directories() -> Result<Vec<PathBuf>> {
    let base = Path::new("/sys/fs/cgroup");
    let mine = fs::read_to_string("/proc/self/cgroup")?;
    let own = |line: &str| line.rsplit(':').next().unwrap_or_default().trim_start_matches('/').to_owned();
    if base.join("cgroup.controllers").exists() {
        return Ok(mine.lines().filter(|line| line.starts_with("0::")).map(|line| base.join(own(line))).collect());
    }
    let wanted = mine.lines().filter_map(|line| {
        let controller = ["memory", "pids"]
            .into_iter()
            .find(|name| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|it| it == *name)))?;
        Some(base.join(controller).join(own(line)))
    });
    Ok(wanted.collect())
}
