//! The end of a frame: pad bytes and the invariant CRC of RoCEv2 (IBTA volume 1, annex A17).

use crate::frame::Fill;

/// Where the IP header and the BTH of a RoCEv2 frame start; `None` for anything else.
fn locate(frame: &[u8]) -> Option<(usize, usize)> {
    let mut l3 = 14;
    while matches!(frame.get(l3 - 2..l3)?, [0x81, 0x00]) {
        l3 += 4;
    }
    let udp = match frame.get(l3 - 2..l3)? {
        [0x08, 0x00] if *frame.get(l3 + 9)? == 17 => l3 + usize::from(frame.get(l3)? & 0x0f) * 4,
        [0x86, 0xdd] if *frame.get(l3 + 6)? == 17 => l3 + 40,
        _ => return None,
    };
    (frame.get(udp + 2..udp + 4)? == 4791u16.to_be_bytes()).then_some((l3, udp + 8))
}

/// Writes pad and ICRC of a frame whose other bytes are in place. Leaves what is not RoCEv2 alone.
pub(super) fn write(frame: &mut [u8], fill: Fill) -> Option<()> {
    let (l3, bth) = locate(frame)?;
    let body_end = frame.len().checked_sub(4)?;
    if fill != Fill::Control {
        let pad = usize::from(frame.get(bth + 1)? >> 4 & 3);
        frame.get_mut(body_end - pad..body_end)?.fill(0);
    }
    let mut head = [0u8; 128];
    let masked = head.get_mut(..bth + 12 - l3)?;
    masked.copy_from_slice(frame.get(l3..bth + 12)?);
    let at = bth - l3;
    let bytes: &[usize] = if masked[0] >> 4 == 4 { &[1, 8, 10, 11] } else { &[1, 2, 3, 7] };
    bytes.iter().chain(&[at - 2, at - 1, at + 4]).for_each(|&i| masked[i] = 0xff);
    if masked[0] >> 4 == 6 {
        masked[0] |= 0x0f;
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[0xff; 8]);
    crc.update(masked);
    crc.update(frame.get(bth + 12..body_end)?);
    frame.get_mut(body_end..)?.copy_from_slice(&crc.finalize().to_le_bytes());
    Some(())
}
