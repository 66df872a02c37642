//! Device rules: the model, the v1 lists run as the kernel would, and the program run by a small interpreter.

use super::*;

#[test]
fn a_list_that_is_as_it_should_be_is_known() {
    let rules =
        Rules::new().allow(Kind::Char, Some(1), Some(3), Access::ALL).allow(Kind::Char, Some(136), None, Access::READ);
    let writes = rules.legacy().unwrap();
    assert!(says("c 136:* r\nc 1:3 rwm\n", &writes));
    for other in ["c 1:3 rwm\n", "a *:* rwm\n", "", "c 1:3 rw\nc 136:* r\n"] {
        assert!(!says(other, &writes), "{other}");
    }
    let all = Rules::new().allow(Kind::All, None, None, Access::ALL).legacy().unwrap();
    assert!(!says("", &all) && !says("a *:* rwm\n", &all), "exceptions of such a list are not shown");
}

use crate::ErrorKind;

/// Runs a program the way the kernel does: eleven registers, 64 bits, a context of three words. `None` if it does anything it may not.
fn run(program: &[Instruction], context: [u32; 3]) -> Option<u64> {
    let mut registers = [0u64; 11];
    let mut at = 0usize;
    for _ in 0..=program.len() {
        let [operation, both, o0, o1, c0, c1, c2, c3] = *program.get(at)?;
        let (target, source) = (usize::from(both & 15), usize::from(both >> 4));
        let offset = i16::from_le_bytes([o0, o1]);
        let constant = i64::from(i32::from_le_bytes([c0, c1, c2, c3])) as u64;
        let value = registers[target];
        let mut jump = false;
        match operation {
            0x61 if source == 1 => registers[target] = u64::from(*context.get(usize::try_from(offset / 4).ok()?)?),
            0xb7 => registers[target] = constant,
            0xbf => registers[target] = registers[source],
            0x57 => registers[target] = value & constant,
            0x77 => registers[target] = value >> constant,
            0x05 => jump = true,
            0x55 => jump = value != constant,
            0x45 => jump = value & constant != 0,
            0x95 => return Some(registers[0]),
            _ => return None,
        }
        // The verifier allows no way back here.
        let step = if jump { usize::try_from(offset).ok()? + 1 } else { 1 };
        at += step;
    }
    None
}

fn context(kind: Kind, major: u32, minor: u32, access: Access) -> [u32; 3] {
    let kind = if kind == Kind::Block { 1 } else { 2 };
    [u32::from(access.0) << 16 | kind, major, minor]
}

/// Devices as a v1 group understands the lines written to it.
fn legacy_allows(writes: &[(&str, String)], kind: Kind, major: u32, minor: u32, access: Access) -> bool {
    let device = Devices { kind, major: Some(major), minor: Some(minor) };
    let (mut allow, mut list) = (true, Vec::new());
    for (file, value) in writes {
        if value == "a" {
            (allow, list) = (*file == "devices.allow", Vec::new());
            continue;
        }
        assert_ne!(*file == "devices.allow", allow, "only exceptions follow");
        let words: Vec<&str> = value.split(' ').collect();
        let (major, minor) = words[1].split_once(':').unwrap();
        let kind = if words[0] == "b" { Kind::Block } else { Kind::Char };
        list.push((
            Devices { kind, major: major.parse().ok(), minor: minor.parse().ok() },
            Access::parse(words[2]).unwrap(),
        ));
    }
    let mut matching = list.into_iter().filter(|(devices, _)| devices.covers(device));
    if allow {
        !matching.any(|(_, known)| known.meets(access))
    } else {
        matching.any(|(_, known)| access.without(known).is_empty())
    }
}

/// A small generator of numbers (xorshift), so that the cases are many and the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }

    fn number(&mut self) -> Option<u32> {
        u32::try_from(self.below(4)).ok().filter(|number| *number > 0)
    }

    fn access(&mut self) -> Access {
        Access(u8::try_from(self.below(7) + 1).unwrap())
    }

    fn rules(&mut self) -> Rules {
        let mut rules = Rules::new();
        for _ in 0..self.below(7) {
            let kind = [Kind::All, Kind::Block, Kind::Char][usize::try_from(self.below(3)).unwrap()];
            let (allow, major, minor, access) = (self.below(2) == 0, self.number(), self.number(), self.access());
            rules = rules.rule(allow, kind, major, minor, access);
        }
        rules
    }
}

fn questions() -> impl Iterator<Item = (Kind, u32, u32, Access)> {
    let devices = [Kind::Block, Kind::Char]
        .into_iter()
        .flat_map(|kind| (0..4).flat_map(move |a| (0..4).map(move |b| (kind, a, b))));
    devices.flat_map(|(kind, major, minor)| (1..8).map(move |access| (kind, major, minor, Access(access))))
}

