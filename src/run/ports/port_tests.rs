//! A port before a device that refuses, is down or runs late, and with a pool that is empty.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::port::{Clock, Identity, LabPort, Wire};
use super::stamp::Stamper;
use crate::frame::whole::{WholeFrame, WholePool};
use crate::frame::{Burst, Fill, Frame, FramePool, PfcSeen, Port, PortCaps, TxBatch, flags};
use crate::plan::lab::PfcMode;
use crate::sys::tsc::{CALIBRATION_WINDOW, Tsc, ticks};
use crate::units::{FrameLen, LinkTiming, Rate, Span};
use crate::wire::template::{FrameSpec, Template};

/// Takes at most `takes` frames of a burst; keeps them, to be received again.
struct Device {
    takes: usize,
    inside: VecDeque<WholeFrame>,
}

impl Port for Device {
    type Frame = WholeFrame;
    fn rx_burst(&mut self, out: &mut Burst<WholeFrame>) -> usize {
        let n = out.remaining_capacity().min(self.inside.len());
        out.extend(self.inside.drain(..n));
        n
    }
    fn tx_room(&mut self) -> usize {
        usize::MAX
    }
    fn tx_burst(&mut self, batch: &mut TxBatch<WholeFrame>) -> usize {
        let control = self.takes.min(batch.control.len());
        self.inside.extend(batch.control.drain(..control));
        let data = (self.takes - control).min(batch.data.len());
        self.inside.extend(batch.data.drain(..data));
        control + data
    }
    fn caps(&self) -> PortCaps {
        PortCaps { pfc_seen: PfcSeen::Frames, rx_timestamps: false, frame_len_max: 4_200 }
    }
}

const US: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn ip(last: u8) -> IpAddr {
    IpAddr::from([198, 18, 0, last])
}

fn port(takes: usize, pool: &WholePool) -> LabPort<Device, WholePool> {
    let tsc = Tsc::calibrate(CALIBRATION_WINDOW).unwrap();
    let wire = Wire {
        who: Identity { mac: US, vlan: None, ips: vec![ip(1)] },
        pfc: PfcMode::Software,
        timing: LinkTiming::new(Rate::gbps(1), Span::ZERO),
        backlog_bytes: 1 << 20,
        frame_max: FrameLen(4_200),
        clock: Clock { tsc, origin: ticks() },
        streams_from: u32::MAX,
    };
    LabPort::new(
        Device { takes, inside: VecDeque::new() },
        pool.clone(),
        wire,
        Some(Stamper::new(1, 0, &[100])),
    )
}

fn to_ourselves() -> Template {
    let spec =
        FrameSpec { dst_mac: US, src_ip: ip(2), dst_ip: ip(1), dscp: 3, ecn_bits: 2, ..FrameSpec::default() };
    Template::new(&spec).unwrap()
}

fn data(pool: &mut WholePool, n: u8) -> TxBatch<WholeFrame> {
    let mut batch = TxBatch::new();
    for i in 0..n {
        let mut f = pool.take(Fill::Control, FrameLen(100)).unwrap();
        f.head_mut()[60] = i;
        f.meta_mut().flags = flags::DATA;
        batch.data.push(f);
    }
    batch
}

#[test]
fn a_refused_burst_is_kept_in_order_and_counted() {
    let mut pool = WholePool::new(64);
    let mut p = port(3, &pool);
    let mut batch = data(&mut pool, 8);
    let mut bursts = 0;
    while !batch.is_empty() {
        p.tx_burst(&mut batch);
        bursts += 1;
    }
    assert_eq!((bursts, p.stats.refused, p.stats.tx_frames, p.stats.tx_bytes), (3, 2, 8, 8 * 104));
    let order: Vec<u8> = p.device.inside.iter().map(|f| f.head()[60]).collect();
    assert_eq!(order, (0..8).collect::<Vec<u8>>());
    // A device that takes nothing costs nothing of the reckoned wire.
    p.device.takes = 0;
    let mut batch = data(&mut pool, 2);
    assert_eq!((p.tx_burst(&mut batch), batch.frames(), p.stats.tx_frames), (0, 2, 8));
}

