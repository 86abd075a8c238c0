//! Fills every key that acts with its default, so that the document says all a run does.

use super::classes::usual_priority;
use super::doc::*;
use super::preset::{PIPELINE, PRESETS, Preset, WEIGHTS, has_virtual_output_queues};
use super::quantity::{Alpha, BitRate, Cable, Dur, LoadText, Size};
use super::sonic::Imported;
use super::source::{Fault, fault, nearest};
use super::values::WatchdogActionDoc;
use crate::limits::SWITCH_PORTS_MAX;
use crate::plan::device::{DeviceKind, DeviceSpec};
use crate::plan::predict::response_quanta;
use crate::transport::config::RcConfig;
use crate::units::{Bytes, Rate, Span};
use crate::workload::config::StreamVerb;

/// Silence after which a flow may take another path: several times the delay differences of equal-cost paths with
/// shallow queues. Our choice; published ones are from 50 to 500 us (Kandula et al. 2007, LetFlow 2017).
const FLOWLET_GAP: Span = Span::from_us(50);

/// From a link's fall to routes around it. Our choice: local repair takes well below a millisecond, a routing protocol
/// with fast failure detection tens of them.
const RECONVERGENCE: Span = Span::from_ms(1);

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
    switch(doc, replay_ranks)?;
    super::pfc::fill(doc)
}

fn run(doc: &mut ProfileDoc) {
    // A watchdog that acts is there to end deadlocks itself.
    let acts = |w: &WatchdogDoc| matches!(w, WatchdogDoc::On(w) if w.action != WatchdogActionDoc::Alert);
    let guarded = doc.switch.as_ref().and_then(|s| s.pfc_watchdog.as_ref()).is_some_and(acts);
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
    run.deadlock.get_or_insert(if guarded { DeadlockDoc::GoOn } else { DeadlockDoc::End });
}

