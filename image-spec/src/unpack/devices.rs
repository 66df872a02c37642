//! Devices and FIFOs.
//!
//! Job: make them, or do what the caller chose instead, and note what is not as the image says. Leaves out whiteouts,
//! which are devices only on disk and made by `finish.rs`.

use super::attributes;
use super::disk;
use super::extract::{Extractor, wanted};
use super::note::NoteKind;
use super::policy::Devices;
use super::tree::{Id, Kind, Name};
use crate::tar::{Entry, EntryKind};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use std::os::fd::AsFd;

impl Extractor<'_> {
    pub(super) fn node(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::Fifo => return self.special_file(parent, name, entry, SFlag::S_IFIFO),
            EntryKind::CharDevice => SFlag::S_IFCHR,
            _ => SFlag::S_IFBLK,
        };
        match self.policy.devices {
            Devices::Create if kind == SFlag::S_IFCHR && (entry.major, entry.minor) == (0, 0) => {
                Err(Error::unsupported("a character device 0:0, which overlayfs would take for a deletion"))
            }
            Devices::Create if self.manner.gives_files_away() => self.special_file(parent, name, entry, kind),
            Devices::Create | Devices::Skip => self.skip_device(parent, name, entry),
            Devices::Placeholder => self.stand_in(parent, name, entry),
            Devices::Refuse => Err(Error::unsupported("a device, and none is wanted")),
        }
    }

    fn special_file(&mut self, parent: Id, name: &[u8], entry: &Entry, kind: SFlag) -> Result<()> {
        self.clear(parent, name)?;
        let at = self.disk.directory(&self.tree, parent)?;
        match disk::make_node(at.as_fd(), name, kind, (entry.major, entry.minor)) {
            Ok(()) => {}
            Err(Errno::EPERM) if kind != SFlag::S_IFIFO => return self.skip_device(parent, name, entry),
            Err(errno) => return Err(Error::os("cannot create it", errno)),
        }
        let id = self.insert(parent, name, Kind::File)?;
        let path = self.tree.path(id);
        attributes::special(at.as_fd(), name, false, &wanted(entry, &path), &self.manner, &mut self.notes)
    }

    /// Puts an ordinary file where the device would be.
    fn stand_in(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<()> {
        self.clear(parent, name)?;
        let at = self.disk.directory(&self.tree, parent)?;
        let id = self.insert(parent, name, Kind::File)?;
        let path = self.tree.path(id);
        let file = disk::make_file(at.as_fd(), name, 0o600, &path)?;
        attributes::file(file.as_fd(), &wanted(entry, &path), false, &self.manner, &mut self.notes)?;
        self.note_device(parent, name, entry);
        Ok(())
    }

    /// Leaves a device out and says so. What this layer had there before is gone, as if the device had replaced it.
    fn skip_device(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<()> {
        if self.tree.child(parent, name).is_some_and(|id| !matches!(self.tree.node(id).kind, Kind::Whiteout)) {
            self.clear(parent, name)?;
        }
        self.note_device(parent, name, entry);
        Ok(())
    }

    fn note_device(&mut self, parent: Id, name: &[u8], entry: &Entry) {
        let mut components = self.tree.components(parent);
        components.push(Name::from(name));
        let kind = if entry.kind == EntryKind::CharDevice { 'c' } else { 'b' };
        let Entry { major, minor, uid, gid, mode, .. } = *entry;
        self.notes.add(&components.join(&b'/'), &NoteKind::Device { kind, major, minor, uid, gid, mode });
    }
}
