//! Messages of a capture: counts what packets add up to, each message once, however often and in whatever
//! order its packets were seen.
//!
//! Packets of one direction (source, destination, destination queue pair, request or response) wait in a
//! window ordered by PSN; a PSN that is already there is a retransmission. What leaves the window is read in
//! order: FIRST and ONLY start a message, LAST and ONLY end it. A message is as long as its RETH says, or
//! else the sum of its payloads. Datagrams (UD) are one message each. READ requests, atomics and ACKs carry
//! no message.

use std::collections::BTreeMap;

use super::fast::IpKey;
use super::headers::{Bth, Ext, Opcode};
use super::psn;

/// Packets behind the newest PSN of a flow that still wait for late or repeated ones. A PSN further away than
/// this belongs to another connection that reuses the queue pair number.
const WINDOW: i32 = 1 << 16;

/// What a capture adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageTotals {
    /// Complete messages: SEND, WRITE, and READ by its responses.
    pub messages: u64,
    /// Bytes of those messages, pad excluded.
    pub message_bytes: u64,
    /// Packets seen again. A capture taken behind a lossy link shows fewer than were sent.
    pub retransmitted: u64,
}

/// Direction and queue pair: source, destination, destination queue pair, and whether the packets are
/// responses, whose PSNs are those of the requests they answer.
type Key = (IpKey, IpKey, u32, bool);

/// Counts the messages of a capture. Memory: at most 65,536 packets of 16 bytes per direction of a queue
/// pair.
#[derive(Debug, Default)]
pub struct MessageCounter {
    flows: BTreeMap<Key, Flow>,
    totals: MessageTotals,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    opcode: Opcode,
    payload: u16,
    announced: Option<u32>,
}

#[derive(Debug, Default)]
struct Flow {
    /// Highest PSN seen, counted on beyond 24 bits.
    newest: i64,
    window: BTreeMap<i64, Packet>,
    /// Message being read: bytes so far, length its RETH announced.
    open: Option<(u64, Option<u32>)>,
}

impl MessageCounter {
    /// A counter that has seen nothing.
    pub fn new() -> MessageCounter {
        MessageCounter::default()
    }

    /// Takes one packet from `src` to `dst` with `payload` message bytes. Packets with a wrong ICRC are not
    /// to be shown: no receiver sees them.
    pub fn on_packet(&mut self, src: IpKey, dst: IpKey, bth: &Bth, ext: &Ext, payload: u16) {
        let Some(opcode) = Opcode::from_u8(bth.opcode).filter(|o| o.has_payload()) else { return };
        if opcode.is_ud() {
            self.totals.messages += 1;
            self.totals.message_bytes += u64::from(payload);
            return;
        }
        let announced = match ext {
            Ext::Reth(r) | Ext::RethImm(r, _) => Some(r.dma_len),
            _ => None,
        };
        let packet = Packet { opcode, payload, announced };
        let flow = self.flows.entry((src, dst, bth.dest_qp, opcode.is_response())).or_default();
        flow.take(bth.psn, packet, &mut self.totals);
    }

    /// What everything seen so far adds up to. Messages without their end are left out.
    pub fn finish(mut self) -> MessageTotals {
        for flow in self.flows.values_mut() {
            flow.flush_below(i64::MAX, &mut self.totals);
        }
        self.totals
    }
}

impl Flow {
    fn take(&mut self, psn24: u32, packet: Packet, totals: &mut MessageTotals) {
        let ahead = psn::diff(psn24, (self.newest & i64::from(psn::MASK)) as u32);
        if self.window.is_empty() || ahead.abs() > WINDOW {
            self.flush_below(i64::MAX, totals);
            // Far above whatever came before, so that the window never mixes two connections.
            let base = (self.newest / i64::from(psn::MODULUS) + 2) * i64::from(psn::MODULUS);
            self.newest = base + i64::from(psn24);
            self.open = None;
            self.window.insert(self.newest, packet);
            return;
        }
        let at = self.newest + i64::from(ahead);
        if self.window.contains_key(&at) {
            totals.retransmitted += 1;
            return;
        }
        self.window.insert(at, packet);
        self.newest = self.newest.max(at);
        self.flush_below(self.newest - i64::from(WINDOW), totals);
    }

