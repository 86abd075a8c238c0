//! A whole scenario of the HPCC ns-3 simulator and its descendants: `config.txt` and the files it names. Flows alone
//! are read by [`super::flows`]; here are the parameters, the network, and the paths that are pinned.
//!
//! A key that changes the outcome is obeyed, or refused with the value this tool can follow; a key that cannot change
//! it here is named in a note, and so is one that nobody knows.

use std::io::BufRead;
use std::sync::Arc;

use super::flows::{self, Flow};
use super::lines::{Lines, time};
use super::{ImportError, append};
use crate::limits::{MESSAGE_BYTES_MAX, PORTS_MAX};
use crate::units::{Bytes, RankId, Rate, Span, Time};
use crate::workload::schedule::{OpId, OpKind, Schedule};

/// Set in the tag of a receive that waits for no message but for the end of a flow at its sender; the rest of the tag
/// is the flow.
pub const SIGNAL: u32 = 1 << 31;

/// ECN marking on ports of one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marking {
    /// The rate it is for.
    pub rate: Rate,
    /// Nothing is marked up to this queue.
    pub kmin: Bytes,
    /// Everything is marked above this one.
    pub kmax: Bytes,
    /// Probability at `kmax`.
    pub pmax: f64,
}

/// DCQCN as configured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Period of alpha.
    pub alpha_period: Span,
    /// Period of the check for a cut.
    pub decrease_period: Span,
    /// Timer of the increase.
    pub increase_timer: Span,
    /// Gain.
    pub g: f64,
    /// Stages of fast recovery.
    pub fast_recovery: u32,
    /// Additive increase.
    pub rate_ai: Rate,
    /// Hyper increase.
    pub rate_hai: Rate,
    /// Floor.
    pub rate_min: Rate,
    /// The target follows the rate at every cut.
    pub clamp_target: bool,
}

/// What `config.txt` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// ECN marking is on.
    pub ecn: bool,
    /// DCQCN; `None` = line rate.
    pub rates: Option<Rates>,
    /// Payload bytes of a full packet.
    pub payload: u16,
    /// Buffer of every switch.
    pub buffer: Bytes,
    /// Marking by rate.
    pub marking: Vec<Marking>,
    /// Senders give ACKs a queue that no pause holds.
    pub acks_first: bool,
    /// End of the run, on the clock of the flows.
    pub stop: Time,
    /// File of the network.
    pub topology_file: String,
    /// File of the flows.
    pub flow_file: String,
    /// File of the prerequisites.
    pub dep_file: Option<String>,
    /// File of the paths that flows took.
    pub path_file: Option<String>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Keys that name outputs or parameters of what is switched off.
const WITHOUT_EFFECT: [&str; 23] = [
    "TRACE_FILE",
    "TRACE_OUTPUT_FILE",
    "FCT_OUTPUT_FILE",
    "PFC_OUTPUT_FILE",
    "ENABLE_TRACE",
    "QLEN_MON_FILE",
    "QLEN_MON_START",
    "QLEN_MON_END",
    "STAT_FILE",
    "TS_MON",
    "L2_CHUNK_SIZE",
    "DCTCP_RATE_AI",
    "GLOBAL_T",
    "VAR_WIN",
    "FAST_REACT",
    "U_TARGET",
    "MI_THRESH",
    "INT_MULTI",
    "MULTI_RATE",
    "SAMPLE_FEEDBACK",
    "PINT_LOG_BASE",
    "PINT_PROB",
    "NIC_TOTAL_PAUSE_TIME",
];

/// Keys with the one value that is followed.
const ONE_VALUE: [(&str, &str); 6] = [
    ("USE_DYNAMIC_PFC_THRESHOLD", "1"),
    ("L2_ACK_INTERVAL", "1"),
    ("L2_BACK_TO_ZERO", "0"),
    ("HAS_WIN", "0"),
    ("RATE_BOUND", "1"),
    ("LINK_DOWN", "0 0 0"),
];

