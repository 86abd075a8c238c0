//! Rate control in whole runs: two flows and one link, what each control makes of it, and what a profile may say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use common::{conserved, plan, plan_of};
use rankstorm::profile::{self, Overrides};
use rankstorm::report::model::{Phase, RateControlFigure, RunReport};
use rankstorm::transport::rate::{DcqcnParams, RateControl};
use rankstorm::transport::{dcqcn, swift};
use rankstorm::units::{Rate, Span};

fn figure(r: &RunReport) -> &RateControlFigure {
    r.workload[0].rate_control.as_ref().unwrap()
}

fn shared(set: &[&str]) -> RunReport {
    conserved(&plan("fair-share", set)).1
}

/// Most bytes any queue of a switch held.
fn deepest(r: &RunReport) -> f64 {
    let queues = r.switches.iter().flat_map(|s| &s.queues);
    queues.filter_map(|q| q.depth_bytes.max).fold(0.0, f64::max)
}

fn xoffs(r: &RunReport) -> u64 {
    r.ports.iter().flat_map(|p| &p.pfc).map(|p| p.xoff_rx).sum()
}

/// The long phases of `fair-share`: the first alone, both, the second alone.
fn phases(r: &RunReport) -> [&Phase; 3] {
    let f = figure(r);
    let flows: Vec<u32> = f.phases.iter().map(|p| p.flows).collect();
    assert_eq!(flows, [1, 2, 1], "{f:#?}");
    [&f.phases[0], &f.phases[1], &f.phases[2]]
}

/// Both start, share, and the one that is left takes all: the three phases of `fair-share`.
fn converges(r: &RunReport, within_ns: [f64; 2]) {
    let [alone, both, after] = phases(r);
    assert_eq!(alone.convergence_ns, Some(0.0), "{alone:?}");
    assert!(both.jain.unwrap() >= 0.95, "{both:?}");
    assert!(both.convergence_ns.unwrap() <= within_ns[0], "a new flow takes its share: {both:?}");
    assert!(after.convergence_ns.unwrap() <= within_ns[1], "and gives it back: {after:?}");
    let longest = both.convergence_ns.unwrap().max(after.convergence_ns.unwrap());
    assert_eq!(figure(r).convergence_ns, Some(longest));
}

const TWO: &str = r#"name = "t"
[run]
limit = "1 s"
[[workload]]
kind = "incast"
senders = 2
message = "1 MiB"
#
[class.roce]
dscp = 3
mtu = 4096
[switch]
pipeline = "600 ns"
ports = { count = 3, rate = "100G", cable = "1 us", fec = "none" }
"#;

fn with(lines: &str) -> Result<rankstorm::plan::Plan, String> {
    profile::from_str("t.toml", &TWO.replace("#\n", lines), &Overrides::default()).map_err(|e| e.to_string())
}

