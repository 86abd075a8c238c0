//! Fabrics of several switches against closed forms: shapes, balance, links that fail, pauses that spread, deadlocks.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{assert_near_bound, assert_whole, conserved, plan, plan_of, virtually, wire_ns, write_on_wire};
use rankstorm::profile::{self, Overrides};
use rankstorm::report::model::{RunReport, Verdict};
use rankstorm::units::{RankId, Span};
use rankstorm::workload::schedule::{Op, OpId, OpKind, Schedule};

const MIB: u64 = 1 << 20;

fn drops(r: &RunReport, cause: &str) -> u64 {
    r.fabric.drops.iter().filter(|d| d.cause == cause).map(|d| d.frames).sum()
}

/// Routers a, b, ... in a circle of `n` that send each other everything for z; one sender on a.
fn loop_of(n: usize, load: f64) -> String {
    let name = |i: usize| (b'a' + i as u8) as char;
    let mut text = String::from("[fabric]\nkind = \"graph\"\n");
    for i in 0..n {
        text += &format!("[[fabric.switch]]\nname = \"{}\"\nhosts = {}\n", name(i), u8::from(i == 0));
    }
    text += "[[fabric.switch]]\nname = \"z\"\nhosts = 1\n";
    for i in 0..n {
        let next = name((i + 1) % n);
        if n > 2 || i == 0 {
            text += &format!("[[fabric.link]]\nfrom = \"{}\"\nto = \"{next}\"\n", name(i));
        }
        text += &format!("[[fabric.route]]\nat = \"{}\"\nto = \"z\"\nvia = [\"{next}\"]\n", name(i));
    }
    text += "[[fabric.link]]\nfrom = \"b\"\nto = \"z\"\n";
    text + &format!("[[stream]]\nfrom = 0\nto = 1\nload = \"{load} %\"\nduration = \"20 ms\"\n")
        + "[class.roce]\ndscp = 3\nmtu = 4096\n[switch]\nbuffer = \"2 MB\"\n[run]\nlimit = \"60 ms\"\n"
}

/// Hu et al., HotNets 2016: a loop of n hops of bandwidth B carries each frame up to TTL times, so it fills and locks
/// when the injection rate is above n B / TTL, and drains by expiry below. TTL is 64, which is 63 hops behind the first
/// router.
#[test]
fn a_routing_loop_locks_above_n_b_over_ttl_and_not_below() {
    for n in [2usize, 3] {
        let critical = 100.0 * n as f64 / 63.0; // percent of the sender's link, the same rate as the loop's
        let (below, above) = (0.93 * critical, 1.07 * critical);
        let free = plan_of(&loop_of(n, below), &[]);
        assert!(free.warnings.iter().any(|(code, _)| code == "buffer_cycle"), "{:?}", free.warnings);
        let (result, r) = conserved(&free);
        let sent = r.flows.frames_tx;
        assert_eq!((drops(&r, "loop"), r.fabric.deadlocks.len()), (sent, 0), "{n} hops below");
        assert_eq!(result.conservation.dropped_frames, sent);
        let (result, r) = virtually(&plan_of(&loop_of(n, above), &[]));
        assert_eq!(r.fabric.deadlocks.len(), 1, "{n} hops above");
        let lock = &r.fabric.deadlocks[0];
        assert_eq!((lock.cycle.len(), lock.priority), (n, 3));
        assert!(result.missing[0].starts_with("deadlock"), "{:?}", result.missing);
        assert!(r.duration_ns < 15e6, "ended long before its limit of 60 ms, at {}", r.duration_ns);
        assert!(result.conservation.holds() && result.conservation.inside_frames > 0);
        assert_eq!(r.verdict(), Verdict::Fail);
    }
}

#[test]
fn the_ring_deadlocks_one_way_round_and_not_among_neighbours() {
    let (_, r) = virtually(&plan("deadlock-ring", &[]));
    assert_eq!(r.fabric.deadlocks.len(), 1);
    let cycle: Vec<&str> = r.fabric.deadlocks[0].cycle.iter().filter_map(|q| q.split(' ').next()).collect();
    assert_eq!(cycle, ["ring0", "ring1", "ring2", "ring3"]);
    assert_eq!(r.verdict(), Verdict::Pass, "it was expected");
    // "go-on" reports it and goes on: the streams never end, so the limit does.
    let (_, r) = virtually(&plan("deadlock-ring", &["run.deadlock=\"go-on\"", "run.limit=\"30 ms\""]));
    assert_eq!((r.fabric.deadlocks.len(), r.duration_ns), (1, 30e6));
    let neighbours = plan_of(
        "[fabric]\nkind = \"ring\"\nleaves = 3\nhosts_per_leaf = 2\n[[workload]]\nkind = \"ring-all-reduce\"\nranks = 6\n\
         vector = \"6 MB\"\n[class.roce]\ndscp = 3\n",
        &[],
    );
    assert!(!neighbours.warnings.iter().any(|(code, _)| code == "buffer_cycle"));
    assert!(conserved(&neighbours).1.fabric.deadlocks.is_empty());
}