impl Config {
    /// Reads `config.txt`.
    ///
    /// # Errors
    /// The line, what is wrong with it, and what to write instead.
    pub fn read(file: &str, reader: impl BufRead) -> Result<Config, ImportError> {
        let us = Span::from_us;
        let mut rates = Rates {
            alpha_period: us(55),
            decrease_period: us(4),
            increase_timer: us(1500),
            g: 1.0 / 16.0,
            fast_recovery: 5,
            rate_ai: Rate::mbps(5),
            rate_hai: Rate::mbps(50),
            rate_min: Rate::mbps(100),
            clamp_target: false,
        };
        let mut c = Config {
            ecn: true,
            rates: None,
            payload: 1000,
            buffer: Bytes(16 << 20),
            marking: Vec::new(),
            acks_first: false,
            stop: Time::NEVER,
            topology_file: "topology.txt".into(),
            flow_file: "flow.txt".into(),
            dep_file: None,
            path_file: None,
            notes: Vec::new(),
        };
        let mut mode = 1u32;
        let mut maps: [Vec<(u64, f64)>; 3] = Default::default();
        let mut idle = Vec::new();
        let mut lines = Lines::new(file, reader);
        while let Some(line) = lines.next()? {
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line.as_str(), ""));
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            let bad = |what: &str| lines.error(format!("{key} is \"{value}\": {what}"));
            let number = || value.parse::<u64>().map_err(|_| bad("a whole number is expected"));
            let switch = || match value.as_str() {
                "0" => Ok(false),
                "1" => Ok(true),
                _ => Err(bad("0 or 1 is expected")),
            };
            let micros = || number().map(Span::from_us);
            let rate =
                || rate(&value).ok_or_else(|| bad("a rate is expected, for example 40Mb/s or 100Gbps"));
            match key {
                "ENABLE_QCN" => c.ecn = switch()?,
                "CC_MODE" => mode = number()? as u32,
                "PACKET_PAYLOAD_SIZE" => match number()? {
                    n if (4..=9000).contains(&n) && n % 4 == 0 => c.payload = n as u16,
                    _ => return Err(bad("use a multiple of 4 from 4 to 9000")),
                },
                "BUFFER_SIZE" => c.buffer = Bytes(number()?.saturating_mul(1 << 20)),
                "ALPHA_RESUME_INTERVAL" => rates.alpha_period = micros()?,
                "RATE_DECREASE_INTERVAL" => rates.decrease_period = micros()?,
                "RP_TIMER" => rates.increase_timer = micros()?,
                "CLAMP_TARGET_RATE" => rates.clamp_target = switch()?,
                "FAST_RECOVERY_TIMES" => rates.fast_recovery = number()? as u32,
                "EWMA_GAIN" => match value.parse::<f64>() {
                    Ok(g) if g > 0.0 && g < 1.0 => rates.g = g,
                    _ => return Err(bad("a number between 0 and 1 is expected")),
                },
                "RATE_AI" => rates.rate_ai = rate()?,
                "RATE_HAI" => rates.rate_hai = rate()?,
                "MIN_RATE" => rates.rate_min = rate()?,
                "ERROR_RATE_PER_LINK" if value.parse() == Ok(0.0) => {}
                "ERROR_RATE_PER_LINK" => return Err(bad("bit errors are not modelled: set it to 0")),
                "KMIN_MAP" => {
                    maps[0] = map(&value).ok_or_else(|| bad("use: count, then rate and KB for each"))?
                }
                "KMAX_MAP" => {
                    maps[1] = map(&value).ok_or_else(|| bad("use: count, then rate and KB for each"))?
                }
                "PMAX_MAP" => {
                    maps[2] =
                        map(&value).ok_or_else(|| bad("use: count, then rate and probability for each"))?;
                }
                "ACK_HIGH_PRIO" => c.acks_first = switch()?,
                "SIMULATOR_STOP_TIME" => {
                    c.stop = time(&value, 1_000_000_000_000).ok_or_else(|| bad("seconds are expected"))?;
                }
                "TOPOLOGY_FILE" => c.topology_file = value,
                "FLOW_FILE" => c.flow_file = value,
                "DEP_FILE" => c.dep_file = Some(value),
                "PATH_FILE" => c.path_file = Some(value),
                _ => match ONE_VALUE.iter().find(|(k, _)| *k == key) {
                    Some((_, only)) if value == *only => {}
                    Some((_, only)) => return Err(bad(&format!("only {only} is modelled"))),
                    None if WITHOUT_EFFECT.contains(&key) => idle.push(key.to_owned()),
                    None => c.notes.push(format!("config key {key} is not known and was not used")),
                },
            }
        }
        c.rates = match mode {
            0 => None,
            1 => Some(rates),
            other => {
                let what = format!("CC_MODE {other} is not modelled: use 1 (DCQCN) or 0 (line rate)");
                return Err(ImportError::File { file: file.into(), what });
            }
        };
        let [kmin, kmax, pmax] = maps;
        for (bits_per_s, low) in kmin {
            let find = |map: &[(u64, f64)]| map.iter().find(|(r, _)| *r == bits_per_s).map(|(_, v)| *v);
            let (Some(high), Some(pmax)) = (find(&kmax), find(&pmax)) else {
                let what =
                    format!("KMIN_MAP has rate {bits_per_s}, and KMAX_MAP or PMAX_MAP has not: add it");
                return Err(ImportError::File { file: file.into(), what });
            };
            let bytes = |kb: f64| Bytes((kb * 1000.0) as u64);
            c.marking.push(Marking { rate: Rate { bits_per_s }, kmin: bytes(low), kmax: bytes(high), pmax });
        }
        if !idle.is_empty() {
            c.notes.push(format!("config keys without effect here: {}", idle.join(", ")));
        }
        Ok(c)
    }
}

