//! A host and a switch that have started as they should and then meet any frames at any time.

use std::net::IpAddr;
use std::sync::OnceLock;

use rankstorm::frame::boxed::{BoxFrame, BoxPool};
use rankstorm::frame::{Fill, Frame, FramePool, TxBatch};
use rankstorm::host::Host;
use rankstorm::measure::record::NoRecord;
use rankstorm::plan::Plan;
use rankstorm::profile::{self, Overrides};
use rankstorm::switch::{AddressMap, Admit, Switch};
use rankstorm::transport::config::QPN_FIRST;
use rankstorm::units::{FrameLen, Span, Time};
use rankstorm::wire::headers::{Ext, Opcode};
use rankstorm::wire::pfc::PfcFrame;
use rankstorm::wire::template::{BthFields, FrameSpec, Template, WireLen};

use super::Input;

const PROFILE: &str = r#"
name = "fuzz"
[run]
limit = "1 s"
[[workload]]
kind = "incast"
senders = 2
message = "64 KiB"
rate_control = "dcqcn:paper"
[[workload]]
kind = "ring-all-reduce"
ranks = 3
vector = "96 KiB"
chunk = "8 KiB"
retransmission = "selective-repeat"
class = "other"
[[stream]]
from = 0
to = 1
frames = 20
class = "roce"
[class.roce]
dscp = 3
mtu = 1024
[class.other]
dscp = 4
mtu = 1024
cnp_dscp = 6
[switch]
buffer = "256 KiB"
xoff_headroom = "8 KiB"
wred = { kmin = "20 kB", kmax = "60 kB", pmax = 0.5 }
ports = { count = 3, rate = "100G" }
"#;

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        profile::from_str("fuzz.toml", PROFILE, &Overrides::default()).expect("a valid profile")
    })
}

fn ip(port: u8) -> IpAddr {
    plan().ranks[usize::from(port) % 3].ip
}

/// A frame as the input says: raw bytes, a packet of a known flow, or PFC.
fn frame(input: &mut Input<'_>, kind: u8, to: u8, pool: &mut BoxPool) -> BoxFrame {
    match kind {
        0 => {
            let len = input.u16();
            let n = usize::from(input.u8());
            let mut f = pool.take(Fill::Const, FrameLen(len)).expect("the pool has no limit");
            *f.head_mut() = super::wire::head_of(input.bytes(n));
            f
        }
        1 => {
            let mut f = pool.take(Fill::Control, FrameLen(60)).expect("the pool has no limit");
            let mut quanta = [0; 8];
            let enable = input.u8();
            quanta.iter_mut().for_each(|q| *q = u16::from(input.u8()) << (enable & 7));
            let wire = PfcFrame { enable, quanta }.write(f.head_mut(), [2; 6]);
            lay(&mut f, wire);
            f
        }
        _ => packet(input, to, pool),
    }
}

fn lay(f: &mut BoxFrame, wire: WireLen) {
    let meta = f.meta_mut();
    (meta.len, meta.head_len) = (wire.len, wire.head_len);
}

/// A RoCEv2 packet from one rank to another; any opcode, PSNs near the first.
fn packet(input: &mut Input<'_>, to: u8, pool: &mut BoxPool) -> BoxFrame {
    let (opcode, who, psn) = (input.u8(), input.u8(), input.u16());
    let payload = (input.u16() % 1100) & !3;
    let word = input.u32();
    let op = Opcode::from_u8(opcode).unwrap_or(Opcode::RcAck);
    let from = if who & 1 == 0 { to.wrapping_add(1) } else { to.wrapping_add(2) };
    let spec = FrameSpec {
        src_ip: ip(from % 3),
        dst_ip: ip(to % 3),
        dscp: if who & 2 == 0 { 3 } else { 4 },
        ecn_bits: who >> 2 & 3,
        ..FrameSpec::default()
    };
    let mut words = [0; 28];
    words[..4].copy_from_slice(&word.to_be_bytes());
    if op.has_reth() {
        let rkey = 0x1234_5678 ^ u32::from(who >> 7);
        words[8..16].copy_from_slice(&(u64::from(rkey) << 32 | u64::from(word & 0x1_ffff)).to_be_bytes());
    }
    let ext = Ext::parse(op.ext(), &words).unwrap_or(Ext::None);
    let payload = if op.has_payload() { payload } else { 0 };
    let dest_qp = match who >> 4 & 7 {
        7 => 0x00f0_0000,
        n => QPN_FIRST + u32::from(n),
    };
    let bth = BthFields {
        opcode: op as u8,
        dest_qp,
        psn: u32::from(psn).wrapping_sub(64) & 0xff_ffff,
        ack_req: who & 64 != 0,
        pad: 0,
        becn: who & 32 != 0,
    };
    let mut f = pool.take(Fill::Const, FrameLen(60)).expect("the pool has no limit");
    let wire = Template::new(&spec).expect("IPv4 both").write(f.head_mut(), &bth, &ext, payload);
    lay(&mut f, wire);
    f
}

