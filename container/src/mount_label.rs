//! `linux.mountLabel`: the SELinux label of everything in a file system that is made for the container. Oldest kernel: any.
//!
//! Leaves out what is bound: its files have labels of their own, which are the caller's to set. As with other runtimes, `proc`,
//! `sysfs`, `mqueue` and control groups keep the labels that the policy gives them.

use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};

/// Refuses a label where the kernel has none.
pub(crate) fn honoured(spec: &oci::Spec) -> Result<()> {
    let label = spec.linux().as_ref().and_then(label);
    if label.is_none() {
        return Ok(());
    }
    let attempt = "cannot honour linux.mountLabel";
    let known = std::fs::read_to_string("/proc/filesystems")
        .map_err(|error| Error::os(format!("{attempt}: cannot read /proc/filesystems"), error))?;
    match known.lines().any(|line| line.ends_with("\tselinuxfs")) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Unsupported, format!("{attempt}: this kernel has no SELinux"))),
    }
}

fn label(linux: &oci::Linux) -> Option<&str> {
    linux.mount_label().as_deref().filter(|label| !label.is_empty())
}

/// The option that labels a mount of this type with these options; none if it has a label already or gets none.
pub(crate) fn option(linux: &oci::Linux, kind: Option<&str>, options: &[String]) -> Option<String> {
    let label = label(linux)?;
    let words = |list: &[&str]| options.iter().any(|option| list.contains(&option.as_str()));
    let made = !words(&["bind", "rbind", "remount"]);
    let labelled = options.iter().any(|option| option.starts_with("context="));
    let kept = matches!(kind, None | Some("" | "none" | "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2"));
    // The quotes keep the commas of a label's categories together (mount(8)).
    (made && !labelled && !kept).then(|| format!("context=\"{label}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_file_systems_are_labelled_and_nothing_else() {
        let mut linux = oci::Linux::default();
        let told = |linux: &oci::Linux, kind: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            option(linux, Some(kind), &options)
        };
        linux.set_mount_label(None);
        assert_eq!(told(&linux, "tmpfs", &[]), None);
        linux.set_mount_label(Some("system_u:object_r:container_file_t:s0:c1,c2".into()));
        let labelled = Some("context=\"system_u:object_r:container_file_t:s0:c1,c2\"".to_owned());
        assert_eq!(told(&linux, "tmpfs", &["nosuid"]), labelled);
        assert_eq!(told(&linux, "devpts", &["newinstance"]), labelled);
        for (kind, options) in [("proc", &[][..]), ("bind", &["rbind"]), ("none", &["remount", "ro"]), ("mqueue", &[])]
        {
            assert_eq!(told(&linux, kind, options), None, "{kind}");
        }
        assert_eq!(told(&linux, "tmpfs", &["context=other"]), None);
    }
}
