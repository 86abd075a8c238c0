//! What has to hold on any fabric, with any traffic and seed: nothing is lost track of, nothing lossless is lost where
//! `check` calls the headroom enough, every pause ends unless buffers wait in a circle, a paused class holds up no other,
//! and a seed decides the outcome.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::cell::Cell;

use common::{plan_of, virtually};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use rankstorm::plan::Plan;
use rankstorm::run::result::RunResult;

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    }
}

/// A fabric.
#[derive(Clone, Debug)]
struct Shape {
    /// Its `[fabric]` table, if it has several switches; the last table of it is `[fabric]`.
    fabric: String,
    /// Keys of `[switch.ports]`.
    ports: String,
    /// Tester ports.
    ranks: u32,
    /// A cable that may fail for a while.
    cable: &'static str,
}

fn fabric() -> impl Strategy<Value = Shape> {
    let rate = prop::sample::select(vec![25u32, 100, 400]);
    let sizes = (1u32..4, 1u32..4, 1u32..4, rate.clone(), rate, prop::sample::select(vec![2u32, 30, 200]));
    (0u32..5, sizes).prop_map(|(kind, (a, b, each, host, up, metres))| {
        let rates = format!(
            "hosts_per_leaf = {each}\nhost_rate = \"{host}G\"\nuplink_rate = \"{up}G\"\ncable = \"{metres} m\"\n"
        );
        let (table, ranks) = match kind {
            0 => (String::new(), 2 + a + each),
            1 => (
                format!("[fabric]\nkind = \"leaf-spine\"\nleaves = {}\nspines = {b}\n{rates}", a + 1),
                (a + 1) * each,
            ),
            2 => (
                format!(
                    "[fabric]\nkind = \"three-tier\"\npods = 2\nleaves = {a}\naggs = {b}\ncores = {}\n\
                     core_rate = \"{up}G\"\ncore_cable = \"{metres} m\"\n{rates}",
                    2 * b
                ),
                2 * a * each,
            ),
            3 => (
                format!("[fabric]\nkind = \"rail-optimised\"\nrails = 2\nleaves = 4\nspines = {b}\n{rates}"),
                4 * each,
            ),
            // Longer ways than to the neighbour close a circle, so three switches at most.
            _ => (format!("[fabric]\nkind = \"ring\"\nleaves = 3\n{rates}"), 3 * each),
        };
        let ports = match kind {
            0 => format!("count = {ranks}\nrate = \"{host}G\"\ncable = \"{metres} m\"\n"),
            _ => String::new(),
        };
        Shape { fabric: table, ports, ranks, cable: if kind == 1 { "leaf0 spine0" } else { "port 0" } }
    })
}

/// Closed-loop work for `ports` ranks: an incast, a ring, or both.
fn work(ports: u32, which: u32, kib: u32, control: &str, mtu: u32) -> String {
    let more = format!(
        "rate_control = \"{control}\"\nstart = {{ uniform = \"3 us\" }}\nclass = \"roce\"\nack_timeout = \"4 ms\"\n"
    );
    let incast = format!(
        "[[workload]]\nkind = \"incast\"\nsenders = {}\nmessage = \"{kib} KiB\"\n{more}",
        (ports - 1).max(1)
    );
    let ring = format!(
        "[[workload]]\nkind = \"ring-all-reduce\"\nranks = {ports}\nvector = \"{} KiB\"\nchunk = \"64 KiB\"\n{more}",
        4 * kib
    );
    let class = format!("[class.roce]\ndscp = 3\nmtu = {mtu}\n");
    match which {
        0 => incast + &class,
        1 => ring + &class,
        _ => incast + &ring + &class,
    }
}

/// Pauses that switches asked for.
fn pauses(result: &RunResult) -> u64 {
    result.switches.iter().flat_map(|s| &s.ports).flat_map(|p| &p.pfc).map(|p| p.xoff_tx).sum()
}

fn warned(plan: &Plan, code: &str) -> bool {
    plan.warnings.iter().any(|(c, _)| c == code)
}

/// One run of the property below, as drawn.
#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    which: u32,
    kib: u32,
    control: &'static str,
    mtu: u32,
    balance: &'static str,
    /// Lines of `[switch]`: threshold, WRED, watchdog and so on.
    switch: String,
    /// Lines of `[switch.ports]`.
    ports: String,
    /// The headroom that `check` asks for and not a byte more, instead of the preset's.
    exact: bool,
    /// Traffic of a lossy class beside.
    mixed: bool,
    /// A cable that falls and comes back three times.
    flap: bool,
    seed: u64,
}

