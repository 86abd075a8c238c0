//! The HPCC simulator's 32:1 incast with PFC alone, replayed packet by packet through the switch.
//!
//! Reference: HPCC ns-3 (alibaba-edu/High-Precision-Congestion-Control 9f4be2a): 32 senders of 1 MB each at 100G,
//! 1000 B of payload in 1048 B packets, 1 us per link, 32 MiB of buffer, alpha 1/8, 4 KiB reserved per group, headroom
//! 37,500 B, resume 3 KiB below. That simulator counts bytes, not cells, and truncates wire times to whole ns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::config::Limit;
use super::testing::{Bench, Left, config};
use crate::limits::PRIORITIES;
use crate::units::{Bytes, Time};

const SENDERS: u16 = 32;
const RECEIVER: u16 = 32;
const PACKETS: u32 = 1000;
const PACKET_NS: u64 = 83;
const PFC_NS: u64 = 3;
const LINK_NS: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    SenderFree(u16),
    AtSwitch(u16),
    PortFree(u16),
    AtSender(u16, bool),
}

#[derive(Default)]
struct Sender {
    left: u32,
    busy: bool,
    paused: bool,
}

struct Calendar {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
}

impl Calendar {
    fn at(&mut self, ns: u64, event: Event) {
        self.heap.push(Reverse((ns, self.sequence, event)));
        self.sequence += 1;
    }
}

#[test]
fn a_32_to_1_incast_repeats_the_reference_simulation() {
    let mut c = config(33, 1);
    c.cell = 1;
    c.buffer = Bytes(32 << 20);
    for p in 0..PRIORITIES {
        c.profiles[0].priorities[p].lossless = p == 3;
    }
    c.profiles[0].priorities[3].limit = Limit::Dynamic(1, 8);
    c.profiles[0].priorities[3].reserved = Bytes(4096);
    c.profiles[0].priorities[3].headroom = Bytes(37_500);
    c.profiles[0].priorities[3].xon_offset = Bytes(3072);
    let mut b = Bench::new(c);
    let mut senders: Vec<Sender> =
        (0..SENDERS).map(|_| Sender { left: PACKETS, ..Sender::default() }).collect();
    let mut calendar = Calendar { heap: BinaryHeap::new(), sequence: 0 };
    for i in 0..SENDERS {
        calendar.at(0, Event::SenderFree(i));
    }
    let mut last_ns = 0;
    while let Some(Reverse((ns, _, event))) = calendar.heap.pop() {
        let now = Time(ns * 1000);
        match event {
            Event::SenderFree(i) | Event::AtSender(i, _) => {
                let s = &mut senders[usize::from(i)];
                match event {
                    Event::AtSender(_, xoff) => s.paused = xoff,
                    _ => s.busy = false,
                }
                if s.left > 0 && !s.busy && !s.paused {
                    s.left -= 1;
                    s.busy = true;
                    calendar.at(ns + PACKET_NS, Event::SenderFree(i));
                    calendar.at(ns + PACKET_NS + LINK_NS, Event::AtSwitch(i));
                }
            }
            Event::AtSwitch(i) => assert_eq!(b.offer(now, i, u32::from(RECEIVER), 3, 1044), None),
            Event::PortFree(port) => match b.depart(now, port) {
                Some(Left::Pfc(m)) => {
                    let xoff = m.quanta_of(3) != Some(0);
                    calendar.at(ns + PFC_NS + LINK_NS, Event::AtSender(port, xoff));
                }
                Some(Left::Data { .. }) => {
                    last_ns = ns + PACKET_NS + LINK_NS;
                    if b.switch.has_pending(port) {
                        calendar.at(ns + PACKET_NS, Event::PortFree(port));
                    }
                }
                None => {}
            },
        }
        while let Some(port) = b.switch.poll_wake() {
            calendar.at(ns, Event::PortFree(port));
        }
    }
    let s = b.switch.stats();
    let senders = &s.ports[..usize::from(SENDERS)];
    assert!(senders.iter().all(|p| p.pfc[3].xoff_tx == 8 && p.pfc[3].xon_tx == 8), "reference: 256 pauses");
    assert_eq!(s.ports[32].queues[3].depth_bytes_max, 26_717_712, "reference: peak egress queue");
    // The reference counts until the last ACK is back at its sender: 60 B on two links of 1 us.
    assert_eq!(last_ns, 2_660_091 - 2 * (LINK_NS + 4));
    assert_eq!((s.drops, s.headroom_bytes_max < 37_500), (0, true));
}
