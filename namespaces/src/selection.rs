//! Which namespaces a container gets, and what is set in the new ones. Pure: nothing is opened, nothing is asked.
//!
//! Leaves out on purpose: what the kernel is asked for and when, see `plan.rs`. Oldest kernel: see [`Kind`].

use keelbox_launch::Slot;

use crate::caller::Caller;
use crate::error::{Error, ErrorKind};
use crate::id_maps::IdMaps;
use crate::kind::{Kind, NamespaceSet};
use crate::mapping::MapMethod;
use crate::plan::Plan;
use crate::source::{Source, Target};
use crate::time_offsets::TimeOffsets;

/// The longest host or domain name, in bytes.
const NAME_LENGTH: usize = 64;

/// Whether the loopback interface of a new network namespace is brought up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Loopback {
    /// It is up, so that 127.0.0.1 and `::1` work.
    #[default]
    Up,
    /// It stays down, as the kernel makes it.
    Down,
}

/// When the program gets into its new time namespace.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TimeSwitch {
    /// By one clone more. Works on every kernel that has time namespaces.
    #[default]
    Fork,
    /// When the program is executed: saves the clone, and before Linux 6.2 silently leaves the program outside.
    Exec,
}

/// Which namespaces a container gets.
///
/// Every kind is shared with the caller unless it is named. Wrong selections are refused by [`Selection::plan`], before
/// anything is touched.
///
/// ```
/// use keelbox_launch::Slot;
/// use keelbox_namespaces::{Caller, IdMaps, Kind, MapMethod, Selection, Source};
///
/// let ann = Caller::new(1000, 1000);
/// let plan = Selection::new(&ann)
///     .namespace(Kind::User, Source::New)
///     .namespace(Kind::Uts, Source::New)
///     .id_maps(IdMaps::own(&ann)?, MapMethod::Own)
///     .hostname("box")
///     .plan(Slot(0))?;
/// assert_eq!(plan.clone_flags(), u64::from(Kind::User.flag() | Kind::Uts.flag()));
/// println!("{:#?}", plan.steps());
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Selection {
    pub(crate) sources: Vec<(Kind, Source)>,
    pub(crate) maps: Option<(IdMaps, MapMethod)>,
    pub(crate) offsets: Option<TimeOffsets>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) loopback: Loopback,
    pub(crate) time_switch: TimeSwitch,
    pub(crate) privileged: bool,
}

impl Selection {
    /// Everything shared with `caller`, whose privilege decides in which order namespaces are joined.
    pub fn new(caller: &Caller) -> Self {
        Self {
            sources: Vec::new(),
            maps: None,
            offsets: None,
            hostname: None,
            domainname: None,
            loopback: Loopback::default(),
            time_switch: TimeSwitch::default(),
            privileged: caller.is_privileged(),
        }
    }

    /// Says where the namespace of one kind comes from. Default: [`Source::Host`] for all. A kind may be named once.
    ///
    /// A new one needs `CAP_SYS_ADMIN`, or a new user namespace beside it.
    pub fn namespace(mut self, kind: Kind, source: Source) -> Self {
        self.sources.push((kind, source));
        self
    }

    /// The id maps of the new user namespace, and who writes them ([`MapMethod::choose`]). Default: none, so that
    /// every id is shown as 65534.
    pub fn id_maps(mut self, maps: IdMaps, method: MapMethod) -> Self {
        self.maps = Some((maps, method));
        self
    }

    /// The clocks of the new time namespace. Default: as outside.
    pub fn time_offsets(mut self, offsets: TimeOffsets) -> Self {
        self.offsets = Some(offsets);
        self
    }

    /// The host name, of at most 64 bytes, in a new or joined UTS namespace. Default: as the namespace has it.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// The NIS domain name, of at most 64 bytes, in a new or joined UTS namespace. Default: as the namespace has it.
    pub fn domainname(mut self, name: impl Into<String>) -> Self {
        self.domainname = Some(name.into());
        self
    }

    /// Whether the loopback interface of a new network namespace is brought up. Default: it is.
    pub fn loopback(mut self, loopback: Loopback) -> Self {
        self.loopback = loopback;
        self
    }

    /// When the program gets into a new time namespace. Default: by one clone more.
    pub fn time_switch(mut self, switch: TimeSwitch) -> Self {
        self.time_switch = switch;
        self
    }

    /// Where the namespace of `kind` comes from.
    pub fn source(&self, kind: Kind) -> &Source {
        let named = self.sources.iter().find(|(named, _)| *named == kind);
        named.map_or(&Source::Host, |(_, source)| source)
    }

    /// The kinds of which there will be a new one.
    pub fn new_kinds(&self) -> NamespaceSet {
        Kind::ALL.into_iter().filter(|kind| *self.source(*kind) == Source::New).collect()
    }

    /// The kinds of which one that exists is joined.
    pub fn joined_kinds(&self) -> NamespaceSet {
        Kind::ALL.into_iter().filter(|kind| self.joined(*kind).is_some()).collect()
    }

    pub(crate) fn joined(&self, kind: Kind) -> Option<&Target> {
        match self.source(kind) {
            Source::Join(target) => Some(target),
            Source::Host | Source::New => None,
        }
    }

    /// Works out what to clone with, what to join and what to do then. Descriptors of what is joined are to be put
    /// into the slots from `first` on.
    ///
    /// # Errors
    ///
    /// As [`Selection::check`].
    pub fn plan(&self, first: Slot) -> Result<Plan, Error> {
        self.check()?;
        Ok(Plan::new(self, first))
    }

