//! Kernel parameters that belong to a namespace, and so may be set for a container.
//!
//! Left out on purpose: writing them, and parameters of the whole host, which a container must never change
//! (CVE-2022-0811 was such a one). Needs no kernel; see sysctl(8) and proc_sys(5).
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;

use crate::problem::quote;

/// The parameters of an ipc namespace, besides everything below `fs.mqueue`; see ipc_namespaces(7).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The name of a kernel parameter that a container may have a value of its own for.
///
/// Both spellings of sysctl(8) are understood: with dots, in which a slash stands for a dot inside a name, and with
/// slashes. The path is made of checked parts, so it cannot leave `/proc/sys`.
///
/// ```
/// use keelbox_runtime_spec::sysctl::Key;
///
/// let key = Key::parse("net.ipv4.conf.eno2/100.rp_filter")?;
/// assert_eq!(key.file(), std::path::Path::new("net/ipv4/conf/eno2.100/rp_filter"));
/// assert!(Key::parse("kernel.core_pattern").is_err());
/// assert!(Key::parse("net/../kernel/core_pattern").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    file: PathBuf,
    namespace: &'static str,
}

impl Key {
    /// Understands a name.
    ///
    /// # Errors
    ///
    /// A sentence that says why a container may not set this parameter: it is spelled wrong, or it belongs to the whole host.
    pub fn parse(name: &str) -> Result<Self, String> {
        let parts = parts(name).ok_or_else(|| format!("{} is no sysctl name", quote(name)))?;
        let dotted = parts.join(".");
        let namespace = match parts.first().map(String::as_str) {
            Some("net") if parts.len() > 1 => "network",
            Some("fs") if parts.len() > 2 && parts[1] == "mqueue" => "ipc",
            Some("user") if parts.len() == 2 => "user",
            _ if IPC.contains(&dotted.as_str()) => "ipc",
            _ if dotted == "kernel.domainname" => "uts",
            _ if dotted == "kernel.hostname" => {
                return Err("must not be set as a sysctl: use the property hostname".to_owned());
            }
            _ => {
                return Err(format!("{} belongs to no namespace, it would change the host", quote(name)));
            }
        };
        Ok(Self { file: parts.iter().collect(), namespace })
    }

    /// The file, relative to `/proc/sys`. It has no `..` and no empty part.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The type of namespace that the parameter belongs to. A container without one of its own must not set it.
    pub fn namespace(&self) -> LinuxNamespaceType {
        match self.namespace {
            "network" => LinuxNamespaceType::Network,
            "ipc" => LinuxNamespaceType::Ipc,
            "user" => LinuxNamespaceType::User,
            _ => LinuxNamespaceType::Uts,
        }
    }

    pub(crate) fn namespace_name(&self) -> &'static str {
        self.namespace
    }
}

// Whichever of the two separators comes first is the separator, and the other one stands for a dot inside a part.
fn parts(name: &str) -> Option<Vec<String>> {
    let separator = name.chars().find(|c| matches!(c, '.' | '/'))?;
    let inner = if separator == '.' { '/' } else { '.' };
    let part = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '@') || c == inner;
        let text_in_file = text.replace('/', ".");
        let dots = text_in_file.starts_with('.') || text_in_file.ends_with('.') || text_in_file.contains("..");
        (!text.is_empty() && text.chars().all(allowed) && !dots).then_some(text_in_file)
    };
    let parts: Option<Vec<String>> = name.split(separator).map(part).collect();
    parts.filter(|_| name.len() <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_081_only_namespaced_parameters() {
        let good = [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward", LinuxNamespaceType::Network),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward", LinuxNamespaceType::Network),
            ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter", LinuxNamespaceType::Network),
            ("net.ipv4.conf.veth-a@b.rp_filter", "net/ipv4/conf/veth-a@b/rp_filter", LinuxNamespaceType::Network),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max", LinuxNamespaceType::Ipc),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced", LinuxNamespaceType::Ipc),
            ("kernel.domainname", "kernel/domainname", LinuxNamespaceType::Uts),
            ("user.max_pid_namespaces", "user/max_pid_namespaces", LinuxNamespaceType::User),
        ];
        for (name, file, namespace) in good {
            let key = Key::parse(name).unwrap();
            assert_eq!((key.file(), key.namespace()), (Path::new(file), namespace));
        }
    }

    #[test]
    fn rs_081_hostile_names_are_refused() {
        // As in CVE-2022-0811 and its kind.
        let bad = [
            "kernel.core_pattern",
            "kernel.modprobe",
            "net/../kernel/core_pattern",
            "net.ipv4/../../kernel.core_pattern",
            "net.ipv4.../../kernel",
            "fs.mqueue../x",
            "fs.mqueue",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel.shm_rmid_forced,x",
            "",
            "a\0b",
            "net.ipv4.ip_forward\0",
            "net.ipv4.ip_forward.",
            ".net.ipv4.x",
            "net..x",
            "/net/ipv4/x",
            "net/./ipv4/x",
            "net.ipv4.x y",
            "net.ipv4.x\n",
            "net",
            "vm.swappiness",
            "kernel.hostname",
            "kernel/core_pattern",
            "KERNEL.SEM",
            "user",
            "user.a.b",
            "kernel.sem.x",
        ];
        for name in bad {
            assert!(Key::parse(name).is_err(), "{name:?}");
        }
        let message = Key::parse("kernel.hostname").unwrap_err();
        assert_eq!(message, "must not be set as a sysctl: use the property hostname");
        assert!(Key::parse(&format!("net.ipv4.{}", "x".repeat(300))).is_err());
    }
}
