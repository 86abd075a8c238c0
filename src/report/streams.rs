//! Latency of each open-loop stream: streams.csv.

use std::io::{self, Write};

use crate::measure::distribution::Percentiles;
use crate::measure::recorder::Recorder;
use crate::plan::Plan;
use crate::workload::config::{Action, StreamConfig};

/// One stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    /// Number in the run.
    pub stream: u32,
    /// Name in the profile; several streams may have it.
    pub name: String,
    /// Sending rank.
    pub from: u32,
    /// Receiving rank.
    pub to: u32,
    /// Traffic class.
    pub class: String,
    /// `wire_out -> wire_in` of its measured frames, nanoseconds, two digits.
    pub network_ns: Percentiles,
}

/// Streams of which frames with stamps arrived, in the order of their numbers.
pub fn rows(plan: &Plan, recorder: &Recorder) -> Vec<StreamRow> {
    let latency = recorder.streams();
    let bursts = |h: &crate::host::config::HostConfig| {
        let of = |a: &crate::workload::config::TimedAction| match &a.action {
            Action::Burst(s) => Some(s.clone()),
            _ => None,
        };
        h.actions.iter().filter_map(of).collect::<Vec<StreamConfig>>()
    };
    let mut rows = Vec::new();
    for h in &plan.hosts {
        for (s, to) in h.streams.iter().cloned().chain(bursts(h)).zip(&h.stream_to) {
            let network_ns = latency.percentiles(to.index as usize);
            if network_ns.n > 0 {
                let class = plan.classes.get(usize::from(s.class.0)).map(|c| c.name.clone());
                rows.push(StreamRow {
                    stream: to.index,
                    name: s.name,
                    from: s.from.0,
                    to: s.to.0,
                    class: class.unwrap_or_default(),
                    network_ns,
                });
            }
        }
    }
    rows.sort_unstable_by_key(|r| r.stream);
    rows
}

/// One line per stream; a percentile that its frames cannot carry is empty.
pub fn write(w: &mut impl Write, rows: &[StreamRow]) -> io::Result<()> {
    writeln!(w, "stream,name,from,to,class,frames,min_ns,mean_ns,p50_ns,p90_ns,p99_ns,p999_ns,max_ns")?;
    for r in rows {
        let p = &r.network_ns;
        write!(
            w,
            "{},\"{}\",{},{},{},{}",
            r.stream,
            r.name.replace('"', "\"\""),
            r.from,
            r.to,
            r.class,
            p.n
        )?;
        for value in [p.min, p.mean.map(|m| (m * 10.0).round() / 10.0), p.p50, p.p90, p.p99, p.p999, p.max] {
            match value {
                Some(ns) => write!(w, ",{ns}")?,
                None => write!(w, ",")?,
            }
        }
        writeln!(w)?;
    }
    Ok(())
}
