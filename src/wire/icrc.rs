//! The invariant CRC of RoCEv2: whole frames for people and tests, and a way that costs the same for 64 and
//! 4096 payload bytes when the payload is one repeated byte.
//!
//! CRC-32 (reflected polynomial 0xedb88320, as Ethernet) over eight 0xff bytes, the IP header, UDP, BTH,
//! extended headers, payload and pad, with every field that a switch may change read as ones: type of
//! service, TTL and header checksum (IPv4); traffic class, flow label and hop limit (IPv6); UDP checksum; the
//! BTH byte of FECN and BECN. It is stored least significant byte first. Ethernet and VLAN headers are
//! outside. Source: IBTA volume 1, 7.8.1 and annex A17.3.3.

use crate::units::FrameLen;

use super::fast::{self, Fast, Kind, Malformed};
use super::headers::PKEY_DEFAULT;
use super::{BTH_LEN, HEAD_MAX, IPV4_LEN, IPV6_LEN, ROCE_UDP_PORT, UDP_LEN, bytes_at, put};

/// Reflected polynomial of CRC-32.
const POLY: u32 = 0xedb8_8320;
/// CRC register after the eight 0xff bytes that stand for the masked LRH.
const REGISTER_START: u32 = 0xdebb_20e3;

/// Why a frame has no ICRC to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcrcError {
    /// The frame is not RoCEv2.
    #[error("the frame is not RoCEv2 and has no ICRC")]
    NotRoce,
    /// The frame contradicts itself.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Where the ICRC of a whole frame lies and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icrc {
    /// Offset of the four ICRC bytes in the frame.
    pub off: usize,
    /// ICRC found there.
    pub found: u32,
    /// ICRC the bytes before it call for.
    pub expected: u32,
}

impl Icrc {
    /// The ICRC is right.
    pub const fn ok(&self) -> bool {
        self.found == self.expected
    }
}

/// Computes the ICRC of a whole Ethernet frame (without FCS; padding behind the IP packet is ignored) with
/// room for it at the end, whatever it holds now. Cost: one pass over the frame.
///
/// # Errors
/// [`IcrcError`] when the frame is not RoCEv2 or its lengths contradict each other.
pub fn of_frame(frame: &[u8]) -> Result<Icrc, IcrcError> {
    let mut head = [0; HEAD_MAX];
    let n = frame.len().min(HEAD_MAX);
    head[..n].copy_from_slice(&frame[..n]);
    let len = FrameLen(u16::try_from(frame.len()).unwrap_or(u16::MAX));
    let f = fast::parse(&head, len)?;
    if f.kind != Kind::Roce {
        return Err(IcrcError::NotRoce);
    }
    let off = usize::from(f.head_len()) + usize::from(f.payload_len) + usize::from(f.pad);
    let found = bytes_at(frame, off).ok_or(Malformed::Short)?;
    let at = Offsets { ip: f.ip_off.into(), udp: f.udp_off.into(), is_v6: f.is_v6 };
    let expected = of_span(frame, at, off).ok_or(Malformed::Short)?;
    Ok(Icrc { off, found: u32::from_le_bytes(*found), expected })
}

/// Where the headers are that the ICRC masks.
#[derive(Clone, Copy)]
pub(crate) struct Offsets {
    pub ip: usize,
    pub udp: usize,
    pub is_v6: bool,
}

/// ICRC over `frame[at.ip..end]`; `None` when the headers are not all there.
pub(crate) fn of_span(frame: &[u8], at: Offsets, end: usize) -> Option<u32> {
    let bth_end = at.udp + UDP_LEN + BTH_LEN;
    let mut head = [0; HEAD_MAX];
    let masked = head.get_mut(..bth_end)?;
    masked.copy_from_slice(frame.get(..bth_end)?);
    mask(&mut head, at);
    let mut crc = crc32fast::Hasher::new_with_initial(!REGISTER_START);
    crc.update(head.get(at.ip..bth_end)?);
    crc.update(frame.get(bth_end..end)?);
    Some(crc.finalize())
}

/// Whether the ICRC of a whole frame is right.
///
/// # Errors
/// As [`of_frame`].
pub fn verify(frame: &[u8]) -> Result<bool, IcrcError> {
    of_frame(frame).map(|i| i.ok())
}

/// Writes the right ICRC into a whole frame that has room for it.
///
/// # Errors
/// As [`of_frame`]; the frame is then unchanged.
pub fn seal(frame: &mut [u8]) -> Result<(), IcrcError> {
    let icrc = of_frame(frame)?;
    put(frame, icrc.off, &icrc.expected.to_le_bytes());
    Ok(())
}

