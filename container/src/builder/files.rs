//! Setters about the file system: directories shared, files put in, devices.

use std::path::{Path, PathBuf};

use keelbox_namespaces::{IdMap, IdMaps};
use oci_spec::runtime as oci;

use super::Container;
use crate::spec::Injected;

impl Container {
    /// Shares a file or directory of the host, with everything mounted below it, at a path inside (made if missing).
    pub fn bind(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.mount(target.into(), "bind", Some(source.into()), vec!["rbind".into()])
    }

    /// As [`bind`](Self::bind), but nothing can be changed through it, in what is mounted below it neither (Linux 5.12).
    pub fn bind_read_only(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.mount(target.into(), "bind", Some(source.into()), vec!["rbind".into(), "rro".into()])
    }

    /// As [`bind`](Self::bind), with the ids of its files mapped: of the mappings `inside outside count`, *inside* are the ids on
    /// disk and *outside* those that they stand for on the host. Needs Linux 5.12, a file system that can map ids, and root.
    ///
    /// ```
    /// use keelbox::{Container, IdMap, IdMaps};
    /// // What root owns on disk belongs to user 1000 in the container, and what that user makes there to root.
    /// let map: IdMap = "0 1000 1".parse()?;
    /// let container = Container::from_rootfs("/srv/web").bind_mapped("/srv/data", "/data", &IdMaps::new(map.clone(), map));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_mapped(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, maps: &IdMaps) -> Self {
        self = self.mount(target.into(), "bind", Some(source.into()), vec!["rbind".into(), "ridmap".into()]);
        if let Some(mount) = self.spec.mounts().last_mut() {
            mount.set_uid_mappings(Some(mappings(maps.users()))).set_gid_mappings(Some(mappings(maps.groups())));
        }
        self
    }

    /// A directory with this name that keeps its content from one container to the next, below `volumes` in the
    /// [store](Self::store). It is made when the first container with it is built, with what the root file system has at the
    /// target: see [`Volumes`](crate::Volumes).
    ///
    /// A name consists of letters, digits, `_`, `.` and `-`, and begins with a letter or digit.
    pub fn volume(mut self, name: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        let (name, target) = (name.into(), target.into());
        if let Err(why) = crate::volume::check(&name) {
            self.spec.refuse(why);
        }
        if !target.is_absolute() {
            self.spec.refuse(format!("the target {} of a volume is not absolute", target.display()));
        }
        self.spec.volumes.push((name, target));
        self
    }

    /// A file system in memory, of at most this many bytes, that begins with what the root file system has at the target: files
    /// with owner, mode, times and extended attributes.
    pub fn tmpfs_copy(self, target: impl Into<PathBuf>, bytes: u64) -> Self {
        let options = vec!["nosuid".into(), "nodev".into(), "tmpcopyup".into(), format!("size={bytes}")];
        self.mount(target.into(), "tmpfs", Some("tmpfs".into()), options)
    }

    /// An empty file system in memory, of at most this many bytes.
    pub fn tmpfs(self, target: impl Into<PathBuf>, bytes: u64) -> Self {
        let options = vec!["nosuid".into(), "nodev".into(), "mode=1777".into(), format!("size={bytes}")];
        self.mount(target.into(), "tmpfs", Some("tmpfs".into()), options)
    }

    /// A mount as an OCI `config.json` has it: type, source, options. Default: those of the profile.
    pub fn mount_oci(mut self, mount: oci::Mount) -> Self {
        self.spec.mounts().push(mount);
        self
    }

    fn mount(mut self, target: PathBuf, kind: &str, source: Option<PathBuf>, options: Vec<String>) -> Self {
        if !target.is_absolute() {
            self.spec.refuse(format!("the mount target {} is not absolute", target.display()));
        }
        let mut mount = oci::Mount::default();
        mount.set_destination(target).set_typ(Some(kind.into())).set_options(Some(options));
        mount.set_source(source.map(|source| if kind == "bind" { absolute(&source) } else { source }));
        self.spec.mounts().push(mount);
        self
    }

    /// Puts a file into the container before the program starts, with mode `0o644`; directories above it are made.
    pub fn file(self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.file_with_mode(path, content, 0o644)
    }

    /// As [`file`](Self::file), with a mode.
    pub fn file_with_mode(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        let path = path.into();
        if !path.is_absolute() {
            self.spec.refuse(format!("the path {} of a file is not absolute", path.display()));
        }
        self.spec.files.push(Injected { path, mode: mode & 0o7777, content: content.into() });
        self
    }

    /// Makes a device of the host available under the same path.
    ///
    /// Its node is bound into the container, so this needs no privilege; whether it can be opened is up to its owner and mode.
    pub fn device(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.spec.file_sources.push(path.clone());
        let target = path.clone();
        self.mount(target, "bind", Some(path), vec!["bind".into()])
    }

    /// Makes the root file system read-only. Default: writable.
    pub fn read_only_root(mut self) -> Self {
        let mut root = self.spec.oci.root().clone().unwrap_or_default();
        root.set_readonly(Some(true));
        self.spec.oci.set_root(Some(root));
        self
    }

    /// The directory that images are unpacked into. Default: `/var/lib/keelbox`, or `~/.local/share/keelbox` of the calling user.
    pub fn store(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spec.store = Some(directory.into());
        self
    }
}

fn mappings(map: &IdMap) -> Vec<oci::LinuxIdMapping> {
    let mapping = |range: &keelbox_namespaces::Range| {
        let mapping = oci::LinuxIdMappingBuilder::default();
        let mapping = mapping.container_id(range.inside()).host_id(range.outside()).size(range.count());
        mapping.build().unwrap_or_default()
    };
    map.ranges().iter().map(mapping).collect()
}

/// Relative to the working directory at this moment; later it may be another one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
