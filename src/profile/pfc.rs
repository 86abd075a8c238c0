//! `[port.receive]`: a slow receiver, and `[[pfc]]`: PFC frames generated on purpose.

use serde::{Deserialize, Serialize};

use super::classes::ranged;
use super::doc::{AtDoc, PortRef, ProfileDoc};
use super::ports::{Layout, check_rate};
use super::quantity::{BitRate, Dur, Size};
use super::source::{Fault, fault};
use super::traffic::Timeline;
use crate::host::config::ReceiveConfig;
use crate::transport::config::ClassConfig;
use crate::units::{Bytes, LinkTiming, Rate, Span, Time};
use crate::wire::pfc::Form;
use crate::workload::config::{Action, PfcTrain, TimedAction};

/// `[port.receive]`: the buffer between a port and a machine that is slower than its link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiveDoc {
    /// What it holds, frames with FCS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<Size>,
    /// Rate at which frames are taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<BitRate>,
    /// The switch is paused while it holds more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xoff: Option<Size>,
    /// The switch goes on when it holds no more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xon: Option<Size>,
}

/// `kind = ...` of a `[[pfc]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PfcKind {
    /// The same pause again and again.
    Storm,
    /// A share of every interval.
    Throttle,
    /// One frame.
    Pulse,
    /// One frame per entry of `sweep`.
    Sweep,
}

/// `[[pfc]]`: PFC frames a port generates; a run needs `--allow-pfc-generation`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateDoc {
    /// Port number or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortRef>,
    /// What it generates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PfcKind>,
    /// Bits of the class-enable vector; an empty list sets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priorities: Option<Vec<u8>>,
    /// First frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Dur>,
    /// storm, throttle: for how long frames are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Dur>,
    /// storm, throttle, sweep: from one frame to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Dur>,
    /// storm, pulse: pause time of every frame; 0 lets the far end go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quanta: Option<u16>,
    /// throttle: paused share of every interval, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duty: Option<f64>,
    /// sweep: pause times, one frame each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Vec<u16>>,
    /// `"valid"`, or what is wrong with the frames: `"wrong-opcode"`, `"global-pause"`, `"short"`, `"reserved-bits"`,
    /// `"wrong-mac"`, `"vlan-tagged"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
}

/// Fills the defaults; rates of ports are known by now.
pub(super) fn fill(doc: &mut ProfileDoc) -> Result<(), Fault> {
    for r in doc.port.iter_mut().filter_map(|p| p.receive.as_mut()) {
        let buffer = *r.buffer.get_or_insert(Size(Bytes(1 << 20)));
        r.xoff.get_or_insert(Size(Bytes(buffer.0.0 / 2)));
        r.xon.get_or_insert(Size(Bytes(buffer.0.0 / 4)));
    }
    let shared = doc.switch.as_ref().and_then(|s| s.ports.as_ref()).and_then(|p| p.rate);
    for (i, g) in doc.pfc.iter_mut().enumerate() {
        let path = format!("pfc[{i}]");
        let Some(kind) = g.kind else {
            return fault(path, "kind is missing; one of storm, throttle, pulse, sweep");
        };
        let port = doc.port.iter().enumerate().find(|(n, p)| match &g.port {
            Some(PortRef::Number(number)) => *number as usize == *n,
            Some(PortRef::Name(name)) => p.name.as_ref() == Some(name),
            None => false,
        });
        let rate = port.and_then(|(_, p)| p.rate).or(shared).map_or(Rate::gbps(100), |r| r.0);
        use PfcKind::*;
        // (key, it is there, kinds it belongs to, what to write when it must be there)
        let keys: [(&str, bool, &[PfcKind], Option<&str>); 5] = [
            ("duration", g.duration.is_some(), &[Storm, Throttle], Some("duration = \"1 ms\"")),
            ("interval", g.interval.is_some(), &[Storm, Throttle, Sweep], None),
            ("quanta", g.quanta.is_some(), &[Storm, Pulse], None),
            ("duty", g.duty.is_some(), &[Throttle], Some("duty = 0.5")),
            ("sweep", g.sweep.is_some(), &[Sweep], Some("sweep = [1, 100, 10000]")),
        ];
        let name = format!("{kind:?}").to_lowercase();
        for (key, there, of, example) in keys {
            if there && !of.contains(&kind) {
                return fault(format!("{path}.{key}"), format!("is no key of kind = {name:?}; remove it"));
            }
            if let (false, true, Some(example)) = (there, of.contains(&kind), example) {
                return fault(path, format!("{key} is missing; {name} needs it, for example {example}"));
            }
        }
        g.start.get_or_insert(Dur(Span::ZERO));
        g.form.get_or_insert(Form::Valid);
        let most = match kind {
            Storm | Pulse => *g.quanta.get_or_insert(u16::MAX),
            Sweep => g.sweep.iter().flatten().copied().max().unwrap_or(0),
            Throttle => 0,
        };
        let pause = rate.quanta(most.max(1));
        match kind {
            Storm => drop(g.interval.get_or_insert(Dur(Span(pause.0 / 2)))),
            Throttle => drop(g.interval.get_or_insert(Dur(Span::from_us(100)))),
            Sweep => drop(g.interval.get_or_insert(Dur(Span(pause.0.saturating_mul(2))))),
            Pulse => {}
        }
    }
    Ok(())
}

