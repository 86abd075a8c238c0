//! The bytes a frame has on the wire, for captures and tests: what virtual time only implies is written out.

use crate::wire::fast::{self, Kind, Malformed};
use crate::wire::{ICRC_LEN, icrc};

use super::{Frame, PAYLOAD_BYTE, Payload, flags};

/// Writes the whole frame without FCS to `out`, which is cleared first: headers, payload, pad (zeros) and the
/// right ICRC (a wrong one for a frame that was broken on purpose). PFC and other frames without an ICRC are written as their head, padded with zeros to their
/// length.
///
/// Cost: one pass over the frame; for captures, not for the packet path.
///
/// # Errors
/// [`Malformed`] when the headers contradict the frame's length; `out` then holds the bytes without an ICRC.
pub fn materialise<F: Frame>(frame: &F, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let head = frame.head();
    let len = usize::from(frame.len().0);
    let head_len = usize::from(frame.meta().head_len).min(head.len());
    out.clear();
    out.extend(head.iter().take(head_len));
    let parsed = fast::parse(head, frame.len());
    let pad = parsed.map_or(0, |f| usize::from(f.pad));
    match frame.payload() {
        Payload::Bytes(bytes) => out.extend(bytes),
        Payload::Const { .. } => out.resize(len.saturating_sub(ICRC_LEN + pad).max(head_len), PAYLOAD_BYTE),
    }
    out.resize(len, 0);
    if parsed?.kind == Kind::Roce {
        icrc::seal(out).map_err(|e| match e {
            icrc::IcrcError::Malformed(m) => m,
            icrc::IcrcError::NotRoce => Malformed::Short,
        })?;
        if frame.meta().flags & flags::CORRUPT != 0
            && let Some(last) = out.last_mut()
        {
            *last = !*last;
        }
    }
    Ok(())
}
