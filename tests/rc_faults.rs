//! Faults of a profile, from TOML to counters: each effect shows at the host that is meant to see it, nothing is
//! lost that was not meant to be, and the pattern is the same wherever it runs.

#![allow(clippy::unwrap_used)]

use rankstorm::plan::{Mode, Plan};
use rankstorm::profile::{self, Overrides};
use rankstorm::run::result::RunResult;
use rankstorm::run::{self, Options};

/// One 100-packet message from port 0 to port 1, with these faults.
fn profile(faults: &str) -> String {
    format!(
        "[[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"400 KiB\"\nack_timeout = \"200 us\"\n\
         [switch.ports]\ncount = 2\n{faults}"
    )
}

fn plan(faults: &str) -> Plan {
    profile::from_str("faults.toml", &profile(faults), &Overrides::default()).unwrap()
}

fn run_on(mode: Mode, faults: &str) -> RunResult {
    let result = run::execute(&plan(faults), Options::new(mode)).unwrap();
    assert!(result.conservation.holds(), "{:?}", result.conservation);
    assert!(result.complete, "{:?}", result.missing);
    assert_eq!(result.hosts[1].payload_bytes, 400 << 10, "every byte once");
    result
}

fn virtually(faults: &str) -> RunResult {
    run_on(Mode::Virtual, faults)
}

fn fault(rest: &str) -> String {
    format!("[[fault]]\nlink = \"port 0 tx\"\n{rest}\n")
}

#[test]
fn without_faults_nothing_is_sent_twice() {
    let r = virtually("");
    assert_eq!((r.hosts[0].retransmitted, r.hosts[1].nak_tx, r.conservation.dropped_frames), (0, 0, 0));
}

#[test]
fn a_lost_frame_costs_one_nak_and_the_way_back() {
    let r = virtually(&fault("effect = \"drop\"\nopcode = \"data\"\nnth = 50"));
    assert_eq!((r.conservation.dropped_frames, r.hosts[1].nak_tx, r.hosts[0].timeouts), (1, 1, 0));
    // Every frame sent behind the lost one until the NAK was back was thrown away and sent again, and the lost one.
    assert_eq!(r.hosts[0].retransmitted, r.hosts[1].out_of_order + 1);
}

#[test]
fn a_broken_icrc_is_a_loss_that_the_receiver_counts() {
    let lost = virtually(&fault("effect = \"drop\"\nopcode = \"data\"\nnth = 50"));
    let broken = virtually(&fault("effect = \"corrupt\"\nopcode = \"data\"\nnth = 50"));
    assert_eq!((broken.hosts[1].rx_malformed, lost.hosts[1].rx_malformed), (1, 0));
    assert_eq!(broken.conservation.dropped_frames, 0, "it arrived");
    let seen = |r: &RunResult| (r.hosts[1].nak_tx, r.hosts[0].retransmitted, r.hosts[1].out_of_order);
    assert_eq!(seen(&broken), seen(&lost));
}

#[test]
fn duplicates_are_acknowledged_and_not_counted_twice() {
    let r = virtually(&fault("effect = \"duplicate\"\nopcode = \"data\""));
    assert_eq!((r.hosts[1].duplicates, r.hosts[1].nak_tx, r.hosts[0].retransmitted), (100, 0, 0));
}

#[test]
fn frames_out_of_order_look_like_losses_to_go_back_n() {
    for effect in ["effect = \"swap\"", "effect = \"delay\"\nspan = \"2 us\""] {
        let r = virtually(&fault(&format!("{effect}\nopcode = \"data\"\nnth = 50")));
        assert!(r.hosts[1].nak_tx >= 1 && r.hosts[0].retransmitted > 0, "{effect}");
        assert_eq!(r.conservation.dropped_frames, 0);
    }
}

#[test]
fn marks_reach_the_receiver() {
    let r = virtually(&fault("effect = \"mark-ce\"\nopcode = \"data\"\nnth = 1\ncount = 7"));
    assert_eq!((r.hosts[1].ce_rx, r.hosts[0].retransmitted), (7, 0));
}

#[test]
fn a_lost_acknowledgement_is_found_by_the_timeout() {
    let lost = "[[fault]]\nlink = \"port 0 rx\"\neffect = \"drop\"\nopcode = \"ack\"\npsn = LAST\ncount = 1";
    // Which PSN the last packet has is the plan's choice.
    let last = (plan("").hosts[0].qps[0].psn_first + 99) & 0xff_ffff;
    let r = virtually(&lost.replace("LAST", &last.to_string()));
    assert_eq!((r.conservation.dropped_frames, r.hosts[0].timeouts), (1, 1));
    assert!(r.hosts[1].duplicates >= 1 && r.hosts[1].nak_tx == 0);
}

#[test]
fn what_cannot_act_is_refused_with_its_place() {
    let refused = |rest: &str| {
        let text = profile(&fault(rest));
        profile::from_str("f.toml", &text, &Overrides::default()).unwrap_err().to_string()
    };
    assert!(refused("effect = \"delay\"").contains("add span = \"5 us\""));
    assert!(refused("effect = \"drop\"\nopcode = \"wirte\"").contains("is no opcode"));
    assert!(refused("effect = \"drop\"\nprobability = 2.0").contains("from 0 to 1"));
    let text = profile("[[fault]]\nlink = \"cable 7\"\neffect = \"drop\"\n");
    let e = profile::from_str("f.toml", &text, &Overrides::default()).unwrap_err().to_string();
    assert!(e.starts_with("f.toml:9:") && e.contains("names no link"), "{e}");
}

/// Everything at once, by chance.
const STORM: &str = "[[fault]]\nlink = \"port 0 tx\"\neffect = \"drop\"\nprobability = 0.02\n\
    [[fault]]\nlink = \"port 0 tx\"\neffect = \"duplicate\"\nprobability = 0.05\n\
    [[fault]]\nlink = \"port 1 rx\"\neffect = \"swap\"\nprobability = 0.05\n\
    [[fault]]\nlink = \"port 1 rx\"\neffect = \"corrupt\"\nprobability = 0.02\n\
    [[fault]]\nlink = \"port 1 tx\"\neffect = \"delay\"\nspan = \"3 us\"\nprobability = 0.1\n\
    [[fault]]\nlink = \"port 0 rx\"\neffect = \"drop\"\nprobability = 0.05\n";

#[test]
fn a_storm_of_faults_repeats_exactly() {
    let (a, b) = (virtually(STORM), virtually(STORM));
    assert_eq!(a.outcome_hash(), b.outcome_hash());
    assert!(a.hosts[0].retransmitted > 0 && a.hosts[1].rx_malformed > 0 && a.hosts[1].duplicates > 0);
}

#[cfg(feature = "dpdk")]
#[test]
fn a_storm_of_faults_is_the_same_over_rings() {
    assert_eq!(run_on(Mode::Rings, STORM).outcome_hash(), virtually(STORM).outcome_hash());
}
