//! Lists of flows: HPCC / ConWeave `flow.txt` with an optional `dep.txt`, and CSV.
//!
//! A flow is one message (several above the RDMA limit of 2 GiB). It starts at its time, counted from the
//! earliest flow, and not before its prerequisites: a flow into its source has arrived, a flow out of its
//! source is acknowledged. Ranks are the nodes that occur, in ascending order; the tag is the flow's number
//! in the file.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::lines::{Lines, time};
use super::{ImportError, MESSAGES_MAX, append};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::units::{RankId, Time};
use crate::workload::schedule::{OpId, OpKind, Schedule};

/// Longest start time, as everywhere: the range of [`Time`].
const TIME_RANGE: &str = "0 to 213 days";

#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub from: u32,
    pub to: u32,
    /// Priority group; 0 where the format has none.
    pub group: u8,
    /// Destination port; 0 where the format has none.
    pub dport: u16,
    pub bytes: u64,
    pub start: Time,
    line: u64,
}

/// Reads `flow.txt`: a count, then that many lines `src dst pg dport bytes start_seconds` with times that
/// never decrease. Lines beyond the count are ignored, as its simulators do, and named in a warning. `deps`
/// holds lines `flow prerequisite`, flows counted from 0.
pub fn read_hpcc(
    file: &str,
    reader: impl BufRead,
    deps: Option<(String, impl BufRead)>,
) -> Result<Schedule, ImportError> {
    let (flows, warnings) = read_flows(file, reader)?;
    let (origin, waits) = match deps {
        Some((name, reader)) => {
            let waits = read_deps(&name, reader, &flows, true)?;
            (format!("{file} with {name}"), waits)
        }
        None => (file.to_string(), Waits::new()),
    };
    lower(file, origin, &flows, &waits, warnings)
}

/// The flows of a `flow.txt`, and what is to be said about them.
pub(super) fn read_flows(file: &str, reader: impl BufRead) -> Result<(Vec<Flow>, Vec<String>), ImportError> {
    let mut lines = Lines::new(file, reader);
    let Some(first) = lines.next()? else {
        return Err(ImportError::File { file: file.into(), what: "empty: expected a count of flows".into() });
    };
    let count: usize = first
        .parse()
        .map_err(|_| lines.error(format!("\"{first}\" is no count of flows: line 1 says how many follow")))?;
    if count > MESSAGES_MAX {
        return Err(lines.error(format!("{count} flows are more than the {MESSAGES_MAX} this tool holds")));
    }
    let mut flows: Vec<Flow> = Vec::new();
    while flows.len() < count {
        let Some(line) = lines.next()? else {
            return Err(lines.error(format!(
                "the file ends after {} of {count} flows: correct the count in line 1",
                flows.len()
            )));
        };
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [src, dst, group, dport, bytes, start] = columns[..] else {
            return Err(lines.error(format!(
                "{} columns instead of 6: src dst pg dport bytes start_seconds",
                columns.len()
            )));
        };
        let mut flow = flow(&lines, src, dst, bytes, time(start, 1_000_000_000_000), start)?;
        flow.group = match group.parse() {
            Ok(group) if group < 8 => group,
            _ => return Err(lines.error(format!("priority group \"{group}\": 0 to 7"))),
        };
        flow.dport =
            dport.parse().map_err(|_| lines.error(format!("dport \"{dport}\": a port from 0 to 65535")))?;
        if let Some(last) = flows.last()
            && flow.start < last.start
        {
            return Err(lines.error(format!(
                "start {start} s is before that of line {}: sort the flows by start time",
                last.line
            )));
        }
        flows.push(flow);
    }
    let mut warnings = Vec::new();
    let mut trailing = 0u64;
    while lines.next()?.is_some() {
        trailing += 1;
    }
    if trailing > 0 {
        warnings.push(format!("{trailing} lines beyond the count of {count} were ignored"));
    }
    Ok((flows, warnings))
}

/// The first line of a CSV list of flows.
pub(super) fn is_csv_header(line: &str) -> bool {
    ["src", "dst", "bytes"].iter().all(|name| line.split(',').any(|c| c.trim().eq_ignore_ascii_case(name)))
}

