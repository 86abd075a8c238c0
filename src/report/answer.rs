//! The sentence that answers the question, and the list of what was not measured.

use super::model::{Class, RunReport};
use super::number::{counted, grouped, percent, significant};

/// One sentence per finding, each from figures of the report: what was lost, what paused, how far from ideal, who
/// waited.
pub fn answer(r: &RunReport) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !r.tester.trustworthy {
        parts
            .push(format!("UNKNOWN: {}", r.tester.why.first().map_or("the tester spoilt the result", |w| w)));
    } else if !r.complete && r.ended_as_expected() && r.expectations.iter().all(|e| e.pass) {
        let why = r.missing.first().map_or("it deadlocked", |m| m);
        parts.push(format!("YES, as expected the run ended early: {why}"));
    } else if !r.complete {
        parts.push(format!("INCOMPLETE: {}", r.missing.first().map_or("it did not run to its end", |m| m)));
    } else if let Some(e) = r.expectations.iter().find(|e| !e.pass) {
        parts.push(format!("NO: {}", super::expect::line(e).replace(" FAILED", "")));
    } else if !r.expectations.is_empty() {
        parts.push("YES, as expected".into());
    }
    parts.extend(loss(r, true));
    parts.extend(loss(r, false));
    parts.extend(pauses(r));
    parts.extend(distance(r));
    if r.flows.failed > 0 {
        parts.push(format!("{} failed", counted(r.flows.failed, "message")));
    }
    if parts.is_empty() {
        return "Nothing was measured.".into();
    }
    let mut text = String::new();
    for p in parts {
        let mut letters = p.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        text.push_str(&format!("{first}{}. ", letters.as_str()));
    }
    text.trim_end().to_owned()
}

/// Frames of all kinds that links lost, because they were down or by bit errors: those of lossless priorities, of the
/// others, or all.
pub(super) fn lost_on_links(r: &RunReport, lossless: Option<bool>) -> u64 {
    let links = r.fabric.drops.iter().filter(|d| matches!(d.cause.as_str(), "link-down" | "bit-error"));
    links
        .map(|d| match lossless {
            Some(true) => d.lossless,
            Some(false) => d.frames.saturating_sub(d.lossless),
            None => d.frames,
        })
        .sum()
}

/// What of one kind was lost, and by whom where it was not (or not only) the switches' buffers: a link that is down takes
/// ACKs and CNPs too, which no count of data frames shows.
fn loss(r: &RunReport, lossless: bool) -> Option<String> {
    let of = |kind: bool| r.classes.iter().filter(move |c| c.lossless == kind && c.transmissions > 0);
    let classes: Vec<&Class> = of(lossless).collect();
    let sent: u64 = classes.iter().map(|c| c.transmissions).sum();
    let lost: u64 = classes.iter().map(|c| c.lost).sum();
    let kind = if lossless { "lossless" } else { "lossy" };
    let share = if lost > 0 { format!(" ({})", percent(lost as f64 / sent as f64)) } else { String::new() };
    // CNPs travel in a priority of their own: with classes of one kind alone, everything lost was theirs.
    let both = of(!lossless).next().is_some();
    let links = lost_on_links(r, both.then_some(lossless));
    let lossless_drops: u64 = r.switches.iter().filter_map(|s| s.drops_lossless).sum();
    let all_drops: u64 = r.switches.iter().filter_map(|s| s.drops).sum();
    let dropped = if lossless { lossless_drops } else { all_drops.saturating_sub(lossless_drops) };
    let others = if links > 0 {
        let dropped = if dropped == 0 { "none".into() } else { grouped(dropped) };
        format!(
            "; counting ACKs and CNPs, {} lost {} and switches dropped {dropped}",
            lossy_links(r),
            grouped(links)
        )
    } else if lossless && dropped > lost {
        format!(
            ", and switches dropped {} others of lossless priorities (ACKs, CNPs)",
            grouped(dropped - lost)
        )
    } else {
        String::new()
    };
    (sent > 0).then(|| format!("{} of {} {kind} frames lost{share}{others}", grouped(lost), grouped(sent)))
}

/// What ailed the links.
fn lossy_links(r: &RunReport) -> &'static str {
    let has = |cause: &str| r.fabric.drops.iter().any(|d| d.cause == cause);
    match (has("link-down"), has("bit-error")) {
        (true, false) => "links that were down",
        (false, true) => "links with bit errors",
        _ => "links that were down or had bit errors",
    }
}

/// Time all workloads' iterations took, added up.
fn busy_ns(r: &RunReport) -> f64 {
    let total = |w: &super::model::Workload| {
        w.completion_ns.percentiles.mean.unwrap_or(0.0) * w.completion_ns.percentiles.n as f64
    };
    r.workload.iter().map(total).fold(0.0, f64::max)
}

