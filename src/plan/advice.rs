//! Warnings about settings that do as they are told and still surprise: WRED that drops lossless frames, balance that
//! reorders what go-back-N then sends again, cut-through that stores. Each names its place and the fix.

use super::predict::Basis;
use crate::switch::config::{Limit, LoadBalance, PortProfile, SwitchConfig, Wred};
use crate::transport::config::{ClassConfig, Ecn, RateControl, Retransmission, Verb};
use crate::units::Rate;
use crate::workload::config::{Action, WorkloadConfig};

/// (code, text) of every warning, those about lost frames first.
pub fn advice(b: &Basis<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (ix, class) in b.classes.iter().enumerate() {
        let mine = |w: &&WorkloadConfig| usize::from(w.class.0) == ix;
        let workloads: Vec<&WorkloadConfig> = b.workloads.iter().filter(mine).collect();
        if !workloads.is_empty() || streams(b, ix) {
            wred_drops(b, class, &workloads, &mut all);
            all.extend(egress_drops(b, class));
        }
    }
    all.extend(b.workloads.iter().filter_map(|w| reordered(b, w)));
    all.extend(stored(b));
    all
}

/// Open-loop frames travel in this class.
fn streams(b: &Basis<'_>, class: usize) -> bool {
    b.hosts.iter().any(|h| {
        let burst = h.actions.iter().filter_map(|a| match &a.action {
            Action::Burst(s) => Some(s),
            _ => None,
        });
        h.streams.iter().chain(burst).any(|s| usize::from(s.class.0) == class)
    })
}

/// "switch leaf0", "switch leaf0 and 3 others".
fn switches(named: &[&SwitchConfig]) -> String {
    let first = named.first().map_or("?", |s| s.name.as_str());
    match named.len() {
        0 | 1 => format!("switch {first}"),
        2 => format!("switch {first} and another"),
        n => format!("switch {first} and {} others", n - 1),
    }
}

/// Lossless queues whose WRED drops frames of this class instead of marking them.
fn wred_drops(
    b: &Basis<'_>,
    class: &ClassConfig,
    workloads: &[&WorkloadConfig],
    all: &mut Vec<(String, String)>,
) {
    let mut kinds = vec![("data", class.priority)];
    if !workloads.is_empty() {
        kinds.push(("ACKs", class.ack_priority));
    }
    if workloads.iter().any(|w| matches!(w.rate_control, RateControl::Dcqcn(_))) {
        kinds.push(("CNPs", class.cnp_priority));
    }
    for priority in 0..8u8 {
        let what: Vec<&str> = kinds.iter().filter(|k| k.1 == priority).map(|k| k.0).collect();
        let promised = class.lossless && class.priority == priority;
        let drops = |w: &Wred| class.ecn == Ecn::Off || !w.ecn;
        let of_switch = |s: &SwitchConfig| {
            let queues = s.profiles.iter().enumerate().filter(|(i, _)| {
                s.ports.iter().any(|p| usize::from(p.profile) == *i) // A profile that no port names does nothing.
            });
            let kept =
                |profile: &PortProfile| s.maps.lossless_queues(profile) >> s.maps.queue_of(priority) & 1 != 0;
            let lossless = queues.map(|(_, profile)| profile).filter(|p| promised || kept(p));
            let curves = lossless.flat_map(|p| p.priorities[s.maps.queue_of(priority)].wred);
            curves.flatten().filter(|w| drops(w) && w.kmin < s.buffer).min_by_key(|w| w.kmin)
        };
        let found: Vec<(&SwitchConfig, Wred)> =
            b.fabric.switches.iter().filter_map(|s| of_switch(s).map(|w| (s, w))).collect();
        let Some((_, wred)) = found.iter().min_by_key(|(_, w)| w.kmin).filter(|_| !what.is_empty()) else {
            continue;
        };
        let place = switches(&found.iter().map(|(s, _)| *s).collect::<Vec<_>>());
        let (name, what) = (&class.name, what.join(", "));
        let (mut whys, mut fixes) = (Vec::new(), Vec::new());
        if class.ecn == Ecn::Off {
            whys.push("ecn = \"off\"".to_owned());
            fixes.push(format!("set class.{name}.ecn = \"ect0\""));
        }
        if found.iter().any(|(_, w)| !w.ecn) {
            whys.push("WRED of its queue has no ECN for green frames".into());
            fixes.push("let the queue's WRED_PROFILE mark them (ecn = \"ecn_all\")".into());
        }
        let text = format!(
            "class {name}: {}, so WRED of {place} drops its frames ({what}) in lossless priority {priority} once {} B wait in \
             the queue, which no pause prevents; {}, or set switch.wred = \"off\"",
            whys.join(" and "),
            wred.kmin.0,
            fixes.join(" and ")
        );
        all.push(("wred_drops_lossless".into(), text));
    }
}

