//! `rankstorm preflight` in labs that are as the profile takes them for, and in labs that are not: a bridge, and the
//! kernel's router. Skips with a reason where namespaces are not allowed.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::path::Path;

use common::lab::{RUN, in_lab, in_roots_lab, incast, ports, write};
use common::{rankstorm, text};
use rankstorm::report::files;
use rankstorm::report::model::RunReport;
use rankstorm::run::preflight::{Outcome, Preflight};

fn found(dir: &Path, name: &str) -> Preflight {
    let file = std::fs::read_to_string(dir.join(name)).unwrap();
    serde_json::from_str(&file).unwrap_or_else(|e| panic!("{name}: {e}: {file}"))
}

/// (check, outcome) in order, without the rate of software devices.
fn outcomes(p: &Preflight) -> Vec<(&str, Outcome)> {
    p.checks.iter().filter(|c| c.name != "rate").map(|c| (c.name.as_str(), c.outcome)).collect()
}

fn failed<'p>(p: &'p Preflight, name: &str) -> Vec<&'p str> {
    let of = p.checks.iter().filter(|c| c.name == name && c.outcome == Outcome::Fail);
    of.map(|c| c.place.as_str()).collect()
}

#[test]
fn a_bridge_is_ready_and_what_is_wrong_with_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let profile = format!("{RUN}{}{}", ports(&["t0", "t1", "t2"], "1G"), incast(2, "64 KiB"));
    write(dir.path(), "p.toml", &profile);
    let script = "look() { f=$1; shift; timeout 60 $RS preflight p.toml --json \"$@\" > $f.json; echo $f $?; }\n\
        look good; look pauses --set run.allow_pfc=true\n\
        timeout 60 $RS preflight p.toml > table\n\
        ip link set b1 mtu 1500; look short; timeout 60 $RS run p.toml --quiet --out no 2> refused; echo run $?\n\
        ip link set b1 mtu 9000\n\
        bridge link set dev b0 isolated on; bridge link set dev b1 isolated on; look apart\n\
        bridge link set dev b0 isolated off; bridge link set dev b1 isolated off\n\
        ip link set b2 down; look down; ip link set b2 up\n\
        timeout 60 $RS run p.toml --quiet --out yes > /dev/null; echo again $?";
    let Some(o) = in_lab(dir.path(), script) else { return };
    let said = text(&o.stdout);
    for expected in ["good 0", "pauses 2", "short 2", "run 2", "apart 2", "down 2", "again 0"] {
        assert!(said.lines().any(|l| l == expected), "{expected}: {said}{}", text(&o.stderr));
    }
    use Outcome::{Fail, Pass, Skipped};
    let good = found(dir.path(), "good.json");
    let all = [
        ("link", Pass),
        ("neighbour", Pass),
        ("reach", Pass),
        ("icrc", Pass),
        ("frame-size", Pass),
        ("marks", Pass),
        ("pauses", Skipped),
    ];
    assert_eq!(outcomes(&good), all);
    assert!(good.checks.last().unwrap().fix.as_ref().unwrap().contains("allow_pfc = true"));
    assert_eq!(good.pairs.len(), 6);
    assert!(good.pairs.iter().all(|p| p.arrived == 20 && p.latency_ns.min.is_some_and(|ns| ns > 0.0)));
    let table = std::fs::read_to_string(dir.path().join("table")).unwrap();
    assert!(table.contains("PASS     reach       6 pairs") && table.contains("READY ("), "{table}");
    // A bridge keeps PFC frames to itself, so nothing is ever held.
    assert_eq!(failed(&found(dir.path(), "pauses.json"), "pauses").len(), 3);
    let short = found(dir.path(), "short.json");
    assert_eq!(failed(&short, "reach"), [""; 0]);
    let places = failed(&short, "frame-size");
    assert!(places.contains(&"port port0 -> port1") && places.contains(&"port port2 -> port1"), "{places:?}");
    let refused = std::fs::read_to_string(dir.path().join("refused")).unwrap();
    assert!(refused.contains("short ones do; raise the MTU on the way"), "{refused}");
    assert_eq!(failed(&found(dir.path(), "apart.json"), "neighbour"), ["port port0", "port port1"]);
    let down = found(dir.path(), "down.json");
    assert_eq!(outcomes(&down), [("link", Fail)]);
    assert_eq!(down.checks[0].place, "port port2 (t2)");
    let r: RunReport = files::read(&dir.path().join("yes")).unwrap();
    assert!(r.tester.preflight.is_some_and(|p| p.passed() && p.pairs.len() == 6), "it is part of the report");
}