/// Tagger (Hu et al., CoNEXT 2017): two flows that bounce off aggregation switches below failed links close a circle of
/// buffers. Without a watchdog nothing of it moves again; with one the queues are freed at the price of their frames, and
/// what was sent after the circle had closed arrives as well.
#[test]
fn a_bounced_path_deadlocks_and_the_watchdog_frees_it() {
    let (result, r) = virtually(&plan("deadlock-bounce", &[]));
    assert_eq!(r.fabric.deadlocks.len(), 1);
    let mut circle: Vec<&str> =
        r.fabric.deadlocks[0].cycle.iter().filter_map(|q| q.split(' ').next()).collect();
    circle.sort_unstable();
    assert_eq!(circle, ["l1", "l3", "s1", "s2"]);
    assert_eq!((result.conservation.dropped_frames, r.verdict()), (0, Verdict::Pass));
    assert!(r.answer.starts_with("YES, as expected the run ended early: deadlock"), "{}", r.answer);
    let stuck = r.classes[0].arrivals;

    let go_on = "run.deadlock=\"go-on\"";
    let (result, r) = virtually(&plan("deadlock-bounce", &[go_on, "run.limit=\"30 ms\""]));
    assert_eq!(r.classes[0].arrivals, stuck, "it never moved again");
    assert!(result.conservation.holds() && result.conservation.inside_frames > 0);

    for action in ["drop", "forward"] {
        let watchdog =
            format!("switch.pfc_watchdog={{detect=\"2 ms\",restore=\"2 ms\",action=\"{action}\"}}");
        let (result, r) = conserved(&plan("deadlock-bounce", &[go_on, &watchdog]));
        assert!(!r.fabric.deadlocks.is_empty());
        let storms: u64 = result.switches.iter().flat_map(|s| &s.ports).map(|p| p.watchdog[3].storms).sum();
        let restored: u64 =
            result.switches.iter().flat_map(|s| &s.ports).map(|p| p.watchdog[3].restored).sum();
        assert!(storms >= 4 && restored > 0, "{action}: {storms} storms, {restored} restored");
        assert!(r.classes[0].arrivals > 4 * stuck && result.conservation.dropped_frames > 0);
    }
}

const SPINES: &str = r#"
[fabric]
kind = "leaf-spine"
leaves = 2
spines = 2
hosts_per_leaf = 4
reconvergence = "200 us"
[class.roce]
dscp = 3
mtu = 4096
[run]
gap = "100 us"
limit = "1 s"
"#;

/// A link falls under load: what is on it and what is still sent to it is lost and counted, routes go round it, the
/// connections recover, and when it is back it is used again.
#[test]
fn a_failed_link_costs_what_was_sent_to_it_and_nothing_else() {
    let text = format!(
        "{SPINES}[[workload]]\nkind = \"incast\"\nsenders = 4\nreceiver = 7\nmessage = \"8 MiB\"\nack_timeout = \"500 us\"\n\
         [[at]]\ntime = \"300 us\"\nlink = {{ cable = \"leaf0 spine1\", state = \"down\" }}\n\
         [[at]]\ntime = \"2 ms\"\nlink = {{ cable = \"leaf0 spine1\", state = \"up\" }}\n"
    );
    let (result, r) = conserved(&plan_of(&text, &[]));
    assert_eq!((r.flows.completed, r.flows.failed), (4, 0));
    let lost: u64 = r.fabric.links.iter().map(|l| l.blackholed + l.in_flight).sum();
    assert!(lost > 0 && r.flows.retransmitted >= drops(&r, "link-down"), "{:?}", r.fabric.links);
    assert_eq!((drops(&r, "link-down"), result.conservation.dropped_frames), (lost, lost));
    let what: Vec<&str> = r.fabric.events.iter().map(|e| e.what.as_str()).collect();
    assert_eq!((what, r.fabric.events[0].cable.as_str()), (vec!["down", "up"], "leaf0 - spine1"));
    // On 30 m of cable and its FEC hold no more than the delay's worth of 4,178-byte frames, and the one cut short.
    let up = &r.fabric.links[0];
    assert!(up.in_flight <= 3, "{up:?}");
    // What waited behind it and what came in the 200 us is sent into the dark, at the link's rate and while it is down.
    let dark_ns = up.blackholed as f64 * wire_ns(4178, 100.0);
    assert!((200e3..1.7e6).contains(&dark_ns), "{up:?}");
    // Same seed, same outcome.
    assert_eq!(virtually(&plan_of(&text, &[])).0.outcome_hash(), result.outcome_hash());
}