fn switch() -> impl Strategy<Value = (&'static str, String, String)> {
    let limit = prop::sample::select(vec![
        "static_th = \"20 kB\"",
        "static_th = \"60 kB\"",
        "static_th = \"300 kB\"",
        "alpha = \"1/256\"",
        "alpha = \"1/256\"",
        "alpha = \"1/64\"",
        "alpha = \"1\"",
    ]);
    let balance = prop::sample::select(vec![
        "\"ecmp\"",
        "\"pinned\"",
        "\"spray\"",
        "\"flowlet\"\nflowlet_gap = \"2 us\"",
        "\"adaptive\"",
    ]);
    let wred = prop::sample::select(vec![
        "",
        "wred = \"off\"\n",
        "wred = { kmin = \"10 kB\", kmax = \"100 kB\", pmax = 0.2 }\n",
        "mark_at = \"enqueue\"\nwred = { kmin = \"20 kB\", kmax = \"20 kB\", pmax = 1.0 }\n",
        "dscp_color = { 3 = \"red\" }\n\
         wred = { kmin = \"1 MB\", kmax = \"1 MB\", pmax = 1.0, red = { kmin = \"10 kB\", kmax = \"90 kB\", pmax = 0.3 } }\n",
    ]);
    // The class of the run is priority 3; SONiC's lossy classes share group 0.
    let maps = prop::sample::select(vec![
        "",
        "tc_to_pg = [0, 0, 0, 3, 4, 0, 0, 7]\n",
        "tc_to_pg = [0, 1, 2, 5, 4, 5, 6, 7]\ntc_to_queue = [0, 1, 2, 6, 4, 5, 6, 7]\n",
    ]);
    let slices = prop::sample::select(vec!["whole", "whole", "crosspoints", "itms"]);
    // Longer than any pause of these runs: a watchdog leaves pauses that end alone.
    let watchdog = prop::sample::select(vec![
        "",
        "pfc_watchdog = { detect = \"20 ms\", restore = \"1 ms\", action = \"drop\" }\n",
        "pfc_watchdog = { detect = \"20 ms\", restore = \"1 ms\", action = \"forward\" }\n",
    ]);
    let (cell, quanta) =
        (prop::sample::select(vec![144u32, 208, 254]), prop::sample::select(vec![65_535u32, 1_000, 300]));
    let ports =
        (prop::sample::select(vec![0i64, 100, -100]), prop::sample::select(vec!["none", "rs528", "rs544"]));
    (limit, balance, (wred, maps, slices), watchdog, cell, quanta, any::<bool>(), ports).prop_map(
        |(limit, balance, (wred, maps, slices), watchdog, cell, quanta, cut, (ppm, fec))| {
            let switch = format!(
                "{limit}\nbalance = {balance}\n{wred}{watchdog}{maps}slices = \"{slices}\"\ncell = {cell}\n\
                 pause_quanta = {quanta}\ncut_through = {cut}\n"
            );
            (balance, switch, format!("clock_ppm = {ppm}\nfec = \"{fec}\"\n"))
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let work = (0u32..3, 16u32..400, prop::sample::select(vec!["none", "none", "dcqcn:hpcc", "window"]));
    let mtu = prop::sample::select(vec![1024u32, 4096]);
    let flags = (any::<bool>(), any::<bool>(), prop::sample::select(vec![false, false, false, true]));
    (fabric(), work, switch(), mtu, flags, 1u64..1_000).prop_map(
        |(shape, (which, kib, control), (balance, switch, ports), mtu, (exact, mixed, flap), seed)| Case {
            shape,
            which,
            kib,
            control,
            mtu,
            balance,
            switch,
            ports,
            exact,
            mixed,
            flap,
            seed,
        },
    )
}

/// The profile of a case, with this headroom everywhere or the preset's.
fn profile_of(c: &Case, headroom: Option<u64>) -> String {
    let several = !c.shape.fabric.is_empty();
    let headroom = headroom.map(|h| format!("xoff_headroom = \"{h} B\"\n")).unwrap_or_default();
    let trunks = if several { headroom.as_str() } else { "" };
    // A link that is back before routes would change: they stay shortest paths.
    let reconvergence = if several { "reconvergence = \"1 s\"\n" } else { "" };
    let mut text = format!(
        "[run]\nseed = {}\nrepeats = 2\ngap = \"20 us\"\nlimit = \"2 s\"\n{}{reconvergence}{trunks}{}[switch]\n\
         buffer = \"64 MB\"\nreserved = \"0 B\"\n{headroom}{}[switch.ports]\n{}{}",
        c.seed,
        c.shape.fabric,
        work(c.shape.ranks, c.which, c.kib, c.control, c.mtu),
        c.switch,
        c.shape.ports,
        c.ports
    );
    if c.mixed {
        text += &format!(
            "[class.lossy]\ndscp = 0\nlossless = false\nmtu = 4096\n[[stream]]\nfrom = 0\nto = {}\nclass = \"lossy\"\n\
             size = 1500\nload = \"10 %\"\nduration = \"100 us\"\n",
            c.shape.ranks - 1
        );
    }
    if c.flap {
        text += &format!(
            "[[at]]\ntime = \"15 us\"\nlink = {{ cable = \"{}\", flap = {{ period = \"60 us\", down = \"8 us\", count = 3 }} }}\n",
            c.shape.cable
        );
    }
    text
}

/// What a run showed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    paused: bool,
    /// `check` calls its headroom enough, and no link fell.
    safe: bool,
    marked: bool,
    /// Frames of the lossy class, or of a link that fell, were lost.
    lost: bool,
    reordered: bool,
}

fn holds(c: &Case) -> Result<Seen, TestCaseError> {
    let preset = plan_of(&profile_of(c, None), &[]);
    let needed = preset.predicted.headrooms.iter().map(|h| h.headroom.needed.0).max();
    let text = profile_of(c, needed.filter(|_| c.exact));
    let plan = if c.exact { plan_of(&text, &[]) } else { preset };
    let (result, report) = virtually(&plan);
    let count = result.conservation;
    prop_assert!(count.holds(), "{count:?}\n{text}");
    // Every route is a shortest path, so no circle of buffers and nothing that waits for ever.
    prop_assert!(!warned(&plan, "buffer_cycle"), "{text}");
    prop_assert!(result.complete, "{:?}\n{text}", result.missing);
    prop_assert_eq!(count.pool_in_use, 0, "{}", &text);
    let ordered = c.balance.contains("ecmp") || c.balance.contains("pinned");
    // The lossy stream may ask more of a slow link than it carries, and then waits there when all else is over.
    if ordered && !c.flap && !c.mixed {
        prop_assert_eq!(count.inside_frames, 0, "{}", &text);
    }
    // Frames sent again, which nobody waits for, may still be under way at the end.
    if count.inside_frames == 0 {
        prop_assert_eq!(count.sent_bytes, count.received_bytes + count.dropped_bytes, "{}", &text);
    }
    prop_assert_eq!(report.flows.failed, 0, "{}", &text);
    let of_ports = || result.switches.iter().flat_map(|s| &s.ports);
    let storms: u64 = of_ports().flat_map(|p| &p.watchdog).map(|w| w.storms).sum();
    prop_assert_eq!(storms, 0, "every pause ended long before the watchdog's time\n{}", &text);
    let enough = !warned(&plan, "headroom_too_small");
    prop_assert!(enough || !c.exact, "what check asks for is enough for check\n{text}");
    let ends: u64 = of_ports().flat_map(|p| &p.pfc).map(|p| p.xon_tx).sum();
    // A link that falls forgets the pauses of its ends.
    prop_assert!(
        ends == pauses(&result) || c.flap && ends < pauses(&result),
        "{ends} ends of pauses\n{text}"
    );
    let safe = enough && !c.flap;
    if safe {
        let lost: u64 = report.switches.iter().filter_map(|s| s.drops_lossless).sum();
        prop_assert_eq!(lost, 0, "{}", &text);
        let ix = plan.classes.iter().position(|c| c.name == "roce").unwrap();
        prop_assert_eq!(report.classes[ix].lost, 0, "{}", &text);
        // What was asked for was carried, and once where frames keep their order.
        let asked = 2 * plan.predicted.iteration_bytes.0;
        prop_assert_eq!(report.flows.payload_bytes, asked, "{}", &text);
        if ordered {
            prop_assert_eq!((report.flows.retransmitted, report.flows.nak_rx), (0, 0), "{}", &text);
        }
        prop_assert!(c.mixed || count.dropped_frames == 0, "{count:?}\n{text}");
    }
    prop_assert_eq!(virtually(&plan).0.outcome_hash(), result.outcome_hash(), "{}", &text);
    Ok(Seen {
        paused: pauses(&result) > 0,
        safe,
        marked: result.switches.iter().any(|s| s.ce_marked > 0),
        lost: count.dropped_frames > 0,
        reordered: report.flows.out_of_order > 0,
    })
}

/// Small thresholds, so that many of these runs pause: how many is asserted, for a property of pauses that never come is
/// none.
#[test]
fn any_fabric_conserves_bytes_ends_its_pauses_and_repeats_itself() {
    const CASES: u32 = 160;
    const SEED: u64 = 41;
    let all: Cell<[u32; 5]> = Cell::default();
    let mut runner = TestRunner::new(config(CASES, SEED));
    let outcome = runner.run(&case(), |c| {
        prop_assume!(c.shape.ranks >= 2);
        let s = holds(&c)?;
        let mut n = all.get();
        let found = [s.paused, s.paused && s.safe, s.marked, s.lost, s.reordered];
        n.iter_mut().zip(found).for_each(|(n, yes)| *n += u32::from(yes));
        all.set(n);
        Ok(())
    });
    let [paused, safe, marked, lost, reordered] = all.get();
    eprintln!(
        "seed {SEED}: of {CASES} runs {paused} paused, {safe} of them with headroom enough and no link down; {marked} \
         marked, {lost} lost lossy frames or some on a fallen link, {reordered} had frames out of order"
    );
    outcome.unwrap();
    assert!(paused >= 50 && safe >= 35 && marked >= 40 && lost >= 10 && reordered >= 5);
}

proptest! {
    #![proptest_config(config(40, 42))]

    /// An incast is paused again and again while one of its senders also sends a little in another class, lossless or
    /// not, to a port of its own. None of that is lost or waits for a pause: at most for the frames in front of it that
    /// had begun, at the sender and in the switch, and for its turn.
    #[test]
    fn a_paused_class_holds_up_no_other(
        senders in 2u32..7,
        gbps in prop::sample::select(vec![25u32, 100]),
        size in prop::sample::select(vec![256u32, 1024, 4096]),
        share in 2u32..20,
        lossless in any::<bool>(),
        seed in 1u64..1_000,
    ) {
        let (receiver, other) = (senders, senders + 1);
        let text = format!(
            "[run]\nseed = {seed}\nlimit = \"1 s\"\n[switch]\nbuffer = \"8 MB\"\nstatic_th = \"40 kB\"\nreserved = \"0 B\"\n\
             ports = {{ count = {}, rate = \"{gbps}G\", cable = \"10 m\" }}\n\
             [class.roce]\ndscp = 3\nmtu = 4096\n[class.side]\ndscp = 46\nlossless = {lossless}\n\
             [[workload]]\nkind = \"incast\"\nsenders = {senders}\nreceiver = {receiver}\nmessage = \"512 KiB\"\nclass = \"roce\"\n\
             [[stream]]\nfrom = 0\nto = {other}\nsize = {size}\nload = \"{share} %\"\nduration = \"200 us\"\nclass = \"side\"\n",
            senders + 2
        );
        let plan = plan_of(&text, &[]);
        let (result, report) = virtually(&plan);
        prop_assert!(result.complete && result.conservation.holds(), "{:?}\n{text}", result.missing);
        let side = report.classes.iter().find(|c| c.name == "side").unwrap();
        prop_assert_eq!((side.lost, side.arrivals), (0, side.transmissions), "{}", &text);
        let longest = report.ports[0].pfc.iter().filter_map(|p| p.longest_pause_ns).fold(0.0, f64::max);
        prop_assert!(pauses(&result) > 0 && longest > 0.0, "the sender was paused\n{}", &text);
        // Cable, FEC and pipeline: below 2 us; four frame times: the frame's own twice, and one before it twice.
        let frame = 4178.0 * 8.0 / f64::from(gbps);
        let ix = plan.classes.iter().position(|c| c.name == "side").unwrap();
        let waited = result.recorder.classes()[ix].network_ns.max().unwrap() as f64;
        prop_assert!(waited <= 2_000.0 + 4.0 * frame, "{waited} ns, the longest pause took {longest} ns\n{text}");
    }
}