/// `20Mb/s`, `100Gbps`.
fn rate(text: &str) -> Option<Rate> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let unit = match unit.strip_suffix("b/s").or_else(|| unit.strip_suffix("bps"))? {
        "" => 1.0,
        "K" | "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return None,
    };
    let value = number.trim().parse::<f64>().ok()? * unit;
    (0.0..1e15).contains(&value).then_some(Rate { bits_per_s: value as u64 })
}

/// `1000ns`, `1us`, `0.001ms`, in whole nanoseconds.
fn delay(text: &str) -> Option<Span> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let unit_ps = match unit {
        "ns" => 1_000,
        "us" => 1_000_000,
        "ms" => 1_000_000_000,
        "s" => 1_000_000_000_000,
        _ => return None,
    };
    time(number, unit_ps).map(|t| Span(t.0 / 1_000 * 1_000))
}

/// `2 100000000000 400 400000000000 1600`.
fn map(text: &str) -> Option<Vec<(u64, f64)>> {
    let mut words = text.split(' ');
    let count: usize = words.next()?.parse().ok()?;
    let words: Vec<&str> = words.collect();
    if count.checked_mul(2) != Some(words.len()) {
        return None;
    }
    words
        .chunks(2)
        .map(|w| Some((w[0].parse().ok()?, w[1].parse().ok().filter(|v: &f64| *v >= 0.0)?)))
        .collect()
}

/// Nodes of a topology: all tester ports, and as many switches as have numbers.
const NODES_MAX: u32 = PORTS_MAX as u32 + (1 << 16);

/// A cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cable {
    /// Node at one end.
    pub a: u32,
    /// Node at the other.
    pub b: u32,
    /// Rate of both directions.
    pub rate: Rate,
    /// Delay of both directions.
    pub delay: Span,
}

/// What `topology.txt` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Nodes, hosts and switches.
    pub nodes: u32,
    /// Nodes that are switches, ascending.
    pub switches: Vec<u32>,
    /// Cables in the order of the file, which numbers the interfaces of every node from 1.
    pub cables: Vec<Cable>,
}

