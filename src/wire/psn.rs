//! Packet sequence numbers: 24 bits, modulo 2^24 (IBTA volume 1, 9.7.2). A PSN is a plain `u32` below
//! [`MODULUS`].
//!
//! Two PSNs compare by their signed 24-bit distance, which is meaningful while at most 2^23 packets are
//! outstanding.

/// Number of distinct PSNs.
pub const MODULUS: u32 = 1 << 24;
/// Bits of a PSN.
pub const MASK: u32 = MODULUS - 1;

/// `psn + n` modulo 2^24.
#[inline]
pub const fn add(psn: u32, n: u32) -> u32 {
    psn.wrapping_add(n) & MASK
}

/// `psn - n` modulo 2^24.
#[inline]
pub const fn sub(psn: u32, n: u32) -> u32 {
    psn.wrapping_sub(n) & MASK
}

/// Signed distance `a - b` in -2^23..2^23: positive when `a` comes after `b`.
#[inline]
pub const fn diff(a: u32, b: u32) -> i32 {
    ((a.wrapping_sub(b) << 8) as i32) >> 8
}

/// `a` comes before `b`.
#[inline]
pub const fn before(a: u32, b: u32) -> bool {
    diff(a, b) < 0
}

/// PSNs a message of `bytes` takes at `mtu` payload bytes per packet: at least one, also for an empty message
/// and for a READ (whose responses reuse the request's PSNs). `mtu` 0 counts as 1.
#[inline]
pub const fn packets(bytes: u64, mtu: u16) -> u64 {
    let mtu = if mtu == 0 { 1 } else { mtu as u64 };
    if bytes == 0 { 1 } else { bytes.div_ceil(mtu) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn psn_wraps_inside_one_message() {
        // The sequence of a real capture whose five-packet message crosses the wrap.
        let psns: Vec<u32> = (0..5).map(|i| add(0xff_fffe, i)).collect();
        assert_eq!(psns, [0xff_fffe, 0xff_ffff, 0, 1, 2]);
        assert_eq!(diff(2, 0xff_fffe), 4);
        assert_eq!(diff(0xff_fffe, 2), -4);
        assert!(before(0xff_ffff, 0));
        assert_eq!(sub(1, 2), 0xff_ffff);
    }

    #[test]
    fn messages_take_at_least_one_psn() {
        assert_eq!((packets(0, 1024), packets(1, 1024), packets(5000, 1024)), (1, 1, 5));
        assert_eq!(packets(1 << 31, 256), 1 << 23);
    }

    proptest! {
        #[test]
        fn diff_undoes_add(psn in 0..MODULUS, n in -(1i32 << 23)..(1 << 23)) {
            let moved = if n >= 0 { add(psn, n as u32) } else { sub(psn, n.unsigned_abs()) };
            prop_assert_eq!(diff(moved, psn), n);
        }
    }
}
