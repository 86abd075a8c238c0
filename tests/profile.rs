//! Profiles as users write them: every shipped one loads, and the effective profile says the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rankstorm::plan::{Mode, Plan};
use rankstorm::profile::{self, Overrides};

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() >= 10);
    files
}

fn load(name: &str, set: &[&str]) -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(name);
    let set = set.iter().map(|s| s.to_string()).collect();
    profile::load(&path, &Overrides { set, ..Overrides::default() }).unwrap_or_else(|e| panic!("{e}"))
}

/// The plan as text, without what thousands of hosts repeat and without routes, which are compared as they are.
fn same(plan: &Plan) -> String {
    let mut plan = plan.clone();
    plan.source = None;
    plan.fabric.routes.clear();
    for h in &mut plan.hosts {
        (h.workloads, h.classes) = (Arc::from([]), Arc::from([]));
    }
    format!("{plan:?}")
}

#[test]
fn every_shipped_profile_loads_and_says_what_it_asks() {
    for file in shipped() {
        let plan = profile::load(&file, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(Some(plan.name.as_str()), file.file_stem().unwrap().to_str(), "named as its file");
        assert!(plan.question.is_some() && plan.expectation.is_some(), "{}: header", plan.name);
        assert!(!plan.expect.is_empty(), "{}: expectations", plan.name);
    }
}

#[test]
fn the_effective_profile_is_the_same_plan() {
    for file in shipped() {
        let first = profile::load(&file, &Overrides::default()).unwrap();
        let second = profile::from_str("effective.toml", &first.effective, &Overrides::default())
            .unwrap_or_else(|e| panic!("{}\n{e}", first.effective));
        assert_eq!(first.effective, second.effective, "{}: idempotent", first.name);
        assert!(first.fabric.routes == second.fabric.routes, "{}: same routes", first.name);
        assert!(same(&first) == same(&second), "{}: same plan", first.name);
    }
}

#[test]
fn the_main_job_is_predicted_by_closed_forms() {
    let plan = load("incast-32to1.toml", &[]);
    let p = &plan.predicted;
    assert_eq!((p.fan_in_ranks, p.fan_in_physical), (32.0, 32.0));
    assert_eq!(p.iteration_bytes.0, 32 * (4 << 20));
    assert_eq!(p.iteration_frames, 32 * 1024);
    // 32 x 1024 frames of 4178 B on the wire (and one RETH per message) at 100G, then the last frame's way and its ACK.
    let wire_ps = (32 * 1024 * 4178 + 32 * 16) * 80;
    let way = p.ideal[0].0 - wire_ps;
    assert!((1_000_000..3_000_000).contains(&way), "{way} ps");
    assert_eq!(p.ideal, p.fabric_bound, "one switch does not slow its ports");
    // S = 32 MiB less 33 x 117,348 B, in cells of 254 B: 29.68 MB; alpha S / (1 + 32 alpha) = S / 40.
    let xoff = p.xoff.unwrap();
    assert!(xoff.reached);
    assert_eq!(xoff.group_bytes.0, 742_048);
    // A group grows by 31/32 of 17 cells per 334.24 ns: 59.3 us, and about 1 us on the way.
    assert!((59_300_000..61_500_000).contains(&xoff.first.0), "{:?}", xoff.first);
    let headroom = p.headroom.unwrap();
    assert_eq!(headroom.configured.0, 117_348);
    // At least 2 frames and the 394 quanta that 802.3 grants at 100G.
    assert!((25_216 + 2 * 4178..117_348).contains(&headroom.needed.0), "{headroom:?}");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn a_message_too_small_for_the_threshold_does_not_reach_xoff() {
    let plan = load("incast-32to1.toml", &["workload.message=64 KiB"]);
    assert!(!plan.predicted.xoff.unwrap().reached);
    let window = load("incast-32to1.toml", &["workload.window=100"]);
    assert!(!window.predicted.xoff.unwrap().reached, "100 frames of 17 cells never fill 742 kB");
}

#[test]
fn ranks_behind_one_port_are_no_pressure() {
    let plan = load("incast-32to1.toml", &["switch.ports.count=2", "switch.ports.ranks_per_port=32"]);
    assert_eq!(plan.predicted.fan_in_ranks, 32.0);
    assert_eq!(plan.predicted.fan_in_physical, 1.0);
    assert!(plan.warnings.iter().any(|w| w.0 == "incast_without_pressure"), "{:?}", plan.warnings);
    let slow = load("incast-3to1-slow-receiver.toml", &[]);
    assert_eq!((slow.predicted.fan_in_ranks, slow.predicted.fan_in_physical), (30.0, 30.0));
}

#[test]
fn both_ends_of_every_connection_agree() {
    for file in shipped() {
        let plan = profile::load(&file, &Overrides::default()).unwrap();
        for host in &plan.hosts {
            for (i, qp) in host.qps.iter().enumerate() {
                assert_eq!(qp.local_qpn as usize, 0x11 + i);
                let peer_host = &plan.hosts[plan.ranks[qp.peer_rank.0 as usize].port.0 as usize];
                let peer = &peer_host.qps[qp.peer_qpn as usize - 0x11];
                assert_eq!((peer.peer_qpn, peer.peer_rank), (qp.local_qpn, qp.local_rank));
                assert_eq!((peer.psn_first, peer.peer_psn_first), (qp.peer_psn_first, qp.psn_first));
                assert_eq!((peer.local_ip, peer.sport), (qp.peer_ip, qp.sport));
                assert!(qp.psn_first < 1 << 24 && qp.sport >= 0xc000);
            }
            let keys: Vec<_> = host.qps.iter().map(|q| (q.workload, q.local_rank, q.peer_rank)).collect();
            assert!(keys.is_sorted(), "those of one pair stand together");
        }
    }
}

#[test]
fn addresses_stay_in_the_benchmark_networks() {
    let v4 = load("incast-32to1.toml", &[]);
    assert_eq!(v4.ranks[0].ip.to_string(), "198.18.0.1");
    let v6 = load("incast-32to1.toml", &["run.ip=v6"]);
    assert_eq!(v6.ranks[32].ip.to_string(), "2001:2::21");
    assert!(v6.predicted.ideal[0] > v4.predicted.ideal[0], "IPv6 headers are longer");
    assert!(v4.hosts.iter().all(|h| h.mac[0] & 3 == 2), "locally administered unicast");
}

#[test]
fn placement_decides_what_crosses_the_spines() {
    let packed = load("ring-allreduce-16-4to1-packed.toml", &[]);
    let mixed = load("ring-allreduce-16-4to1-interleaved.toml", &[]);
    let order = |plan: &Plan| plan.workloads[0].ranks.iter().map(|r| r.0).collect::<Vec<_>>();
    assert_eq!(order(&packed)[..4], [0, 1, 2, 3]);
    assert_eq!(order(&mixed)[..4], [0, 8, 1, 9]);
    assert_eq!(packed.predicted.fabric_bound, packed.predicted.ideal);
    // Eight flows of one rate each over two uplinks.
    let slower = mixed.predicted.fabric_bound[0].0 as f64 / mixed.predicted.ideal[0].0 as f64;
    assert!((3.9..4.1).contains(&slower), "{slower}");
    // 30 steps of 4 MB at 100G carry 98 % payload: 9.79 ms.
    assert!(
        (9_780_000_000..9_830_000_000).contains(&packed.predicted.ideal[0].0),
        "{:?}",
        packed.predicted.ideal
    );
}

#[test]
fn local_pairs_use_no_queue_pair_unless_hairpinned() {
    let local = ["switch.ports.ranks_per_port=2", "fabric.hosts_per_leaf=4"];
    let inside = load("ring-allreduce-16-4to1-packed.toml", &local);
    let count = |p: &Plan| p.hosts.iter().map(|h| h.qps.len()).sum::<usize>();
    assert_eq!(count(&inside), 16, "8 of 16 hops leave their port");
    assert!(inside.predicted.local_messages > 0);
    let hairpin = load("ring-allreduce-16-4to1-packed.toml", &[local[0], local[1], "run.hairpin=true"]);
    assert_eq!((count(&hairpin), hairpin.predicted.local_messages), (32, 0));
}

#[test]
fn overrides_reach_every_kind_of_key() {
    let plan = load("incast-32to1.toml", &["run.seed=7", "switch.dynamic_th=-3", "class.roce.cnp_dscp=3"]);
    assert_eq!(plan.seed, 7);
    assert_eq!(plan.classes[0].cnp_priority, 3);
    let over = Overrides { seed: Some(9), on: Some(rankstorm::plan::Mode::Virtual), ..Overrides::default() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/incast-32to1.toml");
    let plan = profile::load(&path, &over).unwrap();
    assert_eq!((plan.seed, plan.mode), (9, Some(rankstorm::plan::Mode::Virtual)));
    assert!(plan.effective.contains("seed = 9") && plan.effective.contains("on = \"virtual\""));
}

#[test]
fn the_timeline_lowers_to_actions_and_streams() {
    let text = r#"
name = "t"
[[at]]
time = "1 ms"
burst = { from = 0, to = 1, frames = 10, size = 256 }
[[at]]
wait = "5 ms"
[[at]]
time = "1 ms"
pause = { port = "port1", priority = 3, hold = "10 us" }
[[at]]
time = "2 ms"
snapshot = "later"
"#;
    let plan = profile::from_str("t.toml", text, &Overrides::default()).unwrap();
    assert_eq!(plan.hosts[0].streams[0].start.0, 1_000_000_000);
    assert_eq!(plan.hosts[1].actions[0].at.0, 6_000_000_000);
    assert_eq!(plan.actions[0].at.0, 7_000_000_000);
}

#[test]
fn check_fits_a_screen() {
    for file in shipped() {
        let plan = profile::load(&file, &Overrides::default()).unwrap();
        let text = rankstorm::cli::check::check_text(&plan);
        // Two lines more for each kind of port beyond the first.
        let kinds = text.lines().filter(|l| l.starts_with("headroom ")).count().max(1);
        assert!(text.lines().count() <= 28 + 2 * (kinds - 1), "{text}");
        let paths = plan.source.as_ref().unwrap().display().to_string();
        let wide = text.lines().filter(|l| !l.contains(&paths)).any(|l| l.chars().count() > 100);
        assert!(!wide, "{text}");
        let table = rankstorm::cli::check::plan_text(&plan);
        let again = profile::from_str("plan.toml", &table, &Overrides::default()).unwrap();
        assert_eq!(same(&plan), same(&again), "--print-plan is a profile");
    }
}

#[test]
fn a_replayed_file_is_found_beside_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), "src,dst,bytes,start_ns\n0,2,4096,0\n1,2,8192,1000\n")
        .unwrap();
    let path = folder.path().join("t.toml");
    std::fs::write(&path, "name = \"t\"\n[[workload]]\nkind = \"replay\"\nfile = \"t.csv\"\n").unwrap();
    let plan = profile::load(&path, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((plan.ranks.len(), plan.predicted.iteration_bytes.0), (3, 12_288));
    let again = profile::from_str("elsewhere.toml", &plan.effective, &Overrides::default()).unwrap();
    assert_eq!(same(&plan), same(&again), "the effective profile finds the file from any folder");
    let over = Overrides { replay: Some("t.csv".into()), ..Overrides::default() };
    std::fs::write(&path, "name = \"t\"\n").unwrap();
    assert_eq!(profile::load(&path, &over).unwrap().workloads.len(), 1, "replay FILE --with PROFILE");
}

#[test]
fn a_profile_without_a_name_takes_that_of_its_file() {
    let text = "[[workload]]\nkind = \"incast\"\nsenders = 2\nmessage = \"1 MB\"\n";
    let name = |file: &str| profile::from_str(file, text, &Overrides::default()).unwrap().name;
    assert_eq!(name("a/b/my trace.effective.toml"), "my-trace");
    let many = text.replace("senders = 2", "senders = 2000");
    let error = profile::from_str("p.toml", &many, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("2001 ports") && error.contains("leaf-spine"), "{error}");
}

#[test]
fn links_take_their_own_cable_fec_and_rate() {
    let set = ["switch.ports.cable=1 us", "switch.ports.fec=none", "switch.pipeline=0 ns"];
    let plan = load("stream-1to1.toml", &set);
    for link in &plan.fabric.links {
        assert_eq!(link.timing.propagation().0, 1_000_000, "one microsecond and nothing else");
    }
    let slow = load("incast-3to1-slow-receiver.toml", &[]);
    let rates: Vec<_> = slow.fabric.links.iter().map(|l| l.timing.rate().as_gbps_f64()).collect();
    assert_eq!(rates, [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 10.0, 10.0]);
    // IEEE 802.3 31B.3.7: 394 quanta at 100G, 67 at 10G.
    assert_eq!(slow.hosts[0].pfc_response.0, 394 * 5_120);
    assert_eq!(slow.hosts[3].pfc_response.0, 67 * 51_200);
}

#[test]
fn a_thousand_ranks_plan_quickly() {
    let set = [
        "workload.ranks=1024",
        "fabric.leaves=32",
        "fabric.hosts_per_leaf=32",
        "fabric.spines=16",
        "switch.buffer=64 MiB",
    ];
    let start = std::time::Instant::now();
    let plan = load("ring-allreduce-16-1to1.toml", &set);
    assert_eq!(plan.hosts.iter().map(|h| h.qps.len()).sum::<usize>(), 2048);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    println!("{:?}", start.elapsed());
}

/// Two ports whose cables are so long that a switch of the model would need more headroom than it has.
const FAR: &str = "[run]\non = \"ports\"\n[[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"64 KiB\"\n\
    [[port]]\ndevice = \"eth1\"\nrate = \"100G\"\ncable = \"20 km\"\n\
    [[port]]\ndevice = \"eth2\"\nrate = \"100G\"\ncable = \"20 km\"\n";

#[test]
fn of_a_real_switch_that_nobody_described_nothing_is_predicted() {
    let plan = |text: &str, on| {
        let overrides = Overrides { on, ..Overrides::default() };
        profile::from_str("far.toml", text, &overrides).unwrap()
    };
    let headroom = |p: &Plan| {
        let said = rankstorm::cli::check::check_text(p);
        (
            p.warnings.iter().any(|w| w.0.contains("headroom")),
            said.contains("headroom"),
            said.contains("XOFF"),
        )
    };
    let real = plan(FAR, None);
    assert_eq!(headroom(&real), (false, false, false), "{:?}", real.warnings);
    let said = rankstorm::cli::check::check_text(&real);
    assert!(
        said.contains("fabric    a real one, of which the profile says nothing; 2 x 100G ports"),
        "{said}"
    );
    assert!(!real.effective.contains("[switch") && !real.effective.contains("[fabric"), "{}", real.effective);
    let again = plan(&real.effective, None);
    assert_eq!((again.warnings, &again.effective), (real.warnings, &real.effective), "a run repeated");
    // Where a switch is modelled, because the run is virtual or the profile describes one to compare with, it is short.
    assert_eq!(headroom(&plan(FAR, Some(Mode::Virtual))), (true, true, true));
    assert_eq!(headroom(&plan(&real.effective, Some(Mode::Virtual))), (true, true, true));
    assert_eq!(
        headroom(&plan(&format!("{FAR}[switch]\npreset = \"generic-32mib\"\n"), None)),
        (true, true, true)
    );
}