impl Topology {
    /// Reads `topology.txt`: nodes, switches and cables counted, the switches, then a line per cable.
    ///
    /// # Errors
    /// The line and what is wrong with it.
    pub fn read(file: &str, reader: impl BufRead) -> Result<Topology, ImportError> {
        let mut lines = Lines::new(file, reader);
        let short =
            || ImportError::File { file: file.into(), what: "ends too early: see its first line".into() };
        let first = lines.next()?.ok_or_else(short)?;
        let counts: Vec<u32> = first.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        let [nodes, switch_count, cable_count] = counts[..] else {
            return Err(lines.error("expected three numbers: nodes, switches, links"));
        };
        if nodes > NODES_MAX {
            return Err(lines.error(format!("{nodes} nodes; this tool takes at most {NODES_MAX}")));
        }
        let mut t = Topology { nodes, ..Topology::default() };
        while t.switches.len() < switch_count as usize {
            let line = lines.next()?.ok_or_else(short)?;
            for word in line.split_whitespace() {
                let node = word.parse().ok().filter(|n| *n < nodes);
                t.switches.push(node.ok_or_else(|| lines.error(format!("\"{word}\" is no node")))?);
            }
        }
        t.switches.sort_unstable();
        t.switches.dedup();
        if t.switches.len() != switch_count as usize {
            return Err(
                lines.error(format!("{} different switches instead of {switch_count}", t.switches.len()))
            );
        }
        for _ in 0..cable_count {
            let line = lines.next()?.ok_or_else(short)?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let [a, b, speed, late, errors] = words[..] else {
                return Err(lines.error("expected five columns: node node rate delay error_rate"));
            };
            let node = |w: &str| w.parse().ok().filter(|n| *n < nodes);
            let (Some(a), Some(b), Some(rate), Some(delay)) = (node(a), node(b), rate(speed), delay(late))
            else {
                return Err(lines.error("expected two nodes, a rate (100Gbps) and a delay (1000ns)"));
            };
            if errors.parse() != Ok(0.0) {
                return Err(lines.error("bit errors are not modelled: set the last column to 0"));
            }
            t.cables.push(Cable { a, b, rate, delay });
        }
        Ok(t)
    }

    /// Nodes that are hosts, ascending: host i of the run is the i-th of them.
    pub fn hosts(&self) -> Vec<u32> {
        (0..self.nodes).filter(|n| self.switches.binary_search(n).is_err()).collect()
    }
}

/// One line of `paths.txt`: at a switch with a choice, a flow left by this interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Sending node.
    pub src: u32,
    /// Receiving node.
    pub dst: u32,
    /// Which of the flows of `src`, in the order of the file.
    pub nth: u32,
    /// The switch, as a node.
    pub switch: u32,
    /// Interface, from 1.
    pub interface: u32,
}

/// Who sends what to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnds {
    /// Sending node.
    pub src: u32,
    /// Receiving node.
    pub dst: u32,
    /// Destination port.
    pub dport: u16,
    /// Payload.
    pub bytes: u64,
    /// Start in the file, after the first flow's.
    pub start: Span,
}

/// The source port of the first flow of a pair; each further one takes the next.
pub const FIRST_SPORT: u32 = 10_000;

/// A scenario.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where it is.
    pub dir: String,
    /// Its parameters.
    pub config: Config,
    /// Its network.
    pub topology: Topology,
    /// Priority group of all flows.
    pub group: u8,
    /// The flows in the order of the file.
    pub flows: Vec<FlowEnds>,
    /// `waiting[f]` = flows that start when flow f has ended at its sender.
    pub waiting: Vec<Vec<u32>>,
    /// First start, which becomes time 0.
    pub base: Time,
    /// Flows as programs, ranks in the order of the hosts; the tag is the flow. Receives with [`SIGNAL`] wait for flows
    /// to end at their senders.
    pub schedule: Arc<Schedule>,
    /// Pinned paths.
    pub pins: Vec<Pin>,
    /// The file of pinned paths that `config.txt` names and that is not there.
    pub pins_missing: Option<String>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

type Part = (String, Vec<u8>);