fn dcqcn_of(lines: &str) -> DcqcnParams {
    match &with(lines).unwrap().workloads[0].rate_control {
        RateControl::Dcqcn(p) => p.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn otg_fields_are_taken_in_their_units_and_shown_in_ours() {
    let typed = "
[workload.dcqcn_settings]
enable_dcqcn = true
alpha_g = 1008
initial_alpha = 1023
alpha_update_period = 30
rate_reduction_time_period = 40
initial_rate_after_first_cnp = 25
minimum_rate_limmit = 0.5
maximum_rate_decrement_at_time = 50
clamp_target_rate = true
rate_increment_time = 200
rate_increment_byte_counter = 1000
rate_increment_threshold = 3
additive_increment_rate = 0.04
hyper_increment_rate = 0.2
rate_decrement_coefficient = 10
cnp_delay_timer = 20
";
    let p = dcqcn_of(typed);
    // 16/1024; percent of 100G; 64 B units.
    assert_eq!((p.name.as_str(), p.g, p.alpha_initial), ("otg", 1.0 / 64.0, 1.0));
    assert_eq!([p.alpha_period, p.decrease_period], [30, 40].map(Span::from_us));
    assert_eq!([p.increase_timer, p.cnp_interval], [200, 20].map(Span::from_us));
    assert_eq!([p.rate_ai, p.rate_hai, p.rate_min], [40, 200, 500].map(Rate::mbps));
    assert_eq!((p.rate_first_cnp, p.cut_max, p.cut_divisor), (Some(Rate::gbps(25)), 0.5, 1));
    assert_eq!((p.clamp_target, p.byte_counter, p.fast_recovery), (true, 64_000, 3));
    assert!(p.origin.starts_with("OTG ") && p.origin.contains("changed here: cnp_interval"), "{}", p.origin);
    // What acts is shown in our spelling, and loads to the same.
    let plan = with(typed).unwrap();
    for line in ["rate_control = \"dcqcn:otg\"", "rate_first_cnp = \"25G\"", "alpha_period = \"30 us\""] {
        assert!(plan.effective.contains(line), "{}", plan.effective);
    }
    let again = profile::from_str("again.toml", &plan.effective, &Overrides::default()).unwrap();
    assert_eq!(again.workloads[0].rate_control, plan.workloads[0].rate_control);
    assert_eq!(again.effective, plan.effective);
    // Nothing typed: the model's defaults.
    let line = Rate::gbps(100);
    assert_eq!(Some(dcqcn_of("rate_control = \"dcqcn:otg\"\n")), dcqcn::named("otg", line));
    let off = with("\n[workload.dcqcn_settings]\nenable_dcqcn = false\n").unwrap();
    assert_eq!(off.workloads[0].rate_control, RateControl::None);
}

#[test]
fn a_set_can_be_changed_and_says_so() {
    let p = dcqcn_of(
        "rate_control = \"dcqcn:paper\"\n[workload.dcqcn]\nrate_ai = \"80 Mb/s\"\nalpha_min = 0.01\n",
    );
    let paper = dcqcn::named("paper", Rate::gbps(100)).unwrap();
    assert!(p.origin.ends_with("; changed here: rate_ai, alpha_min"), "{}", p.origin);
    let origin = p.origin.clone();
    assert_eq!(p, DcqcnParams { rate_ai: Rate::mbps(80), alpha_min: 0.01, origin, ..paper });
    let plan = with("[workload.swift]\nbase_target = \"8 us\"\n").unwrap();
    let RateControl::Swift(p) = &plan.workloads[0].rate_control else {
        panic!("a table of swift means swift")
    };
    assert_eq!((p.base_target, p.beta), (Span::from_us(8), swift::named("htsim").unwrap().beta));
    assert_eq!(plan.workloads[0].rc.ack_req_every, 1);
}

#[test]
fn what_cannot_act_is_refused_in_one_line() {
    let dcqcn = "rate_control = \"dcqcn:paper\"\n";
    for (lines, expected) in [
        (
            "[workload.dcqcn]\nset = \"paper\"\n[workload.dcqcn_settings]\nalpha_g = 1000\n",
            "says in OTG's words what dcqcn says in ours; keep one of the two tables",
        ),
        (
            "rate_control = \"dcqcn:paper\"\n[workload.dcqcn_settings]\nalpha_g = 1000\n",
            "goes with rate_control = \"dcqcn:otg\" only",
        ),
        ("[workload.dcqcn_settings]\nalpha_gg = 1\n", "unknown key \"alpha_gg\""),
        ("[workload.dcqcn_settings]\nalpha_g = 1024\n", "alpha_g = 1024: must be from 1 to 1023"),
        ("[workload.dcqcn_settings]\nminimum_rate_limmit = 0\n", "percent of the port's rate: above 0"),
        ("[workload.dcqcn_settings]\nrate_decrement_coefficient = 9\n", "must be from 10 to 11"),
        ("[workload.dcqcn]\nrate_ai = \"1G\"\n", "changes a named set; say which"),
        (
            "rate_control = \"swift\"\n[workload.dcqcn]\ng = 0.1\n",
            "acts with rate_control = \"dcqcn:NAME\" only",
        ),
        ("rate_control = \"none\"\n[workload.swift]\nai = 1.0\n", "acts with rate_control = \"swift\" only"),
        (
            &format!("{dcqcn}[workload.dcqcn]\nset = \"hpcc\"\n"),
            "holds the values of set \"hpcc\"; remove the table",
        ),
        (&format!("{dcqcn}[workload.dcqcn]\nrate_a = \"1G\"\n"), "did you mean \"rate_ai\"?"),
        (
            &format!("{dcqcn}[workload.dcqcn]\nincrease_timer = \"0 ns\"\nbyte_counter = \"0 B\"\n"),
            "no rate would ever recover",
        ),
        (&format!("{dcqcn}[workload.dcqcn]\ng = 0.0\n"), "g = 0.0: must be from"),
        (&format!("{dcqcn}[workload.dcqcn]\nrate_min = \"0 b/s\"\n"), "must be above 0"),
        ("rate_control = \"swift:htsin\"\n", "did you mean \"swift:htsim\"?"),
        ("rate_control = \"swift\"\nack_req_every = 16\n", "must be 1 with swift"),
        ("rate_control = \"swift\"\n[workload.swift]\ncwnd_min = 2.0\n", "must be from 0.001 to 1"),
        ("rate_control = \"timely\"\n", "must be \"none\", \"fixed:25G\", \"dcqcn:NAME\", \"window\""),
        ("window = 0\n", "must be from 1 to 8388607"),
        ("window = \"bpd\"\n", "a size starts with a number"),
        ("window = \"64 GB\"\n", "must be from 1 to 8388607"),
    ] {
        let said = with(lines).map(|_| "fine".to_owned()).unwrap_or_else(|e| e);
        assert!(said.contains(expected), "{lines}\n{said}\ninstead of {expected}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn the_window_bdp_is_rate_times_round_trip_in_closed_form() {
    // There: 4154 + 24 bytes twice and 1 us twice, the pipeline of 600 ns once; back: 84 bytes twice and the same.
    let rtt = Span::from_ns(2 * (2 * 1_000 + 600)) + Span(2 * 334_240 + 2 * 6_720);
    for lines in ["rate_control = \"window\"\n", "window = \"bdp\"\n"] {
        let plan = with(lines).unwrap();
        let w = &plan.workloads[0];
        let RateControl::Window(s) = &w.rate_control else { panic!("{:?}", w.rate_control) };
        assert_eq!(s.base_rtt, rtt);
        assert_eq!(s.bytes.0, (rtt.0 * 100).div_ceil(8_000));
        assert_eq!(u64::from(w.rc.window), s.bytes.0.div_ceil(4178));
        assert_eq!(w.rc.ack_req_every, 1);
    }
    let packets = |lines: &str| with(lines).unwrap().workloads[0].rc.window;
    assert_eq!(packets("window = \"64 KiB\"\n"), 16);
    assert_eq!(packets("window = \"100 B\"\n"), 1, "less than one packet is one packet");
    assert_eq!(packets("window = 7\n"), 7);
    // As an upper limit beside another control.
    let plan = with("rate_control = \"dcqcn:paper\"\nwindow = \"32 KiB\"\n").unwrap();
    assert_eq!((plan.workloads[0].rc.window, plan.workloads[0].rate_control.kind()), (8, "dcqcn"));
}

#[test]
fn dcqcn_shares_a_link_and_a_new_flow_takes_its_part() {
    let r = shared(&["workload.rate_control=dcqcn:hpcc"]);
    let [alone, both, after] = phases(&r);
    assert_eq!(alone.convergence_ns, Some(0.0));
    assert!(both.jain.unwrap() >= 0.95 && both.convergence_ns.unwrap() < 10e6, "{both:?}");
    // After the other has left, hyper increase adds 200 Mb/s every 300 us: 13 Gb/s in 20 ms and not the whole link.
    assert!(after.convergence_ns.is_none() && after.share_max.unwrap() < 0.7, "{after:?}");
    assert_eq!((figure(&r).convergence_ns, figure(&r).converged, figure(&r).judged), (None, 2, 3));
    assert_eq!((figure(&r).control.as_str(), figure(&r).set.as_deref()), ("dcqcn", Some("hpcc")));
    assert_eq!(xoffs(&r), 0);
}

#[test]
fn dcqcn_gives_the_link_back_at_the_pace_of_its_hyper_increase() {
    let r = shared(&["workload.rate_control=dcqcn:hpcc-paper"]);
    let [_, both, after] = phases(&r);
    assert!(both.jain.unwrap() >= 0.95, "{both:?}");
    // From half the link to nine tenths: 40 Gb/s in steps of 200 Mb/s, one every 55 us; the rate at which the other
    // one left is half the link give or take its share of unfairness.
    let steps = 40_000.0 / 200.0;
    let took = after.convergence_ns.unwrap();
    assert!((took / (steps * 55e3) - 1.0).abs() < 0.2, "{took}");
}

#[test]
fn swift_keeps_the_link_full_and_shares_it_within_a_millisecond() {
    converges(&shared(&["workload.rate_control=swift:fabric"]), [1e6, 1e6]);
    // A long target on a short path swings wider, around the same share.
    let r = shared(&["workload.rate_control=swift"]);
    let [_, both, after] = phases(&r);
    assert!(both.share_min.unwrap() >= 0.95 && both.jain.unwrap() >= 0.99, "{both:?}");
    assert_eq!(after.convergence_ns, Some(0.0));
    assert_eq!((xoffs(&r), r.flows.cnp_rx), (0, 0));
    // The queue stands at what the target leaves over: target less round trip, at 100G. Targets are 20 us + 3.053 us and
    // what a small window adds; each flow may add a packet per round trip before it hears of it.
    assert!(deepest(&r) > 12_500.0 * 15.0 && deepest(&r) < 12_500.0 * 60.0, "{}", deepest(&r));
}

#[test]
fn static_windows_share_at_once_and_leave_one_window_in_the_queue() {
    let r = shared(&["workload.rate_control=window"]);
    converges(&r, [0.0, 0.0]);
    let plan = plan("fair-share", &["workload.rate_control=window"]);
    let window = f64::from(plan.workloads[0].rc.window) * 4154.0;
    assert!(deepest(&r) <= window + 2.0 * 4158.0, "{} of {window}", deepest(&r));
}

#[test]
fn a_constant_rate_is_its_own_fair_share() {
    let r = shared(&["workload.rate_control=fixed:40G"]);
    let [alone, both, _] = phases(&r);
    assert_eq!((alone.convergence_ns, both.convergence_ns), (Some(0.0), Some(0.0)));
    assert!((both.share_mean.unwrap() - 1.0).abs() < 0.01, "{both:?}");
    assert!(both.jain.unwrap() > 0.999);
}

#[test]
fn without_rate_control_there_is_no_figure() {
    let r = shared(&["workload.rate_control=none", "workload.message=5 MB", "workload.start.skew=0 ns"]);
    assert!(r.workload[0].rate_control.is_none());
    assert!(!rankstorm::report::text::render(&r, None).contains("RATES"));
    let r = shared(&["workload.rate_control=window", "workload.message=5 MB", "workload.start.skew=0 ns"]);
    let said = rankstorm::report::text::render(&r, None);
    assert!(said.contains("RATES     window bdp; Jain 1.0000; within 10 % of fair share after"), "{said}");
}

/// Every named set and the other controls in the same scenario, so that sources can be compared by reading.
#[test]
fn all_controls_in_one_table() {
    let sets = dcqcn::names().iter().map(|n| format!("dcqcn:{n}"));
    let swifts = swift::names().iter().map(|n| format!("swift:{n}"));
    let mut table = String::from(
        "two flows over 100G, the second 10 ms after the first, 250 MB each; shares: second half of a phase\n\
         control             ratio   marks  pauses  queue kB   share of two   Jain  conv ms  share after  conv ms\n",
    );
    for control in sets.chain(swifts).chain(["window".to_owned()]) {
        let r = shared(&[&format!("workload.rate_control={control}")]);
        let [_, both, after] = phases(&r);
        assert!(both.jain.unwrap() >= 0.95, "{control}: {both:?}");
        let ms = |ns: Option<f64>| ns.map_or("-".into(), |x| format!("{:.2}", x / 1e6));
        table += &format!(
            "{control:<18} {:>6.3} {:>7} {:>7} {:>9.0}  {:>5.3} to {:>5.3} {:>6.4} {:>8} {:>12.3} {:>8}\n",
            r.workload[0].ideal_ratio.unwrap(),
            r.switches[0].ce_marked.unwrap(),
            xoffs(&r),
            deepest(&r) / 1e3,
            both.share_min.unwrap(),
            both.share_max.unwrap(),
            both.jain.unwrap(),
            ms(both.convergence_ns),
            after.share_mean.unwrap(),
            ms(after.convergence_ns),
        );
    }
    insta::assert_snapshot!(table);
}

/// 32 senders: windows far below a packet per round trip are paced, and all finish.
#[test]
fn swift_carries_an_incast_without_a_pause() {
    let set = ["run.warmup=0", "run.repeats=2", "workload.message=1 MiB", "workload.rate_control=swift"];
    let (_, r) = conserved(&plan("incast-32to1", &set));
    assert_eq!((xoffs(&r), r.flows.failed, r.flows.retransmitted), (0, 0, 0));
    assert!(figure(&r).jain.unwrap() >= 0.95, "{:?}", figure(&r));
    // No worse than one percent over the receiver's link, which the windows never let run dry.
    assert!(r.workload[0].ideal_ratio.unwrap() < 1.01, "{:?}", r.workload[0].ideal_ratio);
}

const ROUGH: &str = r#"name = "rough"
[run]
limit = "5 s"
[[workload]]
kind = "incast"
senders = 4
message = "2 MiB"
rate_control = "swift"
ack_timeout = "500 us"
[class.roce]
dscp = 3
mtu = 1024
[switch]
buffer = "1 MiB"
xoff_headroom = "90 kB"
ports = { count = 5, rate = "100G", cable = "5 m" }
[[at]]
time = "100 us"
pause = { port = 4, priority = 3, hold = "2 ms" }
[[at]]
time = "3 ms"
pause = { port = 0, priority = 3, hold = "300 us" }
[[fault]]
link = "port port1 tx"
effect = "drop"
opcode = "data"
probability = 0.002
"#;

/// Pauses of milliseconds, losses and timeouts: windows shrink, nothing stops for good.
#[test]
fn swift_survives_long_pauses_and_losses() {
    let mut text = ROUGH.to_owned();
    (0..5).for_each(|i| text += &format!("[[port]]\nname = \"port{i}\"\n"));
    for control in ["swift", "swift:fabric"] {
        let set = [&format!("workload.rate_control={control}")[..], "workload.retry_count=7"];
        let (result, r) = common::virtually(&plan_of(&text, &set));
        assert!(result.complete, "{control}: {:?}", result.missing);
        assert_eq!((r.flows.completed, r.flows.failed), (4, 0), "{control}");
        assert!(r.flows.retransmitted > 0 && r.flows.timeouts > 0, "{control}");
        assert!(r.workload[0].completion_ns.percentiles.max.unwrap() > 2e6, "the pause was there");
        assert!(result.conservation.holds());
    }
}