/// Sets every byte the ICRC does not see to 0xff. The BTH is known to be inside.
#[inline(always)]
fn mask(head: &mut [u8; HEAD_MAX], at: Offsets) {
    let Offsets { ip, udp, is_v6 } = at;
    if is_v6 {
        head[ip] |= 0x0f;
        put(head, ip + 1, &[0xff; 3]);
        head[ip + 7] = 0xff;
    } else {
        head[ip + 1] = 0xff;
        head[ip + 8] = 0xff;
        put(head, ip + 10, &[0xff; 2]);
    }
    put(head, udp + 6, &[0xff; 2]);
    head[udp + UDP_LEN + 4] = 0xff;
}

/// Bytes from the length field of an IPv6 header to the end of the BTH: what is farthest from there and differs from
/// frame to frame.
const FARTHEST: usize = IPV6_LEN - 4 + UDP_LEN + BTH_LEN;

/// `TABLES[k][b]`: the register that byte `b` leaves behind after `k` more zero bytes. 56 KiB, of which frames of one
/// IP family use 15.
static TABLES: [[u32; 256]; FARTHEST] = {
    let mut t = [[0u32; 256]; FARTHEST];
    let mut b = 0;
    while b < 256 {
        let mut r = b as u32;
        let mut bit = 0;
        while bit < 8 {
            r = if r & 1 != 0 { r >> 1 ^ POLY } else { r >> 1 };
            bit += 1;
        }
        t[0][b] = r;
        b += 1;
    }
    let mut k = 1;
    while k < FARTHEST {
        let mut b = 0;
        while b < 256 {
            let r = t[k - 1][b];
            t[k][b] = r >> 8 ^ t[0][(r & 0xff) as usize];
            b += 1;
        }
        k += 1;
    }
    t
};

/// Register after `N` (4, 8 or 16) more bytes.
#[inline(always)]
fn step<const N: usize>(register: u32, bytes: &[u8; N]) -> u32 {
    let mut next = 0;
    for (i, &b) in bytes.iter().enumerate() {
        let r = if i < 4 { (register >> (8 * i)) as u8 } else { 0 };
        next ^= TABLES[N - 1 - i][usize::from(b ^ r)];
    }
    next
}

/// Masks of the little-endian words from an IPv4 header without options to the end of the BTH.
const MASKS_V4: [u32; (IPV4_LEN + UDP_LEN + BTH_LEN) / 4] =
    [0x0000_ff00, 0, 0xffff_00ff, 0, 0, 0, 0xffff_0000, 0, 0x0000_00ff, 0];
/// The same from an IPv6 header.
const MASKS_V6: [u32; (IPV6_LEN + UDP_LEN + BTH_LEN) / 4] =
    [0xffff_ff0f, 0xff00_0000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xffff_0000, 0, 0x0000_00ff, 0];

/// CRC register after the masked headers of a RoCEv2 frame, payload excluded. RoCEv2 headers are whole words,
/// so there is never an odd byte. Cost: about 10 ns for the 40 header bytes of an IPv4 packet, whatever the
/// payload.
#[inline]
pub fn register_after_head(head: &[u8; HEAD_MAX], f: &Fast) -> u32 {
    let ip = usize::from(f.ip_off);
    let register = match (f.is_v6, f.ext_off - f.ip_off) {
        (false, 40) => masked_register(head, ip, &MASKS_V4),
        (true, _) => masked_register(head, ip, &MASKS_V6),
        (false, _) => {
            // IPv4 options: rare enough for the plain way.
            let mut masked = *head;
            mask(&mut masked, Offsets { ip, udp: f.udp_off.into(), is_v6: false });
            words(&masked, ip, f.ext_off.into()).fold(REGISTER_START, step)
        }
    };
    words(head, f.ext_off.into(), f.head_len().into()).fold(register, step)
}

/// Whole words of `head[from..to]`.
#[inline(always)]
fn words(head: &[u8; HEAD_MAX], from: usize, to: usize) -> impl Iterator<Item = &[u8; 4]> {
    head.get(from..to).unwrap_or(&[]).as_chunks::<4>().0.iter()
}

/// Register after `W` words from `off` on, each with the bits of its mask set.
#[inline(always)]
fn masked_register<const W: usize>(head: &[u8; HEAD_MAX], off: usize, masks: &[u32; W]) -> u32 {
    let mut bytes = [[0; 4]; W];
    for ((to, from), m) in bytes.iter_mut().zip(words(head, off, off + 4 * W)).zip(masks) {
        *to = (u32::from_le_bytes(*from) | m).to_le_bytes();
    }
    let (long, rest) = bytes.as_flattened().as_chunks::<16>();
    let register = long.iter().fold(REGISTER_START, step);
    let (mid, rest) = rest.as_chunks::<8>();
    let register = mid.iter().fold(register, step);
    rest.as_chunks::<4>().0.iter().fold(register, step)
}