    /// Checks that the selection means something.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Duplicate`] if a kind is named twice, [`ErrorKind::Contradiction`] if a setting lacks its
    /// namespace, [`ErrorKind::Malformed`] for a name that is none, [`ErrorKind::Unsupported`] for what the kernel
    /// cannot do.
    pub fn check(&self) -> Result<(), Error> {
        let mut seen = NamespaceSet::NONE;
        for (kind, _) in &self.sources {
            if seen.contains(*kind) {
                let what = format!("the {} is selected twice", kind.words());
                return Err(Error::new(ErrorKind::Duplicate, what));
            }
            seen = seen.and(*kind);
        }
        self.check_maps()?;
        self.check_time()?;
        self.check_name("host name", self.hostname.as_deref())?;
        self.check_name("domain name", self.domainname.as_deref())?;
        self.check_privilege()
    }

    fn check_maps(&self) -> Result<(), Error> {
        let why = match self.source(Kind::User) {
            _ if self.maps.is_none() => return Ok(()),
            Source::New => return Ok(()),
            Source::Join(target) => {
                format!("the user namespace of {target} has its own and keeps them")
            }
            Source::Host => "there is no new user namespace".to_owned(),
        };
        Err(Error::new(ErrorKind::Contradiction, format!("cannot set id maps: {why}")))
    }

    fn check_time(&self) -> Result<(), Error> {
        if self.offsets.is_none_or(|offsets| offsets.is_empty()) {
            return Ok(());
        }
        if *self.source(Kind::Time) != Source::New {
            let what = "cannot set clock offsets: there is no new time namespace";
            return Err(Error::new(ErrorKind::Contradiction, what));
        }
        if !self.privileged && self.joined(Kind::User).is_some() {
            // The stage has closed itself to the processes it joins, so its /proc files belong to root.
            let what = "cannot set clock offsets in a joined user namespace without privilege";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok(())
    }

    fn check_name(&self, what: &str, name: Option<&str>) -> Result<(), Error> {
        let Some(name) = name else { return Ok(()) };
        if *self.source(Kind::Uts) == Source::Host {
            let what = format!("cannot set {what} {name:?}: without a uts namespace it would be the host's");
            return Err(Error::new(ErrorKind::Contradiction, what));
        }
        if name.len() > NAME_LENGTH || name.contains('\0') {
            let what = format!("{what} {name:?} has more than {NAME_LENGTH} bytes or a NUL");
            return Err(Error::new(ErrorKind::Malformed, what));
        }
        Ok(())
    }

    fn check_privilege(&self) -> Result<(), Error> {
        let new = self.new_kinds();
        if self.privileged || new.is_empty() || *self.source(Kind::User) != Source::Host {
            return Ok(());
        }
        let what = format!("cannot make new namespaces ({new}) without CAP_SYS_ADMIN or a new user namespace");
        Err(Error::new(ErrorKind::PermissionDenied, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time_offsets::Offset;

    fn root() -> Selection {
        Selection::new(&Caller::new(0, 0).capabilities(u64::MAX))
    }

    fn ann() -> Selection {
        Selection::new(&Caller::new(1000, 1000))
    }

    fn process() -> Source {
        Source::Join(Target::Process(7))
    }

    fn maps(selection: Selection) -> Selection {
        selection.id_maps(IdMaps::own(&Caller::new(1000, 1000)).unwrap(), MapMethod::Own)
    }

    fn day() -> TimeOffsets {
        TimeOffsets::new().monotonic(Offset::new(86400, 0).unwrap())
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let table = [
            (
                root().namespace(Kind::Net, Source::New).namespace(Kind::Net, Source::Host),
                ErrorKind::Duplicate,
                "the network namespace is selected twice",
            ),
            (maps(root()), ErrorKind::Contradiction, "cannot set id maps: there is no new user namespace"),
            (
                maps(root().namespace(Kind::User, process())),
                ErrorKind::Contradiction,
                "cannot set id maps: the user namespace of process 7 has its own and keeps them",
            ),
            (
                root().namespace(Kind::Time, process()).time_offsets(day()),
                ErrorKind::Contradiction,
                "cannot set clock offsets: there is no new time namespace",
            ),
            (
                ann().namespace(Kind::User, process()).namespace(Kind::Time, Source::New).time_offsets(day()),
                ErrorKind::Unsupported,
                "cannot set clock offsets in a joined user namespace without privilege",
            ),
            (
                root().hostname("box"),
                ErrorKind::Contradiction,
                "cannot set host name \"box\": without a uts namespace it would be the host's",
            ),
            (
                root().namespace(Kind::Uts, Source::New).domainname("a\0b"),
                ErrorKind::Malformed,
                "domain name \"a\\0b\" has more than 64 bytes or a NUL",
            ),
            (
                ann().namespace(Kind::Net, Source::New).namespace(Kind::Mount, Source::New),
                ErrorKind::PermissionDenied,
                "cannot make new namespaces (mnt, net) without CAP_SYS_ADMIN or a new user namespace",
            ),
        ];
        for (selection, kind, message) in table {
            let error = selection.plan(Slot(0)).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (kind, message.to_owned()));
        }
        let long = root().namespace(Kind::Uts, Source::New).hostname("x".repeat(65));
        assert_eq!(long.check().unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let uts = |source| root().namespace(Kind::Uts, source);
        for selection in [
            root(),
            root().time_offsets(TimeOffsets::new()),
            uts(Source::New).hostname("x".repeat(64)),
            uts(process()).hostname("x").domainname("y"),
            maps(ann().namespace(Kind::User, Source::New)),
            ann().namespace(Kind::User, process()).namespace(Kind::Net, Source::New),
            root().namespace(Kind::User, process()).namespace(Kind::Time, Source::New).time_offsets(day()),
        ] {
            selection.check().unwrap();
        }
    }
}
