//! The command update. Needs no kernel.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::Given;

pub(crate) fn update(_: &Context<'_>, _: Given) -> Outcome {
    Err(Failure::new("the command \"update\" is not supported yet"))
}
