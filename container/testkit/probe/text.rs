//! Text in and out: numbers from arguments, and a small buffer in front of a descriptor.

use crate::sys::{self, Result};

/// Reads a decimal number, or a hexadecimal one after `0x`, either with a leading minus sign.
pub fn number(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (radix, digits) = match text {
        [b'0', b'x', rest @ ..] => (16, rest),
        _ => (10, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        value = value.wrapping_mul(radix.into()).wrapping_add(digit.into());
    }
    Some(if negative { (value as i64).wrapping_neg() } else { value as i64 })
}

/// Collects output and writes it in few system calls. The first failed write is kept and told by `flush`.
pub struct Out {
    fd: i32,
    buffer: [u8; 1024],
    used: usize,
    failed: Result<()>,
}

impl Out {
    pub fn new(fd: i32) -> Self {
        Self { fd, buffer: [0; 1024], used: 0, failed: Ok(()) }
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            if self.used == self.buffer.len() {
                self.write_out();
            }
            if let Some(place) = self.buffer.get_mut(self.used) {
                *place = byte;
                self.used += 1;
            }
        }
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub fn line(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes(bytes).text("\n")
    }

    pub fn number(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.text("-");
        }
        self.digits(value.unsigned_abs(), 10, 1)
    }

    /// Writes `value` with at least `width` digits.
    pub fn digits(&mut self, mut value: u64, radix: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 24];
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            *place = b"0123456789abcdef"[(value % radix) as usize & 15];
            value /= radix;
            used += 1;
            if value == 0 && used >= width {
                break;
            }
        }
        self.bytes(&digits[24 - used..])
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        self.write_out();
        self.failed
    }

    fn write_out(&mut self) {
        let mut done = 0;
        while done < self.used && self.failed.is_ok() {
            match sys::write(self.fd, &self.buffer[done..self.used]) {
                Ok(written) => done += written,
                Err(errno) => self.failed = Err(errno),
            }
        }
        self.used = 0;
    }
}
