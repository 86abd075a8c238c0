//! From the arguments to the host that talks.

use std::sync::Arc;

use anyhow::bail;

use super::args::{FillArg, OpArg, PeerArgs};
use crate::host::config::{HostConfig, RankAddr};
use crate::host::memory::RegionConfig;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::transport::config::{ClassConfig, Ecn, QPN_FIRST, QpConfig, RateControl, RcConfig, Verb};
use crate::units::{ClassIx, PortId, RankId, Rate, Span};
use crate::wire::template::udp_sport_kernel;
use crate::workload::config::{Skew, WorkloadConfig, WorkloadKind};
use crate::workload::schedule::{Op, OpKind, Schedule};

/// What a port without a rate of its own is taken for: only fixed rates and rate control look at it.
const RATE: Rate = Rate::gbps(100);
/// Operations in one run: keeps a mistyped count from taking all memory.
const OPERATIONS_MAX: usize = 4 << 20;
/// The rank we are; the other ends are 1, 2, ...
const US: RankId = RankId(0);

/// Longest frame of these queue pairs, without FCS.
pub fn frame_len_max(args: &PeerArgs) -> u16 {
    crate::transport::qp::base_len(&class(args), args.ends.ip.is_ipv6()) + 28 + args.ends.mtu
}

/// The number of the queue pair between two ranks, one of which is us.
pub fn qp_of(a: RankId, b: RankId) -> usize {
    (a.0.max(b.0) as usize).saturating_sub(1)
}

/// Our bytes go to the other end.
pub fn sends(args: &PeerArgs) -> bool {
    !matches!(args.work.op, OpArg::Serve | OpArg::Read)
}

pub fn host_config(args: &PeerArgs, mac: [u8; 6]) -> anyhow::Result<HostConfig> {
    let e = &args.ends;
    if e.ip.is_ipv4() != e.peer_ip.is_ipv4() {
        bail!("--ip {} and --peer-ip {} are of different families; give both the same", e.ip, e.peer_ip);
    }
    let queue_pairs = e.peer_qpn.len();
    let ranks: Arc<[RankId]> = (0..=queue_pairs as u32).map(RankId).collect();
    let mut programs = vec![Vec::new(); ranks.len()];
    programs[0] = program(args)?;
    let schedule = Schedule { ranks: programs, origin: "command line".into(), warnings: Vec::new() };
    let workload = WorkloadConfig {
        name: "peer".into(),
        kind: WorkloadKind::Replay(Arc::new(schedule)),
        ranks,
        class: ClassIx(0),
        verb: match args.work.op {
            OpArg::WriteImm => Verb::WriteImm,
            OpArg::Send | OpArg::SendImm => Verb::Send,
            OpArg::Serve | OpArg::Write | OpArg::Read => Verb::Write,
        },
        qps_per_pair: 1,
        rate_control: RateControl::None,
        rc: RcConfig {
            ack_every: args.rc.ack_every,
            ack_req_every: args.rc.ack_req_every,
            ack_timeout: match args.rc.timeout {
                0 => Span::ZERO,
                n => Span(4_096_000 << n),
            },
            retry_count: args.rc.retry_count,
            rnr_retry: args.rc.rnr_retry,
            window: args.rc.inflight,
            max_rd_atomic: args.rc.max_rd_atomic,
            ..RcConfig::default()
        },
        skew: Skew::Fixed(Span::ZERO),
    };
    let connect = |(i, peer_qpn): (usize, &u32)| QpConfig {
        workload: 0,
        local_rank: US,
        peer_rank: RankId(i as u32 + 1),
        local_ip: e.ip,
        peer_ip: e.peer_ip,
        peer_mac: e.peer_mac.0,
        local_qpn: QPN_FIRST + i as u32,
        peer_qpn: *peer_qpn,
        sport: udp_sport_kernel(QPN_FIRST + i as u32, *peer_qpn),
        psn_first: e.psn,
        peer_psn_first: e.peer_psn,
        class: ClassIx(0),
    };
    Ok(HostConfig {
        port: PortId(0),
        name: "peer".into(),
        host: "local".into(),
        mac,
        rate: RATE,
        ranks: vec![RankAddr { rank: US, port: PortId(0), ip: e.ip }],
        classes: Arc::from([class(args)]),
        workloads: Arc::from([workload]),
        qps: e.peer_qpn.iter().enumerate().map(connect).collect(),
        local_delivery: false,
        streams: Vec::new(),
        stream_to: Vec::new(),
        actions: Vec::new(),
        pfc_response: Span::ZERO,
        receive: None,
        seed: args.run.seed,
    })
}

