//! Rate control: which one, its parameters under either spelling, and windows that depend on the path.

use super::classes::ranged;
use super::doc::{ProfileDoc, WorkloadDoc};
use super::rate_doc::{DcqcnDoc, OtgDoc, SwiftDoc, WindowDoc};
use super::source::{Fault, fault, nearest};
use crate::host::config::RankAddr;
use crate::plan::path::Paths;
use crate::topology::Fabric;
use crate::transport::config::{ClassConfig, RcConfig, Retransmission};
use crate::transport::rate::{DcqcnParams, RateControl, StaticWindow, SwiftParams};
use crate::transport::{dcqcn, reorder, swift};
use crate::units::{Bytes, Rate, Span};
use crate::workload::config::WorkloadConfig;
use crate::workload::generate::pairs;
use crate::workload::ideal::Framing;

/// The set that `dcqcn_settings` changes.
const OTG: &str = "otg";
/// Longest period of a rate control.
const PERIOD_MAX: Span = Span(10_000_000_000_000);

/// Decides which rate control a workload has, from whatever names one, and the window and ACK requests that go with it.
pub(super) fn decide(w: &mut WorkloadDoc, path: &str) -> Result<(), Fault> {
    let key = |k: &str| format!("{path}.{k}");
    if w.dcqcn.is_some() && w.dcqcn_settings.is_some() {
        let text = "says in OTG's words what dcqcn says in ours; keep one of the two tables";
        return fault(key("dcqcn_settings"), text);
    }
    let control = match (&w.rate_control, &w.dcqcn_settings) {
        (Some(typed), Some(_)) if *typed != format!("dcqcn:{OTG}") => {
            let text = format!("goes with rate_control = \"dcqcn:{OTG}\" only; remove one of the two");
            return fault(key("dcqcn_settings"), text);
        }
        (_, Some(otg)) if otg.enable_dcqcn == Some(false) => {
            w.dcqcn_settings = None;
            "none".to_owned()
        }
        (_, Some(_)) => format!("dcqcn:{OTG}"),
        (Some(typed), None) => typed.clone(),
        (None, None) => match (&w.dcqcn, &w.swift, &w.window) {
            (Some(d), ..) => match &d.set {
                Some(set) => format!("dcqcn:{set}"),
                None => {
                    let text = "changes a named set; say which: rate_control = \"dcqcn:paper\"";
                    return fault(key("dcqcn"), text);
                }
            },
            (None, Some(_), _) => "swift".into(),
            (None, None, Some(WindowDoc::Bdp | WindowDoc::Bytes(_))) => "window".into(),
            _ => "none".into(),
        },
    };
    let kind = control.split(':').next().unwrap_or_default();
    if w.dcqcn.is_some() && kind != "dcqcn" {
        return fault(key("dcqcn"), "acts with rate_control = \"dcqcn:NAME\" only; add that or remove it");
    }
    if w.swift.is_some() && kind != "swift" {
        return fault(key("swift"), "acts with rate_control = \"swift\" only; add that or remove it");
    }
    if kind == "window" {
        w.window.get_or_insert(WindowDoc::Bdp);
    }
    if kind == "swift" && *w.ack_req_every.get_or_insert(1) != 1 {
        return fault(key("ack_req_every"), "must be 1 with swift, which needs an ACK for every packet");
    }
    if matches!(w.window, Some(WindowDoc::Bdp | WindowDoc::Bytes(_))) {
        // A window of one round trip closes unless every packet is acknowledged as it arrives.
        w.ack_req_every.get_or_insert(1);
    }
    w.rate_control = Some(control);
    Ok(())
}

/// Writes every value that acts into the tables of the workloads, in our spelling.
pub(super) fn fill(doc: &mut ProfileDoc) -> Result<(), Fault> {
    let line = line(doc);
    for (i, w) in doc.workload.iter_mut().enumerate() {
        let path = format!("workload[{i}]");
        if let Some(otg) = w.dcqcn_settings.take() {
            w.dcqcn = Some(ours(&otg, &format!("{path}.dcqcn_settings"), line)?);
        }
        match control(w, &path, line)? {
            RateControl::Dcqcn(p) => w.dcqcn = Some(DcqcnDoc::of(&p)),
            RateControl::Swift(p) => w.swift = Some(SwiftDoc::of(&p)),
            RateControl::None | RateControl::Fixed(_) | RateControl::Window(_) => {}
        }
    }
    Ok(())
}

