//! How the transport behaves under loss and disorder, in numbers that are frozen: a change of them is a change of the
//! transport and must be meant.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use rankstorm::plan::Mode;
use rankstorm::profile::{self, Overrides};
use rankstorm::run::result::RunResult;
use rankstorm::run::{self, Options};

fn run(text: &str) -> RunResult {
    let plan = profile::from_str("behaviour.toml", text, &Overrides::default()).unwrap();
    let r = run::execute(&plan, Options::new(Mode::Virtual)).unwrap();
    assert!(r.complete && r.conservation.holds(), "{:?}", r.missing);
    r
}

/// One sender, one receiver, 100G, 4 x 2.5 us of cable there and back.
fn lossy(retransmission: &str, loss: f64, message: &str) -> RunResult {
    run(&format!(
        "[[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"{message}\"\nack_timeout = \"100 us\"\n\
         retransmission = \"{retransmission}\"\n\
         [[fault]]\nlink = \"port 0 tx\"\neffect = \"drop\"\nopcode = \"data\"\nprobability = {loss:?}\n\
         [switch]\npipeline = \"0 ns\"\n\
         [switch.ports]\ncount = 2\nrate = \"100G\"\ncable = \"2.5 us\"\nfec = \"none\"\n"
    ))
}

/// Payload bits per nanosecond of the only message.
fn goodput_gbps(r: &RunResult) -> f64 {
    let m = &r.recorder.rows()[0];
    m.bytes as f64 * 8e3 / m.finished.since(m.started).0 as f64
}

#[test]
fn goodput_against_loss() {
    let mut table = String::from("loss    retransmission     Gbit/s  sent again  NAKs  timeouts\n");
    let mut clean = 0.0;
    for (loss, message) in
        [(0.0, "64 MiB"), (1e-5, "1 GiB"), (1e-4, "512 MiB"), (1e-3, "128 MiB"), (1e-2, "64 MiB")]
    {
        for how in ["go-back-n", "selective-repeat"] {
            let r = lossy(how, loss, message);
            let (rate, tx, rx) = (goodput_gbps(&r), &r.hosts[0], &r.hosts[1]);
            writeln!(
                table,
                "{loss:<7} {how:<16} {rate:8.3} {:11} {:5} {:9}",
                tx.retransmitted, rx.nak_tx, tx.timeouts
            )
            .unwrap();
            if loss == 0.0 {
                // 4096 of 4178 bytes on the wire are payload.
                assert!((rate / (100.0 * 4096.0 / 4178.0) - 1.0).abs() < 5e-3, "{rate} Gbit/s without loss");
                clean = rate;
            }
            if how == "go-back-n" {
                // Each loss costs what was sent until its NAK was back: a round trip of 4 x 2.5 us and the time of
                // two frames and an ACK on two links each, in frames of 334.24 ns, and the lost frame's own place.
                let lost = loss * ((10_000.0 + 4.0 * 334.24) / 334.24 + 1.0);
                let expected = clean / (1.0 + lost);
                assert!((rate / expected - 1.0).abs() < 0.06, "{rate} Gbit/s at {loss}, expected {expected}");
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// Two leaves, three spines at half the rate, every frame another way; a mix of frame lengths beside our message makes
/// the queues of the spines uneven.
fn sprayed(retransmission: &str) -> RunResult {
    run(&format!(
        "[[workload]]\nkind = \"incast\"\nsenders = 1\nreceiver = 2\nmessage = \"8 MiB\"\n\
         ack_timeout = \"5 ms\"\nretransmission = \"{retransmission}\"\n\
         [[stream]]\nfrom = 1\nto = 3\nimix = [[1518, 3], [4158, 2], [64, 2]]\nload = \"45 %\"\n\
         duration = \"500 us\"\n\
         [switch]\nbalance = \"spray\"\n\
         [fabric]\nkind = \"leaf-spine\"\nleaves = 2\nspines = 3\nhosts_per_leaf = 2\nhost_rate = \"100G\"\n\
         uplink_rate = \"50G\"\nuplinks = 1\n"
    ))
}

#[test]
fn spraying_needs_a_receiver_that_takes_any_order() {
    let sum = |r: &RunResult| {
        let s = |f: fn(&rankstorm::measure::stats::HostStats) -> u64| r.hosts.iter().map(f).sum::<u64>();
        (s(|h| h.out_of_order), s(|h| h.nak_tx), s(|h| h.retransmitted))
    };
    let done = |r: &RunResult| r.recorder.rows().iter().map(|m| m.finished).max().unwrap();
    let (plain, any) = (sprayed("go-back-n"), sprayed("selective-repeat"));
    let ((_, naks, again), (late, any_naks, any_again)) = (sum(&plain), sum(&any));
    assert!(naks > 50 && again > 500, "go-back-N takes disorder for loss: {naks} NAKs, {again} sent again");
    assert!(late > 0, "frames did overtake");
    assert_eq!((any_naks, any_again), (0, 0), "nothing was lost, so nothing is asked for or sent again");
    assert!(done(&any) < done(&plain));
}

#[test]
fn source_ports_are_what_the_profile_says() {
    let ports = |policy: &str| {
        let text = format!(
            "[[workload]]\nkind = \"incast\"\nsenders = 3\nmessage = \"1 KiB\"\nqps_per_pair = 4\n\
             source_port = \"{policy}\"\n"
        );
        let plan = profile::from_str("ports.toml", &text, &Overrides::default())?;
        Ok::<Vec<u16>, profile::ProfileError>(plan.hosts[3].qps.iter().map(|q| q.sport).collect())
    };
    assert_eq!(ports("fixed:50000").unwrap(), [50_000; 12]);
    assert_eq!(ports("qpn").unwrap(), (0x11..0x11 + 12).map(|q| 0xc000 + q).collect::<Vec<u16>>());
    let random = ports("random").unwrap();
    assert!(random.iter().all(|p| *p >= 0xc000) && random.windows(2).all(|w| w[0] != w[1]), "{random:x?}");
    assert_eq!(random, ports("random").unwrap(), "the same seed, the same ports");
    assert_ne!(ports("kernel").unwrap(), random);
    assert!(ports("any").unwrap_err().to_string().contains("\"per-message\""));
}

#[test]
fn each_message_takes_a_path_of_its_own() {
    // One pair of ranks over 8 equal paths. One source port uses one of them; a port per message uses most.
    let used = |policy: &str| {
        let r = run(&format!(
            "[[workload]]\nkind = \"ring-all-reduce\"\nranks = 2\nvector = \"2 MB\"\nchunk = \"16 KiB\"\n\
             placement = \"interleaved\"\nsource_port = \"{policy}\"\n\
             [fabric]\nkind = \"leaf-spine\"\nleaves = 2\nspines = 8\nhosts_per_leaf = 1\nhost_rate = \"100G\"\n\
             uplink_rate = \"100G\"\nuplinks = 1\n"
        ));
        // Spines follow the leaves.
        r.switches[2..].iter().filter(|s| s.tx_frames > 0).count()
    };
    assert!(used("kernel") <= 2);
    assert!(used("per-message") >= 6);
}
