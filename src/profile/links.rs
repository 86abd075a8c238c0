//! `[[at]] link = { ... }`: what happens to cables, and whether the routes can deadlock.

use super::doc::{DeadlockDoc, LinkDoc, PortRef, ProfileDoc, StateDoc};
use super::ports::Layout;
use super::source::{Fault, fault, nearest};
use crate::plan::links::{LinkChange, LinkEvent, LinkPlan, reroutes};
use crate::switch::config::WatchdogAction;
use crate::topology::depend::{buffer_cycle, cycle_text};
use crate::topology::{End, Fabric};
use crate::units::{Span, Time};

/// Events of one run, flaps written out.
const EVENTS_MAX: usize = 20_000;
/// Bytes of all route tables that follow from link events.
const ROUTES_BYTES_MAX: usize = 1 << 30;

/// The events of the document; `times` are the entries of the timeline that speak of links.
pub(super) fn build(
    doc: &ProfileDoc,
    layout: &Layout,
    fabric: &Fabric,
    times: &[(usize, Time)],
    warnings: &mut Vec<(String, String)>,
) -> Result<LinkPlan, Fault> {
    let mut events = Vec::new();
    for &(i, at) in times {
        if let Some(link) = &doc.at[i].link {
            expand(link, &format!("at[{i}].link"), at, layout, fabric, &mut events)?;
        }
        if events.len() > EVENTS_MAX {
            return fault(
                format!("at[{i}].link"),
                format!("makes more than {EVENTS_MAX} events; use a lower count"),
            );
        }
    }
    events.sort_by_key(|e: &LinkEvent| e.at);
    let reconvergence = doc.fabric.as_ref().and_then(|f| f.reconvergence).map_or(Span::ZERO, |d| d.0);
    let each = 16 * fabric.switches.len() * fabric.endpoints as usize;
    let falls = events.iter().filter(|e| e.change == LinkChange::Down);
    let mut cables: Vec<u32> = falls.map(|e| e.cable).collect();
    cables.sort_unstable();
    cables.dedup();
    let states = (1usize << cables.len().min(20)).min(events.len() + 1);
    if each.saturating_mul(states) > ROUTES_BYTES_MAX {
        let text = format!(
            "{} cables that fall make up to {states} route tables of {each} B; let fewer fall",
            cables.len()
        );
        return fault(format!("at[{}].link", times.first().map_or(0, |t| t.0)), text);
    }
    let reroutes = reroutes(fabric, &events, reconvergence);
    let lossless = doc.class.values().any(|c| c.lossless == Some(true));
    let mut cyclic = false;
    let tables =
        std::iter::once((None, &fabric.routes)).chain(reroutes.iter().map(|(at, r)| (Some(at), &**r)));
    for (from, routes) in tables.filter(|_| lossless && fabric.switches.len() > 1) {
        if let Ok(Some(cycle)) = buffer_cycle(fabric, routes)
            && !std::mem::replace(&mut cyclic, true)
        {
            let when = from.map(|t| format!(" from {} on", Span(t.0))).unwrap_or_default();
            let text = format!(
                "routes{when} let buffers wait for each other in a circle, so PFC can deadlock: {}",
                cycle_text(fabric, &cycle)
            );
            warnings.push(("buffer_cycle".into(), text));
        }
    }
    let watch = lossless && (cyclic || !reroutes.is_empty());
    let deadlock_ends = doc.run.as_ref().and_then(|r| r.deadlock) != Some(DeadlockDoc::GoOn);
    let watchdogs = fabric.switches.iter().flat_map(|s| &s.profiles).filter_map(|p| p.watchdog);
    if let Some(detect) = watchdogs.filter(|w| w.action != WatchdogAction::Alert).map(|w| w.detect).max()
        && watch
        && deadlock_ends
    {
        let text = format!(
            "a deadlock can end the run before the PFC watchdog acts, which takes {detect}; set deadlock = \"go-on\" in \
             [run] to see it act"
        );
        warnings.push(("watchdog_too_late".into(), text));
    }
    Ok(LinkPlan { watch, deadlock_ends, reconvergence, events, reroutes })
}

