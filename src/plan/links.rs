//! What happens to cables during a run, and the routes that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::topology::routing::routes;
use crate::topology::{Fabric, Routes};
use crate::units::{Rate, Span, Time};

/// What happens to a cable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkChange {
    /// No light in either direction.
    Down,
    /// Light again.
    Up,
    /// Another rate, at most the configured one.
    Rate(Rate),
    /// Probability of each bit to be wrong, in both directions.
    BitErrors(f64),
}

/// Something that happens to a cable. Cable k is links 2k and 2k + 1 of the fabric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkEvent {
    /// When.
    pub at: Time,
    /// Which cable.
    pub cable: u32,
    /// What.
    pub change: LinkChange,
}

/// Everything that happens to cables.
#[derive(Clone, Debug, Default)]
pub struct LinkPlan {
    /// Events in time order.
    pub events: Vec<LinkEvent>,
    /// From when all switches use which routes, in time order.
    pub reroutes: Vec<(Time, Arc<Vec<Routes>>)>,
    /// How long after an event routes follow.
    pub reconvergence: Span,
    /// A deadlock is possible and looked for: buffers depend on each other in a circle, or routes change.
    pub watch: bool,
    /// A confirmed deadlock ends the run.
    pub deadlock_ends: bool,
}

impl LinkPlan {
    /// Cables that something happens to, each once, in order.
    pub fn cables(&self) -> Vec<u32> {
        let all: BTreeSet<u32> = self.events.iter().map(|e| e.cable).collect();
        all.into_iter().collect()
    }
}

/// The routes that `events` bring about, `reconvergence` after each cable went down or came up: shortest paths over what
/// was up at that moment. Equal states share their routes.
pub fn reroutes(fabric: &Fabric, events: &[LinkEvent], reconvergence: Span) -> Vec<(Time, Arc<Vec<Routes>>)> {
    let mut down: BTreeSet<u32> = BTreeSet::new();
    let mut known: BTreeMap<BTreeSet<u32>, Arc<Vec<Routes>>> = BTreeMap::new();
    known.insert(BTreeSet::new(), Arc::new(fabric.routes.clone()));
    let mut all: Vec<(Time, Arc<Vec<Routes>>)> = Vec::new();
    for event in events {
        let changed = match event.change {
            LinkChange::Down => down.insert(event.cable),
            LinkChange::Up => down.remove(&event.cable),
            _ => false,
        };
        if !changed {
            continue;
        }
        let made = || Arc::new(routes(fabric, |cable| !down.contains(&cable)));
        let table = known.entry(down.clone()).or_insert_with(made).clone();
        let at = event.at + reconvergence;
        match all.last_mut().filter(|(last, _)| *last == at) {
            Some(last) => last.1 = table,
            None => all.push((at, table)),
        }
    }
    all
}
