//! Random and damaged scripts: reading them ends, with steps or with [`Malformed`], and never beyond their end.

use crate::interpret::Machine;
use crate::owned::OwnedStep;
use crate::step::{Slot, Step, Wire};
use crate::sys::{Call, Errno, Kernel};
use crate::wire::{Decode, Encode, Header, Malformed, Reader, Report, texts};
use crate::{list, text};

/// A small generator (xorshift), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// A kernel that refuses everything, so that a script that means something by chance does nothing.
struct Refuses;

impl Kernel for Refuses {
    fn perform(&mut self, _: Call<'_>) -> Result<usize, Errno> {
        Err(Errno::EPERM)
    }
}

#[test]
fn random_steps_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut steps, mut malformed) = (0, 0);
    for round in 0..60_000 {
        let length = random.below(64);
        let mut bytes = random.bytes(length);
        if round % 2 == 0 && bytes.len() >= 4 {
            // A code that exists, and small numbers after it, get further.
            bytes[..4].copy_from_slice(&(random.below(72) as u32).to_ne_bytes());
            bytes.iter_mut().skip(4).filter(|byte| **byte > 32).for_each(|byte| *byte = 0);
        }
        let mut reader = Reader(&bytes);
        match Step::<Wire<'_>>::decode(&mut reader) {
            Ok(step) => {
                steps += 1;
                let mut again = Vec::new();
                step.encode(&mut again);
                assert_eq!(again, bytes[..bytes.len() - reader.0.len()], "{step:?}");
            }
            Err(Malformed) => malformed += 1,
        }
        let _header = Header::decode(&mut Reader(&bytes));
        let _report = Report::decode(&mut Reader(&bytes));
        assert!(texts(&bytes).all(|text| text.to_bytes_with_nul().len() <= bytes.len()));
    }
    assert!(steps > 1_500 && malformed > 15_000, "{steps} steps, {malformed} malformed");
}

#[test]
fn damaged_scripts_never_panic() {
    let steps: Vec<OwnedStep> = vec![
        Step::Umask { mask: 0o022 },
        Step::File { path: text("/etc/hosts"), mode: 0o644, content: b"127.0.0.1 localhost\n".to_vec() },
        Step::Open { path: text("/proc"), out: Slot(3) },
        Step::Exec { paths: list(["/bin/sh"]), arguments: list(["sh"]), environment: list(["A=b"]) },
    ];
    let whole = crate::script::encode(&steps, 0, 3, 0);
    let (mut random, mut refused) = (Random(0x2545_f491_4f6c_dd1d), 0);
    for _ in 0..10_000 {
        let mut script = whole.clone();
        for _ in 0..=random.below(4) {
            let place = random.below(script.len());
            script[place] = random.next() as u8;
        }
        script.truncate(random.below(script.len() + 1));
        let mut machine = Machine::new(Refuses, 100, &mut []);
        // The kernel refuses the first call of the first step; only a script that says that it has no step ends well.
        let outcome = machine.run(&script);
        refused += usize::from(outcome.is_err());
        assert!(outcome.is_err() || script[4..8] == [0; 4] || script[20..24] != whole[20..24], "{script:?}");
    }
    assert!(refused > 9_800, "{refused}");
}