/// The receive buffer of port `i`.
pub(super) fn receive(i: usize, doc: &ReceiveDoc, rate: Rate) -> Result<ReceiveConfig, Fault> {
    let key = |k: &str| format!("port[{i}].receive.{k}");
    let Some(drain) = doc.drain.map(|r| r.0) else {
        return fault(format!("port[{i}].receive"), "drain is missing; write drain = \"25G\"");
    };
    check_rate(&key("drain"), drain)?;
    if drain > rate {
        return fault(key("drain"), format!("is faster than the port at {rate}; leave [port.receive] out"));
    }
    let size = |s: Option<Size>| s.map_or(Bytes(0), |s| s.0);
    let (buffer, xoff, xon) = (size(doc.buffer), size(doc.xoff), size(doc.xon));
    if !(1 << 14..=1 << 32).contains(&buffer.0) {
        return fault(key("buffer"), "must be from 16 KiB to 4 GiB");
    }
    if xoff > buffer {
        return fault(key("xoff"), "is above buffer; it would never be reached");
    }
    if xon > xoff {
        return fault(key("xon"), "is above xoff; the switch would never be paused");
    }
    Ok(ReceiveConfig { buffer, drain, xoff, xon, priorities: 0 })
}

/// Lets receive buffers pause the lossless priorities.
pub(super) fn guard(layout: &mut Layout, classes: &[ClassConfig], at: &[AtDoc]) -> Result<(), Fault> {
    let lossless = classes.iter().filter(|c| c.lossless).fold(0, |bits, c| bits | 1 << (c.priority & 7));
    for r in layout.ports.iter_mut().filter_map(|p| p.receive.as_mut()) {
        r.priorities = lossless;
    }
    for (i, a) in at.iter().enumerate() {
        let orders =
            [("pause", a.pause.as_ref().map(|p| &p.port)), ("release", a.release.as_ref().map(|r| &r.port))];
        for (name, port) in orders {
            let path = format!("at[{i}].{name}.port");
            if let Some(port) = port
                && layout.ports[layout.find(&path, port.as_ref())?.0 as usize].receive.is_some()
            {
                return fault(path, "pauses by its own [port.receive]; use another port, or remove that");
            }
        }
    }
    Ok(())
}