#[test]
fn a_link_that_is_down_loses_frames_and_keeps_none() {
    let mut pool = WholePool::new(8);
    let mut p = port(0, &pool);
    p.down = true;
    let mut batch = data(&mut pool, 8);
    assert!(p.tx_room() > 0, "what is sent now is lost, not kept");
    assert_eq!(
        (p.tx_burst(&mut batch), batch.is_empty(), p.stats.lost_down, p.stats.tx_frames),
        (8, true, 8, 0)
    );
    assert_eq!(pool.in_use(), 0, "all are back");
    assert_eq!(p.device.inside.len(), 0);
}

#[test]
fn an_empty_pool_says_nothing_and_loses_nothing() {
    let mut pool = WholePool::new(2);
    let mut p = port(8, &pool);
    let held = data(&mut pool, 2);
    assert_eq!(p.probe(&to_ourselves(), 1, 82), None);
    p.ask(ip(1), ip(2));
    p.pause(3, 9);
    p.flush();
    assert_eq!((p.stats.tx_frames, p.device.inside.len(), pool.in_use()), (0, 0, 2));
    drop(held);
}

#[test]
fn probes_come_back_with_their_marks_and_only_those_for_us() {
    let pool = WholePool::new(8);
    let mut p = port(8, &pool);
    for (number, len) in [(7, 82), (8, 4_170)] {
        assert!(p.probe(&to_ourselves(), number, len).is_some());
    }
    let other = FrameSpec { dst_mac: US, src_ip: ip(2), dst_ip: ip(9), ..FrameSpec::default() };
    p.probe(&Template::new(&other).unwrap(), 9, 82);
    p.device.inside[0].head_mut()[15] |= 3; // CE: the ICRC does not cover it, the checksum of the IP header does
    p.device.inside[1].room_mut()[4_100] ^= 1;
    let mut out = Burst::new();
    assert_eq!(p.rx_burst(&mut out), 0, "none is for the host");
    let seen: Vec<_> = p.probes.iter().map(|s| (s.number, s.dscp, s.ecn, s.intact)).collect();
    assert_eq!(seen, [(7, 3, 3, true), (8, 3, 2, false)]);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn only_what_was_taken_in_at_once_speaks_of_the_way() {
    let mut pool = WholePool::new(64);
    let mut p = port(64, &pool);
    let mut out = Burst::new();
    let send = |p: &mut LabPort<Device, WholePool>, pool: &mut WholePool, psn: u32| {
        let mut f = pool.take(Fill::Const, FrameLen(200)).unwrap();
        let bth = crate::wire::template::BthFields {
            opcode: crate::wire::headers::Opcode::UcSendOnly.into(),
            dest_qp: 17,
            psn,
            ..Default::default()
        };
        let wire = to_ourselves().write(f.head_mut(), &bth, &crate::wire::headers::Ext::None, 100);
        (f.meta_mut().len, f.meta_mut().head_len, f.meta_mut().flags) =
            (wire.len, wire.head_len, flags::DATA);
        pool.seal(&mut f);
        let mut batch = TxBatch::new();
        batch.data.push(f);
        p.tx_burst(&mut batch);
    };
    p.rx_burst(&mut out);
    send(&mut p, &mut pool, 1);
    assert_eq!(p.rx_burst(&mut out), 1);
    assert_eq!((p.seen.delay_ns().n, p.seen.blurred), (1, 0));
    // Longer away from the port than its backlog lasts: 8.4 ms.
    send(&mut p, &mut pool, 2);
    std::thread::sleep(std::time::Duration::from_millis(12));
    assert_eq!(p.rx_burst(&mut out), 1);
    assert_eq!((p.seen.delay_ns().n, p.seen.blurred), (1, 1));
}
