//! How much a hostile image may cost.
//!
//! Job: one plain struct of bounds with defaults that no honest image meets. Leaves out free space on the disk: the
//! kernel says `ENOSPC`, and what was written is removed.

/// Bounds for opening and unpacking an image. Each is checked before memory or disk is spent.
///
/// ```
/// use keelbox_image_spec::Limits;
/// let strict = Limits::default().layer_bytes(1 << 30).entries(100_000);
/// assert_eq!(strict.layers, 500);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of an index or a manifest. Default 4 MiB.
    pub manifest_bytes: u64,
    /// Bytes of an image configuration. Default 8 MiB.
    pub config_bytes: u64,
    /// Indexes within indexes. Default 4.
    pub index_depth: usize,
    /// Layers of one image. Default 500, what overlayfs can stack.
    pub layers: usize,
    /// Bytes of one layer after decompression, holes of sparse files included. Default 64 GiB.
    pub layer_bytes: u64,
    /// Output bytes for each input byte of a compressed layer, once 64 MiB have come out. Default 1000.
    pub ratio: u64,
    /// Entries of one layer. Default 20 million.
    pub entries: u64,
    /// Bytes of a path or link target inside a layer. Default 64 KiB.
    pub path_bytes: usize,
    /// Components of a path inside a layer. Default 4096, deeper than any path the kernel takes in one call.
    pub path_depth: usize,
    /// Bytes of one extended header (PAX records, GNU long names). Default 1 MiB.
    pub header_bytes: u64,
    /// Bytes of one extended attribute. Default 64 KiB, the most Linux can store.
    pub xattr_bytes: usize,
    /// Data regions of one sparse file. Default 65,536.
    pub sparse_regions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 8 << 20,
            index_depth: 4,
            layers: 500,
            layer_bytes: 64 << 30,
            ratio: 1000,
            entries: 20_000_000,
            path_bytes: 64 << 10,
            path_depth: 4096,
            header_bytes: 1 << 20,
            xattr_bytes: 64 << 10,
            sparse_regions: 1 << 16,
        }
    }
}

macro_rules! setters {
    ($($name:ident: $kind:ty),*) => {
        impl Limits {
            $(#[doc = concat!("Replaces [`", stringify!($name), "`](field@Self::", stringify!($name), ").")]
            #[must_use]
            pub fn $name(mut self, value: $kind) -> Self {
                self.$name = value;
                self
            })*
        }
    };
}

setters!(manifest_bytes: u64, config_bytes: u64, index_depth: usize, layers: usize, layer_bytes: u64, ratio: u64,
    entries: u64, path_bytes: usize, path_depth: usize, header_bytes: u64, xattr_bytes: usize, sparse_regions: usize);
