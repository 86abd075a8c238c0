//! Operations, receive queues and acknowledgement policies of whole runs.

#![allow(clippy::unwrap_used)]

use rankstorm::plan::Mode;
use rankstorm::profile::{self, Overrides};
use rankstorm::run::result::RunResult;
use rankstorm::run::{self, Options};

fn execute(text: &str) -> RunResult {
    let plan = profile::from_str("verbs.toml", text, &Overrides::default()).unwrap();
    let r = run::execute(&plan, Options::new(Mode::Virtual)).unwrap();
    assert!(r.conservation.holds());
    r
}

/// One sender, one receiver, 100G, four links of 2.5 us there and back.
fn pair(workload: &str, rest: &str) -> String {
    let timeout = if workload.contains("ack_timeout") { "" } else { "ack_timeout = \"100 us\"\n" };
    format!(
        "[[workload]]\nkind = \"incast\"\nsenders = 1\n{timeout}{workload}\n{rest}\n\
         [switch]\npipeline = \"0 ns\"\n\
         [switch.ports]\ncount = 2\nrate = \"100G\"\ncable = \"2.5 us\"\nfec = \"none\"\n"
    )
}

fn finished(workload: &str, rest: &str) -> RunResult {
    let r = execute(&pair(workload, rest));
    assert!(r.complete, "{workload} {rest}: {:?}", r.missing);
    r
}

fn refused(workload: &str, rest: &str) -> String {
    profile::from_str("v.toml", &pair(workload, rest), &Overrides::default()).unwrap_err().to_string()
}

/// Nanoseconds of the only message, from its first frame to its end.
fn took_ns(r: &RunResult) -> f64 {
    let m = &r.recorder.rows()[0];
    m.finished.since(m.started).0 as f64 / 1e3
}

#[test]
fn a_read_takes_a_round_trip_and_the_time_of_its_responses() {
    let r = finished("verb = \"read\"\nmessage = \"1 MiB\"", "");
    // Request: 74 + 24 bytes on two links, 5 us; 256 responses of 4,096 bytes, the last one twice (store and forward).
    let frame = |ext: f64| (58.0 + ext + 4096.0 + 24.0) * 0.08;
    let expected = 2.0 * 98.0 * 0.08 + 10_000.0 + 254.0 * frame(0.0) + 3.0 * frame(4.0);
    assert!((took_ns(&r) - expected).abs() < 2.0, "{} ns, expected {expected}", took_ns(&r));
    let m = &r.recorder.rows()[0];
    assert_eq!((m.from.0, m.to.0, m.bytes), (0, 1, 1 << 20), "the data's sender is who has it");
    let (source, reader) = (&r.hosts[0], &r.hosts[1]);
    assert_eq!((reader.read_tx, source.read_rx, reader.payload_bytes), (1, 1, 1 << 20));
    assert_eq!((source.classes[0].transmissions, reader.classes[0].arrivals), (256, 256));
    assert_eq!((source.ack_tx, reader.ack_tx), (0, 0), "responses are the acknowledgement");
}

#[test]
fn responses_obey_the_rate_and_the_pause_of_their_class() {
    // 25G of wire bits: 256 frames of 4,178 to 4,182 bytes in 343 us, four times as long as the link alone.
    let r = finished("verb = \"read\"\nmessage = \"1 MiB\"\nrate_control = \"fixed:25G\"", "");
    let expected = 255.0 * 4178.0 * 0.32;
    assert!((took_ns(&r) / expected - 1.0).abs() < 0.04, "{} ns", took_ns(&r));
    // The reader pauses its switch port for 80 us; what is late waits for that.
    let pause = "[[at]]\ntime = \"20 us\"\npause = { port = 1, priority = 3, hold = \"80 us\" }";
    let paused = finished("verb = \"read\"\nmessage = \"1 MiB\"", pause);
    let free = finished("verb = \"read\"\nmessage = \"1 MiB\"", "");
    let later = took_ns(&paused) - took_ns(&free);
    assert!((60_000.0..100_000.0).contains(&later), "{later} ns later");
}

#[test]
fn congestion_of_responses_slows_down_who_sends_them() {
    let text = "[[workload]]\nkind = \"incast\"\nsenders = 4\nmessage = \"4 MiB\"\nverb = \"read\"\n\
         rate_control = \"dcqcn:nvidia-fw\"\n\
         [switch]\nwred = { kmin = \"100 kB\", kmax = \"400 kB\", pmax = 0.2 }\n[switch.ports]\nrate = \"100G\"\n";
    let r = execute(text);
    assert!(r.complete);
    let (sources, reader) = (&r.hosts[..4], &r.hosts[4]);
    assert!(reader.ce_rx > 0 && reader.cnp_tx > 0);
    assert!(sources.iter().all(|s| s.cnp_rx > 0), "every source is told");
    let deepest =
        |r: &RunResult| r.switches[0].ports.iter().flat_map(|p| p.queues).map(|q| q.depth_bytes_max).max();
    let free = execute(&text.replace("dcqcn:nvidia-fw", "none"));
    assert!(
        deepest(&r).unwrap() < deepest(&free).unwrap() * 3 / 4,
        "{:?} and {:?}",
        deepest(&r),
        deepest(&free)
    );
}