/// Fills the classes: their priority is what the switch's map says, lossless is what the switch guards (3 and 4 where
/// no configuration says).
pub(super) fn classes(doc: &mut ProfileDoc, imported: Option<&Imported>) {
    if let (Some(sw), Some(i)) = (&mut doc.switch, imported) {
        sw.cell = Some(i.cell);
    }
    let map = super::classes::dscp_map(doc, imported);
    let by_tag = super::classes::pcp_map(doc, imported);
    let guarded = |p: u8| match imported {
        Some(i) => i.lossless(p),
        None => p == 3 || p == 4,
    };
    for class in doc.class.values_mut() {
        let dscp = *class.dscp.get_or_insert(3);
        // Out-of-range values are complained about later; here they only must not stop the filling.
        let mut mapped = map.get(usize::from(dscp)).copied().unwrap_or(0);
        if let Some(by_tag) = by_tag.filter(|_| class.vlan.is_some()) {
            let pcp =
                *class.pcp.get_or_insert_with(|| class.priority.unwrap_or_else(|| usual_priority(dscp)));
            mapped = by_tag.get(usize::from(pcp)).copied().unwrap_or(0);
        }
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
    let keys: [(&str, bool, KindDoc, Option<&str>); 11] = [
        ("senders", w.senders.is_some(), KindDoc::Incast, Some("senders = 32")),
        ("message", w.message.is_some(), KindDoc::Incast, Some("message = \"4 MiB\"")),
        ("receiver", w.receiver.is_some(), KindDoc::Incast, None),
        ("ranks", w.ranks.is_some(), KindDoc::RingAllReduce, Some("ranks = 16")),
        ("vector", w.vector.is_some(), KindDoc::RingAllReduce, Some("vector = \"64 MB\"")),
        ("chunk", w.chunk.is_some(), KindDoc::RingAllReduce, None),
        ("reduce", w.reduce.is_some(), KindDoc::RingAllReduce, None),
        ("per_node", w.per_node.is_some(), KindDoc::RingAllReduce, None),
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
        w.per_node.get_or_insert(1);
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
    super::rate::decide(w, &path)?;
    w.placement.get_or_insert(Placement::Packed);
    let rc = RcConfig::default();
    w.ack_every.get_or_insert(rc.ack_every);
    w.ack_req_every.get_or_insert(rc.ack_req_every);
    w.ack_timeout.get_or_insert(Dur(rc.ack_timeout));
    w.retry_count.get_or_insert(rc.retry_count);
    w.rnr_retry.get_or_insert(rc.rnr_retry);
    if *w.retransmission.get_or_insert(RetransmissionDoc::GoBackN) == RetransmissionDoc::SelectiveRepeat {
        w.reorder.get_or_insert(rc.reorder);
        w.window.get_or_insert(WindowDoc::Packets(crate::transport::reorder::PACKETS_MAX));
    } else if w.reorder.is_some() {
        let text = "acts with retransmission = \"selective-repeat\" only; add that or remove it";
        return fault(format!("{path}.reorder"), text);
    }
    w.window.get_or_insert(WindowDoc::Packets(rc.window));
    w.max_rd_atomic.get_or_insert(rc.max_rd_atomic);
    w.ack_policy.get_or_insert_with(|| "count".into());
    w.ack_req.get_or_insert_with(|| "count".into());
    w.spread.get_or_insert(SpreadDoc::RoundRobin);
    if *w.receive_queue.get_or_insert(rc.receive_queue) > 0 {
        w.receive_delay.get_or_insert(Dur(rc.receive_delay));
        w.min_rnr_timer.get_or_insert(rc.min_rnr_timer);
        w.credits.get_or_insert(rc.credits);
    } else {
        let keys = [
            ("receive_delay", w.receive_delay.is_some()),
            ("min_rnr_timer", w.min_rnr_timer.is_some()),
            ("credits", w.credits.is_some()),
        ];
        if let Some((key, _)) = keys.iter().find(|k| k.1) {
            return fault(format!("{path}.{key}"), "acts with a receive_queue only; add one or remove it");
        }
    }
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
    s.verb.get_or_insert(StreamVerb::UcSend);
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

fn balance(sw: &mut SwitchDoc) -> Result<(), Fault> {
    let gap = match *sw.balance.get_or_insert(BalanceDoc::Ecmp) {
        BalanceDoc::Flowlet => Some(FLOWLET_GAP),
        BalanceDoc::Adaptive => Some(Span::ZERO),
        _ => None,
    };
    match (gap, sw.flowlet_gap) {
        (None, Some(_)) => fault("switch.flowlet_gap", "needs balance = \"flowlet\" or \"adaptive\""),
        (Some(_), Some(d)) if sw.balance == Some(BalanceDoc::Flowlet) && d.0 == Span::ZERO => {
            fault("switch.flowlet_gap", "must be above 0; frame by frame is balance = \"spray\"")
        }
        (gap, _) => {
            sw.flowlet_gap = sw.flowlet_gap.or(gap.map(Dur));
            sw.hash.get_or_insert(HashDoc::FiveTuple);
            sw.hash_seeds.get_or_insert(SeedsDoc::PerSwitch);
            Ok(())
        }
    }
}

fn switch(doc: &mut ProfileDoc, replay_ranks: &[u32]) -> Result<(), Fault> {
    let ranks = ranks_needed(doc, replay_ranks);
    let several = doc.fabric.as_ref().is_some_and(|f| !matches!(f.kind, None | Some(FabricKind::Single)));
    let sw = doc.switch.get_or_insert_default();
    // A configuration says what a preset would; of a preset that is named beside it only cell and slices act.
    let imported = sw.config.is_some();
    let generic = || "generic-32mib".to_owned();
    let name = match (&mut sw.preset, imported) {
        (Some(name), _) => name.clone(),
        (none, false) => none.insert(generic()).clone(),
        (None, true) => generic(),
    };
    let name = name.as_str();
    let Some(preset) = Preset::named(name) else {
        if has_virtual_output_queues(name) {
            let text = format!(
                "{name} queues frames at the ingress for every output (VOQ); only shared-buffer switches are modelled, use \
                 a preset of one"
            );
            return fault("switch.preset", text);
        }
        let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
        let text = match nearest(name, &names) {
            Some(near) => format!("no such preset; did you mean {near:?}?"),
            None => format!("no such preset; known: {}", names.join(", ")),
        };
        return fault("switch.preset", text);
    };
    sw.name.get_or_insert_with(|| if several { "fabric".into() } else { "sw0".into() });
    if !imported {
        sw.cell.get_or_insert(preset.cell);
        sw.slices.get_or_insert(preset.slices);
        let same = std::array::from_fn(|class| class as u8);
        sw.tc_to_pg.get_or_insert(same);
        sw.tc_to_queue.get_or_insert(same);
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
    if sw.static_th.is_some() && sw.alpha.is_some() {
        return fault("switch.static_th", "there is an alpha too; keep one");
    }
    if sw.lossy_static_th.is_some() && sw.lossy_alpha.is_some() {
        return fault("switch.lossy_static_th", "there is a lossy_alpha too; keep one");
    }
    if imported && (sw.lossy_pool.is_some() || sw.shared_headroom.is_some()) {
        let key = if sw.lossy_pool.is_some() { "switch.lossy_pool" } else { "switch.shared_headroom" };
        return fault(key, "the pools are those of config; remove it, or change BUFFER_POOL there");
    }
    if imported && !sw.egress_pools.is_empty() {
        return fault(
            "switch.egress_pools",
            "the pools are those of config; remove it, or change BUFFER_POOL there",
        );
    }
    if !imported {
        if sw.static_th.is_none() {
            sw.alpha.get_or_insert(preset.alpha);
        }
        if sw.lossy_static_th.is_none() {
            sw.lossy_alpha.get_or_insert(Alpha { num: 1, den: 1 });
        }
        sw.pfc_watchdog.get_or_insert(WatchdogDoc::Off);
        sw.xon.get_or_insert(Size(Bytes(0)));
        sw.reserved.get_or_insert(Size(Bytes(preset.reserved)));
        sw.xon_offset.get_or_insert(Size(Bytes(preset.xon_offset)));
        sw.wred.get_or_insert(WredDoc::Off);
        sw.weights.get_or_insert(WEIGHTS);
    }
    sw.mark_at.get_or_insert(MarkDoc::Dequeue);
    balance(sw)?;
    sw.pipeline.get_or_insert(Dur(PIPELINE));
    sw.pause_quanta.get_or_insert(65_535);
    sw.flow_control.get_or_insert(FlowControlDoc::Pfc);
    sw.cut_through.get_or_insert(false);
    if !sw.shaper.is_empty() {
        sw.shaper_burst.get_or_insert(Size(Bytes(0)));
    }

    let ports = sw.ports.get_or_insert_default();
    let fabric = doc.fabric.get_or_insert_default();
    let kind = *fabric.kind.get_or_insert(FabricKind::Single);
    if doc.at.iter().any(|a| a.link.is_some()) {
        fabric.reconvergence.get_or_insert(Dur(RECONVERGENCE));
    }
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
    let ppm = *ports.clock_ppm.get_or_insert(0);
    let each = *ports.ranks_per_port.get_or_insert(1);
    match kind {
        FabricKind::Single => {
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
        _ => {
            if ports.count.is_some() {
                let text =
                    "does not act with a fabric of several switches: its own keys set the ports; remove it";
                return fault("switch.ports.count", text);
            }
        }
    }
    super::shape::fill(fabric, kind, rate, cable)?;
    let response = |r: BitRate| Dur(r.0.quanta(response_quanta(r.0)));
    let typed_response = ports.pfc_response;
    ports.pfc_response.get_or_insert(response(rate));
    for (i, p) in doc.port.iter_mut().enumerate() {
        p.name.get_or_insert_with(|| format!("port{i}"));
        p.host.get_or_insert_with(|| "local".into());
        p.role.get_or_insert(Role::Both);
        let own = *p.rate.get_or_insert(rate);
        p.clock_ppm.get_or_insert(ppm);
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
        // Ports of other rates than most have a headroom of their own.
        let of = |r: BitRate| match preset.headroom_for(r.0) {
            Some(headroom) => Ok(Size(headroom)),
            None => fault(
                "switch",
                format!(
                    "preset {:?} has no headroom for {r}; set xoff_headroom (`rankstorm check` prints what is needed)",
                    preset.name
                ),
            ),
        };
        let own = of(rate)?;
        sw.xoff_headroom = Some(own);
        for p in doc.port.iter_mut().filter(|p| p.xoff_headroom.is_none()) {
            let theirs = of(p.rate.unwrap_or(rate))?;
            p.xoff_headroom = Some(theirs).filter(|h| *h != own);
        }
        super::shape::fill_headroom(fabric, own, of)?;
    }
    Ok(())
}