/// Register after an IP header and UDP and BTH behind it, all that differs from frame to frame taken as zero. `first`
/// are the bytes of the IP header up to and with its length, `rest` what follows in it.
pub(super) fn register_of_template(first: &[u8], rest: &[u8]) -> u32 {
    let udp = first.len() + rest.len();
    let mut head = [0; HEAD_MAX];
    put(&mut head, 0, first);
    put(&mut head, first.len(), rest);
    put(&mut head, udp + 2, &ROCE_UDP_PORT.to_be_bytes());
    put(&mut head, udp + UDP_LEN + 2, &PKEY_DEFAULT.to_be_bytes());
    mask(&mut head, Offsets { ip: 0, udp, is_v6: udp == IPV6_LEN });
    words(&head, 0, udp + UDP_LEN + BTH_LEN).fold(REGISTER_START, step)
}

/// What two bytes leave behind, the second of which is followed by `AFTER` bytes up to the end of the BTH.
#[inline(always)]
fn of_u16<const AFTER: usize>(value: u16) -> u32 {
    TABLES[AFTER + 1][usize::from(value >> 8)] ^ TABLES[AFTER][usize::from(value as u8)]
}

/// What the total length of an IPv4 header leaves behind at the end of the BTH.
#[inline(always)]
pub(super) fn of_length_v4(total: u16) -> u32 {
    of_u16::<{ IPV4_LEN - 4 + UDP_LEN + BTH_LEN }>(total)
}

/// What the payload length of an IPv6 header leaves behind at the end of the BTH.
#[inline(always)]
pub(super) fn of_length_v6(payload: u16) -> u32 {
    of_u16::<{ IPV6_LEN - 6 + UDP_LEN + BTH_LEN }>(payload)
}

/// What source port, UDP length and BTH leave behind at the end of the BTH. The register is linear: the headers of a
/// frame are those of its template and, bit by bit, what differs.
#[inline(always)]
pub(super) fn of_transport(sport: u16, udp_len: u16, bth: [u32; BTH_LEN / 4]) -> u32 {
    let [w0, w1, w2] = bth;
    let byte = |after: usize, w: u32, shift: u32| TABLES[after][usize::from((w >> shift) as u8)];
    of_u16::<{ BTH_LEN + 6 }>(sport)
        ^ of_u16::<{ BTH_LEN + 2 }>(udp_len)
        ^ byte(11, w0, 24)
        ^ byte(10, w0, 16)
        ^ byte(6, w1, 16)
        ^ byte(5, w1, 8)
        ^ byte(4, w1, 0)
        ^ byte(3, w2, 24)
        ^ byte(2, w2, 16)
        ^ byte(1, w2, 8)
        ^ byte(0, w2, 0)
}

/// What source port, queue pair and PSN leave behind `EXT` bytes after the BTH.
#[inline(always)]
pub(super) fn of_flow<const EXT: usize>(sport: u16, dest_qp: u32, psn: u32) -> u32 {
    let byte = |after: usize, w: u32, shift: u32| TABLES[after + EXT][usize::from((w >> shift) as u8)];
    byte(BTH_LEN + 7, sport.into(), 8)
        ^ byte(BTH_LEN + 6, sport.into(), 0)
        ^ byte(6, dest_qp, 16)
        ^ byte(5, dest_qp, 8)
        ^ byte(4, dest_qp, 0)
        ^ byte(2, psn, 16)
        ^ byte(1, psn, 8)
        ^ byte(0, psn, 0)
}

/// What AckReq leaves behind at the end of the BTH.
#[inline(always)]
pub(super) fn of_ack_req() -> u32 {
    TABLES[3][0x80]
}

/// What the last word of the headers leaves behind.
#[inline(always)]
pub(super) fn of_last_word(word: u32) -> u32 {
    let [a, b, c, d] = word.to_be_bytes().map(usize::from);
    TABLES[3][a] ^ TABLES[2][b] ^ TABLES[1][c] ^ TABLES[0][d]
}

/// What a PSN leaves behind at the end of the extended headers, so many bytes after it (at most 32).
#[inline(always)]
pub(super) fn of_psn(psn: u32, after: usize) -> u32 {
    let byte = |back: usize, shift: u32| TABLES[after + back][usize::from((psn >> shift) as u8)];
    byte(2, 16) ^ byte(1, 8) ^ byte(0, 0)
}

/// Register after the whole words of `head[from..to]`.
#[inline(always)]
pub(super) fn over_words(register: u32, head: &[u8; HEAD_MAX], from: usize, to: usize) -> u32 {
    words(head, from, to).fold(register, step)
}

