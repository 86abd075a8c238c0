//! Links: cut-through switches and clocks that are off, against closed forms.

#![allow(clippy::unwrap_used)]

use rankstorm::plan::{Mode, Plan};
use rankstorm::profile::{self, Overrides};
use rankstorm::run::result::RunResult;
use rankstorm::run::{Options, execute};

/// 20 frames of 4,158 bytes with FCS, far apart, and `switch` in `[switch]`.
fn stream(switch: &str, ports: &str) -> String {
    format!(
        "schema = 1\nname = \"links\"\n[run]\nlimit = \"50 ms\"\non = \"virtual\"\n[class.roce]\ndscp = 3\n\
         [[stream]]\nname = \"s\"\nfrom = 0\nto = 1\nsize = 4158\nload = \"1 %\"\nframes = 20\n\
         [switch]\n{switch}\n{ports}\n"
    )
}

fn plan(text: &str) -> Plan {
    profile::from_str("links.toml", text, &Overrides::default()).unwrap()
}

fn run(text: &str) -> RunResult {
    let result = execute(&plan(text), Options::new(Mode::Virtual)).unwrap();
    assert!(result.complete && result.tester.trustworthy && result.conservation.holds());
    result
}

/// Least latency in the network, nanoseconds.
fn latency(text: &str) -> f64 {
    run(text).recorder.classes()[0].network_ns.min().unwrap() as f64
}

#[test]
fn cut_through_saves_a_frame_less_its_header_per_hop() {
    let same = "ports = { count = 2, rate = \"100G\", cable = \"5 m\" }";
    let stored = latency(&stream("cut_through = false", same));
    let cut = latency(&stream("cut_through = true", same));
    // 4,178 and 84 bytes on the wire at 80 ps.
    assert!((stored - cut - (334.24 - 6.72)).abs() <= 2.0, "{stored} ns stored, {cut} ns cut through");
}

#[test]
fn a_switch_with_a_faster_port_stores_what_slower_ones_bring() {
    let ports = |first: &str| {
        format!(
            "ports = {{ count = 2, rate = \"100G\", cable = \"5 m\" }}\n[[port]]\nrate = \"{first}\"\n[[port]]\nrate = \"25G\"\n"
        )
    };
    let saved = |first: &str| {
        let ports = ports(first);
        latency(&stream("cut_through = false", &ports)) - latency(&stream("cut_through = true", &ports))
    };
    assert!((saved("100G") - 327.52).abs() <= 2.0, "from fast to slow the bits are always there");
    assert_eq!(saved("10G"), 0.0, "from slow to fast they would run out");
}

/// A hop's time from its parts, nanoseconds: 4,178 bytes on each wire, 5 m of cable twice, 600 ns of pipeline; with
/// cut-through the header's 84 bytes instead of the first wire's frame.
#[test]
fn one_hop_takes_wire_cable_and_pipeline() {
    let took = |cut: bool, first: &str, second: &str| {
        let ports = format!(
            "pipeline = \"600 ns\"\nports = {{ count = 2, rate = \"100G\", cable = \"5 m\", fec = \"none\" }}\n\
             [[port]]\nrate = \"{first}\"\n[[port]]\nrate = \"{second}\"\n"
        );
        latency(&stream(&format!("cut_through = {cut}"), &ports))
    };
    let wire = |bytes: f64, gbps: f64| bytes * 8.0 / gbps;
    let fixed = 600.0 + 2.0 * 5.0 * 5.05;
    for (first, second) in [(100.0, 100.0), (100.0, 25.0), (10.0, 25.0), (400.0, 100.0)] {
        let stored = fixed + wire(4_178.0, first) + wire(4_178.0, second);
        // From slow to fast the switch stores all the same.
        let ahead = if second > first { 0.0 } else { wire(4_178.0 - 84.0, first) };
        let name = |gbps: f64| format!("{gbps}G");
        for (cut, want) in [(false, stored), (true, stored - ahead)] {
            let got = took(cut, &name(first), &name(second));
            assert!(
                (got - want).abs() <= 2.0,
                "{first}G to {second}G, cut {cut}: {got} ns, {want} ns expected"
            );
        }
    }
}

