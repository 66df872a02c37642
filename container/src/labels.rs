//! The labels by which Linux security modules confine a program: which module is there, and which file takes its label.
//!
//! Found out on the host's side before anything is made, so that a label that nobody would enforce is refused. Leaves out the labels
//! of files. Oldest kernel: 5.10; from 5.8 on AppArmor has files of its own.

use std::fs;
use std::path::Path;

use keelbox_launch::{OwnedStep, Slot, Step, text};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use oci_spec::runtime as oci;

use crate::check;
use crate::error::{Error, ErrorKind, Result};

/// What is to be written where below `/proc`, so that the next program is confined by it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Labels {
    program: Vec<(&'static str, String)>,
    /// The label of keys.
    keys: Option<String>,
}

impl Labels {
    /// The labels of `process` on this machine.
    pub(crate) fn of(process: &oci::Process) -> Result<Self> {
        let labels = Machine { proc: Path::new("/proc"), sys: Path::new("/sys") }.labels(process)?;
        // What is written somewhere else confines nobody (CVE-2019-16884).
        let real = || statfs("/proc").is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
        match labels.is_empty() || real() {
            true => Ok(labels),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                "cannot label the program: there is no proc file system on /proc",
            )),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.program.is_empty()
    }

    /// The first step, on the host's side: later there is another `/proc`, or none, or one that the image made.
    pub(crate) fn open(out: Slot) -> OwnedStep {
        Step::Open { path: text("/proc"), out }
    }

    /// Before the session keyring is made, which gets its label from it.
    pub(crate) fn of_keys(&self, proc: Slot) -> Option<OwnedStep> {
        let label = self.keys.as_ref()?.clone().into_bytes();
        Some(Step::Write { directory: proc, path: text("self/attr/keycreate"), data: label })
    }

    /// The labels of the program that is executed next.
    pub(crate) fn steps(&self, proc: Slot) -> impl Iterator<Item = OwnedStep> {
        let write = move |(file, label): &(&str, String)| Step::Write {
            directory: proc,
            path: text(*file),
            data: label.clone().into_bytes(),
        };
        self.program.iter().map(write)
    }
}

/// Where the machine tells about itself.
struct Machine<'a> {
    proc: &'a Path,
    sys: &'a Path,
}

impl Machine<'_> {
    fn labels(&self, process: &oci::Process) -> Result<Labels> {
        let named = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        let mut labels = Labels::default();
        if let Some(profile) = named(process.apparmor_profile()) {
            check::text("the AppArmor profile", &profile)?;
            let file = self.apparmor().ok_or_else(|| absent("AppArmor profile", &profile, "AppArmor"))?;
            labels.program.push((file, format!("exec {profile}")));
        }
        if let Some(label) = named(process.selinux_label()) {
            check::text("the SELinux label", &label)?;
            let file = self.selinux().ok_or_else(|| absent("SELinux label", &label, "SELinux"))?;
            labels.keys = Some(label.clone());
            labels.program.push((file, label));
        }
        Ok(labels)
    }

    /// The file that takes a profile's name. The older one belongs to the first module of several.
    fn apparmor(&self) -> Option<&'static str> {
        const OWN: &str = "self/attr/apparmor/exec";
        let enabled = fs::read_to_string(self.sys.join("module/apparmor/parameters/enabled")).ok()?;
        if !enabled.starts_with('Y') {
            return None;
        }
        let found = self.proc.join(OWN).exists();
        Some(if found { OWN } else { "self/attr/exec" })
    }

    fn selinux(&self) -> Option<&'static str> {
        self.sys.join("fs/selinux/enforce").exists().then_some("self/attr/exec")
    }
}

fn absent(what: &str, label: &str, module: &str) -> Error {
    let why = format!("cannot give the program the {what} {label:?}: {module} is not enabled on this machine");
    Error::new(ErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(apparmor: &str, selinux: &str) -> oci::Process {
        let mut process = oci::Process::default();
        process.set_apparmor_profile(Some(apparmor.into())).set_selinux_label(Some(selinux.into()));
        process
    }

    /// What is written where, on a machine with these files.
    fn written(files: &[(&str, &str)], process: &oci::Process) -> Result<Vec<String>> {
        let place = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let file = place.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let (proc, sys) = (place.path().join("proc"), place.path().join("sys"));
        let labels = Machine { proc: &proc, sys: &sys }.labels(process)?;
        let steps = labels.of_keys(Slot(9)).into_iter().chain(labels.steps(Slot(9)));
        Ok(steps.map(|step| step.to_string()).collect())
    }

    const ENABLED: (&str, &str) = ("sys/module/apparmor/parameters/enabled", "Y\n");

    #[test]
    fn apparmor_has_a_file_of_its_own_or_the_first_module_s() {
        let own = [ENABLED, ("proc/self/attr/apparmor/exec", "")];
        let asked = process("box", "");
        assert_eq!(written(&own, &asked).unwrap(), ["write \"exec box\" to self/attr/apparmor/exec"]);
        assert_eq!(written(&[ENABLED], &asked).unwrap(), ["write \"exec box\" to self/attr/exec"]);
    }

    #[test]
    fn selinux_labels_keys_too() {
        let there = [("sys/fs/selinux/enforce", "1")];
        let steps = written(&there, &process("", "u:r:t:s0")).unwrap();
        assert_eq!(steps, ["write \"u:r:t:s0\" to self/attr/keycreate", "write \"u:r:t:s0\" to self/attr/exec"]);
    }

    #[test]
    fn a_label_that_nobody_would_enforce_is_refused() {
        let off = [("sys/module/apparmor/parameters/enabled", "N\n"), ("proc/self/attr/apparmor/exec", "")];
        for (files, asked, module) in [
            (off.as_slice(), process("box", ""), "AppArmor"),
            (&[], process("box", ""), "AppArmor"),
            (&[ENABLED], process("", "u:r:t:s0"), "SELinux"),
            (&[ENABLED], process("box", "u:r:t:s0"), "SELinux"),
        ] {
            let error = written(files, &asked).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().ends_with(&format!("{module} is not enabled on this machine")), "{error}");
        }
        assert_eq!(written(&[], &process("", "")).unwrap(), [""; 0]);
        assert_eq!(written(&[ENABLED], &process("a\0b", "")).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