/// The queue of a lossless class has a limit that can be reached: what is over it is lost, and no pause comes before.
fn egress_drops(b: &Basis<'_>, class: &ClassConfig) -> Option<(String, String)> {
    // From alpha 128 on a queue has all but a hundredth of its pool.
    let binds = |s: &SwitchConfig, limit: Limit| match limit {
        Limit::Dynamic(num, den) => num < 128 * den,
        Limit::Static(bytes) => bytes < s.buffer,
        Limit::Pool => false,
    };
    let limited = |s: &&SwitchConfig| {
        (0..s.ports.len()).any(|p| s.queue_of(p, class.priority).egress_limit.is_some_and(|l| binds(s, l)))
    };
    let found: Vec<&SwitchConfig> = b.fabric.switches.iter().filter(limited).collect();
    let queue = found.first().filter(|_| class.lossless)?.maps.queue_of(class.priority);
    let text = format!(
        "class {} is lossless, but queue {queue} of {} has a limit of its own at egress (switch.queue.{queue}, or BUFFER_QUEUE of \
         config), and what is over it is lost without a pause; remove it",
        class.name,
        switches(&found)
    );
    Some(("egress_limit_drops_lossless".into(), text))
}

/// A workload that sends again what overtakes.
fn reordered(b: &Basis<'_>, w: &WorkloadConfig) -> Option<(String, String)> {
    if w.verb == Verb::UdSend || w.rc.retransmission != Retransmission::GoBackN {
        return None;
    }
    let chooses = |s: usize| {
        b.fabric.routes.get(s).is_some_and(|r| r.ports_to.iter().any(|candidates| candidates.len() > 1))
    };
    let mut choosing =
        b.fabric.switches.iter().enumerate().filter(|(s, _)| chooses(*s)).map(|(_, s)| s.balance);
    let text = choosing.find_map(|balance| match balance {
        LoadBalance::Ecmp | LoadBalance::Pinned => None,
        LoadBalance::Spray => Some("\"spray\" sends every frame another way".to_owned()),
        LoadBalance::Adaptive { gap } if gap.0 == 0 => {
            Some("\"adaptive\" chooses a way for every frame (flowlet_gap is 0)".into())
        }
        LoadBalance::Adaptive { gap } => Some(format!("\"adaptive\" moves a flow after {gap} of silence")),
        LoadBalance::Flowlet { gap } => Some(format!("\"flowlet\" moves a flow after {gap} of silence")),
    })?;
    let text = format!(
        "workload {}: switch.balance = {text}, so frames may overtake each other, and go-back-N answers each that is \
         early with a NAK and a retransmission of all from the gap on; set retransmission = \"selective-repeat\" in this \
         workload, or switch.balance = \"ecmp\"",
        w.name
    );
    Some(("reordering_sent_again".into(), text))
}

/// Ports that store frames although their switch cuts through.
fn stored(b: &Basis<'_>) -> Option<(String, String)> {
    let slow = |s: &SwitchConfig| -> Vec<usize> {
        (0..s.ports.len()).filter(|p| s.cut_through && !s.cuts_through(*p)).collect()
    };
    let all: Vec<(&SwitchConfig, Vec<usize>)> =
        b.fabric.switches.iter().map(|s| (s, slow(s))).filter(|(_, ports)| !ports.is_empty()).collect();
    let (first, ports) = all.first()?;
    let name = |p: &usize| first.ports.get(*p).map_or("?", |p| p.name.as_str());
    let which = match ports.as_slice() {
        [one] => format!("port {}", name(one)),
        [low, .., high] => format!("{} ports, {} to {}", ports.len(), name(low), name(high)),
        [] => String::new(),
    };
    let fastest = first.ports.iter().map(|p| p.egress.rate()).max().unwrap_or(Rate::gbps(0));
    let place = switches(&all.iter().map(|(s, _)| *s).collect::<Vec<_>>());
    let text = format!(
        "{place}: cut_through, but frames that come in slower than {fastest} ({which}) are stored whole before they are \
         forwarded, to ports of their own rate too: an egress of {fastest} would run out of bits"
    );
    Some(("cut_through_stores".into(), text))
}