/// The kernel routes between two networks; ranks are behind static routes.
const ROUTER: &str = "ip link set b0 nomaster; ip link set b1 nomaster; ip link del br0\n\
    echo 1 > /proc/sys/net/ipv4/ip_forward\n\
    for i in 0 1; do echo 0 > /proc/sys/net/ipv4/conf/t$i/forwarding; done\n\
    echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter\n\
    for i in 0 1; do echo 0 > /proc/sys/net/ipv4/conf/b$i/rp_filter; done\n\
    ip addr add 198.18.1.1/24 dev b0; ip addr add 198.18.2.1/24 dev b1\n\
    ip route add 198.18.101.0/24 via 198.18.1.254; ip route add 198.18.102.0/24 via 198.18.2.254\n";

fn routed() -> String {
    let port = |i: u32| {
        format!(
            "[[port]]\ndevice = \"t{}\"\nrate = \"1G\"\naddress = \"198.18.{i}.254\"\ngateway = \"198.18.{i}.1\"\n\
             ranks = \"198.18.10{i}.0/24\"\nranks_per_port = 4\ndut_port = \"Ethernet{}\"\n",
            i - 1,
            4 * i
        )
    };
    format!("{RUN}{}{}{}", port(1), port(2), incast(4, "64 KiB"))
}

#[test]
fn a_router_is_ready_with_the_routes_that_print_dut_names() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "p.toml", &routed());
    let script = format!(
        "{ROUTER}look() {{ timeout 60 $RS preflight p.toml --json > $1.json; echo $1 $?; }}\n\
         look good; timeout 60 $RS run p.toml --quiet --out out > /dev/null; echo run $?\n\
         ip route del 198.18.102.0/24; look lost; ip addr del 198.18.2.1/24 dev b1; look silent"
    );
    let Some(o) = in_lab(dir.path(), &script) else { return };
    let said = text(&o.stdout);
    for expected in ["good 0", "run 0", "lost 2", "silent 2"] {
        assert!(said.lines().any(|l| l == expected), "{expected}: {said}{}", text(&o.stderr));
    }
    let good = found(dir.path(), "good.json");
    assert!(
        good.checks.iter().any(|c| c.name == "neighbour" && c.place.starts_with("2 ")),
        "gateways alone: {good:?}"
    );
    let lost = found(dir.path(), "lost.json");
    assert!(failed(&lost, "reach").contains(&"port port0 -> port1"), "{lost:?}");
    let silent = found(dir.path(), "silent.json");
    assert_eq!(failed(&silent, "neighbour"), ["port port1"]);
    assert!(
        silent.refusal().unwrap().contains("is 198.18.2.1 the switch's address on this link"),
        "{silent:?}"
    );
}

#[test]
fn the_switch_is_told_its_addresses_and_routes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "p.toml", &routed());
    let o = rankstorm(&[
        "check".as_ref(),
        dir.path().join("p.toml").as_os_str(),
        "--print-dut".as_ref(),
        "sonic".as_ref(),
    ]);
    let said: serde_json::Value =
        serde_json::from_slice(&o.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&o.stderr)));
    let keys = |table: &str| said[table].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys("PORT"), "Ethernet4 Ethernet8");
    assert_eq!(keys("INTERFACE"), "Ethernet4 Ethernet4|198.18.1.1/24 Ethernet8 Ethernet8|198.18.2.1/24");
    // Ranks .1 to .4 of each network.
    assert_eq!(keys("STATIC_ROUTE"), "default|198.18.101.0/29 default|198.18.102.0/29");
    assert_eq!(said["STATIC_ROUTE"]["default|198.18.101.0/29"]["nexthop"], "198.18.1.254");
    assert!(said.get("VLAN").is_none());
    // Without gateways one VLAN joins all.
    let flat = format!("{RUN}{}{}", ports(&["t0", "t1"], "1G"), incast(1, "64 KiB"));
    write(dir.path(), "flat.toml", &flat);
    let o = rankstorm(&[
        "check".as_ref(),
        dir.path().join("flat.toml").as_os_str(),
        "--print-dut".as_ref(),
        "sonic".as_ref(),
    ]);
    let said: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert_eq!(said["VLAN_MEMBER"].as_object().unwrap().len(), 2);
    assert!(said.get("INTERFACE").is_none());
}

