//! Profiles whose classes, groups and queues have different numbers, whose frames have colours, whose queues have pools and
//! curves of their own, and whose buffer comes in slices.
#![allow(clippy::unwrap_used)]

mod common;

use common::{conserved, plan_of, rankstorm, text};
use rankstorm::plan::Plan;
use rankstorm::run::result::RunResult;

/// Two ports send frames of five cells to a third at line rate for so long, in the classes given.
fn streams(classes: [&str; 2], micros: u32, rest: &str) -> String {
    let stream = |from: usize| {
        format!(
            "[[stream]]\nfrom = {from}\nto = 2\nclass = \"{}\"\nsize = 1270\nload = \"100 %\"\nduration = \"{micros} us\"\n",
            classes[from]
        )
    };
    format!("[run]\nlimit = \"1 s\"\n{}{}{rest}", stream(0), stream(1))
}

const ROCE: &str = "[class.roce]\ndscp = 3\n";
const BULK: &str = "[class.bulk]\ndscp = 0\nlossless = false\n";

fn run(profile: &str, set: &[&str]) -> (Plan, RunResult) {
    let plan = plan_of(profile, set);
    let result = conserved(&plan).0;
    (plan, result)
}

fn deepest(r: &RunResult, queue: usize) -> u64 {
    r.switches[0].ports[2].queues[queue].depth_bytes_max
}

/// With a map of VLAN tags a tagged frame goes by its PCP, whatever its DSCP, and an untagged one by its DSCP.
#[test]
fn tags_classify_where_they_are_trusted() {
    let ports = "[switch]\npcp_map = [1, 0, 2, 3, 4, 3, 6, 7]\nports = { count = 3, rate = \"100G\", cable = \"5 m\" }\n";
    let classes =
        "[class.tagged]\ndscp = 46\nvlan = 100\npcp = 5\n[class.bulk]\ndscp = 0\nlossless = false\n";
    let profile = streams(["tagged", "bulk"], 20, &format!("{classes}{ports}"));
    let (plan, r) = run(&profile, &[]);
    assert_eq!((plan.classes.len(), plan.fabric.switches[0].pcp_map.map(|m| m[5])), (2, Some(3)));
    let sent: Vec<bool> = r.switches[0].ports[2].queues.iter().map(|q| q.tx_frames > 0).collect();
    assert_eq!(sent, [false, true, false, true, false, false, false, false]);
    assert_eq!(r.switches[0].drops_lossless, 0, "PCP 5 leads to priority 3, which pauses");
}

/// Green frames are marked above 1 MB, which 60 us of two senders do not fill; yellow ones above 100 kB, red ones dropped.
#[test]
fn a_coloured_dscp_goes_by_its_own_curve() {
    let bulk = "[class.bulk]\ndscp = 10\nlossless = false\n[switch]\nports = { count = 3, rate = \"100G\", cable = \"5 m\" }\n\
        lossy_alpha = 8\nwred = { kmin = \"1 MB\", kmax = \"1 MB\", pmax = 1.0, yellow = { kmin = \"100 kB\", kmax = \"100 kB\", \
        pmax = 1.0 }, red = { kmin = \"100 kB\", kmax = \"100 kB\", pmax = 1.0, ecn = false } }\n";
    let profile = streams(["bulk", "bulk"], 60, bulk);
    let seen = |set: &[&str]| {
        let (_, r) = run(&profile, set);
        (r.switches[0].ce_marked > 0, r.switches[0].drops > 0, deepest(&r, 1))
    };
    let (marked, dropped, depth) = seen(&[]);
    assert!(!marked && !dropped && depth > 500_000 && depth < 1_000_000, "{depth} B");
    assert_eq!(seen(&["switch.dscp_color.10=yellow"]), (true, false, depth), "ECN marks, the streams go on");
    let (marked, dropped, depth) = seen(&["switch.dscp_color.10=red"]);
    assert!(!marked && dropped && depth < 110_000, "no ECN for red frames: dropped above 100 kB, {depth} B");
    assert!(!seen(&["switch.dscp_color.11=red"]).1, "another DSCP");
}

