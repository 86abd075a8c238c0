//! Runs on real devices: a cable of rings, and packet sockets on veth interfaces through a Linux bridge, in a namespace
//! that each test makes for itself. Tests skip with a reason where namespaces are not allowed.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use common::lab::{RUN, in_lab, incast, ports, write};
use common::{rankstorm, run_into, text};
use rankstorm::report::files;
use rankstorm::report::model::RunReport;

#[test]
fn a_cable_carries_every_frame_and_the_report_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let profile = format!("{RUN}{}{}", ports(&["loop:x", "loop:x"], "10G"), incast(1, "1 MiB"));
    write(dir.path(), "loop.toml", &profile);
    let r = run_into(&dir.path().join("out"), &dir.path().join("loop.toml"), &[], 0);
    assert_eq!((r.mode.as_str(), &r.outcome_hash), ("ports", &None));
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    assert!(r.switches.is_empty(), "nothing is known of a real switch");
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    // 256 frames of 4096 B an iteration, six iterations; one question and one answer about neighbours each way.
    assert_eq!((a.tx_frames, b.rx_frames), (6 * 256 + 2, 6 * 256 + 2));
    assert_eq!((a.device_tx_frames, b.device_rx_frames), (Some(a.tx_frames), Some(b.rx_frames)));
    assert_eq!((a.tx_frames, b.tx_frames), (b.rx_frames, a.rx_frames));
    assert_eq!((a.icrc_errors, b.icrc_errors, a.rx_other, b.rx_other), (0, 0, 0, 0));
    assert_eq!(r.classes.iter().map(|c| c.lost + c.retransmitted).sum::<u64>(), 0);
    // A port paced to 10 Gbit/s needs 256 x 4,178 B and overheads at least: 0.86 ms.
    let completion = r.workload[0].completion_ns.percentiles.min.unwrap();
    let wire = common::wire_ns(common::write_on_wire(1 << 20, 4096).1, 10.0);
    let backlog = a.tx_backlog_bytes_max as f64 * 8.0 / 10.0;
    assert!(
        completion > wire - backlog - 500.0,
        "{completion} ns; {wire} ns on the wire, less {backlog} of backlog"
    );
}

#[test]
fn incast_through_the_kernels_bridge_agrees_with_its_counters() {
    let dir = tempfile::tempdir().unwrap();
    let devices = ports(&["t0", "t1", "net_af_packet9,iface=t2"], "1G");
    write(dir.path(), "bridge.toml", &format!("{RUN}{devices}{}", incast(2, "256 KiB")));
    let script = "timeout 60 $RS run bridge.toml --out out --quiet; echo rc $?\n\
                  for i in 0 1 2; do echo count $i $(cat /sys/class/net/t$i/statistics/tx_packets) \
                  $(cat /sys/class/net/t$i/statistics/rx_packets); done";
    let Some(o) = in_lab(dir.path(), script) else { return };
    let said = text(&o.stdout);
    assert!(said.contains("rc 0"), "{said}{}", text(&o.stderr));
    let r: RunReport = files::read(&dir.path().join("out")).unwrap();
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    // 64 frames of 4096 B from each of two senders, five iterations that count.
    assert_eq!(r.classes.iter().map(|c| c.arrivals).sum::<u64>(), 2 * 64 * 5);
    assert_eq!(r.classes.iter().map(|c| c.lost).sum::<u64>(), 0);
    for (i, p) in r.tester.ports.iter().enumerate() {
        let line = said.lines().find(|l| l.starts_with(&format!("count {i} "))).unwrap();
        let kernel: Vec<u64> = line.split(' ').skip(2).map(|n| n.parse().unwrap()).collect();
        let before = r.tester.preflight.as_ref().unwrap().frames[i].0;
        assert_eq!(p.tx_frames + before, kernel[0], "port {i}: sent, as the kernel counts: {said}");
        assert!(p.rx_frames <= kernel[1], "port {i}: received {} of {}", p.rx_frames, kernel[1]);
        assert_eq!(p.icrc_errors, 0);
    }
    let network = r.latency_ns.iter().find(|l| l.from == "wire_out").unwrap();
    assert!(network.percentiles.p50.is_some_and(|ns| ns > 0.0), "a bridge takes time: {network:?}");
}