/// Adds the trains to the timeline, each with a warning: a run that stops its own switch must say so.
pub(super) fn generate(
    doc: &ProfileDoc,
    layout: &Layout,
    limit: Span,
    timeline: &mut Timeline,
    warnings: &mut Vec<(String, String)>,
) -> Result<(), Fault> {
    for (i, g) in doc.pfc.iter().enumerate() {
        let key = |k: &str| format!("pfc[{i}].{k}");
        let port = layout.find(&key("port"), g.port.as_ref())?;
        let tester = &layout.ports[port.0 as usize];
        if tester.receive.is_some() {
            return fault(key("port"), "pauses by its own [port.receive]; use another port, or remove that");
        }
        let Some(priorities) = &g.priorities else {
            return fault(format!("pfc[{i}]"), "priorities is missing; for example priorities = [3]");
        };
        let mut enable = 0;
        for p in priorities {
            enable |= 1 << ranged(&key("priorities"), Some(*p), 0, 7)?;
        }
        let train = train(g, enable, tester.rate, &key)?;
        let at = Time::ZERO + g.start.map_or(Span::ZERO, |d| d.0);
        if at + train.span() >= Time::ZERO + limit {
            return fault(
                key("start"),
                "the last frame would come after the run's limit; raise it or end sooner",
            );
        }
        let text = format!(
            "[[pfc]] {i}: port {} sends {} PFC frames ({:?}) for priorities {priorities:?} from +{}",
            tester.name,
            train.frames,
            train.form,
            Span(at.0)
        );
        warnings.push(("pfc_generated".into(), text));
        timeline.ports.push((port, TimedAction { at, action: Action::Pfc { port, train } }));
    }
    timeline.ports.sort_by_key(|(_, a)| a.at);
    Ok(())
}

/// Frames of one train at most: a storm at line rate for a second.
const FRAMES_MAX: u64 = 1 << 28;

fn train(g: &GenerateDoc, enable: u8, rate: Rate, key: &impl Fn(&str) -> String) -> Result<PfcTrain, Fault> {
    let form = g.form.unwrap_or_default();
    let period = g.interval.map_or(Span::ZERO, |d| d.0);
    let wire = LinkTiming::new(rate, Span::ZERO).wire_time(form.len());
    if g.interval.is_some() && period < wire {
        return fault(key("interval"), format!("a frame takes {wire} at {rate}; use at least that"));
    }
    let repeats = || match g.duration.map_or(Span::ZERO, |d| d.0) {
        Span::ZERO => fault(key("duration"), "must be above 0"),
        d if d.0.div_ceil(period.0.max(1)) > FRAMES_MAX => {
            fault(key("duration"), format!("makes more than {FRAMES_MAX} frames; use a longer interval"))
        }
        d => Ok(d.0.div_ceil(period.0.max(1))),
    };
    let (quanta, frames) = match g.kind {
        Some(PfcKind::Storm) => (vec![g.quanta.unwrap_or(0)], repeats()?),
        Some(PfcKind::Throttle) => (vec![throttle(g.duty, period, rate, key)?], repeats()?),
        Some(PfcKind::Sweep) => {
            let all = g.sweep.clone().unwrap_or_default();
            if all.is_empty() || all.len() > 4096 {
                return fault(key("sweep"), "must have from 1 to 4096 entries");
            }
            if let Some(q) = all.iter().find(|q| rate.quanta(**q) + wire > period) {
                let text =
                    format!("a pause of {q} quanta lasts {}; make the interval longer", rate.quanta(*q));
                return fault(key("interval"), text);
            }
            let frames = all.len() as u64;
            (all, frames)
        }
        _ => (vec![g.quanta.unwrap_or(0)], 1),
    };
    Ok(PfcTrain { form, enable, quanta, frames, period })
}

/// Quanta that fill a share of the interval, to the nearest one.
fn throttle(
    duty: Option<f64>,
    interval: Span,
    rate: Rate,
    key: &impl Fn(&str) -> String,
) -> Result<u16, Fault> {
    let duty = duty.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&duty) {
        return fault(key("duty"), "must be from 0 to 1");
    }
    let quanta = (duty * interval.0 as f64 * rate.bits_per_s as f64 / 512e12).round();
    if quanta > f64::from(u16::MAX) {
        return fault(key("interval"), format!("needs {quanta} quanta; one frame pauses for at most 65535"));
    }
    if quanta == 0.0 && duty > 0.0 {
        return fault(key("interval"), "is so short that the pause is less than a quantum; make it longer");
    }
    Ok(quanta as u16)
}