/// Rate of the fastest tester port of a filled document.
fn line(doc: &ProfileDoc) -> Rate {
    let shared = doc.switch.as_ref().and_then(|s| s.ports.as_ref()).and_then(|p| p.rate);
    let host = doc.fabric.as_ref().and_then(|f| f.host_rate).or(shared);
    let own = doc.port.iter().filter_map(|p| p.rate).max();
    own.or(host).map_or(Rate::gbps(100), |r| r.0)
}

/// The rate control of a workload on ports of rate `line`. A static window is left empty until [`windows`].
pub(super) fn control(w: &WorkloadDoc, path: &str, line: Rate) -> Result<RateControl, Fault> {
    let at = format!("{path}.rate_control");
    let typed = w.rate_control.as_deref().unwrap_or("none");
    match typed.split_once(':') {
        None if typed == "none" => Ok(RateControl::None),
        None if typed == "window" => Ok(RateControl::Window(StaticWindow {
            name: String::new(),
            origin: String::new(),
            bytes: Bytes(0),
            base_rtt: Span::ZERO,
        })),
        None if typed == "swift" => swift_of(w, path, "htsim").map(RateControl::Swift),
        Some(("swift", name)) => swift_of(w, path, name).map(RateControl::Swift),
        Some(("fixed", rate)) => match super::quantity::parse_rate(rate) {
            Ok(rate) if rate.bits_per_s > 0 => Ok(RateControl::Fixed(rate)),
            Ok(_) => fault(at, "the rate must be above 0"),
            Err(text) => fault(at, text),
        },
        Some(("dcqcn", name)) => dcqcn_of(w, path, name, line).map(RateControl::Dcqcn),
        _ => fault(
            at,
            "must be \"none\", \"fixed:25G\", \"dcqcn:NAME\", \"window\", \"swift\" or \"swift:NAME\"",
        ),
    }
}

fn unknown<T>(path: &str, kind: &str, name: &str, names: &[&str]) -> Result<T, Fault> {
    let at = format!("{path}.rate_control");
    match nearest(name, names) {
        Some(near) => fault(at, format!("no such set; did you mean \"{kind}:{near}\"?")),
        None => fault(at, format!("no such set; known: {}", names.join(", "))),
    }
}

/// A table that holds the values of another set would quietly win over the one that was asked for.
fn same_set(path: &str, table: &str, set: Option<&String>, name: &str) -> Result<(), Fault> {
    match set {
        Some(set) if set != name => {
            fault(format!("{path}.{table}"), format!("holds the values of set {set:?}; remove the table"))
        }
        _ => Ok(()),
    }
}

fn changed(origin: &str, keys: &[&str]) -> String {
    if keys.is_empty() { origin.to_owned() } else { format!("{origin}; changed here: {}", keys.join(", ")) }
}

fn dcqcn_of(w: &WorkloadDoc, path: &str, name: &str, line: Rate) -> Result<DcqcnParams, Fault> {
    let Some(base) = dcqcn::named(name, line) else { return unknown(path, "dcqcn", name, dcqcn::names()) };
    let Some(doc) = &w.dcqcn else { return Ok(base) };
    same_set(path, "dcqcn", doc.set.as_ref(), name)?;
    let before = DcqcnDoc::of(&base);
    let mut p = doc.apply(base);
    p.origin = changed(&p.origin, &DcqcnDoc::of(&p).differing(&before));
    let key = |k: &str| format!("{path}.dcqcn.{k}");
    for (name, span, zero) in [
        ("cnp_interval", p.cnp_interval, true),
        ("alpha_period", p.alpha_period, false),
        ("decrease_period", p.decrease_period, true),
        ("increase_timer", p.increase_timer, true),
    ] {
        period(&key(name), span, zero)?;
    }
    if p.increase_timer == Span::ZERO && p.byte_counter == 0 {
        return fault(key("increase_timer"), "is off and so is byte_counter: no rate would ever recover");
    }
    if p.byte_counter > u64::from(u32::MAX) {
        return fault(key("byte_counter"), "must be below 4 GiB");
    }
    ranged(&key("fast_recovery"), Some(p.fast_recovery), 1, 1_000)?;
    ranged(&key("cut_divisor"), Some(p.cut_divisor), 1, 2)?;
    for (name, rate) in [("rate_ai", p.rate_ai), ("rate_hai", p.rate_hai), ("rate_min", p.rate_min)] {
        if rate.bits_per_s == 0 || rate > Rate::gbps(10_000) {
            return fault(key(name), "must be above 0 and at most 10T");
        }
    }
    for (name, share, low) in
        [("g", p.g, 1e-9), ("cut_max", p.cut_max, 1e-9), ("alpha_initial", p.alpha_initial, 0.0)]
    {
        ranged(&key(name), Some(share), low, 1.0)?;
    }
    ranged(&key("alpha_min"), Some(p.alpha_min), 0.0, 1.0)?;
    Ok(p)
}