#[test]
fn what_could_harm_is_refused_with_the_line_that_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let traffic = incast(1, "64 KiB");
    let cases = [
        (
            "member",
            ports(&["t0", "b1"], "1G"),
            "interface b1 is a member of br0",
            "allow_in_use = true to [[port]] port1",
        ),
        (
            "address",
            ports(&["t0", "t1"], "1G"),
            "interface t1 has the address 10.9.0.1",
            "allow_in_use = true",
        ),
        ("small", ports(&["t0", "t2"], "1G"), "interface t2 has an MTU of 1500", "ip link set t2 mtu"),
        (
            "route",
            ports(&["v0", "t0"], "1G"),
            "interface v0 carries the route to 10.8.0.0/16",
            "allow_in_use = true",
        ),
        ("loopback", ports(&["t0", "lo"], "1G"), "interface lo is the loopback", "allow_in_use = true"),
        ("missing", ports(&["t0", "t7"], "1G"), "no interface \"t7\"", "ip link"),
        (
            "outside",
            ports(&["t0"], "1G") + "ranks = \"10.1.0.0/24\"\n" + &ports(&["t7"], "1G"),
            "10.1.0.1 is outside the networks for tests",
            "allow = [\"10.1.0.1/24\"]",
        ),
        (
            "silent",
            ports(&["t0", "net_tap0,iface=rs0"], "1G") + "[class.roce]\nmtu = 1024\n",
            "nobody answers for 198.18.0.2",
            "gateway",
        ),
    ];
    let mut script = "ip addr add 10.9.0.1/24 dev t1; ip link set t2 mtu 1500\n\
                      ip link add v0 type veth peer name v1; ip link set v0 mtu 9000 up; ip link set v1 mtu 9000 up\n\
                      ip route add 10.8.0.0/16 dev v0\n\
                      timeout 60 $RS run address.toml --set port.1.allow_in_use=true --out allowed --quiet; echo override $?\n\
                      timeout 60 $RS run tested.toml --set 'run.allow=[\"10.1.0.0/16\"]' --out prefix --quiet; echo prefix $?\n"
        .to_owned();
    let foreign = ports(&["t0"], "1G") + "ranks = \"10.1.0.0/24\"\n" + &ports(&["t1"], "1G");
    let own = "allow_in_use = true\nranks = \"10.1.1.0/24\"\n";
    write(dir.path(), "tested.toml", &format!("{RUN}{foreign}{own}{traffic}"));
    for (name, devices, ..) in &cases {
        write(dir.path(), &format!("{name}.toml"), &format!("{RUN}{devices}{traffic}"));
        script += &format!(
            "timeout 60 $RS run {name}.toml --out out-{name} --quiet 2> {name}.err; echo {name} $?\n"
        );
    }
    let Some(o) = in_lab(dir.path(), &script) else { return };
    for (what, name) in
        [("override", "the line that allows it does"), ("prefix", "so does a network of one's own")]
    {
        assert!(
            text(&o.stdout).contains(&format!("{what} 0")),
            "{name}: {}{}",
            text(&o.stdout),
            text(&o.stderr)
        );
    }
    for (name, _, refusal, fix) in cases {
        let said = std::fs::read_to_string(dir.path().join(format!("{name}.err"))).unwrap();
        assert!(text(&o.stdout).contains(&format!("{name} 2")), "{name}: {}{said}", text(&o.stdout));
        assert!(said.contains(refusal) && said.contains(fix), "{name}: {said}");
    }
}

