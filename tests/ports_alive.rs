//! What a port says while it is silent: a switch with a short memory does not forget it.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::lab::{in_lab, ports, write};
use common::{plan_of, text};
use rankstorm::profile::{self, Overrides};
use rankstorm::sys::interface::Interface;
use rankstorm::sys::socket::{FrameSocket, PacketSocket};
use rankstorm::units::Span;
use rankstorm::wire::neighbour::{self, Neighbour};

/// Two short streams with seconds of silence between them, the keys of `[run]`, and ports t0 and t1.
fn profile(run: &str) -> String {
    let stream = |start: &str| {
        format!(
            "[[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"10%\"\nduration = \"200 ms\"\nstart = \"{start}\"\n"
        )
    };
    let run = format!("[run]\non = \"ports\"\nlimit = \"30s\"\nstall_max = \"20s\"\n{run}");
    run + &ports(&["t0", "t1"], "1G") + &stream("0 s") + &stream("6 s")
}

/// Two seconds of the silence: frames that came from t0 to the switch, how many of the two MACs it knew at the end, and what
/// neighbours were asked for by t0, and when.
const SILENCE: &str = "ip link set br0 type bridge ageing_time 100\n\
    RANKSTORM_LISTEN=b0 $TEST listens_where_asked --exact --nocapture > heard & heard=$!\n\
    timeout 60 $RS run p.toml --out out --quiet & run=$!\n\
    busy; sleep 2; a=$(cat /sys/class/net/b0/statistics/rx_packets); sleep 2\n\
    echo words $(($(cat /sys/class/net/b0/statistics/rx_packets) - a)); bridge fdb show br br0 > fdb\n\
    for i in 0 1; do grep \"$(cat /sys/class/net/t$i/address) dev b$i\" fdb | grep -c -v permanent; done | xargs echo known\n\
    wait $run; echo rc $?; kill $heard; wait\n";

/// (frames, of known addresses [t0, t1]) of a run with these keys in `[run]`.
fn silence(dir: &Path, run: &str) -> Option<(u64, Vec<u64>)> {
    write(dir, "p.toml", &profile(run));
    let test = std::env::current_exe().unwrap();
    let o = in_lab(dir, &format!("TEST='{}'\n{SILENCE}", test.display()))?;
    let said = text(&o.stdout);
    assert!(said.contains("rc 0"), "{said}{}", text(&o.stderr));
    let line = |word: &str| {
        let line = said.lines().find_map(|l| l.strip_prefix(word)).unwrap_or_else(|| panic!("{said}"));
        line.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<u64>>()
    };
    Some((line("words ")[0], line("known ")))
}

#[test]
fn a_switch_that_forgets_within_a_second_does_not_forget_ports_that_are_silent() {
    for ip in ["v4", "v6"] {
        let dir = tempfile::tempdir().unwrap();
        let Some((words, known)) = silence(dir.path(), &format!("ip = \"{ip}\"\nkeep_alive = \"300ms\"\n"))
        else {
            return;
        };
        // One neighbour, asked every 300 ms for two seconds, by a machine that may be busy.
        assert!((3..=8).contains(&words), "{ip}: {words} frames");
        assert_eq!(known, [1, 1], "{ip}: both MACs");
        asked(dir.path(), ip);
    }
    // By itself the switch forgets both: that it did not is not the switch's merit.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(silence(dir.path(), "keep_alive = \"1h\"\n"), Some((0, vec![0, 0])));
}

/// What t0 said is a question for its neighbour, 0.3 s and what the machine adds after the one before.
fn asked(dir: &Path, ip: &str) {
    let (us, peer) = match ip {
        "v4" => ("198.18.0.1", "198.18.0.2"),
        _ => ("2001:2::1", "2001:2::2"),
    };
    let heard = std::fs::read_to_string(dir.join("heard")).unwrap();
    let ours = heard.lines().filter_map(|l| l.strip_suffix(&format!(" {us} asks for {peer}")));
    let asked: Vec<u64> = ours.map(|ms| ms.parse().unwrap()).collect();
    // The run goes on for 6.2 s.
    assert!(asked.len() >= 12, "{} questions of {us} for {peer}: {heard}", asked.len());
    let mut gaps: Vec<u64> = asked.windows(2).map(|w| w[1] - w[0]).collect();
    gaps.sort_unstable();
    let median = gaps[gaps.len() / 2];
    assert!((250..=450).contains(&median), "{median} ms between most of them: {gaps:?}");
}

/// No test by itself: [`SILENCE`] runs it in its namespaces, to hear what comes in at an interface until it is killed. Writes
/// when which neighbour was asked for.
#[test]
fn listens_where_asked() {
    let Some(name) = std::env::var_os("RANKSTORM_LISTEN") else { return };
    let interface = Interface::find(name.to_str().unwrap()).unwrap();
    let mut socket = FrameSocket::Packet(PacketSocket::open(&interface, true).unwrap());
    let (start, mut room) = (Instant::now(), vec![0; 9_200]);
    loop {
        match socket.receive(&mut room).unwrap() {
            None => std::thread::sleep(Duration::from_millis(1)),
            Some(n) => {
                if let Some(Neighbour::Asks { ip, target, .. }) = neighbour::parse(&room[..n.min(room.len())])
                {
                    println!("{} {ip} asks for {target}", start.elapsed().as_millis());
                }
            }
        }
    }
}

#[test]
fn the_interval_is_a_key_of_the_profile_with_a_range() {
    assert_eq!(plan_of(&profile(""), &[]).lab.keep_alive, Span::from_ms(20_000));
    assert_eq!(plan_of(&profile("keep_alive = \"2s\"\n"), &[]).lab.keep_alive, Span::from_ms(2_000));
    for bad in ["0s", "99ms", "61min"] {
        let text = profile(&format!("keep_alive = \"{bad}\"\n"));
        let e = profile::from_str("p.toml", &text, &Overrides::default()).unwrap_err().to_string();
        assert!(e.contains("p.toml:5") && e.contains("100 ms to 1 h"), "{bad}: {e}");
    }
}
