//! Speed of the workers of a rings run, beside testpmd's flow generator on a ring of the same DPDK.

use anyhow::bail;

use super::simulator::{self, INCAST};
use super::testpmd::{self, Testpmd};
use super::{Figure, Peer, Rounds, Unit};
use crate::plan::Mode;
use crate::profile::Overrides;
use crate::run::{self, Options};

/// Rounds of a rings run and a run of the peer, one after the other: both want every core.
const RUNS: usize = 3;

/// `rings-worker`: frames that a worker puts on links, per TSC second in which it had work, on the incast of `virtual-s2`.
///
/// The peer writes addresses into ready frames and sends them to itself. It has no transport, no ICRC that changes, no
/// switch and no second core to pass frames to: it is the ceiling of the rings, not a tool that does the same.
pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let plan = simulator::plan(INCAST, Overrides::default())?;
    let peer = Testpmd::find();
    let mut workers: Vec<(String, Vec<f64>)> = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..RUNS {
        let result = run::execute(&plan, Options::new(Mode::Rings))?;
        if !result.complete || !result.tester.trustworthy {
            let why: Vec<String> = result.missing.into_iter().chain(result.tester.why).collect();
            bail!("the rings run is no measure: {}", why.join("; "));
        }
        for (i, w) in result.tester.workers.iter().enumerate() {
            if workers.len() == i {
                workers.push((w.name.clone(), Vec::new()));
            }
            workers[i].1.push(w.frames as f64 / 1e6 / w.busy_s);
        }
        if let Some(testpmd) = &peer {
            theirs.push(testpmd.flowgen()? / 1e6);
        }
    }
    let peer = match peer {
        Some(_) => Peer::measured("dpdk-testpmd flowgen on net_ring, per CPU s", &Rounds::from(theirs)),
        None => Peer::Missing(testpmd::NOT_INSTALLED.into()),
    };
    let line = |(name, speeds): (String, Vec<f64>)| {
        // "hosts (33 ports)" -> "hosts".
        let short = name.split(' ').next().unwrap_or_default();
        Figure::new(format!("rings-worker/{short}"), Unit::Frames, Rounds::from(speeds), peer.clone())
    };
    Ok(workers.into_iter().map(line).collect())
}
