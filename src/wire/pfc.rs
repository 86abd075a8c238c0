//! Priority flow control frames (IEEE 802.1Q clause 36, 802.3 annex 31D): 60 bytes without FCS, never tagged.

use serde::{Deserialize, Serialize};

use crate::units::FrameLen;

use super::template::WireLen;
use super::{ETH_LEN, ETHERTYPE_MAC_CONTROL, ETHERTYPE_VLAN, HEAD_MAX, VLAN_LEN, be16, put};

/// Destination of every MAC control frame; bridges never forward it.
pub const PFC_MAC: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x01];
/// MAC control opcode of PFC.
pub const PFC_OPCODE: u16 = 0x0101;
/// MAC control opcode of the pause of a whole link (802.3 annex 31B).
pub const PAUSE_OPCODE: u16 = 0x0001;
/// Length of a PFC frame without FCS.
pub const PFC_LEN: FrameLen = FrameLen(60);

const TIMES_OFF: usize = ETH_LEN + 4;

/// How a PFC frame is written: as the standard wants it, or wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it should be.
    #[default]
    Valid,
    /// MAC control opcode 0x0202, which nobody defines: not to be obeyed.
    WrongOpcode,
    /// The opcode of link-wide PAUSE, 0x0001: not PFC; who knows it stops the whole link, for as many quanta as the
    /// enable vector happens to say (802.3 annex 31B).
    GlobalPause,
    /// Ends inside the times: not to be obeyed.
    Short,
    /// The reserved upper half of the enable vector is set: to be obeyed, those bits ignored.
    ReservedBits,
    /// To a unicast address: not to be obeyed.
    WrongMac,
    /// Behind an 802.1Q tag, which MAC control frames never carry: not to be obeyed.
    VlanTagged,
}

impl Form {
    /// True when a receiver must obey such a frame as PFC.
    pub const fn is_obeyed(self) -> bool {
        matches!(self, Form::Valid | Form::ReservedBits)
    }
    /// Length without FCS.
    pub const fn len(self) -> FrameLen {
        match self {
            Form::Short => FrameLen(TIMES_OFF as u16 + 14),
            Form::VlanTagged => FrameLen(PFC_LEN.0 + VLAN_LEN as u16),
            _ => PFC_LEN,
        }
    }
}

/// What a PFC frame asks for. Quanta of priorities whose enable bit is clear mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PfcFrame {
    /// Class-enable vector: bit n speaks for priority n.
    pub enable: u8,
    /// Pause time per priority in quanta of 512 bit times; 0 resumes at once.
    pub quanta: [u16; 8],
}

impl PfcFrame {
    /// Pauses (or with 0 quanta resumes) a single priority, 0..8; higher ones wrap.
    pub fn one(priority: u8, quanta: u16) -> PfcFrame {
        let mut f = PfcFrame { enable: 1 << (priority & 7), ..PfcFrame::default() };
        f.quanta[usize::from(priority & 7)] = quanta;
        f
    }
    /// Quanta asked for `priority`, `None` when the frame says nothing about it.
    #[inline]
    pub fn quanta_of(&self, priority: u8) -> Option<u16> {
        (self.enable >> (priority & 7) & 1 != 0).then_some(self.quanta[usize::from(priority & 7)])
    }
    /// Writes the whole frame, 60 bytes, all of them head. There is no ICRC.
    #[inline]
    pub fn write(&self, head: &mut [u8; HEAD_MAX], src_mac: [u8; 6]) -> WireLen {
        put(head, 0, &PFC_MAC);
        put(head, 6, &src_mac);
        put(head, 12, &ETHERTYPE_MAC_CONTROL.to_be_bytes());
        put(head, ETH_LEN, &PFC_OPCODE.to_be_bytes());
        put(head, ETH_LEN + 2, &u16::from(self.enable).to_be_bytes());
        for (i, q) in self.quanta.iter().enumerate() {
            put(head, TIMES_OFF + 2 * i, &q.to_be_bytes());
        }
        put(head, TIMES_OFF + 16, &[0; 26]);
        WireLen { head_len: PFC_LEN.0 as u8, len: PFC_LEN }
    }
    /// As [`PfcFrame::write`], with what `form` makes different.
    pub fn write_as(&self, form: Form, head: &mut [u8; HEAD_MAX], src_mac: [u8; 6]) -> WireLen {
        let mut wire = self.write(head, src_mac);
        match form {
            Form::Valid => {}
            Form::WrongOpcode => put(head, ETH_LEN, &[0x02, 0x02]),
            Form::GlobalPause => put(head, ETH_LEN, &[0x00, 0x01]),
            Form::ReservedBits => put(head, ETH_LEN + 2, &[0xff]),
            Form::WrongMac => put(head, 0, &[0x02, 0x00, 0x00, 0x00, 0x00, 0x01]),
            Form::VlanTagged => {
                head.copy_within(12..PFC_LEN.0.into(), 12 + VLAN_LEN);
                put(head, 12, &ETHERTYPE_VLAN.to_be_bytes());
                let pcp = self.enable.trailing_zeros().min(7) as u8;
                put(head, 14, &[pcp << 5, 1]);
            }
            Form::Short => {}
        }
        wire.len = form.len();
        wire.head_len = wire.len.0 as u8;
        wire
    }
    /// Reads a PFC frame of `len` bytes; `None` for any other frame, one to another address among them. The reserved
    /// upper half of the enable vector is ignored, as receivers must.
    #[inline]
    pub fn parse(head: &[u8; HEAD_MAX], len: FrameLen) -> Option<PfcFrame> {
        let ours = be16(head, 12) == ETHERTYPE_MAC_CONTROL
            && be16(head, ETH_LEN) == PFC_OPCODE
            && head.starts_with(&PFC_MAC);
        if !ours || usize::from(len.0) < TIMES_OFF + 16 {
            return None;
        }
        let mut quanta = [0; 8];
        for (i, q) in quanta.iter_mut().enumerate() {
            *q = be16(head, TIMES_OFF + 2 * i);
        }
        Some(PfcFrame { enable: head[ETH_LEN + 3], quanta })
    }
}