/// Reads CSV with a header that names at least src, dst, bytes and start_ns, in any order and of any case.
/// Quotes are not interpreted.
pub fn read_csv(file: &str, reader: impl BufRead) -> Result<Schedule, ImportError> {
    let mut lines = Lines::new(file, reader);
    let Some(header) = lines.next()? else {
        return Err(ImportError::File {
            file: file.into(),
            what: "empty: expected a header src,dst,bytes,start_ns".into(),
        });
    };
    let mut at = [0usize; 4];
    for (column, name) in at.iter_mut().zip(["src", "dst", "bytes", "start_ns"]) {
        let found = header.split(',').position(|c| c.trim().eq_ignore_ascii_case(name));
        *column = found.ok_or_else(|| {
            lines.error(format!("no column \"{name}\": the header must name src,dst,bytes,start_ns"))
        })?;
    }
    let mut flows = Vec::new();
    while let Some(line) = lines.next()? {
        let columns: Vec<&str> = line.split(',').map(str::trim).collect();
        let [Some(src), Some(dst), Some(bytes), Some(start)] = at.map(|i| columns.get(i).copied()) else {
            return Err(lines.error(format!("{} columns are fewer than the header has", columns.len())));
        };
        if flows.len() == MESSAGES_MAX {
            return Err(lines.error(format!("more flows than the {MESSAGES_MAX} this tool holds")));
        }
        flows.push(flow(&lines, src, dst, bytes, time(start, 1_000), start)?);
    }
    lower(file, file.into(), &flows, &Waits::new(), Vec::new())
}

fn flow<R: BufRead>(
    lines: &Lines<'_, R>,
    src: &str,
    dst: &str,
    bytes: &str,
    start: Option<Time>,
    start_text: &str,
) -> Result<Flow, ImportError> {
    let node = |text: &str, what| {
        text.parse::<u32>()
            .map_err(|_| lines.error(format!("{what} \"{text}\" is no node number (0, 1, ...)")))
    };
    let (from, to) = (node(src, "src")?, node(dst, "dst")?);
    if from == to {
        return Err(lines.error(format!("a flow from node {from} to itself: remove the line")));
    }
    let bytes = bytes.parse::<u64>();
    let bytes = bytes.map_err(|_| lines.error("bytes must be a whole number of at least 0"))?;
    let start = start.ok_or_else(|| {
        lines.error(format!("start \"{start_text}\" is no time: a number within {TIME_RANGE}"))
    })?;
    Ok(Flow { from, to, group: 0, dport: 0, bytes, start, line: lines.number() })
}

/// Prerequisites by flow.
pub(super) type Waits = BTreeMap<u32, Vec<u32>>;

/// Lines `flow prerequisite`. With `near` a flow may only wait for one that its source sends or receives.
pub(super) fn read_deps(
    file: &str,
    reader: impl BufRead,
    flows: &[Flow],
    near: bool,
) -> Result<Waits, ImportError> {
    let mut lines = Lines::new(file, reader);
    let mut waits = Waits::new();
    let mut count = 0usize;
    while let Some(line) = lines.next()? {
        let numbers: Vec<Option<u32>> = line.split_whitespace().map(|n| n.parse().ok()).collect();
        let [Some(flow), Some(on)] = numbers[..] else {
            return Err(lines.error("expected two numbers: flow prerequisite, counted from 0"));
        };
        let (Some(f), Some(p)) = (flows.get(flow as usize), flows.get(on as usize)) else {
            return Err(lines.error(format!("flows are numbered 0 to {}", flows.len().saturating_sub(1))));
        };
        if near && p.to != f.from && p.from != f.from {
            return Err(lines.error(format!(
                "flow {flow} starts at node {}, which flow {on} ({} -> {}) neither leaves nor reaches: \
                 a node knows only its own flows",
                f.from, p.from, p.to
            )));
        }
        count += 1;
        if count > MESSAGES_MAX {
            return Err(lines.error(format!("more than the {MESSAGES_MAX} prerequisites this tool holds")));
        }
        waits.entry(flow).or_default().push(on);
    }
    Ok(waits)
}