impl Folder {
    /// Puts the files together; each comes with its name.
    ///
    /// # Errors
    /// The file, the line, and what is wrong.
    pub fn read(
        dir: String,
        mut config: Config,
        topology: Part,
        flows: Part,
        deps: Option<Part>,
        pins: Option<Part>,
    ) -> Result<Folder, ImportError> {
        let topology = Topology::read(&topology.0, &topology.1[..])?;
        let file = flows.0;
        let (flows, warnings) = flows::read_flows(&file, &flows.1[..])?;
        let waits = match deps {
            Some((name, bytes)) => flows::read_deps(&name, &bytes[..], &flows, false)?,
            None => flows::Waits::new(),
        };
        let refuse = |what: String| ImportError::File { file: file.clone(), what };
        let Some(first) = flows.first() else { return Err(refuse("no flows: nothing to run".into())) };
        let hosts = topology.hosts();
        for (n, f) in flows.iter().enumerate() {
            let stray = [f.from, f.to].into_iter().find(|node| hosts.binary_search(node).is_err());
            if let Some(node) = stray {
                return Err(refuse(format!("flow {n} names node {node}, which is no host of the topology")));
            }
            if f.group != first.group || f.group == 0 {
                return Err(refuse(format!("flow {n} is in group {}: use one group from 1 to 7", f.group)));
            }
            if f.bytes == 0 || f.bytes > MESSAGE_BYTES_MAX {
                return Err(refuse(format!("flow {n} has {} bytes: use 1 to {MESSAGE_BYTES_MAX}", f.bytes)));
            }
        }
        let base = flows.iter().map(|f| f.start).min().unwrap_or(Time::ZERO);
        let mut waiting = vec![Vec::new(); flows.len()];
        for (flow, on) in waits.iter().flat_map(|(flow, on)| on.iter().map(move |on| (*flow, *on))) {
            waiting[on as usize].push(flow);
        }
        let pins_missing = config.path_file.clone().filter(|_| pins.is_none());
        let pins = match pins {
            Some((name, bytes)) => read_pins(&name, &bytes[..])?,
            None => Vec::new(),
        };
        let mut notes = std::mem::take(&mut config.notes);
        notes.extend(warnings);
        let ends = |f: &Flow| FlowEnds {
            src: f.from,
            dst: f.to,
            dport: f.dport,
            bytes: f.bytes,
            start: f.start.since(base),
        };
        let ranks = programs(&file, &hosts, &flows, &waits, base)?;
        let schedule = Arc::new(Schedule { ranks, origin: dir.clone(), warnings: Vec::new() });
        Ok(Folder {
            dir,
            config,
            topology,
            group: first.group,
            flows: flows.iter().map(ends).collect(),
            waiting,
            base,
            schedule,
            pins,
            pins_missing,
            notes,
        })
    }
}

fn programs(
    file: &str,
    hosts: &[u32],
    flows: &[Flow],
    waits: &flows::Waits,
    base: Time,
) -> Result<Vec<Vec<crate::workload::schedule::Op>>, ImportError> {
    let rank = |node: u32| hosts.binary_search(&node).unwrap_or(0);
    let mut ranks = vec![Vec::new(); hosts.len()];
    for number in flows::ordered(file, flows, waits)? {
        let f = &flows[number as usize];
        let (from, to) = (rank(f.from), rank(f.to));
        let mut after: Vec<OpId> = Vec::new();
        for on in waits.get(&number).into_iter().flatten() {
            let peer = RankId(rank(flows[*on as usize].from) as u32);
            after.push(append(&mut ranks[from], OpKind::Recv { peer, bytes: 0, tag: SIGNAL | on }, &[], &[]));
        }
        if f.start > base {
            after.push(append(&mut ranks[from], OpKind::Calc { span: f.start.since(base) }, &[], &[]));
        }
        let (sender, receiver) = (RankId(from as u32), RankId(to as u32));
        append(&mut ranks[from], OpKind::Send { peer: receiver, bytes: f.bytes, tag: number }, &after, &[]);
        append(&mut ranks[to], OpKind::Recv { peer: sender, bytes: f.bytes, tag: number }, &[], &[]);
    }
    Ok(ranks)
}

/// Lines `src dst sport dport switch interface`.
fn read_pins(file: &str, reader: impl BufRead) -> Result<Vec<Pin>, ImportError> {
    let mut lines = Lines::new(file, reader);
    let mut pins = Vec::new();
    while let Some(line) = lines.next()? {
        let numbers: Vec<Option<u32>> = line.split_whitespace().map(|n| n.parse().ok()).collect();
        let [Some(src), Some(dst), Some(sport), Some(_), Some(switch), Some(interface)] = numbers[..] else {
            return Err(lines.error("expected six numbers: src dst sport dport switch interface"));
        };
        let Some(nth) = sport.checked_sub(FIRST_SPORT) else {
            return Err(lines.error(format!("source ports count from {FIRST_SPORT}")));
        };
        pins.push(Pin { src, dst, nth, switch, interface });
    }
    Ok(pins)
}
