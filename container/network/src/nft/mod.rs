//! Packet filters (nf_tables), as tables that belong to a socket: the kernel removes them with it, however the program ends.
//!
//! A change is one batch, which happens as a whole or not at all. Leaves out listing what is there. Oldest kernel: 5.10; before 5.12
//! tables belong to nobody, and a crash leaves them to be [swept](Filter::sweep).

pub(crate) mod expression;

use nix::errno::Errno;

use crate::netlink::{ACKNOWLEDGE, Body, CREATE, DUMP, EXCLUSIVE, Part, Socket, attributes, text_of};
use expression::Rule;

/// The family of a table (`linux/netfilter.h`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// What passes a bridge.
    Bridge = 7,
}

/// Where a chain is called (`enum nf_inet_hooks`), its type and priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

pub(crate) const FILTER_FORWARD: Hook = Hook { kind: "filter", number: 2, priority: 0 };
pub(crate) const FILTER_BRIDGE: Hook = Hook { kind: "filter", number: 0, priority: -300 };
pub(crate) const NAT_IN: Hook = Hook { kind: "nat", number: 0, priority: -100 };
pub(crate) const NAT_LOCAL: Hook = Hook { kind: "nat", number: 3, priority: -100 };
pub(crate) const NAT_OUT: Hook = Hook { kind: "nat", number: 4, priority: 100 };

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const APPEND: u16 = 0x800;

/// A connection to the kernel's packet filter, which owns the tables that are made over it.
#[derive(Debug)]
pub(crate) struct Filter {
    socket: Socket,
    owns: bool,
}

/// Changes to one table that belong together.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    family: Family,
    sets: u32,
    requests: Vec<(u16, u16, Body)>,
}

impl Filter {
    /// About the calling thread's network namespace.
    pub(crate) fn here() -> Result<Self, Errno> {
        Ok(Self { socket: Socket::here(Part::Filter)?, owns: true })
    }

    /// Does what a batch says. One that makes a table makes it this socket's.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> Result<(), Errno> {
        const OWNER: u32 = 2;
        let family = batch.family;
        let own = |owns: bool, requests: &mut Vec<(u16, u16, Body)>, table: &str| {
            for request in requests.iter_mut().filter(|(kind, ..)| *kind == NEW_TABLE) {
                let flags = if owns { OWNER } else { 0 };
                request.2 = head(family).text(1, table).big(2, flags);
            }
        };
        own(self.owns, &mut batch.requests, &batch.table);
        let frame = |kind: u16| (kind, 0, Body::new(&[0, 0, 0, SUBSYSTEM as u8]));
        let framed = |requests: &[(u16, u16, Body)]| {
            let mut all = vec![frame(BATCH_BEGIN)];
            all.extend(requests.iter().cloned());
            all.push(frame(BATCH_END));
            all
        };
        match self.socket.transact(&framed(&batch.requests)) {
            // Linux before 5.12 knows no owners.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) if self.owns && batch.makes_table() => {
                own(false, &mut batch.requests, &batch.table);
                self.socket.transact(&framed(&batch.requests))?;
                self.owns = false;
                Ok(())
            }
            done => done,
        }
    }

    /// Removes a table; one that is gone already is no error.
    pub(crate) fn remove(&mut self, family: Family, table: &str) -> Result<(), Errno> {
        let mut batch = Batch::of(family, table);
        batch.requests.push((DELETE_TABLE, ACKNOWLEDGE, head(family).text(1, table)));
        match self.commit(batch) {
            Err(Errno::ENOENT) => Ok(()),
            done => done,
        }
    }

    /// Removes the tables of a family whose names `dead` picks: what a program before Linux 5.12 left when it was killed.
    pub(crate) fn sweep(&mut self, family: Family, dead: impl Fn(&str) -> bool) -> Result<(), Errno> {
        let answers = self.socket.ask(GET_TABLE, DUMP, &head(family))?;
        for (_, body) in answers {
            let mut found = attributes(body.get(4..).unwrap_or_default());
            let Some((_, name)) = found.find(|(kind, _)| *kind == 1) else { continue };
            let name = text_of(name);
            if dead(&name) {
                self.remove(family, &name)?;
            }
        }
        Ok(())
    }
}

impl Batch {
    /// Changes to a table that is there.
    pub(crate) fn of(family: Family, table: &str) -> Self {
        Self { table: table.into(), family, sets: 0, requests: Vec::new() }
    }

    /// A new table.
    pub(crate) fn new(family: Family, table: &str) -> Self {
        let mut batch = Self::of(family, table);
        batch.requests.push((NEW_TABLE, ACKNOWLEDGE | CREATE | EXCLUSIVE, Body::default()));
        batch
    }

    /// A chain that the kernel calls, with its rules. What no rule decides about is accepted.
    pub(crate) fn chain(mut self, name: &str, hook: Hook, rules: &[Rule]) -> Self {
        let called = Body::new(&[]).big(1, hook.number).big(2, hook.priority as u32);
        let body = head(self.family).text(1, &self.table).text(3, name).nest(4, called).text(7, hook.kind);
        self.requests.push((NEW_CHAIN, ACKNOWLEDGE | CREATE | EXCLUSIVE, body));
        for rule in rules {
            let body = head(self.family).text(1, &self.table).text(2, name).nest(4, rule.list());
            self.requests.push((NEW_RULE, ACKNOWLEDGE | CREATE | APPEND, body));
        }
        self
    }

    /// A set of values of `length` bytes.
    pub(crate) fn set(mut self, name: &str, length: u32) -> Self {
        self.sets += 1;
        let body = head(self.family).text(1, &self.table).text(2, name).big(3, 0).big(4, 0).big(5, length);
        self.requests.push((NEW_SET, ACKNOWLEDGE | CREATE | EXCLUSIVE, body.big(10, self.sets)));
        self
    }

    /// Adds a value to a set.
    pub(crate) fn add(self, set: &str, value: &[u8]) -> Self {
        self.elements(NEW_ELEMENTS, ACKNOWLEDGE | CREATE, set, value)
    }

    /// Takes a value out of a set.
    pub(crate) fn delete(self, set: &str, value: &[u8]) -> Self {
        self.elements(DELETE_ELEMENTS, ACKNOWLEDGE, set, value)
    }

    fn elements(mut self, kind: u16, flags: u16, set: &str, value: &[u8]) -> Self {
        let element = Body::new(&[]).nest(1, Body::new(&[]).nest(1, Body::new(&[]).put(1, value)));
        self.requests.push((kind, flags, head(self.family).text(1, &self.table).text(2, set).nest(3, element)));
        self
    }

    fn makes_table(&self) -> bool {
        self.requests.iter().any(|(kind, ..)| *kind == NEW_TABLE)
    }
}

/// `nfgenmsg`.
fn head(family: Family) -> Body {
    Body::new(&[family as u8, 0, 0, 0])
}
