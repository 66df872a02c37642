//! Scripts as bytes: a header and encoded steps.

use crate::owned::OwnedStep;
use crate::step::Step;
use crate::wire::{Encode, Header};

/// Encodes `steps`. `first` is the number of the first one, `slots` the slot of the first descriptor that goes along.
pub(crate) fn encode(steps: &[OwnedStep], first: u32, reserve: u32, slots: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    let numbers = steps.iter().filter_map(|step| match step {
        Step::Descriptor { number, .. } => Some(number.saturating_add(1)),
        _ => None,
    });
    // A reserve that is too small would let a step replace a descriptor that another one still needs.
    let reserve = numbers.fold(reserve.max(3), u32::max);
    Header { count: steps.len() as u32, first, reserve, slots }.encode(&mut bytes);
    for step in steps {
        step.encode(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use crate::step::{Create, Slot, Wait, Wire};
    use crate::wire::{Decode, Malformed, Reader};
    use crate::{list, text};

    use super::*;

    fn examples() -> Vec<OwnedStep> {
        vec![
            Step::Conceal {},
            Step::Wait { what: Wait::Start, listener: Slot::NONE },
            Step::Hostname { name: text("box") },
            Step::Mount {
                kind: text("proc"),
                source: text("proc"),
                target: text("/proc"),
                flags: 14,
                data: text(""),
                create: Create::Directory,
            },
            Step::Exec { paths: list(["/bin/sh"]), arguments: list(["sh", "-c", "true"]), environment: list(["A=b"]) },
        ]
    }

    #[test]
    fn steps_survive_the_wire() {
        for step in examples() {
            let mut bytes = Vec::new();
            step.encode(&mut bytes);
            let mut reader = Reader(&bytes);
            let read = Step::<Wire<'_>>::decode(&mut reader).expect("an encoded step can be read");
            assert!(reader.0.is_empty());
            let mut again = Vec::new();
            read.encode(&mut again);
            assert_eq!(again, bytes);
        }
    }

    #[test]
    fn cut_or_wrong_bytes_are_malformed() {
        for step in examples() {
            let mut bytes = Vec::new();
            step.encode(&mut bytes);
            for length in 0..bytes.len() {
                let read = Step::<Wire<'_>>::decode(&mut Reader(&bytes[..length]));
                assert_eq!(read.err(), Some(Malformed), "{step:?} cut at {length}");
            }
        }
        assert!(Step::<Wire<'_>>::decode(&mut Reader(&[0xff; 64])).is_err());
    }
}
