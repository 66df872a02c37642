//! Sparse files: the old GNU header and the three PAX forms (0.0, 0.1, 1.0).
//!
//! Job: a checked list of regions: in order, not overlapping, inside the file, and as long together as the stored data.
//! The number of regions is bounded before it is allocated (CVE-2025-58183). Leaves out writing sparse archives.

use super::{extension, field};
use crate::{Error, Result};
use tar::Header;

/// Where the stored bytes belong in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sparse {
    /// Length of the file, holes included.
    pub(crate) size: u64,
    /// Offset and length of each region, in order.
    pub(crate) regions: Vec<(u64, u64)>,
}

impl Sparse {
    /// Checks the map against the `stored` bytes that follow.
    pub(super) fn check(&self, stored: u64) -> Result<()> {
        let (mut end, mut total) = (0u64, 0u64);
        for (offset, length) in &self.regions {
            if *offset < end {
                return Err(Error::format("sparse map out of order"));
            }
            end = offset.checked_add(*length).ok_or_else(|| Error::format("sparse map out of range"))?;
            total += length;
        }
        if end > self.size || i64::try_from(self.size).is_err() {
            return Err(Error::format("sparse map beyond the end of the file"));
        }
        if total != stored {
            return Err(Error::format("sparse map does not fit the stored data"));
        }
        Ok(())
    }
}

/// Adds a region unless there are too many.
fn push(regions: &mut Vec<(u64, u64)>, region: (u64, u64), most: usize) -> Result<()> {
    if regions.len() >= most {
        return Err(Error::limit(format!("sparse file of more than {most} regions")));
    }
    regions.push(region);
    Ok(())
}

/// Reads the map of a header of type `S`, and of the blocks that continue it.
pub(super) fn old_gnu(header: &Header, most: usize, mut block: impl FnMut() -> Result<[u8; 512]>) -> Result<Sparse> {
    let gnu = header.as_gnu().ok_or_else(|| Error::format("sparse entry without a GNU header"))?;
    let size = field::sparse(&gnu.realsize)?;
    let mut regions = Vec::new();
    let mut add = |offset: &[u8], length: &[u8]| -> Result<()> {
        // An unused slot is all zero.
        if offset[0] == 0 || length[0] == 0 {
            return Ok(());
        }
        push(&mut regions, (field::sparse(offset)?, field::sparse(length)?), most)
    };
    for slot in &gnu.sparse {
        add(&slot.offset, &slot.numbytes)?;
    }
    let mut more = gnu.is_extended();
    while more {
        let next = block()?;
        for slot in next[..504].chunks(24) {
            add(&slot[..12], &slot[12..])?;
        }
        more = next[504] == 1;
    }
    Ok(Sparse { size, regions })
}

/// Which PAX form an entry uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    None,
    /// The map is in the records (0.0 and 0.1).
    Header,
    /// The map is in front of the data (1.0).
    Data,
}

/// The `GNU.sparse.*` records of one entry.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    count: Option<u64>,
    map: Option<Vec<u8>>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    any: bool,
}

impl SparseRecords {
    pub(super) fn record(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        self.any = true;
        let number = || extension::decimal(name, value);
        match name {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"realsize" | b"size" => {
                if self.size.replace(number()?).is_some() {
                    return Err(Error::format("two sizes of a sparse file"));
                }
            }
            b"numblocks" => self.count = Some(number()?),
            b"map" => self.map = Some(value.to_vec()),
            b"offset" => self.offsets.push(number()?),
            b"numbytes" => self.lengths.push(number()?),
            _ => return Err(Error::unsupported(format!("unknown record GNU.sparse.{}", name.escape_ascii()))),
        }
        Ok(())
    }