    /// Reads everything below `limit` in order and forgets it.
    fn flush_below(&mut self, limit: i64, totals: &mut MessageTotals) {
        while let Some(entry) = self.window.first_entry().filter(|e| *e.key() < limit) {
            let packet = entry.remove();
            self.read(packet, totals);
        }
    }

    fn read(&mut self, p: Packet, totals: &mut MessageTotals) {
        // A lost READ response is asked for again from where it broke off: its FIRST goes on with the
        // message.
        let resumes = p.opcode.is_read_response() && p.opcode.is_first() && self.open.is_some();
        if p.opcode.starts_message() && !resumes {
            self.open = Some((0, p.announced));
        }
        if let Some((bytes, _)) = &mut self.open {
            *bytes += u64::from(p.payload);
        }
        if p.opcode.ends_message()
            && let Some((bytes, announced)) = self.open.take()
        {
            totals.messages += 1;
            totals.message_bytes += announced.map_or(bytes, u64::from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::Reth;
    use super::*;

    /// Feeds (opcode, PSN, payload) of one queue pair.
    fn count(packets: &[(Opcode, u32, u16)]) -> MessageTotals {
        let mut counter = MessageCounter::new();
        for &(op, psn, payload) in packets {
            let bth = Bth { opcode: op.into(), psn, dest_qp: 0x11, ..Bth::default() };
            counter.on_packet(IpKey(1), IpKey(2), &bth, &Ext::None, payload);
        }
        counter.finish()
    }

    fn totals(messages: u64, message_bytes: u64, retransmitted: u64) -> MessageTotals {
        MessageTotals { messages, message_bytes, retransmitted }
    }

    use Opcode::{
        RcReadResponseFirst as ReadFirst, RcReadResponseLast as ReadLast, RcReadResponseMiddle as ReadMiddle,
        RcSendFirst as First, RcSendLast as Last, RcSendMiddle as Middle, RcSendOnly as Only,
    };

    #[test]
    fn a_gap_filled_later_is_part_of_its_message() {
        // Behind a cable that lost PSN 0xffffff, it comes after the LAST, and the LAST comes twice.
        let seen =
            [(First, 0xff_fffe, 256), (Last, 0, 10), (Middle, 0xff_ffff, 256), (Last, 0, 10), (Only, 1, 5)];
        assert_eq!(count(&seen), totals(2, 527, 1));
    }

    #[test]
    fn read_responses_asked_for_again_go_on_where_they_broke_off() {
        let seen =
            [(ReadFirst, 0x60, 1024), (ReadFirst, 0x61, 1024), (ReadMiddle, 0x62, 1024), (ReadLast, 0x63, 7)];
        assert_eq!(count(&seen), totals(1, 3 * 1024 + 7, 0));
    }

    #[test]
    fn halves_of_messages_are_left_out() {
        assert_eq!(count(&[(Middle, 7, 256), (Last, 8, 256), (First, 9, 256)]), totals(0, 0, 0));
    }

    #[test]
    fn a_queue_pair_number_used_again_starts_afresh() {
        let seen = [(Only, 0x80_0000, 1), (Only, 0x10, 2), (Only, 0x80_0000, 4), (Only, 0x80_0000, 4)];
        assert_eq!(count(&seen), totals(3, 7, 1));
    }

    #[test]
    fn a_write_is_as_long_as_it_says() {
        let mut counter = MessageCounter::new();
        let ext = Ext::Reth(Reth { va: 0, rkey: 0, dma_len: 5000 });
        for (op, psn, ext) in [(Opcode::RcWriteFirst, 1, ext), (Opcode::RcWriteLast, 5, Ext::None)] {
            let bth = Bth { opcode: op.into(), psn, ..Bth::default() };
            counter.on_packet(IpKey(1), IpKey(2), &bth, &ext, 1024);
        }
        assert_eq!(counter.finish(), totals(1, 5000, 0), "packets the capture missed do not shorten it");
    }
}
