//! The command ps. Needs no kernel.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::Given;

pub(crate) fn ps(_: &Context<'_>, _: Given) -> Outcome {
    Err(Failure::new("the command \"ps\" is not supported yet"))
}