#[test]
fn the_program_decides_like_the_model() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut yes, mut no) = (0u32, 0u32);
    for _ in 0..2000 {
        let rules = numbers.rules();
        let program = rules.program().unwrap();
        for (kind, major, minor, access) in questions() {
            let expected = rules.allows(kind, major, minor, access);
            let answer = run(&program, context(kind, major, minor, access));
            assert_eq!(answer, Some(u64::from(expected)), "{rules:?} {kind:?} {major}:{minor} {access}");
            if expected { yes += 1 } else { no += 1 }
        }
    }
    assert!(yes > 10_000 && no > 10_000, "both answers are common: {yes} {no}");
}

#[test]
fn the_v1_lists_never_allow_more_than_the_model() {
    let mut numbers = Numbers(42);
    let (mut same, mut refused) = (0u32, 0u32);
    for _ in 0..2000 {
        let rules = numbers.rules();
        let Ok(writes) = rules.legacy() else {
            refused += 1;
            continue;
        };
        for (kind, major, minor, access) in questions() {
            let (model, legacy) =
                (rules.allows(kind, major, minor, access), legacy_allows(&writes, kind, major, minor, access));
            assert!(model || !legacy, "{rules:?} {writes:?} {kind:?} {major}:{minor} {access}");
            // v1 wants one line for all of the access, so for a single one both always agree.
            if [Access::READ, Access::WRITE, Access::MKNOD].contains(&access) {
                assert_eq!(model, legacy, "{rules:?} {writes:?} {kind:?} {major}:{minor} {access}");
            }
            same += 1;
        }
    }
    assert!(same > 10_000 && refused > 100, "{same} {refused}");
}

#[test]
fn later_rules_win_by_single_access() {
    let any = (Kind::All, None, None);
    let rules = Rules::new().deny(any.0, any.1, any.2, Access::ALL).allow(Kind::Char, Some(1), None, Access::ALL).deny(
        Kind::Char,
        Some(1),
        Some(1),
        Access::WRITE,
    );
    assert!(rules.allows(Kind::Char, 1, 3, Access::ALL));
    assert!(rules.allows(Kind::Char, 1, 1, Access::READ));
    assert!(!rules.allows(Kind::Char, 1, 1, Access::READ.and(Access::WRITE)));
    assert!(!rules.allows(Kind::Block, 1, 3, Access::READ));
    assert_eq!(rules.legacy().unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(!Rules::new().allows(Kind::Char, 1, 3, Access::MKNOD), "nothing is allowed to begin with");
}

#[test]
fn v1_lists_are_brought_into_form() {
    let all = |rules: Rules, allow| rules.rule(allow, Kind::All, None, None, Access::ALL);
    let null = |rules: Rules, allow, access| rules.rule(allow, Kind::Char, Some(1), Some(3), access);
    let cases = [
        (Rules::new(), "devices.deny=a"),
        (all(Rules::new(), true), "devices.allow=a"),
        (null(all(Rules::new(), true), false, Access::WRITE), "devices.allow=a; devices.deny=c 1:3 w"),
        // Merged, taken back, and wiped out by a rule about everything.
        (null(null(Rules::new(), true, Access::READ), true, Access::WRITE), "devices.deny=a; devices.allow=c 1:3 rw"),
        (null(null(Rules::new(), true, Access::ALL), false, Access::MKNOD), "devices.deny=a; devices.allow=c 1:3 rw"),
        (null(null(Rules::new(), true, Access::ALL), false, Access::ALL), "devices.deny=a"),
        (all(null(Rules::new(), true, Access::ALL), false), "devices.deny=a"),
        (
            Rules::new().allow(Kind::All, Some(7), None, Access::READ),
            "devices.deny=a; devices.allow=b 7:* r; devices.allow=c 7:* r",
        ),
        // A wide denial takes back what is inside of it.
        (null(Rules::new(), true, Access::ALL).deny(Kind::Char, Some(1), None, Access::ALL), "devices.deny=a"),
    ];
    for (rules, expected) in cases {
        let writes: Vec<String> =
            rules.legacy().unwrap().iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(writes.join("; "), expected, "{rules:?}");
    }
}

#[test]
fn numbers_no_device_can_have() {
    for (major, minor) in [(Some(4096), None), (None, Some(1 << 20))] {
        let rules = Rules::new().allow(Kind::Char, major, minor, Access::READ);
        assert_eq!(rules.program().unwrap_err().kind(), ErrorKind::InvalidLimit);
        assert_eq!(rules.legacy().unwrap_err().kind(), ErrorKind::InvalidLimit);
    }
    assert!(Rules::new().allow(Kind::Char, Some(4095), Some(0xf_ffff), Access::READ).program().is_ok());
}

#[test]
fn access_letters() {
    for (letters, access) in [("r", Access::READ), ("wm", Access::WRITE.and(Access::MKNOD)), ("rwm", Access::ALL)] {
        assert_eq!(Access::parse(letters), Some(access));
        assert_eq!(access.to_string(), letters);
    }
    assert_eq!(Access::parse(""), None);
}