/// Reed-Solomon FEC holds a frame back at each receiving end for one codeword, 5,280 or 5,440 bits, and 50 ns.
#[test]
fn fec_costs_a_codeword_and_its_decoding_per_link() {
    for gbps in [25.0, 100.0, 400.0] {
        let took = |fec: &str| {
            let ports =
                format!("ports = {{ count = 2, rate = \"{gbps}G\", cable = \"5 m\", fec = \"{fec}\" }}");
            latency(&stream("", &ports))
        };
        let none = took("none");
        for (fec, bits) in [("rs528", 5_280.0), ("rs544", 5_440.0)] {
            let want = 2.0 * (bits / gbps + 50.0);
            let got = took(fec) - none;
            assert!((got - want).abs() <= 2.0, "{fec} at {gbps}G: {got} ns, {want} ns expected");
        }
    }
}

#[test]
fn a_slow_clock_stretches_and_a_fast_one_waits_for_the_switch() {
    let took = |ppm: i64| {
        let text = format!(
            "schema = 1\nname = \"links\"\n[run]\nlimit = \"50 ms\"\non = \"virtual\"\nwarmup = 0\nrepeats = 1\n[class.roce]\ndscp = 3\n\
             [[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"4 MiB\"\n\
             [switch]\nports = {{ count = 2, rate = \"100G\", cable = \"5 m\", clock_ppm = {ppm} }}\n"
        );
        let result = run(&text);
        let m = result.recorder.rows()[0];
        m.finished.since(m.intended).0 as f64
    };
    let exact = took(0);
    // 1,024 frames of 334.24 ns, the first 16 bytes longer.
    let wire = 1_024.0 * 334_240.0 + 16.0 * 80.0;
    // The switch sends by its own clock: what comes in faster queues there.
    assert!((took(100) - exact).abs() < 1_000.0);
    for ppm in [-100, -1_000] {
        let want = wire * (1.0 / (1.0 + ppm as f64 * 1e-6) - 1.0);
        let got = took(ppm) - exact;
        assert!((got - want).abs() < 2_000.0, "{ppm} ppm: {got} ps, {want} ps expected");
    }
}

#[test]
fn what_the_fabric_has_by_default_is_written_out() {
    let plan = plan(&stream("", "ports = { count = 2, rate = \"100G\", cable = \"5 m\" }"));
    for key in
        ["pfc_watchdog = \"off\"", "flow_control = \"pfc\"", "cut_through = false", "clock_ppm = 0", "xon = "]
    {
        assert!(plan.effective.contains(key), "{key}: {}", plan.effective);
    }
    let again = profile::from_str("again.toml", &plan.effective, &Overrides::default()).unwrap();
    assert_eq!(again.effective, plan.effective);
}

#[test]
fn ports_of_other_rates_have_the_headroom_of_theirs() {
    let text = "schema = 1\nname = \"mixed\"\n[class.roce]\ndscp = 3\n\
        [[workload]]\nkind = \"incast\"\nsenders = 7\nmessage = \"1 MB\"\n\
        [fabric]\nkind = \"leaf-spine\"\nleaves = 2\nspines = 1\nhosts_per_leaf = 4\nuplink_rate = \"400G\"\n\
        [switch]\npreset = \"tomahawk5\"\nports = { rate = \"100G\", cable = \"5 m\" }\n";
    let plan = plan(text);
    let leaf = &plan.fabric.switches[0];
    let headroom = |port: usize| leaf.of_port(port).priorities[3].headroom.0;
    // sonic-mgmt: 1185 cells up to 200G, 1548 at 400G.
    assert_eq!((headroom(0), headroom(4)), (1_185 * 254, 1_548 * 254));
    let again = profile::from_str("again.toml", &plan.effective, &Overrides::default()).unwrap();
    assert_eq!(again.fabric.switches[0].profiles, leaf.profiles);
}

#[test]
fn switch_keys_that_contradict_each_other_are_refused() {
    let refused = |switch: &str| {
        let text = stream(switch, "ports = { count = 2, rate = \"100G\", cable = \"5 m\" }");
        profile::from_str("p.toml", &text, &Overrides::default()).unwrap_err().to_string()
    };
    let all = [
        ("alpha = \"1/8\"\nstatic_th = \"100 kB\"", "there is an alpha too; keep one"),
        ("shaper = { \"9\" = \"1G\" }", "the key must be a priority from 0 to 7 in quotes, or port"),
        ("pfc_watchdog = { detect = \"0 ns\", restore = \"1 ms\", action = \"drop\" }", "must be above 0"),
        ("preset = \"jericho2\"", "only shared-buffer switches are modelled"),
        ("lossy_pool = \"64 MiB\"", "enlarge the buffer"),
    ];
    for (switch, expected) in all {
        let said = refused(switch);
        assert!(said.contains(expected), "{said:?} instead of {expected:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