#[test]
fn datagrams_are_one_packet_each_and_losses_are_counted() {
    let r = finished("verb = \"ud-send\"\nmessage = \"4 KiB\"", "");
    assert_eq!((r.hosts[0].datagram_tx, r.hosts[1].datagram_rx, r.hosts[1].ack_tx), (1, 1, 0));
    let e = refused("verb = \"ud-send\"\nmessage = \"4097 B\"", "");
    assert!(e.contains("workload[0].verb") || e.contains("ud-send"), "{e}");
    assert!(e.contains("4096 B") && e.contains("use \"send\""), "{e}");
    let ring = "[[workload]]\nkind = \"ring-all-reduce\"\nranks = 2\nvector = \"512 KiB\"\nchunk = \"4 KiB\"\n\
         verb = \"ud-send\"\n";
    let r = execute(ring);
    assert!(r.complete && r.hosts[0].datagram_tx == 128 && r.hosts[0].datagram_lost == 0);
    let lost = execute(&format!(
        "{ring}[[fault]]\nlink = \"port 0 tx\"\neffect = \"drop\"\nnth = 5\ncount = 2\nopcode = \"data\"\n"
    ));
    assert!(!lost.complete && lost.hosts[1].datagram_lost <= 2 && lost.hosts[0].retransmitted == 0);
    let r = execute(
        "[[stream]]\nfrom = 0\nto = 1\nsize = 256\nframes = 1000\nverb = \"ud-send\"\nload = \"50 %\"\n\
         [switch.ports]\ncount = 2\n",
    );
    assert_eq!((r.hosts[0].stream_tx, r.hosts[1].stream_rx, r.hosts[1].stream_lost), (1000, 1000, 0));
}

/// 64 SENDs of 4 KiB from each of two ranks to the other.
fn sends(workload: &str) -> String {
    format!(
        "[[workload]]\nkind = \"ring-all-reduce\"\nranks = 2\nvector = \"512 KiB\"\nchunk = \"4 KiB\"\n\
         ack_timeout = \"10 ms\"\n{workload}\n"
    )
}

#[test]
fn a_receive_queue_sets_the_pace_of_sends() {
    let plain = execute(&sends("verb = \"send\""));
    let slow = "verb = \"send\"\nreceive_queue = 4\nreceive_delay = \"20 us\"\nmin_rnr_timer = 1";
    let without = execute(&sends(slow));
    let with = execute(&sends(&format!("{slow}\ncredits = true")));
    let span = |r: &RunResult| r.recorder.iterations()[0].rows[0].completion().unwrap().as_ns_f64() / 1e3;
    for r in [&plain, &without, &with] {
        assert!(r.complete, "{:?}", r.missing);
        assert_eq!(r.hosts[0].messages_completed, 128);
    }
    // 4 buffers, each back 20 us after its message: at most 4 messages in 20 us, so 128 take 31 x 20 us.
    assert!(span(&plain) < 100.0 && span(&without) > 620.0 && span(&with) > 620.0);
    assert_eq!((plain.hosts[1].rnr_nak_tx, plain.hosts[0].credit_waits), (0, 0));
    assert!(without.hosts[1].rnr_nak_tx > 0 && without.hosts[0].credit_waits == 0);
    assert!(with.hosts[0].credit_waits > 0);
    let again = |r: &RunResult| r.hosts[0].retransmitted;
    assert!(again(&with) < again(&without), "{} with credits, {} without", again(&with), again(&without));
    // WRITEs need no buffer; the profile says so.
    assert!(
        refused("verb = \"write\"\nmessage = \"1 MiB\"\nreceive_queue = 4", "")
            .contains("take no receive buffer")
    );
    assert!(
        refused("verb = \"send\"\nmessage = \"1 MiB\"\ncredits = true", "").contains("receive_queue only")
    );
}

#[test]
fn rnr_retries_run_out_with_a_reason() {
    let r = execute(&pair(
        "verb = \"send\"\nmessage = \"4 KiB\"\nreceive_queue = 1\nreceive_delay = \"50 ms\"\nrnr_retry = 2\n\
         min_rnr_timer = 1",
        "[run]\nrepeats = 2\n",
    ));
    assert!(!r.complete && r.missing.iter().any(|m| m.contains("not ready")), "{:?}", r.missing);
    assert_eq!(r.hosts[0].rnr_nak_rx, 3);
}

