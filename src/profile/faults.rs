//! `[[fault]]`: frames of a tester port's link that are spoilt on purpose.

use super::doc::{FaultDoc, FaultEffect, PortRef, ProfileDoc};
use super::ports::Layout;
use super::source::{Fault, fault};
use crate::frame::fault::{Effect, Opcodes, Rule};
use crate::plan::LinkFault;
use crate::units::Span;
use crate::wire::psn;

/// Longest wait of a swapped frame for the next one, unless the profile says otherwise.
const SWAP_SPAN: Span = Span::from_us(10);

/// The faults of a document, each with a warning: a run that spoils its own frames must say so.
pub(super) fn build(
    doc: &ProfileDoc,
    layout: &Layout,
    warnings: &mut Vec<(String, String)>,
) -> Result<Vec<LinkFault>, Fault> {
    let mut faults = Vec::with_capacity(doc.fault.len());
    for (i, f) in doc.fault.iter().enumerate() {
        let (port, rx) = link(layout, &format!("fault[{i}].link"), f.link.as_deref())?;
        let rule = rule(f, i)?;
        let name = &layout.ports[port.0 as usize].name;
        let way = if rx { "receives" } else { "sends" };
        warnings
            .push(("fault".into(), format!("[[fault]] {i}: {:?} on what port {name} {way}", rule.effect)));
        faults.push(LinkFault { port, rx, rule });
    }
    Ok(faults)
}

fn link(layout: &Layout, path: &str, typed: Option<&str>) -> Result<(crate::units::PortId, bool), Fault> {
    const FORM: &str = "write \"port NAME tx\" (what the port sends) or \"port NAME rx\" (what it receives)";
    let words: Vec<&str> = typed.unwrap_or_default().split_whitespace().collect();
    let (name, rx) = match words.as_slice() {
        ["port", name, "tx"] => (*name, false),
        ["port", name, "rx"] => (*name, true),
        [] => return fault(path, format!("is missing; {FORM}")),
        _ => return fault(path, format!("names no link; {FORM}")),
    };
    let port = match name.parse::<u32>() {
        Ok(number) => PortRef::Number(number),
        Err(_) => PortRef::Name(name.into()),
    };
    Ok((layout.find(path, Some(&port))?, rx))
}

fn rule(f: &FaultDoc, i: usize) -> Result<Rule, Fault> {
    let key = |k: &str| format!("fault[{i}].{k}");
    let effect = match (f.effect, f.span) {
        (Some(FaultEffect::Delay), Some(d)) => Effect::Delay(d.0),
        (Some(FaultEffect::Delay), None) => {
            return fault(key("effect"), "needs how long; add span = \"5 us\"");
        }
        (Some(FaultEffect::Swap), span) => Effect::Swap(span.map_or(SWAP_SPAN, |d| d.0)),
        (Some(_), Some(_)) => {
            return fault(key("span"), "belongs to effect = \"delay\" or \"swap\"; remove it");
        }
        (Some(FaultEffect::Drop), None) => Effect::Drop,
        (Some(FaultEffect::Duplicate), None) => Effect::Duplicate,
        (Some(FaultEffect::Corrupt), None) => Effect::Corrupt,
        (Some(FaultEffect::MarkCe), None) => Effect::MarkCe,
        (None, _) => {
            let text = "is missing; one of drop, duplicate, swap, corrupt, delay, mark-ce";
            return fault(key("effect"), text);
        }
    };
    let opcodes = match f.opcode.as_deref().map(|text| (text, Opcodes::named(text))) {
        None => Opcodes::ANY,
        Some((_, Some(set))) => set,
        Some((_, None)) => {
            let text = "is no opcode; write one like \"write-last\", or a group: data, ack, send, write, \
                        read-request, read-response, atomic, cnp";
            return fault(key("opcode"), text);
        }
    };
    let limits = [("qp", f.qp), ("psn", f.psn)];
    if let Some((name, _)) = limits.iter().find(|(_, v)| v.is_some_and(|v| v > psn::MASK)) {
        return fault(key(name), "has 24 bits: at most 16777215");
    }
    if f.nth == Some(0) {
        return fault(key("nth"), "counts from 1");
    }
    let probability = f.probability.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&probability) {
        return fault(key("probability"), "must be from 0 to 1");
    }
    // "The third" means one frame; a rule without a number means all of them.
    let count = f.count.unwrap_or(if f.nth.is_some() { 1 } else { u64::MAX });
    Ok(Rule {
        effect,
        opcodes,
        dest_qp: f.qp,
        flow: f.flow,
        psn: f.psn.map(|p| (p, p)),
        nth: f.nth.unwrap_or(1),
        count,
        probability,
    })
}