/// A queue with a curve and an egress pool of its own; the others have neither.
#[test]
fn a_queue_has_a_pool_and_a_curve_of_its_own() {
    let ports = "[switch]\nports = { count = 3, rate = \"100G\", cable = \"5 m\" }\nlossy_alpha = 8\n";
    let profile = streams(["bulk", "bulk"], 60, &format!("{BULK}{ports}"));
    let pool = ["switch.egress_pools.bulk=200 kB", "switch.queue.1.egress_pool=bulk"];
    let depth = |more: &[&str]| {
        let set: Vec<&str> = pool.iter().chain(more).copied().collect();
        let (_, r) = run(&profile, &set);
        (deepest(&r, 1), r.switches[0].ports[2].queues[1].drops)
    };
    let (all, drops) = depth(&[]);
    assert!(drops > 0 && (195_000..=200_000).contains(&all), "the whole pool: {all} B");
    // alpha 1: half of it; with 40 kB at each of three ports, those and half of the rest.
    let (half, _) = depth(&["switch.queue.1.egress_alpha=1"]);
    assert!((98_000..=101_000).contains(&half), "{half} B");
    let (own, _) = depth(&["switch.queue.1.egress_alpha=1", "switch.queue.1.egress_reserved=40 kB"]);
    assert!((79_000..=81_000).contains(&own), "{own} B");
    let (fixed, _) = depth(&["switch.queue.1.egress_static_th=60 kB"]);
    assert!((55_000..=60_000).contains(&fixed), "{fixed} B");

    // Drop-WRED on this queue only: nothing is marked although the frames speak ECN.
    let curve = r#"switch.queue.1.wred={ kmin = "50 kB", kmax = "50 kB", pmax = 1.0, ecn = false }"#;
    let (_, r) = run(&profile, &[curve]);
    let queue = &r.switches[0].ports[2].queues[1];
    assert!(queue.drops > 0 && queue.ce_marked == 0 && deepest(&r, 1) < 60_000, "{queue:?}");
    let (_, r) = run(&profile, &[&curve.replace("queue.1", "queue.2")]);
    assert_eq!((r.switches[0].drops, r.switches[0].ce_marked), (0, 0), "another queue");
}

/// A limit at egress loses lossless frames before any pause: `check` says so beforehand, and the run shows it.
#[test]
fn a_limit_on_a_lossless_queue_is_warned_of_and_loses() {
    let ports = "[switch]\nports = { count = 3, rate = \"100G\", cable = \"5 m\" }\n";
    let profile = streams(["roce", "roce"], 60, &format!("{ROCE}{ports}"));
    let warned = |plan: &Plan| plan.warnings.iter().any(|(c, _)| c == "egress_limit_drops_lossless");
    let (plan, r) = run(&profile, &[]);
    assert!(!warned(&plan) && r.switches[0].drops_lossless == 0);
    let (plan, r) = run(&profile, &["switch.queue.3.egress_static_th=50 kB"]);
    assert!(warned(&plan) && r.switches[0].drops_lossless > 0);
    let (plan, _) = run(&profile, &["switch.queue.4.egress_static_th=50 kB"]);
    assert!(!warned(&plan), "another queue");
}

/// Two lossless classes of one group: its XOFF stops both, although one of them alone would never have reached it.
#[test]
fn classes_of_one_group_are_paused_together() {
    let profile = "[run]\nlimit = \"1 s\"\n\
        [[stream]]\nfrom = 0\nto = 2\nclass = \"roce\"\nload = \"60 %\"\nduration = \"400 us\"\n\
        [[stream]]\nfrom = 0\nto = 2\nclass = \"other\"\nload = \"10 %\"\nduration = \"400 us\"\n\
        [[stream]]\nfrom = 1\nto = 2\nclass = \"roce\"\nload = \"100 %\"\nduration = \"400 us\"\n\
        [class.roce]\ndscp = 3\n[class.other]\ndscp = 4\n\
        [switch]\nbuffer = \"4 MB\"\nweights = [1, 1, 1, 1, 0, 1, 1, 1]\n\
        ports = { count = 3, rate = \"100G\", cable = \"5 m\" }\n";
    let paused = |set: &[&str]| {
        let (_, r) = run(profile, set);
        let pfc = &r.switches[0].ports[0].pfc;
        assert_eq!(r.switches[0].drops, 0);
        (pfc[3].xoff_tx, pfc[4].xoff_tx)
    };
    let apart = paused(&[]);
    assert!(apart.0 > 0 && apart.1 == 0, "class other is served first and holds nothing: {apart:?}");
    let together = paused(&["switch.tc_to_pg=[0, 1, 2, 3, 3, 5, 6, 7]"]);
    assert!(together.0 > 0 && together.0 == together.1, "one message for both: {together:?}");
    let (_, r) = run(profile, &["switch.tc_to_queue=[0, 1, 2, 3, 3, 5, 6, 7]"]);
    let sent = |queue: usize| r.switches[0].ports[2].queues[queue].tx_frames;
    assert!(sent(3) > 0 && sent(4) == 0, "both wait in queue 3");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, profile).unwrap();
    let o =
        rankstorm(&["check", path.to_str().unwrap(), "--set", "switch.tc_to_pg=[0, 1, 2, 3, 3, 5, 6, 7]"]);
    let said = text(&o.stdout);
    assert!(said.contains("DSCP 4 -> priority 4 (priority group 3, queue 4), lossless"), "{said}");
}