#[test]
fn acknowledgements_are_as_many_as_the_policy_says() {
    let acks = |policy: &str| {
        let r = finished(&format!("message = \"1 MiB\"\n{policy}"), "");
        assert_eq!((r.hosts[0].retransmitted, r.hosts[0].timeouts), (0, 0), "{policy}");
        r.hosts[1].ack_tx
    };
    assert_eq!(acks("ack_policy = \"frame\""), 256);
    assert_eq!(acks("ack_policy = \"count\"\nack_every = 8"), 32);
    assert_eq!(acks("ack_policy = \"message\"\nack_req = \"last\""), 1);
    assert_eq!(acks("ack_policy = \"message\"\nack_req = \"packet\""), 256);
    // Every 1 us of 85.6 us: one with the first frame after each.
    assert!((60..=90).contains(&acks("ack_policy = \"delay:1us\"\nack_req = \"last\"")));
    assert_eq!(acks("ack_policy = \"message\"\nack_req = \"window\"\nwindow = 64"), 4);
}

#[test]
fn what_would_wait_for_the_timeout_is_refused() {
    let m = "message = \"1 MiB\"\n";
    let last = refused(&format!("{m}ack_req = \"last\"\nwindow = 8"), "");
    assert!(last.contains("ack_req") && last.contains("larger window"), "{last}");
    let window = refused(&format!("{m}ack_req = \"window\"\nwindow = 8"), "");
    assert!(window.contains("last 15 frames") && window.contains("\"message\""), "{window}");
    assert!(refused(&format!("{m}ack_policy = \"delay:1ms\""), "").contains("ack_timeout"));
    assert!(refused(&format!("{m}ack_policy = \"never\""), "").contains("\"delay:10us\""));
    assert!(refused(&format!("{m}ack_req = \"none\""), "").contains("\"window\""));
    // The same window goes with a responder that answers in time.
    finished(&format!("{m}ack_req = \"last\"\nwindow = 8\nack_every = 4"), "");
    let ring = "[[workload]]\nkind = \"ring-all-reduce\"\nranks = 4\nvector = \"1 MiB\"\nverb = \"read\"\n";
    let e = profile::from_str("r.toml", ring, &Overrides::default()).unwrap_err().to_string();
    assert!(e.contains("incast"), "{e}");
}

#[test]
fn messages_spread_over_queue_pairs_as_asked() {
    let used = |spread: &str| {
        let r = execute(&sends(&format!("qps_per_pair = 4\nspread = \"{spread}\"")));
        assert!(r.complete && r.hosts[0].messages_completed == 128);
        r.outcome_hash()
    };
    assert_ne!(used("round-robin"), used("hash"));
    assert_eq!(used("hash"), used("hash"));
    assert_ne!(used("chunks"), used("hash"));
    // A message of 256 packets in four parts: a fixed rate holds per queue pair, so four of them are four times as fast.
    let one = finished("message = \"1 MiB\"\nrate_control = \"fixed:10G\"\nack_timeout = \"10 ms\"", "");
    for verb in ["write", "read", "send"] {
        let text = format!(
            "message = \"1 MiB\"\nrate_control = \"fixed:10G\"\nack_timeout = \"10 ms\"\nverb = \"{verb}\"\nqps_per_pair = 4\nspread = \"chunks\""
        );
        let four = finished(&text, "");
        let m = &four.recorder.rows()[0];
        assert_eq!((four.recorder.rows().len(), m.bytes), (1, 1 << 20), "one message, whole");
        assert!(
            (took_ns(&one) / took_ns(&four) / 4.0 - 1.0).abs() < 0.05,
            "{} and {}",
            took_ns(&one),
            took_ns(&four)
        );
    }
}

#[test]
fn every_operation_gets_through_a_storm() {
    let storm = "[[fault]]\nlink = \"port 0 tx\"\neffect = \"drop\"\nprobability = 0.01\n\
        [[fault]]\nlink = \"port 0 tx\"\neffect = \"duplicate\"\nprobability = 0.02\n\
        [[fault]]\nlink = \"port 1 rx\"\neffect = \"swap\"\nprobability = 0.02\n\
        [[fault]]\nlink = \"port 1 tx\"\neffect = \"delay\"\nspan = \"3 us\"\nprobability = 0.05\n\
        [[fault]]\nlink = \"port 0 rx\"\neffect = \"drop\"\nprobability = 0.01\n";
    for how in [
        "verb = \"read\"",
        "verb = \"read\"\nretransmission = \"selective-repeat\"",
        "verb = \"send\"\nreceive_queue = 8\nreceive_delay = \"1 us\"\ncredits = true\nmin_rnr_timer = 1",
        "verb = \"write-imm\"\nreceive_queue = 1\nmin_rnr_timer = 1",
        "verb = \"write\"\nack_policy = \"delay:5us\"\nack_req = \"window\"\nwindow = 32",
        "verb = \"write\"\nack_policy = \"message\"\nack_req = \"last\"",
    ] {
        let r = finished(&format!("message = \"2 MiB\"\n{how}"), storm);
        let again = r.hosts.iter().map(|h| h.retransmitted).sum::<u64>();
        assert!(again > 0 && r.hosts[1].payload_bytes == 2 << 20, "{how}: {again}");
        assert_eq!(r.outcome_hash(), finished(&format!("message = \"2 MiB\"\n{how}"), storm).outcome_hash());
    }
}