/// With no other way, there is no route once routing knows; the sender's port is where everything stops.
#[test]
fn without_another_way_frames_have_no_route() {
    let text = format!(
        "{}[[stream]]\nfrom = 0\nto = 7\nload = \"10 %\"\nduration = \"2 ms\"\n\
         [[at]]\ntime = \"500 us\"\nlink = {{ cable = \"port 7\", state = \"down\" }}\n",
        SPINES.replace("spines = 2", "spines = 1")
    );
    let (_, r) = conserved(&plan_of(&text, &[]));
    let (dark, none) = (drops(&r, "link-down"), drops(&r, "no-route"));
    let sent = r.streams.as_ref().unwrap().frames_tx as f64;
    // 500 us received, 200 us into the dark, 1,300 us without a route.
    assert!((dark as f64 / sent - 0.1).abs() < 0.005, "{dark} of {sent}");
    assert!((none as f64 / sent - 0.65).abs() < 0.005, "{none} of {sent}");
}

#[test]
fn a_flapping_link_loses_its_share_of_the_time() {
    let text = "[[stream]]\nfrom = 0\nto = 1\nload = \"100 %\"\nduration = \"10 ms\"\n[switch]\nports = { count = 2 }\n\
                [[at]]\ntime = \"0 ns\"\nlink = { cable = \"port 1\", flap = { period = \"1 ms\", down = \"250 us\", count = 10 } }\n\
                [fabric]\nreconvergence = \"1 s\"\n[class.roce]\ndscp = 3\n";
    let (_, r) = conserved(&plan_of(text, &["run.limit=\"5 s\""]));
    let s = r.streams.unwrap();
    assert!((s.loss_ratio.unwrap() - 0.25).abs() < 0.002, "{s:?}");
    assert_eq!(r.fabric.events.len(), 20);
}

/// Loss per frame is 1 - (1 - ber)^bits over the frame with its FCS: 1024 bytes at 1e-5 lose 7.86 %.
#[test]
fn bit_errors_lose_frames_by_their_length_and_connections_recover() {
    let frames = 20_000.0;
    let text = "[[stream]]\nfrom = 0\nto = 1\nload = \"50 %\"\nsize = 1024\nframes = 20000\n[switch]\nports = { count = 2 }\n\
                [[at]]\ntime = \"0 ns\"\nlink = { cable = \"port 1\", ber = 1e-5 }\n[class.roce]\ndscp = 3\n";
    let (_, r) = conserved(&plan_of(text, &[]));
    let p = 1.0 - (1.0f64 - 1e-5).powi(8192);
    let sigma = (frames * p * (1.0 - p)).sqrt();
    let lost = drops(&r, "bit-error") as f64;
    assert!((lost - frames * p).abs() < 5.0 * sigma, "{lost} lost, {} expected", frames * p);
    let link = r.fabric.links.iter().find(|l| l.bit_errors > 0).unwrap();
    assert!(link.link.ends_with("port port1"), "{link:?}");
    let text = "[[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"4 MiB\"\nack_timeout = \"200 us\"\n\
                [[at]]\ntime = \"0 ns\"\nlink = { cable = \"port 0\", ber = 1e-7 }\n[class.roce]\ndscp = 3\nmtu = 4096\n";
    let (_, r) = conserved(&plan_of(text, &[]));
    assert_eq!((r.flows.completed, r.flows.failed), (1, 0));
    assert!(drops(&r, "bit-error") > 0 && r.flows.retransmitted > 0);
}

