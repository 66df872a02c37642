//! What the options of `up` make of a container. Needs no kernel.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use keelbox::{Container, Kind, Limits, MIB, Network, Profile, Resource, Runtime};

use crate::failure::Failure;
use crate::read::Given;
use crate::update::bytes;

/// What is in the files that the options name.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Lines with variables.
    variables: Vec<String>,
    /// System call filters, by the name of their file.
    filters: Vec<(String, Vec<u8>)>,
}

impl Files {
    pub(super) fn read(given: &Given) -> Result<Self, Failure> {
        let mut files = Self::default();
        for file in given.texts("env-file")? {
            let attempt = format!("cannot read variables from {file}");
            let text = fs::read_to_string(&file).map_err(|error| Failure::io(&attempt, &error))?;
            let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            files.variables.extend(lines.map(str::to_owned));
        }
        for option in given.texts("security-opt")? {
            let (name, file) = parts(&option);
            if name == "seccomp" && !matches!(file, "" | "unconfined") {
                let attempt = format!("cannot read the filter {file}");
                let filter = fs::read(file).map_err(|error| Failure::io(&attempt, &error))?;
                files.filters.push((file.to_owned(), filter));
            }
        }
        Ok(files)
    }
}

/// The container with everything that was asked for, but for its streams.
pub(super) fn applied(
    container: Container,
    given: &Given,
    read: &Files,
    runtime: &Runtime,
) -> Result<Container, Failure> {
    let container = program(container, given, read)?;
    let container = files(container, given)?;
    let container = isolation(container, given, read, runtime)?;
    resources(container, given)
}

fn program(mut container: Container, given: &Given, read: &Files) -> Result<Container, Failure> {
    for text in read.variables.iter().chain(&given.texts("env")?) {
        container = variable(container, text);
    }
    if let Some(directory) = given.path("workdir") {
        container = container.current_dir(directory);
    }
    if let Some(user) = given.text("user")? {
        container = container.user(user);
    }
    let groups = given.texts("group-add")?;
    if !groups.is_empty() {
        let number = |group: String| {
            group.parse::<u32>().map_err(|_| Failure::new(format!("--group-add takes a number, not {group:?}")))
        };
        container = container.additional_gids(groups.into_iter().map(number).collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(name) = given.text("hostname")? {
        container = container.hostname(name);
    }
    if let Some(score) = given.number("oom-score-adj")? {
        container = container.oom_score_adj(score);
    }
    Ok(match given.number::<f64>("timeout")? {
        Some(seconds) => container.time_limit(
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| Failure::new(format!("--timeout takes a number of seconds, not {seconds}")))?,
        ),
        None => container,
    })
}

/// With a value, or with the caller's; one that the caller has not is left out, as docker does.
fn variable(container: Container, text: &str) -> Container {
    match text.split_once('=') {
        Some((name, value)) => container.env(name, value),
        None => match std::env::var(text) {
            Ok(value) => container.env(text, value),
            Err(_) => container,
        },
    }
}

fn files(mut container: Container, given: &Given) -> Result<Container, Failure> {
    for text in given.texts("volume")? {
        container = shared(container, &text)?;
    }
    for text in given.texts("tmpfs")? {
        let (target, size) = match text.split_once(":size=") {
            Some((target, size)) => (target, size_of("tmpfs", size)?),
            None if text.contains(':') => {
                return Err(Failure::new(format!("--tmpfs takes TARGET[:size=BYTES], not {text:?}")));
            }
            None => (text.as_str(), 64 * MIB),
        };
        container = container.tmpfs(target, size);
    }
    container = given.texts("device")?.into_iter().fold(container, Container::device);
    Ok(if given.has("read-only") { container.read_only_root() } else { container })
}

fn shared(container: Container, text: &str) -> Result<Container, Failure> {
    let mut parts = text.split(':');
    let (source, target, mode) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(target), mode @ (None | Some("ro" | "rw")), None) if !source.is_empty() => {
            (source, target, mode)
        }
        _ => return Err(Failure::new(format!("--volume takes SOURCE:TARGET[:ro], not {text:?}"))),
    };
    // As with docker, a name without a slash is that of a volume.
    match (source.contains('/') || source == ".", mode == Some("ro")) {
        (true, true) => Ok(container.bind_read_only(source, target)),
        (true, false) => Ok(container.bind(source, target)),
        (false, false) => Ok(container.volume(source, target)),
        (false, true) => {
            Err(Failure::new(format!("cannot share the volume {source} read-only: that is not supported yet")))
        }
    }
}

