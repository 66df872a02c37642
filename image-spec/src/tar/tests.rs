//! Damaged archives against this reader and an independent one.

#[path = "../../tests/common/tar.rs"]
mod writer;

use super::{EntryKind, TarReader};
use crate::{Limits, Result};
use std::process::Command;
use writer::{Header, Tar};

/// A small generator with a fixed start, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

fn sample() -> Vec<u8> {
    Tar::new()
        .directory("d/")
        .file("d/f", "content")
        .pax(&[("path", b"a/long/path"), ("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"a\nb\0c")])
        .file("x", "pax")
        .long_name(&[b'n'; 150])
        .file("x", "gnu")
        .symlink("l", "d/f")
        .pax(&[("linkpath", b"d/f"), ("size", b"0")])
        .hard_link("h", "x")
        .entry(Header::new(b'3', "null").device(1, 3), b"")
        .file("last", &"0123456789".repeat(100))
        .bytes()
}

/// Type, size and name of every entry.
fn list(archive: &[u8]) -> Result<Vec<(char, u64, Vec<u8>)>> {
    let limits = Limits::default();
    let mut tar = TarReader::new(archive, &limits);
    let mut entries = Vec::new();
    while let Some(entry) = tar.next()? {
        let kind = match entry.kind {
            EntryKind::File => '0',
            EntryKind::HardLink => '1',
            EntryKind::Symlink => '2',
            EntryKind::CharDevice => '3',
            EntryKind::BlockDevice => '4',
            EntryKind::Directory => '5',
            EntryKind::Fifo => '6',
        };
        let mut path = entry.path;
        while path.ends_with(b"/") {
            path.pop();
        }
        entries.push((kind, entry.size, path));
        while !tar.data()?.is_empty() {
            let count = tar.data()?.len();
            tar.consume(count);
        }
    }
    Ok(entries)
}

/// Puts right checksums into all blocks that look like headers, so that damage gets past them.
fn reseal(archive: &mut [u8]) {
    for block in archive.chunks_mut(512).filter(|block| block.len() == 512 && block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn damaged(random: &mut Random) -> Vec<u8> {
    let mut archive = sample();
    for _ in 0..=random.below(3) {
        let at = random.below(archive.len());
        // Half of the damage goes where it hurts: sizes, types and records.
        let at = match random.below(4) {
            0 => at / 512 * 512 + 124 + random.below(12),
            1 => at / 512 * 512 + 156,
            _ => at,
        };
        let bytes = b"0123456789 xgLKS\0\n=/.\x80\xff7";
        archive[at] = bytes[random.below(bytes.len())];
    }
    reseal(&mut archive);
    archive
}

#[test]
fn every_cut_ends_in_an_error_or_a_prefix() {
    let archive = sample();
    let all = list(&archive).expect("whole");
    assert_eq!(all.len(), 8);
    for end in 0..archive.len() {
        if let Ok(entries) = list(&archive[..end]) {
            assert_eq!(entries, all[..entries.len()], "cut at {end}");
        }
    }
}

#[test]
fn damage_never_panics_or_hangs() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let accepted = (0..5000).filter(|_| list(&damaged(&mut random)).is_ok()).count();
    assert!((500..4500).contains(&accepted), "{accepted} of 5000 were accepted, so the damage tests little");
}

/// What this reader accepts, Python's reads the same way or refuses.
#[test]
fn what_is_accepted_is_read_as_another_reader_reads_it() {
    const SCRIPT: &str = "
import sys, tarfile, os
for name in sorted(os.listdir(sys.argv[1]), key=int):
    try:
        with tarfile.open(os.path.join(sys.argv[1], name), 'r:', encoding='utf-8', errors='surrogateescape') as tar:
            for m in tar.getmembers():
                kind = m.type.decode('latin-1')
                kind = '5' if m.isdir() else '0' if kind in '\\0007' else kind
                path = m.name.encode('utf-8', 'surrogateescape').rstrip(b'/').hex()
                print(name, kind, m.size, path or '-')
    except Exception as error:
        print(name, 'refused')
";
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut ours = Vec::new();
    while ours.len() < 1000 {
        let archive = damaged(&mut random);
        if let Ok(entries) = list(&archive) {
            std::fs::write(directory.path().join(ours.len().to_string()), &archive).expect("write");
            ours.push(entries);
        }
    }
    let output = match Command::new("python3").args(["-c", SCRIPT]).arg(directory.path()).output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).expect("text"),
        other => {
            assert!(std::env::var_os("KEELBOX_CI").is_none(), "not skipped under CI: {other:?}");
            return eprintln!("SKIP: no python3 to compare with");
        }
    };
    let mut refused = 0;
    for (index, entries) in ours.iter().enumerate() {
        let prefix = format!("{index} ");
        let theirs: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        if theirs.contains(&"refused") {
            refused += 1;
            continue;
        }
        let hex = |path: &[u8]| path.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let shown = |(kind, size, path): &(char, u64, Vec<u8>)| {
            let path = hex(path);
            format!("{kind} {size} {}", if path.is_empty() { "-" } else { &path })
        };
        let entries: Vec<String> = entries.iter().map(shown).collect();
        assert_eq!(entries, theirs, "archive {index}");
    }
    assert!(refused < 500, "{refused} of 1000 were refused, so little was compared");
}