#[test]
fn a_degraded_link_takes_its_wire_time() {
    let text = "[[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"4 MiB\"\n[class.roce]\ndscp = 3\nmtu = 4096\n\
                [[at]]\ntime = \"0 ns\"\nlink = { cable = \"port 1\", rate = \"25G\" }\n";
    let (_, r) = conserved(&plan_of(text, &[]));
    let (_, bytes) = write_on_wire(4 * MIB, 4096);
    let mean = r.workload[0].completion_ns.percentiles.mean.unwrap();
    assert_near_bound("at 25G", mean, wire_ns(bytes, 25.0), 0.01);
}

/// One seed for all switches: whoever chose uplink a at the leaf chooses plane port a again, so of 4 links of each of
/// 8 aggregation switches one is used.
#[test]
fn one_seed_for_all_polarises_and_one_each_does_not() {
    let text = "[fabric]\nkind = \"three-tier\"\npods = 2\nleaves = 4\naggs = 4\ncores = 16\nhosts_per_leaf = 4\n\
                [[workload]]\nkind = \"ring-all-reduce\"\nranks = 32\nvector = \"32 MB\"\nplacement = \"interleaved\"\n\
                qps_per_pair = 64\nsource_port = \"random\"\n[class.roce]\ndscp = 3\n";
    let core = |set: &[&str]| {
        let p = plan_of(text, set);
        let tiers: Vec<(String, u32, u32)> =
            p.predicted.paths.iter().map(|t| (format!("{} -> {}", t.from, t.to), t.links, t.used)).collect();
        assert_eq!((tiers[0].0.as_str(), tiers[0].1, tiers[0].2), ("leaf -> agg", 32, 32), "{tiers:?}");
        assert_eq!((tiers[1].0.as_str(), tiers[1].1), ("agg -> core", 32));
        tiers[1].2
    };
    assert_eq!(core(&["switch.hash_seeds=\"same\""]), 8);
    assert_eq!(core(&[]), 32);
}

/// Four hosts of one leaf send to four of another at line rate over four spines: one link each is enough when nobody
/// collides.
#[test]
fn adaptive_balance_finds_the_free_paths() {
    let text = |balance: &str| {
        let streams: String = (0..4)
            .map(|i| {
                format!(
                    "[[stream]]\nfrom = {i}\nto = {}\nload = \"95 %\"\nsize = 4096\nduration = \"2 ms\"\n",
                    i + 4
                )
            })
            .collect();
        let spines = SPINES.replace("spines = 2", "spines = 4");
        format!("{spines}[switch]\nbalance = \"{balance}\"\nbuffer = \"4 MB\"\n{streams}")
    };
    let p99 = |balance: &str| {
        let (_, r) = conserved(&plan_of(&text(balance), &[]));
        assert_eq!(drops(&r, "headroom"), 0);
        (r.latency_ns[0].percentiles.p99.unwrap(), r.fabric.paths[0].effective, r.fabric.paths[0].links)
    };
    let (ecmp, adaptive, spray) = (p99("ecmp"), p99("adaptive"), p99("spray"));
    assert!(ecmp.1 < 3.9, "four hashed flows collide with this seed: {ecmp:?}");
    assert_eq!((adaptive.2, spray.2), (8, 8));
    assert!(adaptive.1 > 3.9 && adaptive.0 < ecmp.0 / 10.0, "{adaptive:?} against {ecmp:?}");
    assert!(spray.1 > 3.9 && spray.0 < ecmp.0 / 10.0, "{spray:?} against {ecmp:?}");
    let hash = |seed: &str| virtually(&plan_of(&text("adaptive"), &[seed])).0.outcome_hash();
    assert_eq!(hash("run.seed=3"), hash("run.seed=3"));
}