fn pauses(r: &RunReport) -> Option<String> {
    let paused: Vec<f64> = r
        .ports
        .iter()
        .filter(|p| p.pfc.iter().any(|c| c.xoff_rx > 0))
        .map(|p| p.pfc.iter().filter_map(|c| c.paused_ns).fold(0.0, f64::max))
        .collect();
    let senders = u64::from(r.fan_in.sender_ports);
    if paused.is_empty() {
        return r
            .classes
            .iter()
            .any(|c| c.lossless && c.transmissions > 0)
            .then(|| "no port was paused".into());
    }
    let n = paused.len() as u64;
    let who = if n == senders {
        format!("all {} paused", counted(n, "sending port"))
    } else if senders > 0 && n < senders {
        format!("{} of {} paused", n, counted(senders, "sending port"))
    } else {
        format!("{} paused", counted(n, "port"))
    };
    let share = super::build::ratio(paused.iter().sum::<f64>() / n as f64, busy_ns(r));
    let of = if r.workload.len() == 1 && r.workload[0].kind == "incast" { "each burst" } else { "the time" };
    Some(match share {
        Some(s) if r.complete => format!("{who}, {} of {of}", percent(s.min(1.0))),
        _ => who,
    })
}

fn distance(r: &RunReport) -> Option<String> {
    let far = |w: &&super::model::Workload| w.ideal_ratio.is_some();
    let w = r
        .workload
        .iter()
        .filter(far)
        .max_by(|a, b| a.ideal_ratio.unwrap_or(0.0).total_cmp(&b.ideal_ratio.unwrap_or(0.0)))?;
    let x = w.ideal_ratio?;
    let name = if r.workload.len() > 1 { format!("{} took", w.name) } else { "it took".into() };
    let waited = match (w.idle_fraction.mean, w.idle_fraction.max) {
        (Some(mean), Some(max)) if w.kind != "incast" && max > 0.0 => {
            format!("; ranks waited for data {} of their time, the worst {}", percent(mean), percent(max))
        }
        _ => String::new(),
    };
    Some(format!("{name} {}x its ideal{waited}", if x < 10.0 { format!("{x:.3}") } else { significant(x) }))
}

/// What a reader might look for and this run could not see.
pub fn not_measured(r: &RunReport) -> Vec<String> {
    let mut list = vec!["optics and FEC errors".to_owned()];
    if r.mode != "ports" {
        list.push("a real switch (embedded model)".into());
    } else if r.dut.is_none() {
        list.push("DUT counters (no [dut])".into());
    }
    if r.ports.iter().flat_map(|p| &p.pfc).any(|p| p.xoff_rx > 0 && p.response_ns_max.is_none()) {
        list.push("how fast XOFF was obeyed".into());
    }
    let unstamped: u64 = r.tester.ports.iter().map(|p| p.unstamped).sum();
    if unstamped > 0 {
        list.push(format!("latency of {unstamped} frames without stamps"));
    }
    if r.mode != "ports" && r.fabric.victims.is_none() {
        list.push("victims of pauses (ways are not fixed)".into());
    }
    if r.workload.iter().any(|w| w.iterations > 0 && w.ideal_ns.is_none()) {
        list.push("distance from ideal (no closed form)".into());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::fabric::Drops;
    use super::super::fixture;
    use super::answer;

    #[test]
    fn drops_that_hit_no_data_are_not_passed_over() {
        let (plan, result) = fixture::incast();
        let mut r = fixture::report(&plan, &result);
        assert!(answer(&r).contains("lossless frames lost. "), "{}", answer(&r));
        r.switches[0].drops_lossless = Some(19_845);
        let said =
            "lossless frames lost, and switches dropped 19,845 others of lossless priorities (ACKs, CNPs). ";
        assert!(answer(&r).contains(said), "{}", answer(&r));
    }

    /// ACKs alone: no data frame shows them.
    #[test]
    fn what_links_lost_is_told_beside_what_switches_dropped() {
        let (plan, result) = fixture::incast();
        let mut r = fixture::report(&plan, &result);
        r.switches[0].drops_lossless = Some(0);
        r.fabric.drops = vec![Drops { cause: "link-down".into(), frames: 54, lossless: 50 }];
        let said = "lossless frames lost; counting ACKs and CNPs, links that were down lost 54 and switches dropped none. ";
        assert!(answer(&r).contains(said), "{}", answer(&r));
        r.fabric.drops[0].cause = "bit-error".into();
        assert!(answer(&r).contains("links with bit errors lost 54"), "{}", answer(&r));
    }
}
