//! The command events. Needs no kernel.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::Given;
use crate::time::duration;

pub(crate) fn events(_: &Context<'_>, given: Given) -> Outcome {
    let interval = given.text("interval")?.unwrap_or_else(|| "5s".to_owned());
    if duration(&interval).is_none_or(|interval| interval.is_zero()) {
        return Err(Failure::new(format!("--interval takes a length of time such as 500ms, not {interval:?}")));
    }
    Err(Failure::new("the command \"events\" is not supported yet"))
}