/// One flow over four spines, the way over spine1 slower: 4,178 bytes on the wire take 3,342.4 ns on the 10G uplink and
/// 334.24 ns on the others, so the ways differ by 3,008.16 ns. A SEND of one packet every `spacing`.
#[test]
fn flowlets_spread_what_ecmp_pins_and_keep_the_order_when_the_gap_is_longer_than_the_paths_differ() {
    const SENDS: u64 = 500;
    let run = |balance: &str, spacing: Span| {
        let (mut sender, mut receiver) = (Vec::new(), Vec::new());
        for n in 0..SENDS {
            sender.push(Op::new(OpKind::Calc { span: Span(spacing.0 * n) }));
            let send = OpKind::Send { peer: RankId(4), bytes: 4_096, tag: n as u32 };
            let after = [2 * n as OpId].into_iter().collect();
            sender.push(Op { after, ..Op::new(send) });
            receiver.push(Op::new(OpKind::Recv { peer: RankId(0), bytes: 4_096, tag: n as u32 }));
        }
        let ranks = vec![sender, Vec::new(), Vec::new(), Vec::new(), receiver];
        let schedule = Arc::new(Schedule { ranks, origin: "paced".into(), ..Schedule::default() });
        let text = format!(
            "{}warmup = 0\nrepeats = 1\n[switch]\nbalance = {balance}\n[[workload]]\nkind = \"replay\"\nfile = \"paced\"\n\
             verb = \"send\"\n[[at]]\ntime = \"0 ns\"\nlink = {{ cable = \"leaf0 spine1\", rate = \"10G\" }}\n",
            SPINES.replace("spines = 2", "spines = 4")
        );
        let overrides = Overrides { schedules: vec![("paced".to_owned(), schedule)], ..Overrides::default() };
        // What is sent again after an overtaken frame may still be under way at the end.
        let (result, r) = virtually(&profile::from_str("paced", &text, &overrides).unwrap());
        assert!(result.complete && result.conservation.holds(), "{:?}", result.conservation);
        assert_eq!(result.conservation.dropped_frames, 0);
        assert_eq!((r.flows.completed, r.flows.failed), (SENDS, 0));
        let sent = result.switches[0].ports[4..8].iter().map(|p| p.queues[3].tx_bytes as f64);
        let effective = sent.clone().sum::<f64>().powi(2) / sent.map(|b| b * b).sum::<f64>();
        (effective, r.flows.out_of_order)
    };
    let (short, long) = (Span::from_us(2), Span::from_us(5));
    assert_eq!(run("\"ecmp\"", long), (1.0, 0), "pinned");
    let flowlet = |gap: &str, spacing| run(&format!("\"flowlet\"\nflowlet_gap = \"{gap}\""), spacing);
    // Silences longer than the gap, and that longer than the ways differ: every frame is a flowlet, none overtakes.
    let (spread, reordered) = flowlet("4 us", long);
    assert!(spread > 3.8, "{spread} of 4");
    assert_eq!(reordered, 0);
    // Silences shorter than the gap: one flowlet for ever.
    assert_eq!(flowlet("4 us", short), (1.0, 0));
    // A gap shorter than the ways differ: frames overtake those on the slow way.
    let (spread, reordered) = flowlet("1 us", short);
    assert!(spread > 2.0 && reordered > 20, "{spread} of 4, {reordered} out of order");
}

/// Sixteen queue pairs with one UDP source port are one flow to a hash of five fields; the destination queue pair tells
/// them apart.
#[test]
fn hashing_the_destination_queue_pair_spreads_flows_of_one_five_tuple() {
    let run = |hash: &str| {
        let text = format!(
            "[fabric]\nkind = \"leaf-spine\"\nleaves = 2\nspines = 8\nhosts_per_leaf = 2\n[class.roce]\ndscp = 3\nmtu = 4096\n\
             [[workload]]\nkind = \"incast\"\nsenders = 1\nreceiver = 3\nmessage = \"8 MiB\"\nqps_per_pair = 16\n\
             spread = \"chunks\"\nsource_port = \"fixed:49152\"\n[switch]\nhash = \"{hash}\"\n"
        );
        let (result, r) = conserved(&plan_of(&text, &[]));
        let uplinks = &result.switches[0].ports[2..10];
        let used = uplinks.iter().filter(|p| p.queues[3].tx_frames > 0).count();
        assert_eq!((r.flows.completed, r.flows.out_of_order), (1, 0), "each queue pair keeps its path");
        (used, r.fabric.paths[0].effective, result.outcome_hash())
    };
    let (used, effective, _) = run("5-tuple");
    assert_eq!(used, 1);
    // Of both ways: the ACKs are on an uplink of the other leaf.
    assert!(effective < 1.01, "{effective}");
    let (used, effective, hash) = run("dest-qp");
    assert!(used > 3 && effective > 3.0, "{used} uplinks, {effective} effective");
    assert_eq!(run("dest-qp").2, hash);
}