fn size_of(option: &str, text: &str) -> Result<u64, Failure> {
    let size = bytes(text).and_then(|size| u64::try_from(size).ok());
    size.ok_or_else(|| Failure::new(format!("--{option} takes bytes such as 64m, not {text:?}")))
}

fn isolation(mut container: Container, given: &Given, read: &Files, runtime: &Runtime) -> Result<Container, Failure> {
    container = container.profile(given.choice(
        "profile",
        &[("ordinary", Profile::Ordinary), ("trusted", Profile::Trusted), ("hostile", Profile::Hostile)],
    )?);
    for (option, kind) in [("pid", Kind::Pid), ("ipc", Kind::Ipc), ("uts", Kind::Uts), ("cgroupns", Kind::Cgroup)] {
        if given.choice(option, &[("private", false), ("host", true)])? {
            container = container.share(kind);
        }
    }
    container = given.texts("publish")?.iter().fold(container, |container, port| container.publish(port));
    container = match Choice::of(given)? {
        Choice::Host => container.network(Network::Host),
        Choice::Join(id) => container.network(Network::Join(network_of(&id, runtime)?)),
        Choice::None | Choice::Bridge(_) | Choice::Pasta => container,
    };
    for name in given.texts("cap-drop")? {
        container = match name.eq_ignore_ascii_case("all") {
            true => container.drop_capabilities(),
            false => container.drop_capability(&name),
        };
    }
    container = given.texts("cap-add")?.iter().fold(container, |container, name| container.capability(name));
    for (name, value) in given.pairs("sysctl")? {
        container = container.sysctl(name, value);
    }
    for option in given.texts("security-opt")? {
        container = secured(container, &option, read)?;
    }
    Ok(container)
}

/// Which network is asked for.
#[derive(Debug, Eq, PartialEq)]
enum Choice {
    None,
    Host,
    /// That of the container with this id.
    Join(String),
    Bridge(String),
    Pasta,
}

impl Choice {
    fn of(given: &Given) -> Result<Self, Failure> {
        // The name of our own bridge, which all share that name none.
        const SHARED: &str = "keelbox";
        let asked = given.text("network")?;
        Ok(match asked.as_deref() {
            Some("none") => Self::None,
            Some("host") => Self::Host,
            Some("pasta") => Self::Pasta,
            Some("bridge") => Self::Bridge(SHARED.to_owned()),
            None if given.texts("publish")?.is_empty() => Self::None,
            None if nix::unistd::geteuid().is_root() => Self::Bridge(SHARED.to_owned()),
            None => Self::Pasta,
            Some(other) => match other.split_once(':') {
                Some(("container", id)) if !id.is_empty() => Self::Join(id.to_owned()),
                Some(("bridge", name)) if !name.is_empty() => Self::Bridge(name.to_owned()),
                _ => {
                    let known = "none, host, container:ID, bridge[:NAME] or pasta";
                    return Err(Failure::new(format!("--network is {known}, not {other:?}")));
                }
            },
        })
    }
}

/// The container in a network that has to be made for it, if such a one is asked for; it is gone with its last container.
pub(super) fn connected(container: Container, given: &Given, runtime: &Runtime) -> Result<Container, Failure> {
    Ok(match Choice::of(given)? {
        Choice::Bridge(name) => {
            // Beside the containers, where nothing is taken for one.
            let mut state = runtime.root().as_os_str().to_owned();
            state.push("-networks");
            container.network(&Network::bridge(name).state(state).create().map_err(keelbox::Error::from)?)
        }
        Choice::Pasta => container.network(Network::pasta()),
        Choice::None | Choice::Host | Choice::Join(_) => container,
    })
}

