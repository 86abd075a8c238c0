//! What outside bytes meet, one function per decoder. An entry takes any bytes, never panics, and asserts what must
//! hold of any input. Used by the fuzz targets (`tools/fuzz`) and, with bounded random input, by `cargo test`.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod devices;
pub mod seeds;
mod text;
mod wire;

/// A decoder under test.
pub type Entry = fn(&[u8]);

/// Every entry by the name of its fuzz target.
pub const ENTRIES: [(&str, Entry); 14] = [
    ("fast", wire::fast_parser),
    ("dissect", wire::dissector),
    ("pfc", wire::pfc),
    ("stamp", wire::stamps),
    ("neighbour", wire::neighbours),
    ("capture", wire::capture),
    ("messages", wire::messages),
    ("flows", text::flows),
    ("hpcc", text::hpcc),
    ("sonic", text::sonic),
    ("profile", text::profile),
    ("device", text::device),
    ("host", devices::host),
    ("switch", devices::switch),
];

/// Runs the entry of that name.
pub fn run(name: &str, data: &[u8]) {
    let (_, entry) = ENTRIES.iter().find(|(n, _)| *n == name).expect("a known entry");
    entry(data);
}

/// Takes an input apart; what is missing at its end reads as zero.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }
    /// The next two bytes, big-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }
    /// The next four bytes, big-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }
    /// The next eight bytes, big-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }
    /// Up to `n` bytes.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }
    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
