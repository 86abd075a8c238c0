//! Fills every key that acts with its default, so that the document says all a run does.

use super::doc::*;
use super::preset::{PIPELINE, PRESETS, Preset, WEIGHTS};
use super::quantity::{Alpha, BitRate, Cable, Dur, LoadText, Size};
use super::sonic::Imported;
use super::source::{Fault, fault, nearest};
use crate::limits::SWITCH_PORTS_MAX;
use crate::plan::device::{DeviceKind, DeviceSpec};
use crate::plan::predict::response_quanta;
use crate::transport::config::RcConfig;
use crate::units::{Bytes, Rate, Span};

/// The default MTU and class name.
pub(super) const CLASS: &str = "roce";

/// Fills the document in place. `replay_ranks[i]` = ranks of the schedule of workload i (0 where it is no
/// replay).
pub(super) fn fill(doc: &mut ProfileDoc, replay_ranks: &[u32]) -> Result<(), Fault> {
    doc.schema.get_or_insert(1);
    run(doc);
    if doc.class.is_empty() {
        doc.class.insert(CLASS.into(), ClassDoc::default());
    }
    let class = only_class(doc);
    for (i, w) in doc.workload.iter_mut().enumerate() {
        workload(w, i, &class)?;
    }
    for (i, s) in doc.stream.iter_mut().enumerate() {
        stream(s, i, &class);
    }
    for at in &mut doc.at {
        if let Some(b) = &mut at.burst {
            b.class.get_or_insert_with(|| class.clone());
            b.obey_pfc.get_or_insert(true);
            b.size.get_or_insert(1024);
        }
    }
    switch(doc, replay_ranks)
}

fn run(doc: &mut ProfileDoc) {
    let run = doc.run.get_or_insert_default();
    run.warmup.get_or_insert(0);
    run.repeats.get_or_insert(1);
    run.gap.get_or_insert(Dur(Span::from_ms(2)));
    run.limit.get_or_insert(Dur(Span::from_ms(60_000)));
    run.seed.get_or_insert(1);
    let clock = *run.clock.get_or_insert(ClockDoc::Elastic);
    run.dilation.get_or_insert(match clock {
        ClockDoc::Elastic => Dilation::Auto,
        ClockDoc::Free => Dilation::Factor(1.0),
    });
    run.ip.get_or_insert(IpVersion::V4);
    run.hairpin.get_or_insert(false);
}

/// Fills the classes: their priority is what the switch's map says, lossless is what the switch guards (3 and 4 where
/// no configuration says).
pub(super) fn classes(doc: &mut ProfileDoc, imported: Option<&Imported>) {
    if let (Some(sw), Some(i)) = (&mut doc.switch, imported) {
        sw.cell = Some(i.cell);
    }
    let map = super::classes::dscp_map(doc, imported);
    let guarded = |p: u8| match imported {
        Some(i) => i.priorities.get(usize::from(p)).is_some_and(|p| p.lossless),
        None => p == 3 || p == 4,
    };
    for class in doc.class.values_mut() {
        let dscp = *class.dscp.get_or_insert(3);
        // Out-of-range values are complained about later; here they only must not stop the filling.
        let mapped = map.get(usize::from(dscp)).copied().unwrap_or(0);
        let priority = *class.priority.get_or_insert(mapped);
        class.lossless.get_or_insert(guarded(priority));
        class.ecn.get_or_insert(EcnDoc::Ect0);
        class.ack_dscp.get_or_insert(dscp);
        class.cnp_dscp.get_or_insert(48);
        class.mtu.get_or_insert(4096);
    }
}

/// The class traffic uses when it names none.
fn only_class(doc: &ProfileDoc) -> String {
    let mut names = doc.class.keys();
    match (names.next(), names.next()) {
        (Some(one), None) => one.clone(),
        _ => CLASS.into(),
    }
}

