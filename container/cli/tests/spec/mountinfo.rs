//! Reading `/proc/self/mountinfo`, as a program inside prints it.

/// A mount, as `proc_pid_mountinfo(5)` tells it.
#[derive(Clone, Debug)]
pub struct Entry<'t> {
    point: &'t str,
    options: Vec<&'t str>,
    fields: Vec<&'t str>,
    pub kind: &'t str,
    superblock: Vec<&'t str>,
}

/// All mounts, in the order in which they were made.
pub struct Table<'t>(Vec<Entry<'t>>);

impl<'t> Table<'t> {
    /// Lines that are none are passed over.
    pub fn of(text: &'t str) -> Self {
        Self(text.lines().filter_map(Entry::of).collect())
    }

    /// The topmost mount at `point`.
    pub fn at(&self, point: &str) -> &Entry<'t> {
        let found = self.0.iter().rev().find(|entry| entry.point == point);
        found.unwrap_or_else(|| panic!("nothing is mounted at {point}: {:?}", self.0))
    }

    /// The points at which something is mounted, in order.
    pub fn points(&self) -> Vec<&'t str> {
        self.0.iter().map(|entry| entry.point).collect()
    }
}

impl<'t> Entry<'t> {
    fn of(line: &'t str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (point, options) = (mount.next()?, mount.next()?.split(',').collect());
        let mut rest = file_system.splitn(3, ' ');
        let (kind, superblock) = (rest.next()?, rest.nth(1)?.split(',').collect());
        Some(Self { point, options, fields: mount.collect(), kind, superblock })
    }

    /// Whether the mount has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    /// Whether its file system has this option.
    pub fn superblock(&self, option: &str) -> bool {
        self.superblock.contains(&option)
    }

    /// Whether one of the optional fields begins so.
    pub fn field(&self, begin: &str) -> bool {
        self.fields.iter().any(|field| field.starts_with(begin))
    }
}
