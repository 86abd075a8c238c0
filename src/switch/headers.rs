//! What a switch reads from and writes to the bytes of a frame.

use super::config::Color;
use super::route::{AddressMap, with_dest_qp};
use crate::frame::{COLOR_SHIFT, Frame, HEAD_MAX, flags};
use crate::limits::PRIORITIES;
use crate::measure::record::DropReason;
use crate::wire::fast::{self, Fast, Kind};
use crate::wire::pfc::{self, PfcFrame};
use crate::wire::template::WireLen;

/// What a frame is to a switch.
#[derive(Debug)]
pub enum Seen {
    /// Forward it; endpoint, priority and hash are in the meta now.
    Forward,
    /// Flow control for the port it came in by.
    Pfc(PfcFrame),
    /// Silence of the whole link for so many quanta.
    Pause(u16),
}

/// What classifies frames.
#[derive(Clone, Copy)]
pub struct Maps<'a> {
    /// Endpoints by address.
    pub addresses: &'a AddressMap,
    /// Traffic class and colour by DSCP, see [`classifier`].
    pub dscp: &'a [u8; 64],
    /// The entropy of a flow knows its destination queue pair.
    pub hash_dest_qp: bool,
}

/// Traffic class and colour of every DSCP, as [`crate::frame::FrameMeta::priority`] has them.
pub fn classifier(classes: &[u8; 64], colors: &[Color; 64]) -> [u8; 64] {
    std::array::from_fn(|dscp| classes[dscp] & 7 | (colors[dscp] as u8) << COLOR_SHIFT)
}

/// As [`read`] for the common frame, which is to be forwarded; `None` for any other.
#[inline(always)]
pub fn read_usual(frame: &mut impl Frame, maps: &Maps) -> Option<Result<(), DropReason>> {
    let seen = fast::parse_usual(frame.head(), frame.len())?;
    Some(note(frame, &seen, maps))
}

/// Classifies a frame at its first switch. Its traffic class is that of its DSCP, or of its VLAN tag's code point where `pcp`
/// trusts that (SONiC does not by default).
///
/// # Errors
/// [`DropReason::Malformed`], or [`DropReason::NoRoute`] when the destination address belongs to nobody.
#[inline(never)]
pub fn read(frame: &mut impl Frame, maps: &Maps, pcp: Option<&[u8; PRIORITIES]>) -> Result<Seen, DropReason> {
    let len = frame.len();
    let seen = fast::parse(frame.head(), len).map_err(|_| DropReason::Malformed)?;
    if seen.kind == Kind::Pfc {
        let pause = || pfc::global_pause(frame.head(), len).map(Seen::Pause);
        let seen = PfcFrame::parse(frame.head(), len).map(Seen::Pfc);
        return seen.or_else(pause).ok_or(DropReason::Malformed);
    }
    note(frame, &seen, maps)?;
    // Only here: the common frame has no tag, so it never asks.
    if let (Some(map), Some(tag)) = (pcp, seen.vlan) {
        let meta = frame.meta_mut();
        meta.priority = meta.priority & !7 | map[usize::from(tag.pcp & 7)] & 7;
    }
    Ok(Seen::Forward)
}

/// Notes in the meta what the headers say.
#[inline(always)]
fn note(frame: &mut impl Frame, seen: &Fast, maps: &Maps) -> Result<(), DropReason> {
    let dst = maps.addresses.get(seen.dst).ok_or(DropReason::NoRoute)?;
    let ttl = fast::ttl(frame.head(), seen);
    let meta = frame.meta_mut();
    meta.ttl = ttl;
    meta.dst = dst.0;
    meta.priority = maps.dscp[usize::from(seen.dscp & 63)];
    meta.hash = fast::ecmp_hash(seen, 0);
    if maps.hash_dest_qp && seen.kind == Kind::Roce {
        meta.hash = with_dest_qp(meta.hash, seen.dest_qp);
    }
    meta.flags |= flags::PARSED;
    Ok(())
}

/// True when the sender speaks ECN (RFC 3168): ECT(0), ECT(1), or CE already.
#[inline]
pub fn is_ecn_capable(head: &[u8; HEAD_MAX]) -> bool {
    fast::ecn(head) != 0
}

/// Sets CE; true when the frame did not carry it before.
pub fn set_ce(frame: &mut impl Frame) -> bool {
    const CE: u8 = 3;
    let fresh = fast::ecn(frame.head()) != CE && fast::set_ce(frame.head_mut());
    if fresh {
        frame.meta_mut().flags |= flags::CE;
    }
    fresh
}

/// Writes what switches have left of the TTL (IPv6: hop limit) into the bytes of a frame. Neither the ICRC nor anything a
/// host of ours reads depends on it, so this is for captures and other readers of bytes.
pub fn settle_ttl(frame: &mut impl Frame) {
    let (ttl, flags) = (frame.meta().ttl, frame.meta().flags);
    if flags & flags::PARSED != 0 {
        fast::set_ttl(frame.head_mut(), ttl);
    }
}

/// Writes a PFC frame from `mac`.
pub fn write_pfc(frame: &mut impl Frame, mac: [u8; 6], message: &PfcFrame) {
    let written = message.write(frame.head_mut(), mac);
    control(frame, written);
}

/// Writes a pause of the whole link from `mac`.
pub fn write_pause(frame: &mut impl Frame, mac: [u8; 6], quanta: u16) {
    let written = pfc::write_global_pause(frame.head_mut(), mac, quanta);
    control(frame, written);
}

fn control(frame: &mut impl Frame, written: WireLen) {
    let meta = frame.meta_mut();
    meta.head_len = written.head_len;
    meta.len = written.len;
    meta.flags |= flags::PFC;
}