#[test]
fn a_user_without_rights_runs_what_needs_none() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let rs = dir.path().join("rankstorm");
    std::fs::copy(env!("CARGO_BIN_EXE_rankstorm"), &rs).unwrap();
    for path in [dir.path(), rs.as_path()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let stream = "[[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"10 %\"\nduration = \"20 ms\"\n";
    for (name, devices) in [("cable", ["loop:x", "loop:x"]), ("null", ["net_null0", "net_null1"])] {
        write(dir.path(), &format!("{name}.toml"), &format!("{RUN}{}{stream}", ports(&devices, "1G")));
    }
    let script = "./rankstorm doctor; for p in cable null; do ./rankstorm run $p.toml --out $p --quiet > /dev/null; \
                  echo $p $?; done";
    let o = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", script])
        .current_dir(dir.path())
        .output();
    let Some(o) = o.ok().filter(|o| text(&o.stdout).contains("DPDK")) else {
        return eprintln!("SKIPPED: this user cannot become another (setpriv)");
    };
    let said = text(&o.stdout);
    assert!(said.contains("cable 0") && said.contains("null 0"), "{said}{}", text(&o.stderr));
    let rights = said.lines().find(|l| l.contains("  rights")).unwrap();
    assert!(rights.starts_with("note") && rights.contains("no packet sockets"), "{rights}");
    assert!(
        said.contains("setcap cap_net_raw") && said.contains("not with the rights of this user"),
        "{said}"
    );
}

#[test]
fn every_verb_crosses_a_cable_and_what_only_the_model_can_do_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, text: String, rc| {
        let profile = format!("{RUN}{}{text}", ports(&["loop:x", "loop:x"], "1G"));
        write(dir.path(), name, &profile);
        run_into(&dir.path().join(format!("out-{name}")), &dir.path().join(name), &[], rc)
    };
    for (verb, message, frames) in [("read", "256 KiB", 64), ("ud-send", "4 KiB", 1)] {
        let r = run(verb, format!("{}verb = \"{verb}\"\n", incast(1, message)), 0);
        assert!(r.tester.trustworthy, "{verb}: {:?}", r.tester.why);
        assert!(r.workload[0].completion_ns.percentiles.min.is_some_and(|ns| ns > 0.0), "{verb}");
        assert_eq!(r.classes.iter().map(|c| c.lost + c.retransmitted).sum::<u64>(), 0, "{verb}");
        let arrived = r.tester.ports.iter().map(|p| p.rx_frames).max().unwrap();
        assert!(arrived >= 6 * frames, "{verb}: {arrived} frames");
        assert_eq!(r.tester.ports.iter().map(|p| p.rx_other + p.icrc_errors).sum::<u64>(), 0, "{verb}");
    }
    let storm = "[[pfc]]\nport = 1\npriorities = [3]\nkind = \"storm\"\nduration = \"1 ms\"\n";
    let profile = format!("{RUN}{}{}{storm}", ports(&["loop:x", "loop:x"], "1G"), incast(1, "64 KiB"));
    write(dir.path(), "storm.toml", &profile);
    let o = rankstorm(&["run".as_ref(), dir.path().join("storm.toml").as_os_str()]);
    assert!(o.status.code() == Some(2) && text(&o.stderr).contains("add --allow-pfc-generation"), "{o:?}");
    let cases = [
        ("snapshot = \"x\"", "--on ports has none"),
        ("link = { cable = \"port 0\", state = \"down\" }", "where the cables are real"),
        ("pause = { port = 0, priority = 3, hold = \"1ms\" }", "allow_pfc = true"),
    ];
    for (at, refusal) in cases {
        let devices = ports(&["loop:x", "loop:x"], "1G");
        let profile = format!("{RUN}{devices}{}[[at]]\ntime = \"1 ms\"\n{at}\n", incast(1, "64 KiB"));
        write(dir.path(), "refused.toml", &profile);
        let out = dir.path().join("refused");
        let o = rankstorm(&[
            "run".as_ref(),
            dir.path().join("refused.toml").as_os_str(),
            "--out".as_ref(),
            out.as_os_str(),
        ]);
        assert_eq!(o.status.code(), Some(2), "{at}");
        assert!(text(&o.stderr).contains(refusal), "{at}: {}", text(&o.stderr));
    }
}