fn period(path: &str, span: Span, zero: bool) -> Result<(), Fault> {
    if span > PERIOD_MAX || (span == Span::ZERO && !zero) || (span != Span::ZERO && span < Span::from_ns(1)) {
        let low = if zero { "0 or from 1 ns" } else { "from 1 ns" };
        return fault(path, format!("must be {low} to 10 s"));
    }
    Ok(())
}

fn swift_of(w: &WorkloadDoc, path: &str, name: &str) -> Result<SwiftParams, Fault> {
    let Some(base) = swift::named(name) else { return unknown(path, "swift", name, swift::names()) };
    let Some(doc) = &w.swift else { return Ok(base) };
    same_set(path, "swift", doc.set.as_ref(), name)?;
    let before = SwiftDoc::of(&base);
    let mut p = doc.apply(base);
    p.origin = changed(&p.origin, &SwiftDoc::of(&p).differing(&before));
    let key = |k: &str| format!("{path}.swift.{k}");
    period(&key("base_target"), p.base_target, false)?;
    period(&key("per_hop"), p.per_hop, true)?;
    period(&key("fs_range"), p.fs_range, true)?;
    for (name, value, low, high) in [
        ("ai", p.ai, 1e-6, 1e6),
        ("beta", p.beta, 1e-6, 1.0),
        ("max_mdf", p.max_mdf, 1e-6, 0.999),
        ("cwnd_min", p.cwnd_min, 1e-3, 1.0),
        ("cwnd_max", p.cwnd_max, 1.0, f64::from(1 << 22)),
        ("cwnd_initial", p.cwnd_initial, p.cwnd_min, p.cwnd_max),
        ("fs_min_cwnd", p.fs_min_cwnd, 1e-6, 1e6),
        ("fs_max_cwnd", p.fs_max_cwnd, p.fs_min_cwnd, 1e6),
    ] {
        ranged(&key(name), Some(value), low, high)?;
    }
    ranged(&key("retries_to_min"), Some(p.retries_to_min), 1, 1_000)?;
    Ok(p)
}

/// OTG's fields in our spelling. Limits are those of its model.
fn ours(otg: &OtgDoc, path: &str, line: Rate) -> Result<DcqcnDoc, Fault> {
    use super::quantity::{BitRate, Dur, Size};
    let key = |k: &str| format!("{path}.{k}");
    let within = |k: &str, v: Option<u64>, low: u64, high: u64| match v {
        None => Ok(None),
        Some(_) => ranged(&key(k), v, low, high).map(Some),
    };
    let us = |k: &str, v: Option<u64>, low: u64, high: u64| {
        Ok(within(k, v, low, high)?.map(|n| Dur(Span::from_us(n))))
    };
    let percent = |k: &str, v: Option<f64>, low: f64| match v {
        None => Ok(None),
        Some(x) if (low..=100.0).contains(&x) => Ok(Some(BitRate(dcqcn::percent_of(line, x)))),
        Some(_) => fault(key(k), "is percent of the port's rate: above 0 and at most 100"),
    };
    let most = PERIOD_MAX.0 / 1_000_000;
    let small = 1e-9;
    Ok(DcqcnDoc {
        set: Some(OTG.into()),
        cnp_interval: us("cnp_delay_timer", otg.cnp_delay_timer, 0, 255)?,
        alpha_period: us("alpha_update_period", otg.alpha_update_period, 1, most)?,
        decrease_period: us("rate_reduction_time_period", otg.rate_reduction_time_period, 1, most)?,
        increase_timer: us("rate_increment_time", otg.rate_increment_time, 1, most)?,
        byte_counter: within("rate_increment_byte_counter", otg.rate_increment_byte_counter, 1, 32_767)?
            .map(|n| Size(Bytes(n * dcqcn::FIRMWARE_BYTES))),
        fast_recovery: within(
            "rate_increment_threshold",
            otg.rate_increment_threshold.map(u64::from),
            1,
            31,
        )?
        .map(|n| n as u32),
        g: within("alpha_g", otg.alpha_g.map(u64::from), 1, 1023)?.map(|n| dcqcn::firmware_gain(n as u32)),
        rate_ai: percent("additive_increment_rate", otg.additive_increment_rate, small)?,
        rate_hai: percent("hyper_increment_rate", otg.hyper_increment_rate, small)?,
        rate_min: percent("minimum_rate_limmit", otg.minimum_rate_limmit, small)?,
        rate_first_cnp: percent("initial_rate_after_first_cnp", otg.initial_rate_after_first_cnp, 0.0)?,
        clamp_target: otg.clamp_target_rate,
        clamp_after_timer: None,
        cut_max: within(
            "maximum_rate_decrement_at_time",
            otg.maximum_rate_decrement_at_time.map(u64::from),
            1,
            100,
        )?
        .map(|n| n as f64 / 100.0),
        cut_divisor: within(
            "rate_decrement_coefficient",
            otg.rate_decrement_coefficient.map(u64::from),
            10,
            11,
        )?
        .map(|n| n as u32 - 9),
        alpha_initial: within("initial_alpha", otg.initial_alpha.map(u64::from), 1, 1023)?
            .map(|n| n as f64 / 1023.0),
        alpha_min: None,
    })
}