fn class(args: &PeerArgs) -> ClassConfig {
    let (e, priority) = (&args.ends, args.ends.dscp >> 3);
    ClassConfig {
        name: "peer".into(),
        dscp: e.dscp,
        priority,
        lossless: true,
        ecn: if e.ecn { Ecn::Ect0 } else { Ecn::Off },
        ack_dscp: e.dscp,
        ack_priority: priority,
        cnp_dscp: e.dscp,
        cnp_priority: priority,
        mtu: e.mtu,
        vlan: e.vlan,
        pcp: None,
    }
}

/// Our program: per queue pair the messages in turn, each after the one that leaves the window.
fn program(args: &PeerArgs) -> anyhow::Result<Vec<Op>> {
    let w = &args.work;
    if w.op == OpArg::Serve {
        return Ok(Vec::new());
    }
    if w.size > MESSAGE_BYTES_MAX || w.size > args.memory.region {
        let largest = MESSAGE_BYTES_MAX.min(args.memory.region);
        bail!("--size {}: a message has at most {largest} bytes (--region, and 2 GiB)", w.size);
    }
    let queue_pairs = args.ends.peer_qpn.len();
    if queue_pairs.saturating_mul(w.count as usize) > OPERATIONS_MAX {
        bail!("--count {}: a run has at most {OPERATIONS_MAX} messages over all queue pairs", w.count);
    }
    let mut ops = Vec::with_capacity(queue_pairs * w.count as usize);
    for tag in 0..w.count {
        for qp in 0..queue_pairs {
            let (peer, bytes) = (RankId(qp as u32 + 1), w.size);
            let kind = match w.op {
                OpArg::Read => OpKind::Read { peer, bytes, tag },
                _ => OpKind::Send { peer, bytes, tag },
            };
            let mut op = Op::new(kind);
            if let Some(before) = tag.checked_sub(w.window) {
                op.after.push((before as usize * queue_pairs + qp) as u32);
            }
            ops.push(op);
        }
    }
    Ok(ops)
}

/// The memory of queue pair number `qp`.
pub fn region(args: &PeerArgs, qp: usize) -> anyhow::Result<RegionConfig> {
    let (w, m) = (&args.work, &args.memory);
    let queue_pairs = args.ends.peer_qpn.len();
    for (flag, n) in [("--peer-vaddr", w.peer_vaddr.len()), ("--peer-rkey", w.peer_rkey.len())] {
        if n != 1 && n != queue_pairs {
            bail!("{flag} has {n} values: give one, or one for each of the {queue_pairs} queue pairs");
        }
    }
    if m.region == 0 || m.region > 1 << 30 {
        bail!("--region {}: from 1 byte to 1 GiB", m.region);
    }
    let Some(receive_bytes) = u32::try_from(m.receive_size).ok().filter(|n| u64::from(*n) <= m.region) else {
        bail!("--receive-size {}: at most the region's {} bytes", m.receive_size, m.region);
    };
    let is_send = matches!(w.op, OpArg::Send | OpArg::SendImm);
    let one_of = |n: usize| if n == 1 { 0 } else { qp };
    Ok(RegionConfig {
        bytes: m.region as usize,
        vaddr: m.vaddr,
        rkey: m.rkey,
        filled: m.fill == FillArg::Pattern || sends(args),
        remote_vaddr: w.peer_vaddr[one_of(w.peer_vaddr.len())],
        remote_rkey: w.peer_rkey[one_of(w.peer_rkey.len())],
        stride: w.stride.unwrap_or(if is_send { m.receive_size } else { w.size }),
        receive_bytes,
        immediate: w.op != OpArg::Send,
    })
}