/// Steps of one input.
const STEPS: usize = 400;

/// The host of one port: frames in, frames out, timers.
pub fn host(data: &[u8]) {
    let mut input = Input(data);
    let which = input.u8() % 3;
    let mut host = Host::new(plan().hosts[usize::from(which)].clone());
    let mut pool = BoxPool::new(8, usize::MAX >> 32);
    let mut out = TxBatch::new();
    let mut now = Time::ZERO;
    host.start_iteration(0, now);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let (op, dt) = (input.u8(), input.u8());
        now += Span(u64::from(dt) << (op >> 3));
        match op & 7 {
            n @ 0..=5 => {
                let f = frame(&mut input, n / 2, which, &mut pool);
                host.on_frame(now, &f, &mut NoRecord);
                pool.give(f);
            }
            _ => {
                if op & 1 == 0 && host.next_deadline() != Time::NEVER {
                    now = now.max(host.next_deadline());
                }
                let sent = host.poll_tx(now, usize::from(op >> 4) + 1, &mut pool, &mut out, &mut NoRecord);
                assert_eq!(sent, out.frames());
                assert!(sent > 0 || host.next_deadline() > now, "asks for the time it has: {now:?}");
                let frames: Vec<BoxFrame> = out.control.drain(..).chain(out.data.drain(..)).collect();
                frames.into_iter().for_each(|f| pool.give(f));
            }
        }
        while host.poll_event().is_some() {}
    }
    host.finish(now, &mut NoRecord);
    assert_eq!(pool.in_use(), 0);
}

/// The switch: frames in by any port, out of any port, timers; no cell is lost.
pub fn switch(data: &[u8]) {
    let mut input = Input(data);
    let plan = plan();
    let addresses = AddressMap::new(plan.ranks.iter().map(|r| (r.ip, r.port)));
    let mut switch: Switch<BoxFrame> =
        Switch::new(plan.fabric.switches[0].clone(), 0, &plan.fabric.routes[0], addresses)
            .expect("a valid switch");
    let mut pool = BoxPool::new(8, usize::MAX >> 32);
    let mut now = Time::ZERO;
    let (mut queued, mut left) = (0u64, 0u64);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let (op, dt) = (input.u8(), input.u8());
        now += Span(u64::from(dt) << (op >> 4));
        let port = u16::from(op >> 3) % 3;
        match op & 7 {
            n @ 0..=5 => {
                let f = frame(&mut input, n / 2, (port + 1) as u8, &mut pool);
                match switch.on_frame(now, port, f, &mut NoRecord) {
                    Admit::Queued => queued += 1,
                    Admit::Consumed(f) | Admit::Dropped(_, f) => pool.give(f),
                }
            }
            6 => {
                now = now.max(Time(switch.next_deadline().0.min(now.0 + (1 << 40))));
                switch.on_deadline(now, &mut NoRecord);
                assert!(switch.next_deadline() > now, "asks for the time it has: {now:?}");
            }
            _ => {
                if let Some(f) = switch.depart(now, port, &mut pool, &mut NoRecord) {
                    left += u64::from(f.meta().flags & rankstorm::frame::flags::PFC == 0);
                    pool.give(f);
                }
            }
        }
        while switch.poll_wake().is_some() {}
        assert_eq!(switch.inside_frames(), queued - left);
    }
    switch.drain(&mut pool);
    assert_eq!((switch.mmu().shared_used(), switch.mmu().headroom_used(), pool.in_use()), (0, 0, 0));
}