fn expand(
    link: &LinkDoc,
    path: &str,
    at: Time,
    layout: &Layout,
    fabric: &Fabric,
    events: &mut Vec<LinkEvent>,
) -> Result<(), Fault> {
    let key = |k: &str| format!("{path}.{k}");
    let cable = cable(layout, fabric, &key("cable"), link.cable.as_deref())?;
    let mut add = |at: Time, change: LinkChange| events.push(LinkEvent { at, cable, change });
    match (link.state, link.rate, link.ber, &link.flap) {
        (Some(StateDoc::Down), None, None, None) => add(at, LinkChange::Down),
        (Some(StateDoc::Up), None, None, None) => add(at, LinkChange::Up),
        (None, Some(rate), None, None) => {
            let most = fabric.nominal_rate(cable);
            if rate.0 > most || rate.0.bits_per_s < 1_000_000 {
                return fault(key("rate"), format!("must be from 1M to the link's own {most}"));
            }
            add(at, LinkChange::Rate(rate.0));
        }
        (None, None, Some(ber), None) => {
            if !(0.0..=1.0).contains(&ber) {
                return fault(key("ber"), "is a probability per bit: from 0 to 1");
            }
            let ends = &fabric.links[2 * cable as usize..][..2];
            if ber > 0.0 && ends.iter().any(|l| l.timing.cuts_through()) {
                let text = "a switch that cuts through sends broken frames on, which is not modelled; set cut_through = \
                     false in [switch]";
                return fault(key("ber"), text);
            }
            add(at, LinkChange::BitErrors(ber));
        }
        (None, None, None, Some(flap)) => {
            let (Some(period), Some(down), Some(count)) = (flap.period, flap.down, flap.count) else {
                return fault(
                    key("flap"),
                    "needs period, down and count, for example { period = \"1 ms\", down = \"100 us\", count = 5 }",
                );
            };
            if down.0 == Span::ZERO || down.0 >= period.0 {
                return fault(key("flap.down"), "must be above 0 and shorter than the period");
            }
            if count == 0 || count as usize > EVENTS_MAX / 2 {
                return fault(key("flap.count"), format!("must be from 1 to {}", EVENTS_MAX / 2));
            }
            for n in 0..u64::from(count) {
                let fall = at + Span(period.0.0.saturating_mul(n));
                add(fall, LinkChange::Down);
                add(fall + down.0, LinkChange::Up);
            }
        }
        _ => return fault(path, "needs exactly one of state, rate, ber, flap"),
    }
    Ok(())
}

/// The number of a cable: "leaf0 spine1", "leaf0 spine1 #2", "port 3", "port NAME".
fn cable(layout: &Layout, fabric: &Fabric, path: &str, typed: Option<&str>) -> Result<u32, Fault> {
    const FORM: &str = "write \"leaf0 spine1\" (with #2 for the second cable between them) or \"port 3\"";
    let words: Vec<&str> = typed.unwrap_or_default().split_whitespace().collect();
    let (ends, nth) = match words.as_slice() {
        [a, b] => ((*a, *b), 1),
        [a, b, nth] => match nth.strip_prefix('#').and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0) {
            Some(nth) => ((*a, *b), nth),
            None => return fault(path, format!("names no cable; {FORM}")),
        },
        [] => return fault(path, format!("is missing; {FORM}")),
        _ => return fault(path, format!("names no cable; {FORM}")),
    };
    if ends.0 == "port" {
        let port = match ends.1.parse::<u32>() {
            Ok(number) => PortRef::Number(number),
            Err(_) => PortRef::Name(ends.1.into()),
        };
        let port = layout.find(path, Some(&port))?;
        let link = fabric.links.iter().position(|l| l.from == End::Host(port) || l.to == End::Host(port));
        return match link {
            Some(link) => Ok(link as u32 / 2),
            None => fault(path, "this port has no cable"),
        };
    }
    let find = |name: &str| -> Result<u16, Fault> {
        match fabric.switches.iter().position(|s| s.name == name) {
            Some(s) => Ok(s as u16),
            None => {
                let names: Vec<&str> = fabric.switches.iter().map(|s| s.name.as_str()).collect();
                let hint = nearest(name, &names).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
                fault(path, format!("no switch is called {name:?}{hint}"))
            }
        }
    };
    let (a, b) = (find(ends.0)?, find(ends.1)?);
    let joins = |l: &crate::topology::Link| {
        let (End::Switch(x, _), End::Switch(y, _)) = (l.from, l.to) else { return false };
        (x, y) == (a, b) || (x, y) == (b, a)
    };
    let all: Vec<usize> = (0..fabric.links.len() / 2).filter(|k| joins(&fabric.links[2 * k])).collect();
    match all.get(nth - 1) {
        Some(k) => Ok(*k as u32),
        None => fault(path, format!("there are {} cables between {} and {}", all.len(), ends.0, ends.1)),
    }
}
