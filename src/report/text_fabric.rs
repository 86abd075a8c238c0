//! Lines of the screen about the fabric; none where there is nothing to say.

use super::fabric::Fabric;
use super::number::{counted, grouped, time};

/// Events listed on the screen.
const EVENTS_SHOWN: usize = 4;

/// (label, text) of every line.
pub(super) fn lines(f: &Fabric, switches: usize) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if switches > 1 && !f.paths.is_empty() {
        let tier = |p: &super::fabric::Paths| {
            format!(
                "{} -> {}: {} of {} links used, {:.1} effective",
                p.from, p.to, p.used, p.links, p.effective
            )
        };
        out.push(("PATHS", f.paths.iter().map(tier).collect::<Vec<_>>().join("; ")));
    }
    if !f.events.is_empty() {
        let event = |e: &super::fabric::Event| format!("+{} {} {}", time(e.at_ns), e.cable, e.what);
        let mut all: Vec<String> = f.events.iter().take(EVENTS_SHOWN).map(event).collect();
        if f.events.len() > EVENTS_SHOWN {
            all.push(format!("and {} more", f.events.len() - EVENTS_SHOWN));
        }
        out.push(("LINKS", all.join("; ")));
    }
    for l in f.links.iter().filter(|l| l.blackholed + l.in_flight + l.bit_errors > 0).take(EVENTS_SHOWN) {
        let text = format!(
            "{}: {} sent into the dark, {} lost on the way, {} with bit errors",
            l.link,
            grouped(l.blackholed),
            grouped(l.in_flight),
            grouped(l.bit_errors)
        );
        out.push(("  lost", text));
    }
    if !f.drops.is_empty() {
        let cause = |d: &super::fabric::Drops| format!("{} {}", d.cause, grouped(d.frames));
        out.push(("DROPS", f.drops.iter().map(cause).collect::<Vec<_>>().join(", ")));
    }
    if switches > 1 {
        for r in f.pause_roots.iter().take(3) {
            let why = if r.why == "receiver" { "held up by its receiver" } else { "congested" };
            let text = format!(
                "start at {} prio {} ({why}): {}, {} paused through {}",
                r.queue,
                r.priority,
                counted(r.xoffs, "XOFF"),
                counted(r.ports.into(), "tester port"),
                if r.depth == 1 { "1 switch".to_owned() } else { format!("{} switches", r.depth) },
            );
            out.push(("PAUSES", text));
        }
    }
    if let Some(v) = f.victims.as_ref().filter(|v| v.victims > 0) {
        let worst = v.worst.first().map_or_else(String::new, |w| {
            format!("; worst: rank {} -> {}, {} paused {}", w.from, w.to, w.paused_at, time(w.paused_ns))
        });
        let text = format!(
            "{} of {} waited for pauses that no queue on their way had started{worst}",
            grouped(v.victims.into()),
            counted(v.flows.into(), "flow")
        );
        out.push(("VICTIMS", text));
    }
    for s in f.storms.iter().take(3) {
        let text = format!(
            "{} held up its switch for {} without a break (prio {})",
            s.port,
            time(s.longest_ns),
            s.priority
        );
        out.push(("STORM", text));
    }
    for d in f.deadlocks.iter().take(3) {
        let mut circle = d.cycle.clone();
        circle.extend(d.cycle.first().cloned());
        let text = format!(
            "prio {}, certain at +{}: {}; {} with {} frames cannot move",
            d.priority,
            time(d.confirmed_ns),
            circle.join(" -> "),
            counted(d.queues.into(), "queue"),
            grouped(d.frames)
        );
        out.push(("DEADLOCK", text));
    }
    out
}