/// Flows in an order where prerequisites come first, otherwise as in the file.
pub(super) fn ordered(file: &str, flows: &[Flow], waits: &Waits) -> Result<Vec<u32>, ImportError> {
    let mut open: Vec<u32> = vec![0; flows.len()];
    let mut dependants: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (flow, on) in waits.iter().flat_map(|(flow, on)| on.iter().map(move |on| (*flow, *on))) {
        open[flow as usize] += 1;
        dependants.entry(on).or_default().push(flow);
    }
    let mut next: std::collections::BTreeSet<u32> =
        (0..flows.len() as u32).filter(|f| open[*f as usize] == 0).collect();
    let mut order = Vec::with_capacity(flows.len());
    while let Some(flow) = next.pop_first() {
        order.push(flow);
        for dependant in dependants.get(&flow).into_iter().flatten() {
            open[*dependant as usize] -= 1;
            if open[*dependant as usize] == 0 {
                next.insert(*dependant);
            }
        }
    }
    match open.iter().position(|n| *n > 0) {
        None => Ok(order),
        Some(flow) => Err(ImportError::File {
            file: file.into(),
            what: format!("flow {flow} waits for itself through its prerequisites: break the circle"),
        }),
    }
}

fn lower(
    file: &str,
    origin: String,
    flows: &[Flow],
    waits: &Waits,
    mut warnings: Vec<String>,
) -> Result<Schedule, ImportError> {
    if flows.is_empty() {
        return Err(ImportError::File { file: file.into(), what: "no flows: nothing to run".into() });
    }
    let messages = |f: &Flow| f.bytes.div_ceil(MESSAGE_BYTES_MAX).max(1);
    if flows.iter().fold(0u64, |sum, f| sum.saturating_add(messages(f))) > MESSAGES_MAX as u64 {
        return Err(ImportError::File {
            file: file.into(),
            what: format!(
                "the flows need more than {MESSAGES_MAX} messages of 2 GiB: make them smaller or fewer"
            ),
        });
    }
    let mut nodes: Vec<u32> = flows.iter().flat_map(|f| [f.from, f.to]).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.iter().enumerate().any(|(rank, node)| rank as u32 != *node) {
        let shown: Vec<String> = nodes.iter().take(8).map(u32::to_string).collect();
        let more = if nodes.len() > shown.len() { ", ..." } else { "" };
        warnings.push(format!("nodes {}{more} became ranks 0 to {}", shown.join(", "), nodes.len() - 1));
    }
    let rank = |node: u32| nodes.binary_search(&node).unwrap_or(0);
    let first = flows.iter().map(|f| f.start).min().unwrap_or(Time::ZERO);
    let mut ranks = vec![Vec::new(); nodes.len()];
    // Operations that end a flow, at its sender and at its receiver.
    let mut ends: Vec<(Vec<OpId>, Vec<OpId>)> = vec![(Vec::new(), Vec::new()); flows.len()];
    for number in ordered(file, flows, waits)? {
        let flow = flows[number as usize];
        let (from, to) = (rank(flow.from), rank(flow.to));
        let mut after = Vec::new();
        for on in waits.get(&number).into_iter().flatten() {
            let (sent, received) = &ends[*on as usize];
            let at_sender = flows[*on as usize].from == flow.from;
            after.extend(if at_sender { sent } else { received });
        }
        if flow.start > first {
            let span = flow.start.since(first);
            after.push(append(&mut ranks[from], OpKind::Calc { span }, &[], &[]));
        }
        let mut rest = flow.bytes;
        loop {
            let bytes = rest.min(MESSAGE_BYTES_MAX);
            let (sender, receiver) = (RankId(from as u32), RankId(to as u32));
            let send = OpKind::Send { peer: receiver, bytes, tag: number };
            let recv = OpKind::Recv { peer: sender, bytes, tag: number };
            let sent = append(&mut ranks[from], send, &after, &[]);
            let received = append(&mut ranks[to], recv, &[], &[]);
            ends[number as usize].0.push(sent);
            ends[number as usize].1.push(received);
            rest -= bytes;
            if rest == 0 {
                break;
            }
        }
    }
    Ok(Schedule { ranks, origin, warnings })
}