fn workload(w: &mut WorkloadDoc, i: usize, class: &str) -> Result<(), Fault> {
    let path = format!("workload[{i}]");
    let Some(kind) = w.kind else {
        return fault(path, "kind is missing; one of incast, ring-all-reduce, replay");
    };
    let kind_name = match kind {
        KindDoc::Incast => "incast",
        KindDoc::RingAllReduce => "ring-all-reduce",
        KindDoc::Replay => "replay",
    };
    // (key, it is there, kinds it belongs to, what to write when it must be there)
    let keys: [(&str, bool, KindDoc, Option<&str>); 10] = [
        ("senders", w.senders.is_some(), KindDoc::Incast, Some("senders = 32")),
        ("message", w.message.is_some(), KindDoc::Incast, Some("message = \"4 MiB\"")),
        ("receiver", w.receiver.is_some(), KindDoc::Incast, None),
        ("ranks", w.ranks.is_some(), KindDoc::RingAllReduce, Some("ranks = 16")),
        ("vector", w.vector.is_some(), KindDoc::RingAllReduce, Some("vector = \"64 MB\"")),
        ("chunk", w.chunk.is_some(), KindDoc::RingAllReduce, None),
        ("reduce", w.reduce.is_some(), KindDoc::RingAllReduce, None),
        ("file", w.file.is_some(), KindDoc::Replay, Some("file = \"trace.pcap\"")),
        ("format", w.format.is_some(), KindDoc::Replay, None),
        ("timing", w.timing.is_some(), KindDoc::Replay, None),
    ];
    for (key, there, of, example) in keys {
        if there && of != kind {
            return fault(format!("{path}.{key}"), format!("is no key of kind = {kind_name:?}; remove it"));
        }
        if let (false, true, Some(example)) = (there, of == kind, example) {
            return fault(path, format!("{key} is missing; {kind_name} needs it, for example {example}"));
        }
    }
    w.name.get_or_insert_with(|| if i == 0 { kind_name.into() } else { format!("{kind_name}-{i}") });
    if kind == KindDoc::RingAllReduce {
        w.chunk.get_or_insert(Size(Bytes(1 << 20)));
        w.reduce.get_or_insert(Dur(Span::ZERO));
    }
    if kind == KindDoc::Replay {
        w.format.get_or_insert_with(|| "auto".into());
        w.timing.get_or_insert(TimingDoc::Dependent);
    }
    if *w.verb.get_or_insert(VerbDoc::Write) == VerbDoc::Read && kind != KindDoc::Incast {
        let text = "\"read\" is for kind = \"incast\" only: the receiver asks for data that is there from the \
             start; use \"write\" or \"send\"";
        return fault(format!("{path}.verb"), text);
    }
    w.start.get_or_insert(StartDoc { skew: Some(Dur(Span::ZERO)), uniform: None });
    w.class.get_or_insert_with(|| class.into());
    w.qps_per_pair.get_or_insert(1);
    w.rate_control.get_or_insert_with(|| "none".into());
    w.placement.get_or_insert(Placement::Packed);
    let rc = RcConfig::default();
    w.ack_every.get_or_insert(rc.ack_every);
    w.ack_req_every.get_or_insert(rc.ack_req_every);
    w.ack_timeout.get_or_insert(Dur(rc.ack_timeout));
    w.retry_count.get_or_insert(rc.retry_count);
    w.rnr_retry.get_or_insert(rc.rnr_retry);
    if *w.retransmission.get_or_insert(RetransmissionDoc::GoBackN) == RetransmissionDoc::SelectiveRepeat {
        w.reorder.get_or_insert(rc.reorder);
        w.window.get_or_insert(crate::transport::reorder::PACKETS_MAX);
    } else if w.reorder.is_some() {
        let text = "acts with retransmission = \"selective-repeat\" only; add that or remove it";
        return fault(format!("{path}.reorder"), text);
    }
    w.window.get_or_insert(rc.window);
    w.max_rd_atomic.get_or_insert(rc.max_rd_atomic);
    w.source_port.get_or_insert_with(|| "kernel".into());
    Ok(())
}

fn stream(s: &mut StreamDoc, i: usize, class: &str) {
    s.name.get_or_insert_with(|| format!("stream-{i}"));
    s.class.get_or_insert_with(|| class.into());
    if s.imix.is_none() {
        s.size.get_or_insert(1024);
    }
    s.load.get_or_insert(LoadText::Share(1.0));
    s.start.get_or_insert(Dur(Span::ZERO));
    s.obey_pfc.get_or_insert(true);
}