/// An incast into one port of leaf1 makes leaf0's hosts pause; the stream to its idle neighbour waits with them.
#[test]
fn pauses_are_traced_to_their_root_and_victims_are_named() {
    let text = format!(
        "{}uplink_rate = \"400G\"\n[[workload]]\nkind = \"incast\"\nsenders = 3\nreceiver = 4\nmessage = \"8 MiB\"\n\
         [[stream]]\nfrom = 3\nto = 7\nload = \"20 %\"\nduration = \"1 ms\"\n[switch]\nbuffer = \"4 MB\"\n",
        SPINES.replace("spines = 2", "spines = 1").replace("reconvergence", "uplinks = 1\nreconvergence")
    );
    // The key above belongs to [fabric], which is not the last table of the text.
    let text = text
        .replace("uplink_rate = \"400G\"\n", "")
        .replace("uplinks = 1", "uplinks = 1\nuplink_rate = \"400G\"");
    let (_, r) = conserved(&plan_of(&text, &[]));
    let root = &r.fabric.pause_roots[0];
    assert_eq!((root.queue.as_str(), root.why.as_str(), root.priority), ("leaf1 Ethernet0", "congested", 3));
    assert_eq!(r.fabric.pause_roots.len(), 1, "{:?}", r.fabric.pause_roots);
    assert!(root.depth >= 3 && root.ports >= 3, "{root:?}");
    let victims = r.fabric.victims.as_ref().unwrap();
    assert_eq!((victims.flows, victims.victims), (4, 1), "{victims:?}");
    assert_eq!((victims.worst[0].from, victims.worst[0].to), (3, 7));
    assert!(
        r.fabric
            .pause_tree
            .iter()
            .any(|e| e.root && e.queue == "leaf1 Ethernet0" && e.paused.starts_with("spine0"))
    );
    assert!(r.fabric.deadlocks.is_empty() && r.fabric.storms.is_empty());
}

#[test]
fn a_receiver_that_never_lets_go_is_a_storm() {
    let text = "[[stream]]\nfrom = 0\nto = 1\nload = \"10 %\"\nduration = \"4 ms\"\n[switch]\nports = { count = 2 }\n\
                [[at]]\ntime = \"100 us\"\npause = { port = 1, priority = 3, hold = \"3 ms\" }\n[class.roce]\ndscp = 3\n";
    let (_, r) = conserved(&plan_of(text, &["run.limit=\"5 s\""]));
    let storm = &r.fabric.storms[0];
    assert_eq!((storm.port.as_str(), storm.priority), ("port port1", 3));
    assert!((storm.longest_ns - 3e6).abs() < 0.4e6, "{storm:?}");
}

#[test]
fn shipped_fabric_profiles_keep_their_promises() {
    for name in ["clos-three-tier", "rail-optimised", "link-failure"] {
        let (result, r) = virtually(&plan(name, &["run.repeats=1", "run.warmup=0"]));
        assert_whole(&result);
        assert_eq!(r.verdict(), Verdict::Pass, "{name}: {:?}", r.expectations);
    }
}

#[test]
fn what_a_fabric_cannot_do_is_refused_with_its_place() {
    let refused = |text: &str| {
        let e = rankstorm::profile::from_str("f.toml", text, &rankstorm::profile::Overrides::default());
        e.unwrap_err().to_string()
    };
    let stream = "[[stream]]\nfrom = 0\nto = 1\nframes = 1\n";
    let three =
        "[fabric]\nkind = \"three-tier\"\npods = 2\nleaves = 2\naggs = 2\ncores = 3\nhosts_per_leaf = 2\n";
    assert!(refused(&format!("{stream}{three}")).contains("multiple of aggs"));
    let missing = "[fabric]\nkind = \"rail-optimised\"\nleaves = 8\nspines = 2\nhosts_per_leaf = 2\n";
    assert!(refused(&format!("{stream}{missing}")).contains("rails is missing"));
    let extra = "[fabric]\nkind = \"ring\"\nleaves = 3\nhosts_per_leaf = 2\nspines = 2\n";
    assert!(refused(&format!("{stream}{extra}")).contains("does not act with kind = \"ring\""));
    let at = |link: &str| format!("{stream}{SPINES}[[at]]\ntime = \"1 us\"\nlink = {link}\n");
    assert!(
        refused(&at("{ cable = \"leaf0 spin1\", state = \"down\" }")).contains("did you mean \"spine1\"")
    );
    assert!(refused(&at("{ cable = \"leaf0 spine1 #2\", state = \"down\" }")).contains("there are 1 cables"));
    assert!(refused(&at("{ cable = \"port 1\", rate = \"400G\" }")).contains("to the link's own 100G"));
    assert!(refused(&at("{ cable = \"port 1\", state = \"up\", ber = 0.1 }")).contains("exactly one of"));
    assert!(refused(&format!("{stream}[switch]\nflowlet_gap = \"1 us\"\n")).contains("needs balance"));
}