/// Quanta of a pause of the whole link (0 resumes at once); `None` for any other frame.
#[inline]
pub fn global_pause(head: &[u8; HEAD_MAX], len: FrameLen) -> Option<u16> {
    let ours = be16(head, 12) == ETHERTYPE_MAC_CONTROL && be16(head, ETH_LEN) == PAUSE_OPCODE;
    (ours && usize::from(len.0) >= ETH_LEN + 4).then(|| be16(head, ETH_LEN + 2))
}

/// Writes a pause of the whole link: 60 bytes, all of them head.
pub fn write_global_pause(head: &mut [u8; HEAD_MAX], src_mac: [u8; 6], quanta: u16) -> WireLen {
    let written = PfcFrame::default().write(head, src_mac);
    put(head, ETH_LEN, &PAUSE_OPCODE.to_be_bytes());
    put(head, ETH_LEN + 2, &quanta.to_be_bytes());
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pausing_priority_3_gives_the_bytes_of_the_standard() {
        let mut head = [0xaa; HEAD_MAX];
        let len = PfcFrame::one(3, 0xffff).write(&mut head, [2, 0, 0, 0, 0, 1]);
        let mut want = vec![1, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x88, 0x08, 1, 1, 0, 8];
        want.extend([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        want.resize(60, 0);
        assert_eq!((len.len, len.head_len), (FrameLen(60), 60));
        assert_eq!(&head[..60], &want[..]);
    }

    #[test]
    fn only_enabled_priorities_speak() {
        let sent = PfcFrame { enable: 0x18, quanta: [1, 2, 3, 0xffff, 0x1234, 6, 7, 8] };
        let mut head = [0; HEAD_MAX];
        sent.write(&mut head, [2; 6]);
        let got = PfcFrame::parse(&head, PFC_LEN).unwrap();
        assert_eq!(got, sent);
        assert_eq!(
            (got.quanta_of(3), got.quanta_of(4), got.quanta_of(5)),
            (Some(0xffff), Some(0x1234), None)
        );
        assert_eq!(PfcFrame::one(3, 0).quanta_of(3), Some(0), "XON is an enabled zero");
    }

    #[test]
    fn global_pause_and_cut_frames_are_not_pfc() {
        let mut head = [0; HEAD_MAX];
        PfcFrame::one(0, 1).write(&mut head, [2; 6]);
        assert_eq!(PfcFrame::parse(&head, FrameLen(33)), None);
        head[15] = 0x01;
        head[14] = 0x00; // opcode 0x0001: link-wide PAUSE
        assert_eq!(PfcFrame::parse(&head, PFC_LEN), None);
    }

    #[test]
    fn a_pause_of_the_link_has_the_bytes_of_annex_31b() {
        let mut head = [0xaa; HEAD_MAX];
        let len = write_global_pause(&mut head, [2, 0, 0, 0, 0, 1], 0x1234);
        let mut want = vec![1, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x88, 0x08, 0, 1, 0x12, 0x34];
        want.resize(60, 0);
        assert_eq!((len.len, &head[..60]), (FrameLen(60), &want[..]));
        assert_eq!(global_pause(&head, PFC_LEN), Some(0x1234));
        assert_eq!(PfcFrame::parse(&head, PFC_LEN), None);
        PfcFrame::one(3, 7).write(&mut head, [2; 6]);
        assert_eq!(global_pause(&head, PFC_LEN), None);
    }

    #[test]
    fn only_what_the_standard_defines_is_obeyed() {
        let asked = PfcFrame::one(3, 0xffff);
        for form in [
            Form::Valid,
            Form::WrongOpcode,
            Form::GlobalPause,
            Form::Short,
            Form::ReservedBits,
            Form::WrongMac,
            Form::VlanTagged,
        ] {
            let mut head = [0; HEAD_MAX];
            let wire = asked.write_as(form, &mut head, [2; 6]);
            assert_eq!(wire.len, form.len());
            let read = PfcFrame::parse(&head, wire.len);
            assert_eq!(read, form.is_obeyed().then_some(asked), "{form:?}");
            let kind = crate::wire::fast::parse(&head, wire.len).map(|f| f.kind);
            match form.is_obeyed() {
                true => assert_eq!(kind, Ok(crate::wire::fast::Kind::Pfc)),
                false if form == Form::GlobalPause => assert!(global_pause(&head, wire.len).is_some()),
                false => assert_eq!(kind, Err(crate::wire::fast::Malformed::MacControl), "{form:?}"),
            }
        }
    }
}