/// SONiC's map puts lossy classes into group 0, where one threshold holds for all of them.
#[test]
fn lossy_classes_share_the_threshold_of_their_group() {
    // Both from port 0, so that one group or two hold what waits; frames of 5 cells of 254 bytes, alpha 1/4.
    let profile = "[run]\nlimit = \"1 s\"\n\
        [[stream]]\nfrom = 0\nto = 2\nclass = \"a\"\nsize = 1270\nload = \"50 %\"\nduration = \"400 us\"\n\
        [[stream]]\nfrom = 0\nto = 2\nclass = \"b\"\nsize = 1270\nload = \"50 %\"\nduration = \"400 us\"\n\
        [[stream]]\nfrom = 1\nto = 2\nclass = \"roce\"\nload = \"100 %\"\nduration = \"400 us\"\n\
        [class.roce]\ndscp = 3\n[class.a]\ndscp = 8\nlossless = false\n[class.b]\ndscp = 5\nlossless = false\n\
        [switch]\nbuffer = \"2 MB\"\nlossy_alpha = \"1/4\"\nlossy_egress_alpha = 8\nweights = [1, 1, 1, 0, 1, 1, 1, 1]\n\
        ports = { count = 3, rate = \"100G\", cable = \"5 m\" }\n";
    let held = |set: &[&str]| {
        let (plan, r) = run(profile, set);
        let shared = plan.fabric.switches[0].shared_size().unwrap().0 as f64;
        assert!(r.switches[0].drops > 0);
        (deepest(&r, 0) + deepest(&r, 2), shared)
    };
    // Strict priority 3 keeps both queues full: n groups of alpha 1/4 hold n/4 / (1 + n/4) of the pool.
    for (set, part) in [(&[][..], 2.0 / 6.0), (&["switch.tc_to_pg=[0, 0, 0, 3, 4, 0, 0, 7]"][..], 1.0 / 5.0)]
    {
        let (bytes, shared) = held(set);
        let want = part * shared;
        assert!((bytes as f64 / want - 1.0).abs() < 0.04, "{set:?}: {bytes} B, {want:.0} expected");
    }
}

/// On a chip with four memories an incast from one quarter of the ports has one of them, and behaves as on a quarter of the
/// buffer; the prediction of the first XOFF knows it.
#[test]
fn a_sliced_buffer_is_four_small_ones() {
    let profile = format!(
        "[run]\nwarmup = 0\nrepeats = 1\n[[workload]]\nkind = \"incast\"\nsenders = 3\nreceiver = 3\nmessage = \"4 MiB\"\n{ROCE}\
         [switch]\nalpha = \"1/64\"\nreserved = \"0 B\"\nxoff_headroom = \"100 kB\"\nports = {{ count = 16, rate = \"100G\", cable = \"5 m\" }}\n"
    );
    let outcome = |set: &[&str]| {
        let (plan, r) = run(&profile, set);
        let predicted = plan.predicted.xoff.unwrap();
        assert!(predicted.reached);
        let held = r.switches[0].ingress_bytes_max as f64 / predicted.group_bytes.0 as f64;
        assert!((held - 1.0).abs() < 0.03, "{set:?}: {held} of the predicted {}", predicted.group_bytes.0);
        (predicted.group_bytes, r.switches[0].ports[0].pfc[3].xoff_tx, r.ended)
    };
    // 16 groups reserve headroom in two of four slices each: 8 a slice.
    let cell = 208;
    let headroom = 100_000u64.div_ceil(cell) * cell;
    let sliced = outcome(&["switch.preset=tomahawk2", "switch.buffer=42 MB"]);
    let quarter = 42_000_000 / cell / 4 * cell - 8 * headroom;
    let small = (quarter + 16 * headroom).to_string();
    let small =
        outcome(&["switch.preset=tomahawk2", "switch.slices=whole", &format!("switch.buffer={small} B")]);
    assert_eq!(sliced, small);
    let whole = outcome(&["switch.preset=tomahawk2", "switch.slices=whole", "switch.buffer=42 MB"]);
    assert!(whole.0.0 > 3 * sliced.0.0, "{} and {}", whole.0.0, sliced.0.0);

    // Both screens say so: three quarters of the buffer stand empty beside a group that is paused.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, profile.replace("[switch]", "[switch]\npreset = \"tomahawk2\"")).unwrap();
    let out = dir.path().join("out");
    let said = |args: &[&str]| text(&rankstorm(args).stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let checked = said(&["check", path.to_str().unwrap()]);
    assert!(
        checked.contains("42.0 MB in 4 slices") && checked.contains("n those of one of 4 slices"),
        "{checked}"
    );
    let ran = said(&["run", path.to_str().unwrap(), "--on", "virtual", "--out", out.to_str().unwrap()]);
    assert!(ran.contains("buffer less reserved and headroom, in 4 slices"), "{ran}");
}
