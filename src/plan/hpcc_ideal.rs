//! The least an HPCC scenario can take, in the arithmetic of that simulator: packets of payload and 48 bytes without
//! preamble or gap, times cut to whole nanoseconds. Nothing that runs by these rules ends earlier.

use std::collections::BTreeMap;

use super::path::Paths;
use crate::topology::{Fabric, Flow, Link, fabric_bound};
use crate::units::{Rate, Span};
use crate::workload::import::hpcc::{FlowEnds, Folder};

/// Bytes that a packet of payload and an ACK have on a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub payload: u64,
    pub overhead: u64,
    pub ack: u64,
}

impl Lengths {
    /// Packets of full payload, and the payload of one that is not full.
    fn packets(&self, bytes: u64) -> (u64, u64) {
        (bytes / self.payload.max(1), bytes % self.payload.max(1))
    }

    /// Time of a whole flow on a link of `rate`.
    fn time(&self, bytes: u64, rate: Rate) -> Span {
        let (full, tail) = self.packets(bytes);
        let last = if tail > 0 { rate.whole_ns(tail + self.overhead) } else { Span::ZERO };
        Span(full.saturating_mul(rate.whole_ns(self.payload + self.overhead).0).saturating_add(last.0))
    }

    /// Length of the last packet, the shortest.
    fn last(&self, bytes: u64) -> u64 {
        let (_, tail) = self.packets(bytes);
        self.overhead + if tail > 0 { tail } else { self.payload }
    }
}

/// A flow alone in the network.
struct Alone {
    /// All of it on the first and on the last link.
    first: Span,
    last: Span,
    /// From the start of its shortest packet until that may begin on the last link.
    before_last: Span,
    /// From the end of its last packet on the first link, and on the last one, until the ACK is there.
    after_first: Span,
    after_last: Span,
}

fn alone(l: &Lengths, there: &[&Link], back: &[&Link], bytes: u64) -> Option<Alone> {
    let (first, last) = (there.first()?, there.last()?);
    let sum = |links: &[&Link], bytes: u64| {
        links.iter().fold(Span::ZERO, |s, k| s + k.timing.whole_ns(bytes) + k.timing.propagation())
    };
    let (ack, packet) = (sum(back, l.ack), l.last(bytes));
    Some(Alone {
        first: l.time(bytes, first.timing.rate()),
        last: l.time(bytes, last.timing.rate()),
        before_last: sum(there.get(..there.len() - 1)?, packet),
        after_first: first.timing.propagation() + sum(there.get(1..)?, packet) + ack,
        after_last: last.timing.propagation() + ack,
    })
}

/// What one direction of a tester port has to carry.
struct Port {
    busy: Span,
    from: Span,
    after: Span,
}

/// The least completion of all flows: with endpoints at their rates on a fabric that never blocks, and with this one.
pub(super) fn ideal(folder: &Folder, hosts: &[u32], fabric: &Fabric, l: Lengths) -> (Span, Span) {
    let paths = Paths::new(fabric);
    let host = |node: u32| hosts.binary_search(&node).unwrap_or(0) as u32;
    let flows: Vec<(&FlowEnds, Option<Alone>)> = folder
        .flows
        .iter()
        .map(|f| {
            let (from, to) = (host(f.src), host(f.dst));
            let ways = paths.links(from, to).zip(paths.links(to, from));
            (f, ways.and_then(|(there, back)| alone(&l, &there, &back, f.bytes)))
        })
        .collect();
    let starts = starts(folder, &flows);
    let mut ports: BTreeMap<(u32, bool), Port> = BTreeMap::new();
    let mut end = Span::ZERO;
    for ((f, alone), &start) in flows.iter().zip(&starts) {
        let Some(a) = alone else { continue };
        end = end.max(start + a.first + a.after_first);
        let out = ((host(f.src), false), a.first, start, a.after_first);
        let into = ((host(f.dst), true), a.last, start + a.before_last, a.after_last);
        for (key, busy, from, after) in [out, into] {
            let p = ports.entry(key).or_insert(Port { busy: Span::ZERO, from, after });
            p.busy += busy;
            p.from = p.from.min(from);
            p.after = p.after.min(after);
        }
    }
    let busiest = ports.values().map(|p| p.from + p.busy + p.after).max().unwrap_or(Span::ZERO);
    let ideal = end.max(busiest);
    // Each flow as the bytes that fill its least time at any rate there is.
    let mut rates: Vec<Rate> = fabric.links.iter().map(|k| k.timing.rate()).collect();
    rates.sort_unstable();
    rates.dedup();
    let bytes = |f: &FlowEnds| {
        let at = |r: &Rate| u128::from(l.time(f.bytes, *r).0) * u128::from(r.bits_per_s) / 8_000_000_000_000;
        rates.iter().map(at).min().and_then(|n| u64::try_from(n).ok()).unwrap_or(f.bytes)
    };
    let flow = |f: &FlowEnds| Flow { src: host(f.src), dst: host(f.dst), bytes: bytes(f) };
    let loads: Vec<Flow> = folder.flows.iter().map(flow).collect();
    let link = fabric_bound(fabric, &loads).map_or(Span::ZERO, |bound| bound.span);
    (ideal, ideal.max(link))
}

/// When each flow may begin: at its own time, and when those that it waits for have ended at their senders.
fn starts(folder: &Folder, flows: &[(&FlowEnds, Option<Alone>)]) -> Vec<Span> {
    let mut starts: Vec<Span> = flows.iter().map(|(f, _)| f.start).collect();
    let mut open = vec![0u32; flows.len()];
    for f in folder.waiting.iter().flatten() {
        open[*f as usize] += 1;
    }
    let mut ready: Vec<usize> = (0..flows.len()).filter(|f| open[*f] == 0).collect();
    while let Some(f) = ready.pop() {
        let ended = starts[f] + flows[f].1.as_ref().map_or(Span::ZERO, |a| a.first + a.after_first);
        for &next in folder.waiting.get(f).into_iter().flatten() {
            let next = next as usize;
            starts[next] = starts[next].max(ended);
            open[next] -= 1;
            if open[next] == 0 {
                ready.push(next);
            }
        }
    }
    starts
}