fn network_of(id: &str, runtime: &Runtime) -> Result<PathBuf, Failure> {
    let pid = runtime.open(id)?.pid();
    let pid = pid.ok_or_else(|| Failure::new(format!("cannot join the network of container {id}: it has ended")))?;
    Ok(format!("/proc/{pid}/ns/net").into())
}

/// `NAME=VALUE`, or `NAME:VALUE` as docker wrote it once.
fn parts(option: &str) -> (&str, &str) {
    option.split_once(['=', ':']).unwrap_or((option, ""))
}

fn secured(container: Container, option: &str, read: &Files) -> Result<Container, Failure> {
    let (name, value) = parts(option);
    let filter = read.filters.iter().find(|(file, _)| name == "seccomp" && file == value);
    if let Some((_, filter)) = filter {
        return Ok(container.seccomp(filter.clone()));
    }
    match (name, value) {
        ("seccomp", "unconfined") => Ok(container.no_seccomp()),
        ("no-new-privileges", "" | "true") => Ok(container),
        ("no-new-privileges", "false") => Ok(container.new_privileges()),
        ("apparmor", profile) if !profile.is_empty() => Ok(container.apparmor_profile(profile)),
        _ => Err(Failure::new(format!("cannot honour --security-opt {option}: there is no such option"))),
    }
}

fn resources(mut container: Container, given: &Given) -> Result<Container, Failure> {
    let mut limits = Limits::new();
    let memory = given.text("memory")?.map(|text| size_of("memory", &text)).transpose()?;
    if let Some(memory) = memory {
        limits = limits.memory(memory);
    }
    match (given.text("memory-swap")?.as_deref(), memory) {
        (None | Some("-1"), _) => {}
        (Some(text), Some(memory)) => {
            let both = size_of("memory-swap", text)?;
            let swap = both.checked_sub(memory);
            limits = limits.swap(swap.ok_or_else(|| {
                Failure::new(format!("--memory-swap {text} is memory and swap together, and less than --memory"))
            })?);
        }
        (Some(_), None) => return Err(Failure::new("--memory-swap says nothing without --memory")),
    }
    if let Some(cpus) = given.number("cpus")? {
        limits = limits.cpus(cpus);
    }
    if let Some(shares) = given.number("cpu-shares")? {
        limits = limits.cpu_shares(shares);
    }
    if let Some(list) = given.text("cpuset-cpus")? {
        limits = limits.cpuset_cpus(list);
    }
    if let Some(count) = given.number::<i64>("pids-limit")?.filter(|count| *count > 0) {
        limits = limits.pids(count.unsigned_abs());
    }
    for text in given.texts("ulimit")? {
        let (resource, soft, hard) = ulimit(&text)?;
        container = container.rlimit(resource, soft, hard);
    }
    Ok(if limits.is_empty() { container } else { container.limits(limits) })
}

fn ulimit(text: &str) -> Result<(Resource, u64, u64), Failure> {
    let wrong = || Failure::new(format!("--ulimit takes NAME=SOFT[:HARD] such as nofile=1024:4096, not {text:?}"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| wrong()),
    };
    let resource = match name {
        "cpu" => Resource::Cpu,
        "fsize" => Resource::FileSize,
        "data" => Resource::Data,
        "stack" => Resource::Stack,
        "core" => Resource::Core,
        "nproc" => Resource::Processes,
        "nofile" => Resource::Descriptors,
        "memlock" => Resource::LockedMemory,
        "as" => Resource::AddressSpace,
        _ => return Err(wrong()),
    };
    Ok((resource, number(soft)?, number(hard)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_processes_are_read() {
        assert_eq!(ulimit("nofile=1:2").expect("right"), (Resource::Descriptors, 1, 2));
        assert_eq!(ulimit("core=-1").expect("right"), (Resource::Core, u64::MAX, u64::MAX));
        for wrong in ["nofile", "nofile=", "files=1", "nofile=1:x"] {
            assert!(ulimit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shared_has_a_source_and_a_target() {
        for wrong in ["/a", ":/b", "/a:/b:rx", "/a:/b:ro:z", "name:/b:ro"] {
            assert!(shared(Container::from_rootfs("/"), wrong).is_err(), "{wrong}");
        }
    }
}