/// Ranks the traffic needs, at least.
pub(super) fn ranks_needed(doc: &ProfileDoc, replay_ranks: &[u32]) -> u64 {
    let workloads = doc.workload.iter().enumerate().map(|(i, w)| match w.kind {
        Some(KindDoc::Incast) => {
            let senders = u64::from(w.senders.unwrap_or(0)) + 1;
            senders.max(w.receiver.map_or(0, |r| u64::from(r) + 1))
        }
        Some(KindDoc::RingAllReduce) => u64::from(w.ranks.unwrap_or(0)),
        _ => u64::from(replay_ranks.get(i).copied().unwrap_or(0)),
    });
    let pair =
        |from: Option<u32>, to: Option<u32>| u64::from(from.unwrap_or(0)).max(u64::from(to.unwrap_or(0))) + 1;
    let streams = doc.stream.iter().map(|s| pair(s.from, s.to));
    let bursts = doc.at.iter().filter_map(|a| a.burst.as_ref()).map(|b| pair(b.from, b.to));
    workloads.chain(streams).chain(bursts).max().unwrap_or(0)
}

fn switch(doc: &mut ProfileDoc, replay_ranks: &[u32]) -> Result<(), Fault> {
    let ranks = ranks_needed(doc, replay_ranks);
    let leaf_spine = doc.fabric.as_ref().is_some_and(|f| f.kind == Some(FabricKind::LeafSpine));
    let sw = doc.switch.get_or_insert_default();
    // A configuration says what a preset would; of a preset that is named beside it only the cell acts.
    let imported = sw.config.is_some();
    let generic = || "generic-32mib".to_owned();
    let name = match (&mut sw.preset, imported) {
        (Some(name), _) => name.clone(),
        (none, false) => none.insert(generic()).clone(),
        (None, true) => generic(),
    };
    let name = name.as_str();
    let Some(preset) = Preset::named(name) else {
        let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
        let text = match nearest(name, &names) {
            Some(near) => format!("no such preset; did you mean {near:?}?"),
            None => format!("no such preset; known: {}", names.join(", ")),
        };
        return fault("switch.preset", text);
    };
    sw.name.get_or_insert_with(|| if leaf_spine { "fabric".into() } else { "sw0".into() });
    if !imported {
        sw.cell.get_or_insert(preset.cell);
        sw.buffer.get_or_insert(Size(preset.buffer));
    }
    let from_exponent = match sw.dynamic_th.take() {
        None => None,
        Some(x) => match Alpha::from_dynamic_th(x) {
            Some(alpha) if sw.alpha.is_none_or(|a| a == alpha) => Some(alpha),
            Some(alpha) => {
                return fault(
                    "switch.dynamic_th",
                    format!("is alpha {alpha}, but alpha says otherwise; keep one"),
                );
            }
            None => return fault("switch.dynamic_th", "must be from -8 to 7 (alpha = 2^x)"),
        },
    };
    sw.alpha = sw.alpha.or(from_exponent);
    if !imported {
        sw.alpha.get_or_insert(preset.alpha);
        sw.lossy_alpha.get_or_insert(Alpha { num: 1, den: 1 });
        sw.reserved.get_or_insert(Size(Bytes(preset.reserved)));
        sw.xon_offset.get_or_insert(Size(Bytes(preset.xon_offset)));
        sw.wred.get_or_insert(WredDoc::Off);
        sw.weights.get_or_insert(WEIGHTS);
    }
    sw.mark_at.get_or_insert(MarkDoc::Dequeue);
    sw.balance.get_or_insert(BalanceDoc::Ecmp);
    sw.pipeline.get_or_insert(Dur(PIPELINE));
    sw.pause_quanta.get_or_insert(65_535);

    let ports = sw.ports.get_or_insert_default();
    let fabric = doc.fabric.get_or_insert_default();
    let kind = *fabric.kind.get_or_insert(FabricKind::Single);
    if let (Some(a), Some(b)) = (ports.rate, fabric.host_rate)
        && a != b
    {
        return fault(
            "fabric.host_rate",
            format!("differs from switch.ports.rate = \"{a}\"; keep one of them"),
        );
    }
    let rate = *ports.rate.get_or_insert(fabric.host_rate.unwrap_or(BitRate(Rate::gbps(100))));
    let cable = *ports.cable.get_or_insert(Cable::Length(5_000));
    let fec = *ports.fec.get_or_insert(Fec::Rs544);
    ports.clock_ppm.get_or_insert(0);
    let each = *ports.ranks_per_port.get_or_insert(1);
    let mut rate_max = rate;
    match kind {
        FabricKind::Single => {
            let extra = [
                ("leaves", fabric.leaves.is_some()),
                ("spines", fabric.spines.is_some()),
                ("hosts_per_leaf", fabric.hosts_per_leaf.is_some()),
                ("uplink_rate", fabric.uplink_rate.is_some()),
                ("uplinks", fabric.uplinks.is_some()),
                ("cable", fabric.cable.is_some()),
            ];
            if let Some((key, _)) = extra.iter().find(|e| e.1) {
                return fault(format!("fabric.{key}"), "needs kind = \"leaf-spine\" in [fabric]");
            }
            let typed = u64::try_from(doc.port.len()).unwrap_or(u64::MAX);
            let needed = if typed > 0 { typed } else { ranks.div_ceil(u64::from(each.max(1))) };
            if ports.count.is_none() && needed > SWITCH_PORTS_MAX as u64 {
                let text = format!(
                    "{ranks} ranks need {needed} ports, one switch has at most {SWITCH_PORTS_MAX}; set \
                     ports.ranks_per_port or use [fabric] kind = \"leaf-spine\""
                );
                return fault("switch", text);
            }
            ports.count.get_or_insert(u32::try_from(needed.max(1)).unwrap_or(u32::MAX));
        }
        FabricKind::LeafSpine => {
            if ports.count.is_some() {
                let text = "does not act with a leaf-spine: leaves, spines and hosts_per_leaf set the \
                     ports; remove it";
                return fault("switch.ports.count", text);
            }
            let missing = [
                ("leaves", fabric.leaves.is_none(), "leaves = 2"),
                ("spines", fabric.spines.is_none(), "spines = 2"),
                ("hosts_per_leaf", fabric.hosts_per_leaf.is_none(), "hosts_per_leaf = 8"),
            ];
            if let Some((key, _, example)) = missing.iter().find(|m| m.1) {
                return fault(
                    "fabric",
                    format!("{key} is missing; a leaf-spine needs it, for example {example}"),
                );
            }
            fabric.host_rate.get_or_insert(rate);
            rate_max = rate_max.max(*fabric.uplink_rate.get_or_insert(rate));
            fabric.uplinks.get_or_insert(1);
            fabric.cable.get_or_insert(cable);
        }
    }
    let response = |r: BitRate| Dur(r.0.quanta(response_quanta(r.0)));
    let typed_response = ports.pfc_response;
    ports.pfc_response.get_or_insert(response(rate));
    for (i, p) in doc.port.iter_mut().enumerate() {
        p.name.get_or_insert_with(|| format!("port{i}"));
        p.host.get_or_insert_with(|| "local".into());
        p.role.get_or_insert(Role::Both);
        let own = *p.rate.get_or_insert(rate);
        rate_max = rate_max.max(own);
        p.pfc_response.get_or_insert(typed_response.unwrap_or_else(|| response(own)));
        p.cable.get_or_insert(cable);
        p.fec.get_or_insert(fec);
        p.ranks_per_port.get_or_insert(each);
        // Software devices pass pauses to us and obey none.
        let soft = p.device.as_deref().and_then(|d| DeviceSpec::parse(d).ok());
        p.pfc.get_or_insert(match soft {
            Some(d) if d.kind != DeviceKind::Pci => PfcDoc::Software,
            _ => PfcDoc::Hardware,
        });
    }
    if sw.xoff_headroom.is_none() && !imported {
        let Some(headroom) = preset.headroom_for(rate_max.0) else {
            let text = format!(
                "preset {:?} has no headroom for {rate_max}; set xoff_headroom (`rankstorm check` \
                     prints what is needed)",
                preset.name
            );
            return fault("switch", text);
        };
        sw.xoff_headroom = Some(Size(headroom));
    }
    Ok(())
}
