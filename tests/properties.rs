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

/// A fabric: its table, and its tester ports.
fn fabric() -> impl Strategy<Value = (String, u32)> {
    let rate = prop::sample::select(vec![25u32, 100, 400]);
    let sizes = (1u32..4, 1u32..4, 1u32..4, rate.clone(), rate, prop::sample::select(vec![2u32, 30, 200]));
    (0u32..5, sizes).prop_map(|(kind, (a, b, each, host, up, metres))| {
        let rates = format!(
            "hosts_per_leaf = {each}\nhost_rate = \"{host}G\"\nuplink_rate = \"{up}G\"\ncable = \"{metres} m\"\n"
        );
        match kind {
            0 => (
                format!(
                    "[switch.ports]\ncount = {}\nrate = \"{host}G\"\ncable = \"{metres} m\"\n",
                    2 + a + each
                ),
                2 + a + each,
            ),
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
        }
    })
}

/// Closed-loop work for `ports` ranks: an incast, a ring, or both.
fn work(ports: u32, which: u32, kib: u32, control: &str, mtu: u32) -> String {
    let more = format!("rate_control = \"{control}\"\nstart = {{ uniform = \"3 us\" }}\n");
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
    fabric: String,
    ports: u32,
    which: u32,
    kib: u32,
    control: &'static str,
    balance: &'static str,
    mtu: u32,
    threshold_kb: u32,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let work = (0u32..3, 16u32..400, prop::sample::select(vec!["none", "none", "dcqcn:hpcc", "window"]));
    let switch = (prop::sample::select(vec!["ecmp", "pinned"]), prop::sample::select(vec![20u32, 60, 300]));
    let mtu = prop::sample::select(vec![1024u32, 4096]);
    (fabric(), work, switch, mtu, 1u64..1_000).prop_map(
        |((fabric, ports), (which, kib, control), (balance, threshold_kb), mtu, seed)| Case {
            fabric,
            ports,
            which,
            kib,
            control,
            balance,
            mtu,
            threshold_kb,
            seed,
        },
    )
}

/// What a run showed: it paused, and `check` had called its headroom enough.
fn holds(c: &Case) -> Result<(bool, bool), TestCaseError> {
    let text = format!(
        "[run]\nseed = {}\nrepeats = 2\ngap = \"20 us\"\nlimit = \"2 s\"\n{}{}[switch]\nbuffer = \"24 MB\"\n\
         static_th = \"{} kB\"\nreserved = \"0 B\"\nbalance = \"{}\"\n",
        c.seed,
        c.fabric,
        work(c.ports, c.which, c.kib, c.control, c.mtu),
        c.threshold_kb,
        c.balance
    );
    let plan = plan_of(&text, &[]);
    let (result, report) = virtually(&plan);
    let count = result.conservation;
    prop_assert!(count.holds(), "{count:?}\n{text}");
    // Every route is a shortest path, so no circle of buffers and nothing that waits for ever.
    prop_assert!(!warned(&plan, "buffer_cycle"), "{text}");
    prop_assert!(result.complete, "{:?}\n{text}", result.missing);
    prop_assert_eq!((count.inside_frames, count.pool_in_use), (0, 0));
    prop_assert_eq!(count.sent_bytes, count.received_bytes + count.dropped_bytes);
    let ends: u64 =
        result.switches.iter().flat_map(|s| &s.ports).flat_map(|p| &p.pfc).map(|p| p.xon_tx).sum();
    prop_assert_eq!(pauses(&result), ends, "as many pauses as their ends\n{}", &text);
    let enough = !warned(&plan, "headroom_too_small");
    if enough {
        let lost: u64 = report.switches.iter().filter_map(|s| s.drops_lossless).sum();
        prop_assert_eq!((lost, count.dropped_frames), (0, 0), "{}", &text);
        // What was asked for was carried, once.
        let carried: u64 = result.hosts.iter().map(|h| h.payload_bytes).sum();
        let asked = 2 * plan.predicted.iteration_bytes.0;
        prop_assert_eq!((carried, report.flows.retransmitted), (asked, 0), "{}", &text);
    }
    prop_assert_eq!(virtually(&plan).0.outcome_hash(), result.outcome_hash(), "{}", &text);
    Ok((pauses(&result) > 0, enough))
}

/// Small buffers, so that many of these runs pause: how many is asserted, for a property of pauses that never come is
/// none.
#[test]
fn any_fabric_conserves_bytes_ends_its_pauses_and_repeats_itself() {
    let (paused, safe) = (Cell::new(0u32), Cell::new(0u32));
    let mut runner = TestRunner::new(config(96, 41));
    let all = runner.run(&case(), |c| {
        prop_assume!(c.ports >= 2);
        let (pauses, enough) = holds(&c)?;
        paused.set(paused.get() + u32::from(pauses));
        safe.set(safe.get() + u32::from(pauses && enough));
        Ok(())
    });
    all.unwrap();
    eprintln!("{} of 96 runs paused, {} of them with headroom enough", paused.get(), safe.get());
    assert!(paused.get() >= 32 && safe.get() >= 24, "{} paused, {} safe", paused.get(), safe.get());
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