    pub(super) fn version(&self, flag: u8) -> Result<Version> {
        if !self.any {
            return Ok(Version::None);
        }
        if !matches!(flag, 0 | b'0' | b'7') {
            return Err(Error::format("sparse records for an entry that is no file"));
        }
        match (self.major.unwrap_or(0), self.minor.unwrap_or(0)) {
            (1, 0) => Ok(Version::Data),
            (0, 0 | 1) => Ok(Version::Header),
            (major, minor) => Err(Error::unsupported(format!("sparse file of version {major}.{minor}"))),
        }
    }

    pub(super) fn real_size(&self) -> Result<u64> {
        self.size.ok_or_else(|| Error::format("sparse file without its size"))
    }

    /// The map of the forms 0.0 and 0.1.
    pub(super) fn header_map(&self, most: usize) -> Result<Sparse> {
        let mut regions = Vec::new();
        if let Some(map) = &self.map {
            let numbers: Vec<&[u8]> = map.split(|byte| *byte == b',').take(2 * most + 2).collect();
            if !numbers.len().is_multiple_of(2) {
                return Err(Error::format("sparse map of an odd length"));
            }
            for pair in numbers.chunks(2) {
                push(&mut regions, (extension::decimal(b"map", pair[0])?, extension::decimal(b"map", pair[1])?), most)?;
            }
        } else if self.offsets.len() == self.lengths.len() {
            for region in self.offsets.iter().zip(&self.lengths) {
                push(&mut regions, (*region.0, *region.1), most)?;
            }
        } else {
            return Err(Error::format("sparse map of an odd length"));
        }
        if self.count.is_some_and(|count| count != regions.len() as u64) {
            return Err(Error::format("sparse map of another length than announced"));
        }
        Ok(Sparse { size: self.real_size()?, regions })
    }
}

/// The map of form 1.0: decimal lines in whole blocks in front of the data.
pub(super) struct DataMap {
    most: usize,
    line: Vec<u8>,
    expected: Option<u64>,
    offset: Option<u64>,
    pub(super) regions: Vec<(u64, u64)>,
}

impl DataMap {
    pub(super) fn new(most: usize) -> Self {
        Self { most, line: Vec::new(), expected: None, offset: None, regions: Vec::new() }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.expected == Some(self.regions.len() as u64)
    }

    /// Takes in one block; what follows the last line is padding.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<()> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if *byte != b'\n' {
                if self.line.len() > 20 {
                    return Err(Error::format("sparse map is not decimal"));
                }
                self.line.push(*byte);
                continue;
            }
            let number = extension::decimal(b"sparse map", &std::mem::take(&mut self.line))?;
            match (self.expected, self.offset.take()) {
                (None, _) if number > self.most as u64 => {
                    return Err(Error::limit(format!("sparse file of more than {} regions", self.most)));
                }
                (None, _) => self.expected = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => push(&mut self.regions, (offset, number), self.most)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let sparse = |size: u64, regions: &[(u64, u64)]| Sparse { size, regions: regions.to_vec() };
        assert!(sparse(10, &[(0, 2), (5, 3), (10, 0)]).check(5).is_ok());
        assert!(sparse(10, &[]).check(0).is_ok());
        for (wrong, stored) in [
            (sparse(10, &[(5, 2), (0, 2)]), 4),
            (sparse(10, &[(0, 5), (4, 2)]), 7),
            (sparse(10, &[(8, 4)]), 4),
            (sparse(10, &[(0, 2)]), 3),
            (sparse(u64::MAX, &[(u64::MAX, 2)]), 2),
            (sparse(u64::MAX, &[]), 0),
        ] {
            assert!(wrong.check(stored).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_map_in_the_data_is_bounded() {
        let mut map = DataMap::new(4);
        map.block(b"2\n0\n5\n100\n7\n\0\0\0").expect("valid");
        assert!(map.is_complete());
        assert_eq!(map.regions, [(0, 5), (100, 7)]);
        assert_eq!(DataMap::new(4).block(b"5\n").unwrap_err().kind(), crate::ErrorKind::Limit);
        assert!(DataMap::new(4).block(&[b'1'; 512]).is_err());
        assert!(DataMap::new(4).block(b"x\n").is_err());
    }
}
