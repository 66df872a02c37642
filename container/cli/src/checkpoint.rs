//! The commands checkpoint and restore, which are refused. Needs no kernel.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::grammar::Command;
use crate::read::Given;

pub(crate) fn refused(_: &Context<'_>, _: Given) -> Outcome {
    Err(Failure::new("cannot write a running container to disk, or read one from it: that is not supported yet"))
}

pub(crate) fn is_refused(command: &Command) -> bool {
    matches!(command.name, "checkpoint" | "restore")
}
