//! Where a group will come to be, told before it is made: for whoever has to find it after a crash.
//!
//! Leaves out: making anything. Oldest kernel: 5.10.

use std::path::{Path, PathBuf};

use super::{Builder, base};
use crate::error::{ErrorKind, Result};
use crate::hierarchy::{Hierarchy, Mount};
use crate::name::Name;

/// What [`Builder::create`] is about to make.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Prospect {
    /// The directories of the group, v2 first.
    pub directories: Vec<PathBuf>,
    /// Those of them that are not there yet, and the directories above them that are missing too.
    pub missing: Vec<PathBuf>,
}

impl Builder {
    /// Where the group would come to be now. Hierarchies that are closed to the caller may be among the answers.
    ///
    /// # Errors
    /// [`InvalidPath`](ErrorKind::InvalidPath), and as [`Limits::plan`](crate::Limits::plan).
    pub fn prospect(&self) -> Result<Prospect> {
        let name = Name::parse(&self.path)?;
        let hierarchy = self.hierarchy.clone().map_or_else(Hierarchy::detect, Ok)?;
        let plan = self.limits.plan(&hierarchy)?;
        let mut prospect = Prospect::default();
        for mount in hierarchy.unified().into_iter().chain(self.legacy_mounts(&hierarchy, &plan)) {
            prospect.look(mount, self, &name)?;
        }
        Ok(prospect)
    }
}

impl Prospect {
    fn look(&mut self, mount: &Mount, builder: &Builder, name: &Name) -> Result<()> {
        let base = match base::find(mount, &builder.parent) {
            Ok(base) => base,
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        let directory = base.path().join(name.to_path());
        let missing = directory.ancestors().take(name.parts().len()).take_while(|path| !path.exists());
        self.missing.extend(missing.map(Path::to_owned));
        self.directories.push(directory);
        Ok(())
    }
}
