//! `--fault`: rules for [`crate::frame::fault`] on one line.

use anyhow::{Context, bail};

use crate::frame::fault::{Effect, FaultLine, Faults, Opcodes, Rule};
use crate::units::Span;
use crate::wire::psn;

/// Longest wait of a swapped frame for the next one.
const SWAP_SPAN: Span = Span::from_ms(5);

/// The faults of what we send and of what we receive.
pub struct Lines<F> {
    pub tx: Option<FaultLine<F>>,
    pub rx: Option<FaultLine<F>>,
}

/// Reads all rules.
pub fn lines<F: crate::frame::Frame>(rules: &[String], seed: u64) -> anyhow::Result<Lines<F>> {
    let (mut tx, mut rx) = (Vec::new(), Vec::new());
    for (i, text) in rules.iter().enumerate() {
        let (is_tx, rule) = rule(text).with_context(|| format!("--fault {text:?}"))?;
        if is_tx { &mut tx } else { &mut rx }.push((i as u64, rule));
    }
    let line =
        |rules: Vec<(u64, Rule)>| (!rules.is_empty()).then(|| FaultLine::new(Faults::new(rules, seed)));
    Ok(Lines { tx: line(tx), rx: line(rx) })
}

fn rule(text: &str) -> anyhow::Result<(bool, Rule)> {
    let mut words = text.split_whitespace();
    let is_tx = match words.next() {
        Some("tx") => true,
        Some("rx") => false,
        _ => bail!("starts with tx (what we send) or rx (what we receive)"),
    };
    let name = words.next().unwrap_or_default();
    let mut rule = Rule::new(Effect::Drop);
    let (mut count, mut span) = (None, None);
    for word in words {
        let Some((key, value)) = word.split_once('=') else { bail!("{word:?} is no KEY=VALUE") };
        let number = || -> anyhow::Result<u64> {
            let parsed = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => value.parse(),
            };
            parsed.with_context(|| format!("{key} is a number"))
        };
        let bits24 = || -> anyhow::Result<u32> {
            u32::try_from(number()?)
                .ok()
                .filter(|n| *n <= psn::MASK)
                .with_context(|| format!("{key} has 24 bits"))
        };
        match key {
            "opcode" => {
                let set = Opcodes::named(value);
                rule.opcodes = set.with_context(|| {
                    format!("{value} is no opcode; write one like write-last, or data, ack, send, write, read-request, read-response, atomic, cnp")
                })?;
            }
            "qp" => rule.dest_qp = Some(bits24()?),
            "psn" => rule.psn = Some((bits24()?, bits24()?)),
            "nth" => rule.nth = number()?.max(1),
            "count" => count = Some(number()?),
            "us" => span = Some(Span::from_us(number()?)),
            "p" => {
                let p: Option<f64> = value.parse().ok().filter(|p| (0.0..=1.0).contains(p));
                rule.probability = p.context("p is from 0 to 1")?;
            }
            _ => bail!("unknown {key}; use opcode, qp, psn, nth, count, p, us"),
        }
    }
    // "The third" means one frame; a rule without a number means all of them.
    rule.count = count.unwrap_or(if text.contains("nth=") { 1 } else { u64::MAX });
    rule.effect = match (name, span) {
        ("delay", Some(span)) => Effect::Delay(span),
        ("delay", None) => bail!("delay needs how long: us=100"),
        ("swap", span) => Effect::Swap(span.unwrap_or(SWAP_SPAN)),
        (_, Some(_)) => bail!("us= belongs to delay or swap"),
        ("drop", None) => Effect::Drop,
        ("duplicate", None) => Effect::Duplicate,
        ("corrupt", None) => Effect::Corrupt,
        ("mark-ce", None) => Effect::MarkCe,
        _ => bail!("{name:?} is no effect; one of drop, duplicate, swap, corrupt, delay, mark-ce"),
    };
    Ok((is_tx, rule))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let (tx, r) = rule("tx drop opcode=write-middle nth=3").unwrap();
        assert!(tx && r.effect == Effect::Drop && (r.nth, r.count) == (3, 1));
        assert!(r.opcodes.has(7) && !r.opcodes.has(8));
        let (tx, r) = rule("rx delay us=250 psn=0x10 qp=17").unwrap();
        assert!(!tx && r.effect == Effect::Delay(Span::from_us(250)));
        assert_eq!((r.psn, r.dest_qp, r.count), (Some((16, 16)), Some(17), u64::MAX));
        assert_eq!(rule("rx corrupt p=0.5").unwrap().1.probability, 0.5);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, want) in [
            ("drop", "starts with tx"),
            ("tx explode", "no effect"),
            ("tx delay", "needs how long"),
            ("tx drop us=3", "belongs to delay"),
            ("tx drop psn=0x1000000", "24 bits"),
            ("tx drop p=2", "0 to 1"),
            ("tx drop opcode=write-midle", "no opcode"),
            ("tx drop colour=red", "unknown colour"),
            ("tx drop now", "no KEY=VALUE"),
        ] {
            let error = format!("{:#}", rule(text).unwrap_err());
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