/// Where the ICRC of a frame stands when its headers were just written: what [`crate::frame::FramePool::seal_after`]
/// needs to finish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterHead {
    /// CRC register after the headers.
    pub register: u32,
    /// Payload bytes that follow.
    pub payload_len: u16,
    /// Pad bytes behind them.
    pub pad: u8,
}

/// What becomes of a CRC register over so many zero bytes: a linear map. 4 KiB each.
#[derive(Clone, Debug)]
pub struct Advance {
    /// `tables[k][b]`: what byte `k` of the register becomes.
    tables: Box<[[u32; 256]; 4]>,
    bytes: u16,
}

impl Advance {
    /// Prepares for so many bytes. Cost: 1,024 table entries; allocates 4 KiB.
    pub fn new(bytes: u16) -> Advance {
        let power = x_to_the_8n(bytes.into());
        let mut tables = Box::new([[0; 256]; 4]);
        for (k, table) in tables.iter_mut().enumerate() {
            for (b, entry) in (0u32..).zip(table.iter_mut()) {
                *entry = multiply(b << (8 * k), power);
            }
        }
        Advance { tables, bytes }
    }
    /// Bytes this was made for.
    #[inline]
    pub const fn bytes(&self) -> u16 {
        self.bytes
    }
    /// The register after them. Cost: four table lookups.
    #[inline]
    pub fn over(&self, register: u32) -> u32 {
        let t = &self.tables;
        let [a, b, c, d] = register.to_le_bytes().map(usize::from);
        t[0][a] ^ t[1][b] ^ t[2][c] ^ t[3][d]
    }
    /// As [`Advance::over`] for a number of bytes that nothing was prepared for. Cost: some 100 ns.
    pub fn slowly(register: u32, bytes: u16) -> u32 {
        multiply(register, x_to_the_8n(bytes.into()))
    }
}

/// What eight bytes, least significant first, leave behind after `AFTER` (16 at most) more zero bytes.
#[inline(always)]
pub fn of_u64<const AFTER: usize>(value: u64) -> u32 {
    let mut register = 0;
    for (i, b) in value.to_le_bytes().into_iter().enumerate() {
        register ^= TABLES[AFTER + 7 - i][usize::from(b)];
    }
    register
}

/// The ICRC of frames whose payload is `payload_len` times one byte, then pad zeros: the register after the
/// headers is carried over the payload by a linear map, whatever its length. One per payload length, 4 KiB
/// each.
#[derive(Clone, Debug)]
pub struct ConstPayload {
    advance: Advance,
    /// What payload and pad leave in an empty register.
    constant: u32,
}

impl ConstPayload {
    /// Prepares for `payload_len` bytes of value `byte` and `pad` zeros. Cost: one pass over so many bytes
    /// and 1,024 table entries; allocates 4 KiB.
    pub fn new(payload_len: u16, byte: u8, pad: u8) -> ConstPayload {
        let body = (0..payload_len).map(|_| byte).chain((0..pad).map(|_| 0));
        let constant = body.fold(0, |r: u32, b| r >> 8 ^ TABLES[0][usize::from(r as u8 ^ b)]);
        ConstPayload { advance: Advance::new(payload_len + u16::from(pad)), constant }
    }
    /// Payload and pad bytes this was made for.
    pub const fn bytes(&self) -> u16 {
        self.advance.bytes()
    }
    /// The ICRC from the register after the headers ([`register_after_head`]). Cost: four table lookups.
    #[inline]
    pub fn finish(&self, register: u32) -> u32 {
        !(self.advance.over(register) ^ self.constant)
    }
    /// The ICRC of a frame from its head. The caller has chosen the object by `f.payload_len` and `f.pad`.
    #[inline]
    pub fn icrc(&self, head: &[u8; HEAD_MAX], f: &Fast) -> u32 {
        debug_assert_eq!(self.bytes(), f.payload_len + u16::from(f.pad));
        self.finish(register_after_head(head, f))
    }
}

/// Product of two polynomials modulo the CRC polynomial; bit 31 is x^0.
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        if a >> 31 != 0 {
            product ^= b;
        }
        a <<= 1;
        b = if b & 1 != 0 { b >> 1 ^ POLY } else { b >> 1 };
    }
    product
}

/// x^(8n) modulo the CRC polynomial: multiplying a register by it runs `n` zero bytes through.
const fn x_to_the_8n(mut n: u32) -> u32 {
    let (mut square, mut power) = (1 << 23, 1 << 31);
    while n != 0 {
        if n & 1 != 0 {
            power = multiply(power, square);
        }
        square = multiply(square, square);
        n >>= 1;
    }
    power
}