#[test]
fn af_xdp_carries_path_mtu_2048_through_the_bridge() {
    let dir = tempfile::tempdir().unwrap();
    let devices = ports(&["net_af_xdp0,iface=t0", "net_af_xdp1,iface=t1"], "1G");
    let profile = format!("{RUN}{devices}{}[class.roce]\nmtu = 2048\n", incast(1, "256 KiB"));
    write(dir.path(), "p.toml", &profile);
    let script = "for i in 0 1; do ip link set t$i mtu 3000; ip link set b$i mtu 3000; done\n\
                  timeout 60 $RS run p.toml --quiet --out out; echo rc $?";
    let Some(o) = in_roots_lab(dir.path(), script) else { return };
    if text(&o.stderr).contains("could not be attached") {
        return eprintln!("SKIPPED: no AF_XDP here: {}", text(&o.stderr));
    }
    assert!(text(&o.stdout).contains("rc 0"), "{}{}", text(&o.stdout), text(&o.stderr));
    let r: RunReport = files::read(&dir.path().join("out")).unwrap();
    assert_eq!((r.tester.ports[0].driver.as_str(), r.classes[0].lost), ("net_af_xdp", 0));
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
}

#[test]
fn arrivals_go_by_the_kernels_stamps_where_it_makes_them_and_flow_control_of_a_tap_is_set_with_consent() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = ["net_pcap0,rx_iface_in=t0,tx_iface=t0", "net_pcap1,rx_iface_in=t1,tx_iface=t1"];
    write(dir.path(), "pcap.toml", &format!("{RUN}{}{}", ports(&pcap, "1G"), incast(1, "256 KiB")));
    let tap = ports(&["net_tap0,iface=rs0", "t1"], "1G").replacen("rate", "set_flow_control = true\nrate", 1);
    write(dir.path(), "tap.toml", &format!("{RUN}{tap}{}[class.roce]\nmtu = 1024\n", incast(1, "64 KiB")));
    let nowhere = ports(&["t0", "t1"], "1G").replacen("rate", "set_flow_control = true\nrate", 1);
    write(dir.path(), "none.toml", &format!("{RUN}{nowhere}{}", incast(1, "64 KiB")));
    let script = "plug() { for i in $(seq 100); do ip link show rs0 > /dev/null 2>&1 && break; sleep 0.1; done\n\
                  ip link set rs0 master br0 up; }\n\
                  timeout 60 $RS run none.toml --quiet --out none 2> none.err; echo none $?\n\
                  timeout 60 $RS run pcap.toml --quiet --out pcap; echo pcap $?\n\
                  plug & timeout 60 $RS run tap.toml --quiet --out tap; echo tap $?; wait";
    let Some(o) = in_lab(dir.path(), script) else { return };
    let said = format!("{}{}", text(&o.stdout), text(&o.stderr));
    let refused = std::fs::read_to_string(dir.path().join("none.err")).unwrap();
    assert!(said.contains("none 2") && refused.contains("leave set_flow_control out"), "{said}{refused}");
    assert!(said.contains("pcap 0"), "{said}");
    let r: RunReport = files::read(&dir.path().join("pcap")).unwrap();
    for p in &r.tester.ports {
        assert_eq!((p.driver.as_str(), p.arrival_point.as_str()), ("net_pcap", "kernel"), "{p:?}");
        assert_eq!(
            (p.arrivals_stamped, p.delay_blurred),
            (p.rx_frames, 0),
            "every frame, and none blurred: {p:?}"
        );
        assert!(p.arrival_doubt_ns.is_some_and(|ns| (500.0..1e6).contains(&ns)), "{p:?}");
    }
    let delay = &r.tester.ports[1].delay_ns;
    assert!(delay.n >= 5 * 64 && delay.p50.is_some_and(|ns| ns < 1e9), "{delay:?}");
    if said.contains("could not be attached") {
        return eprintln!("SKIPPED: no tap can be made here");
    }
    assert!(said.contains("tap 0"), "{said}");
    let r: RunReport = files::read(&dir.path().join("tap")).unwrap();
    assert_eq!(r.tester.ports[0].flow_control.as_deref(), Some("off"));
    assert_eq!(r.tester.ports[1].flow_control, None, "a packet socket has none");
    assert_eq!(r.tester.ports[1].arrival_point, "taking in");
    let found = r.tester.preflight.unwrap();
    assert!(found.checks.iter().any(|c| c.name == "flow-control" && c.outcome == Outcome::Pass), "{found:?}");
}
