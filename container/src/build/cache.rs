//! Steps that were done before.
//!
//! Job: one small file for each input in `build/` of the store, which names the manifest that came of it; and the check that all of it
//! is still there, since nothing protects images without a name. Leaves out what an input is.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use keelbox_image_spec::{Digest, Image, Store};

use crate::error::{Error, Result};

pub(crate) struct Cache {
    place: PathBuf,
    store: Store,
}

impl Cache {
    pub(crate) fn of(store: &Store) -> Self {
        Self { place: store.path().join("build"), store: store.clone() }
    }

    /// What came of this input, if it is all there.
    pub(crate) fn find(&self, key: &Digest) -> Option<Image> {
        let text = fs::read_to_string(self.place.join(key.hex())).ok()?;
        let image = self.store.get_unnamed(&text.trim().parse().ok()?).ok()?;
        self.store.is_complete(&image).ok()?.then_some(image)
    }

    /// Remembers what came of this input.
    pub(crate) fn remember(&self, key: &Digest, image: &Image) -> Result<()> {
        let cannot = |error| Error::os(format!("cannot write {}", self.place.display()), error);
        fs::create_dir_all(&self.place).map_err(cannot)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.place).map_err(cannot)?;
        writeln!(file, "{}", image.manifest_digest()).map_err(cannot)?;
        file.persist(self.place.join(key.hex())).map_err(|error| cannot(error.error))?;
        Ok(())
    }
}
