//! Ports on packet sockets, which send by a socket of their own: what leaves does not come back, and what the kernel does not
//! send is counted and told. In namespaces of their own; skips with a reason where they are not allowed.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use common::lab::{RUN, in_lab, ports, write};
use common::text;
use rankstorm::report::files;
use rankstorm::report::model::RunReport;

fn stream(duration: &str) -> String {
    format!("[[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"5 %\"\nduration = \"{duration}\"\n")
}

/// Value of the line of `said` that begins with `word`.
fn count(said: &str, word: &str) -> u64 {
    let line = said.lines().find_map(|l| l.strip_prefix(word)).unwrap_or_else(|| panic!("{word}: {said}"));
    line.trim().parse().unwrap()
}

#[test]
fn what_leaves_does_not_come_back_and_the_report_says_who_sent_it() {
    let dir = tempfile::tempdir().unwrap();
    let vlan = "[class.roce]\nmtu = 1024\nvlan = 100\n";
    let cases = [
        ("plain", "t0", "socket", ""),
        ("tagged", "t0", "socket", vlan),
        ("said", "net_af_packet0,iface=t0,tx=socket", "socket", ""),
        ("ring", "net_af_packet0,iface=t0,tx=ring", "driver", vlan),
        ("qdisc", "net_af_packet0,iface=t0,qdisc_bypass=0", "driver", ""),
    ];
    let mut script = String::new();
    for (name, device, _, class) in &cases {
        let profile = format!("{RUN}{}{}{class}", ports(&[device, "t1"], "1G"), stream("300 ms"));
        write(dir.path(), &format!("{name}.toml"), &profile);
        let sent = "$(cat /sys/class/net/t0/statistics/tx_packets)";
        script += &format!(
            "before={sent}; timeout 60 $RS run {name}.toml --out {name} --quiet; echo {name} $?\n\
             echo {name}-sent $(({sent} - before))\n"
        );
    }
    let Some(o) = in_lab(dir.path(), &script) else { return };
    let said = text(&o.stdout);
    for (name, _, path, _) in cases {
        assert!(said.contains(&format!("{name} 0")), "{said}{}", text(&o.stderr));
        let r: RunReport = files::read(&dir.path().join(name)).unwrap();
        let [a, b] = r.tester.ports.as_slice() else { panic!("{name}: {:?}", r.tester.ports) };
        let s = r.streams.as_ref().unwrap();
        assert_eq!(a.tx_path, path, "{name}");
        assert!(s.frames_tx > 1_000 && s.frames_rx == s.frames_tx, "{name}: {s:?}");
        assert!(a.rx_frames < 10, "{name}: nothing but what neighbours and the bridge say: {a:?}");
        assert_eq!((a.icrc_errors, b.icrc_errors), (0, 0), "{name}");
        assert_eq!((a.device_tx_frames, a.device_tx_errors), (Some(a.tx_frames), Some(0)), "{name}");
        let before = r.tester.preflight.as_ref().unwrap().frames[0].0;
        assert_eq!(
            a.tx_frames + before,
            count(&said, &format!("{name}-sent")),
            "{name}: as the kernel counts"
        );
    }
}

#[test]
fn what_the_kernel_does_not_send_is_counted_and_told_with_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "p.toml", &format!("{RUN}{}{}", ports(&["t0", "t1"], "1G"), stream("4 s")));
    let mut script = String::new();
    for (name, interface) in [("own", "t0"), ("far", "b0")] {
        script += &format!(
            "before=$(cat /sys/class/net/t0/statistics/tx_packets)\n\
             timeout 60 $RS run p.toml --out {name} --quiet > /dev/null & R=$!\n\
             for i in $(seq 600); do [ $(cat /sys/class/net/t0/statistics/tx_packets) -gt $((before + 500)) ] && break; \
             sleep 0.1; done\n\
             ip link set {interface} mtu 900; sleep 0.5; ip link set {interface} mtu 9000; wait $R; echo {name} $?\n\
             echo {name}-sent $(($(cat /sys/class/net/t0/statistics/tx_packets) - before))\n"
        );
    }
    let Some(o) = in_lab(dir.path(), &script) else { return };
    let said = text(&o.stdout);
    for (name, fix) in [("own", "(EMSGSIZE): ip link set t0 mtu 1068"), ("far", "is its MTU smaller?")] {
        let r: RunReport = files::read(&dir.path().join(name))
            .unwrap_or_else(|e| panic!("{name}: {e}: {said}{}", text(&o.stderr)));
        let (a, s) = (&r.tester.ports[0], r.streams.as_ref().unwrap());
        let lost = a.device_tx_errors.unwrap();
        assert!(lost > 100, "{name}: {a:?}");
        assert_eq!(a.device_tx_frames, Some(a.tx_frames - lost), "{name}");
        let before = r.tester.preflight.as_ref().unwrap().frames[0].0;
        assert_eq!(
            a.tx_frames - lost + before,
            count(&said, &format!("{name}-sent")),
            "{name}: as the kernel counts"
        );
        assert_eq!(s.frames_rx, s.frames_tx - lost, "{name}: what was sent has arrived, behind it too");
        let told: Vec<&String> =
            r.tester.events.iter().filter(|e| e.contains("taken and not sent")).collect();
        assert!(told.len() == 1 && told[0].contains(fix), "{name}: {:?}", r.tester.events);
    }
}
