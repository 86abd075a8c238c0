//! A port before a device that refuses, is down or runs late, and with a pool that is empty.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::port::{Clock, Identity, LabPort, Wire};
use super::stamp::{Every, Stamper};
use crate::frame::whole::{WholeFrame, WholePool};
use crate::frame::{Burst, Fill, Frame, FramePool, PfcSeen, Port, PortCaps, TxBatch, flags};
use crate::plan::lab::PfcMode;
use crate::sys::tsc::{CALIBRATION_WINDOW, Tsc, ticks};
use crate::units::{FrameLen, LinkTiming, Rate, Span, Time};
use crate::wire::headers::{Ext, Opcode};
use crate::wire::icrc;
use crate::wire::template::{BthFields, FrameSpec, Template};

/// Takes at most `takes` frames of a burst; keeps them, to be received again.
struct Device {
    takes: usize,
    inside: VecDeque<WholeFrame>,
    /// What it was told of when to send, of every frame it was told of; and whether it listens.
    times: Vec<Option<u64>>,
    paces: bool,
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
    fn send_at(&mut self, _: &mut WholeFrame, tick: Option<u64>) -> bool {
        self.times.push(tick);
        self.paces && tick.is_some()
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
        Device { takes, inside: VecDeque::new(), times: Vec::new(), paces: true },
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

/// A data frame with room for a stamp, of the queue pair or stream `flow`, that is meant for a time.
fn stampable(pool: &mut WholePool, psn: u32, flow: u32, intended: Time) -> WholeFrame {
    let mut f = pool.take(Fill::Const, FrameLen(200)).unwrap();
    let bth = BthFields { opcode: Opcode::UcSendOnly.into(), dest_qp: 17, psn, ..BthFields::default() };
    let wire = to_ourselves().write(f.head_mut(), &bth, &Ext::None, 100);
    let m = f.meta_mut();
    (m.len, m.head_len, m.flags) = (wire.len, wire.head_len, flags::DATA);
    (m.flow, m.intended) = (flow, intended);
    pool.seal(&mut f);
    f
}

/// What the frames inside the device say: when they left, `None` without a stamp of ours. Their ICRCs are right.
fn left(p: &LabPort<Device, WholePool>) -> Vec<Option<Time>> {
    let stamper = Stamper::new(1, 0, &[]);
    let stamp = |f: &WholeFrame| {
        assert_eq!(icrc::verify(f.wire_bytes().unwrap()), Ok(true));
        stamper.read(Time::NEVER, f.head(), f.meta().head_len.into(), 100).map(|s| s.wire_out)
    };
    p.device.inside.iter().map(stamp).collect()
}

#[test]
fn selected_frames_are_stamped_and_counted_once_however_often_the_device_refuses() {
    let mut pool = WholePool::new(64);
    for (every, selected) in [(1, 8), (3, 3)] {
        let mut p = port(3, &pool);
        p.stamps = p.stamps.take().map(|s| s.select(Every::nth(every)));
        assert_eq!(p.signature().is_some(), every == 1, "hosts may write stamps where all frames have one");
        let mut batch = TxBatch::new();
        (0..8).for_each(|psn| batch.data.push(stampable(&mut pool, psn, 5, Time::ZERO)));
        while !batch.is_empty() {
            p.tx_burst(&mut batch);
        }
        assert_eq!((p.stats.refused, p.stats.tx_stamped), (2, selected), "1 of {every}");
        let stamped: Vec<bool> = left(&p).iter().map(Option::is_some).collect();
        assert_eq!(stamped, (0..8).map(|psn| psn % every == 0).collect::<Vec<_>>());
        assert!(p.device.times.is_empty(), "no device is told when to send");
        p.device.inside.drain(..).for_each(|f| pool.give(f));
    }
}

#[test]
fn a_device_that_paces_is_given_each_frame_of_a_stream_ahead_of_its_time() {
    const AHEAD: Span = Span::from_ms(50);
    let mut pool = WholePool::new(64);
    let mut p = port(64, &pool);
    (p.ahead, p.streams_from) = (AHEAD, 100);
    let start = p.clock.now();
    let meant = |us: u64| start + Span::from_us(us);
    // A frame of a queue pair, two of streams in time, one that is far too late, and one that is meant for an earlier time than
    // one before it.
    let frames = [(5, Time::ZERO), (100, meant(10)), (101, meant(20)), (102, Time::ZERO), (100, meant(15))];
    let mut batch = TxBatch::new();
    batch.control.push(data(&mut pool, 1).data.pop().unwrap());
    batch.control[0].meta_mut().flags = 0;
    for (psn, (flow, intended)) in (0..).zip(frames) {
        batch.data.push(stampable(&mut pool, psn, flow, intended));
    }
    let before = p.clock.now();
    assert_eq!(p.tx_burst(&mut batch), 6);
    let at = |us| Some(p.clock.tick_of(meant(us) + AHEAD));
    // In the order of the queue no frame has a time before that of the last one; one that is late has none earlier either.
    assert_eq!(p.device.times, [None, None, at(10), at(20), at(20), at(20)]);
    assert_eq!(p.stats.tx_paced, 4);
    // The stamp is the time at which it leaves.
    p.device.inside.drain(..1).for_each(|f| pool.give(f));
    let stamps = left(&p);
    assert!(stamps[0].is_some_and(|t| t >= before && t <= p.clock.now()), "at once: {stamps:?}");
    let leaves = |us| Some(meant(us) + AHEAD);
    assert_eq!(stamps[1..], [leaves(10), leaves(20), leaves(20), leaves(20)]);
    // Nothing was late for its time, and the wire is busy until the last of them has left.
    assert_eq!(p.lateness.as_slice(), [], "the first frame is of no stream");
    assert!(p.free_at() >= meant(20) + AHEAD);
    p.turn_at = p.clock.now();
    assert!(p.tx_room() > 0, "what waits for its time is no backlog");

    // After its time a frame goes at once, and whoever has it is told so, as its memory may have another time.
    p.device.times.clear();
    p.clock.origin -= p.clock.tsc.ticks_in(Span::from_ms(200));
    let mut batch = TxBatch::new();
    batch.data.push(stampable(&mut pool, 9, 100, meant(30)));
    p.tx_burst(&mut batch);
    assert_eq!((p.device.times.as_slice(), p.stats.tx_paced), (&[None][..], 4));
    assert!(p.lateness[0] > Span::from_ms(100), "{:?}", p.lateness);

    // A device that does not take the time, as its clock is not known yet: frames go at once and say so.
    (p.device.paces, p.stats.tx_paced) = (false, 0);
    p.device.inside.drain(..).for_each(|f| pool.give(f));
    let mut batch = TxBatch::new();
    let soon = p.clock.now();
    batch.data.push(stampable(&mut pool, 10, 100, soon));
    p.tx_burst(&mut batch);
    assert!(p.device.times[1].is_some() && p.stats.tx_paced == 0);
    assert!(left(&p)[0].is_some_and(|t| t < soon + AHEAD));
    p.device.inside.drain(..).for_each(|f| pool.give(f));
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
        let mut batch = TxBatch::new();
        batch.data.push(stampable(pool, psn, 0, Time::ZERO));
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