/// Turns the windows of workloads into packets, now that the paths are known.
pub(super) fn windows(
    doc: &ProfileDoc,
    workloads: &mut [WorkloadConfig],
    classes: &[ClassConfig],
    ranks: &[RankAddr],
    fabric: &Fabric,
) -> Result<(), Fault> {
    for (i, (w, typed)) in workloads.iter_mut().zip(&doc.workload).enumerate() {
        let path = format!("workload[{i}].window");
        let Some(window) = typed.window else { continue };
        let max = match w.rc.retransmission {
            Retransmission::GoBackN => (1 << 23) - 1,
            Retransmission::SelectiveRepeat => reorder::PACKETS_MAX,
        };
        let v6 = ranks.first().is_some_and(|r| r.ip.is_ipv6());
        let class = &classes[usize::from(w.class.0)];
        let framing = Framing::of(class, w.verb, v6);
        let (packets, figure) = match window {
            WindowDoc::Packets(n) => {
                let bytes = Bytes(u64::from(n) * u64::from(class.mtu));
                (u64::from(n), ("packets", "packets as typed".to_owned(), bytes, Span::ZERO))
            }
            WindowDoc::Bytes(size) => {
                let n = (size.0.0 / u64::from(class.mtu.max(1))).max(1);
                (n, ("bytes", "payload bytes as typed, at least one packet".to_owned(), size.0, Span::ZERO))
            }
            WindowDoc::Bdp => {
                let Some(longest) = longest(w, ranks, fabric, &framing) else {
                    return fault(path, "\"bdp\" needs a path between the ranks; give packets or bytes");
                };
                let bytes = longest.bdp_bytes();
                let n = bytes.div_ceil(Framing::full_wire(&framing)).max(1);
                let origin = format!(
                    "{} x {} of the longest path: data there, ACK back, nothing queued",
                    longest.rate, longest.span
                );
                (n, ("bdp", origin, Bytes(bytes), longest.span))
            }
        };
        if packets == 0 || packets > u64::from(max) {
            return fault(path, format!("is {packets} packets; must be from 1 to {max}"));
        }
        w.rc.window = packets as u32;
        if let RateControl::Window(s) = &mut w.rate_control {
            let (name, origin, bytes, base_rtt) = figure;
            *s = StaticWindow {
                name: name.into(),
                origin: format!("{origin}: {packets} packets"),
                bytes,
                base_rtt,
            };
        }
    }
    Ok(())
}

/// The round trip with the largest product of rate and delay, over the first 65,536 pairs of ranks.
fn longest(
    w: &WorkloadConfig,
    ranks: &[RankAddr],
    fabric: &Fabric,
    framing: &Framing,
) -> Option<crate::plan::path::RoundTrip> {
    let paths = Paths::new(fabric);
    let port = |r: crate::units::RankId| ranks.get(r.0 as usize).map(|a| a.port.0);
    let trips = pairs(w).into_iter().take(1 << 16).filter_map(|(from, to)| {
        let (from, to) = (port(from)?, port(to)?);
        if from == to { None } else { paths.round_trip(from, to, framing.full_len()) }
    });
    trips.max_by_key(|t| t.bdp_bytes())
}

/// The window of a document in packets where it says so, before paths are known.
pub(super) fn packets(window: Option<WindowDoc>) -> u32 {
    match window {
        Some(WindowDoc::Packets(n)) => n,
        _ => RcConfig::default().window,
    }
}
