//! Names taken away. Needs no kernel.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::{Given, text};

use super::store;

pub(crate) fn remove(_: &Context<'_>, mut given: Given) -> Outcome {
    let names: Vec<String> = std::mem::take(&mut given.words).into_iter().map(text).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(Failure::new("image rm needs the name of an image"));
    }
    let store = store(&given)?;
    // All are looked for before one is taken away.
    for name in &names {
        store.get(name)?;
    }
    for name in &names {
        store.remove_name(name)?;
        print(&format!("{name}\n"))?;
    }
    Ok(0)
}
