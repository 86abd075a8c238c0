//! Frames with a published or independently computed ICRC: what every other RoCEv2 stack agrees on.

#![allow(clippy::unwrap_used, clippy::panic)]

use rankstorm::units::FrameLen;
use rankstorm::wire::dissect::{dissect, encode};
use rankstorm::wire::fast::{self, Fast, Kind};
use rankstorm::wire::{HEAD_MAX, icrc};

fn hex(s: &str) -> Vec<u8> {
    (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn head_of(frame: &[u8]) -> ([u8; HEAD_MAX], Fast) {
    let mut head = [0xee; HEAD_MAX];
    let n = frame.len().min(HEAD_MAX);
    head[..n].copy_from_slice(&frame[..n]);
    let f = fast::parse(&head, FrameLen(frame.len() as u16)).unwrap();
    (head, f)
}

/// RC SEND ONLY of 16 bytes, DSCP 26, ECT(0), PSN 0x100, AckReq.
const SEND_ONLY: &str = "020000000002020000000001 0800 456a003c000140004011ae1ec6120001c6120002
    c0de12b700280000 0440ffff0000001180000100 000102030405060708090a0b0c0d0e0f 8d464a63";
/// The same after a hop: CE set, TTL 63, IP checksum redone, ICRC untouched.
const SEND_ONLY_CE: &str = "020000000002020000000001 0800 456b003c000140003f11af1dc6120001c6120002
    c0de12b700280000 0440ffff0000001180000100 000102030405060708090a0b0c0d0e0f 8d464a63";

fn clean(s: &str) -> Vec<u8> {
    hex(&s.split_whitespace().collect::<String>())
}

#[test]
fn congestion_marks_and_hops_leave_the_icrc_alone() {
    for frame in [clean(SEND_ONLY), clean(SEND_ONLY_CE)] {
        let i = icrc::of_frame(&frame).unwrap();
        assert!(i.ok());
        assert_eq!(i.found.to_le_bytes(), [0x8d, 0x46, 0x4a, 0x63]);
    }
}

#[test]
fn marking_as_a_switch_does_gives_the_marked_vector() {
    let mut frame = clean(SEND_ONLY);
    let (mut head, _) = head_of(&frame);
    assert!(fast::set_ce(&mut head));
    let n = frame.len();
    frame.copy_from_slice(&head[..n]);
    // One hop less; TTL is the upper half of its word, so the checksum grows by 0x0100.
    frame[22] -= 1;
    frame[24] += 1;
    assert_eq!(frame, clean(SEND_ONLY_CE));
}

#[test]
fn published_vectors_verify() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/icrc_vectors.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: {path} is not on this machine");
        return;
    };
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() >= 19);
    for v in &vectors {
        let frame = hex(v["hex"].as_str().unwrap());
        let (head, f) = head_of(&frame);
        assert_eq!(f.kind, Kind::Roce);
        assert!(icrc::verify(&frame).unwrap(), "{}", v["name"]);
        let d = dissect(&frame, frame.len()).unwrap();
        assert_eq!(encode(&d), frame, "{}", v["name"]);
        let body = &frame[usize::from(f.head_len())..frame.len() - 4];
        let register = icrc::register_after_head(&head, &f);
        let mut rest = crc32fast::Hasher::new_with_initial(!register);
        rest.update(body);
        assert_eq!(rest.finalize().to_le_bytes(), frame[frame.len() - 4..], "{}", v["name"]);
    }
}
