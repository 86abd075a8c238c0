//! Real captures: every frame decodes, is written back byte for byte, carries the right ICRC, and adds up to
//! the messages that were posted.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use rankstorm::cli::dissect::dissect as dissect_file;
use rankstorm::units::FrameLen;
use rankstorm::wire::capture::{CaptureError, CaptureReader, CaptureWriter};
use rankstorm::wire::dissect::{Body, dissect, encode};
use rankstorm::wire::fast::{self, IpKey, Kind};
use rankstorm::wire::headers::Opcode;
use rankstorm::wire::pfc::PfcFrame;
use rankstorm::wire::{HEAD_MAX, icrc};

fn committed() -> Vec<PathBuf> {
    captures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps"))
}

fn captures(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "pcap"));
    found.sort();
    found
}

/// Runs `each` over (frame number, time, wire length, bytes).
fn for_each_frame(path: &Path, mut each: impl FnMut(u64, u64, usize, &[u8])) {
    let mut reader = CaptureReader::open(path).unwrap();
    while let Some(f) = reader.read().unwrap() {
        each(f.index, f.ts_ns, f.wire_len, f.bytes);
    }
}

fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    dissect_file(path, true, &mut out).unwrap();
    out.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn pcap(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps").join(name)
}

/// (messages, message bytes, wrong ICRCs, packets seen again)
fn totals(name: &str) -> (u64, u64, u64, u64) {
    let lines = json_lines(&pcap(name));
    let t = lines.last().unwrap();
    assert_eq!(t["frames"], lines.len() - 1, "{name}");
    let n = |key: &str| t[key].as_u64().unwrap();
    (n("messages"), n("message_bytes"), n("icrc_bad"), n("retransmitted"))
}

fn check_all(files: &[PathBuf]) -> usize {
    let mut frames = 0;
    for path in files {
        let broken_on_purpose = path.ends_with("rc_write_bad_icrc.at_responder.pcap");
        let mut wrong = Vec::new();
        for_each_frame(path, |index, _, wire_len, bytes| {
            let at = format!("{} frame {index}", path.display());
            frames += 1;
            let d = dissect(bytes, wire_len).unwrap();
            let Body::Roce(r) = &d.body else { panic!("{at}: not RoCEv2") };
            let again = encode(&d);
            if r.icrc_ok == Some(true) {
                assert_eq!(again, bytes, "{at}: not written back as it was read");
            } else {
                wrong.push(r.bth.psn);
                let end = bytes.len() - 4;
                assert_eq!(again[..end], bytes[..end], "{at}: differs before the ICRC");
            }
            assert_eq!(icrc::verify(bytes), Ok(r.icrc_ok == Some(true)), "{at}");

            // The fast parser and the dissector agree on every field they share.
            let mut head = [0xee; HEAD_MAX];
            let n = bytes.len().min(HEAD_MAX);
            head[..n].copy_from_slice(&bytes[..n]);
            let f = fast::parse(&head, FrameLen(bytes.len() as u16)).unwrap();
            assert_eq!(f.kind, Kind::Roce, "{at}");
            assert_eq!((f.src, f.dst), (IpKey::from(r.net.src()), IpKey::from(r.net.dst())), "{at}");
            assert_eq!((f.dscp, f.ecn, f.sport), (r.net.dscp(), r.net.ecn(), r.udp.source_port), "{at}");
            assert_eq!((f.opcode, f.dest_qp, f.psn), (r.bth.opcode, r.bth.dest_qp, r.bth.psn), "{at}");
            assert_eq!((f.ack_req, f.pad, f.payload_len), (r.bth.ack_req, r.bth.pad, r.payload_len), "{at}");
            assert_eq!(f.ext(&head), Some(r.ext), "{at}");
        });
        let expected: &[u32] = if broken_on_purpose { &[0x51] } else { &[] };
        assert_eq!(wrong, expected, "{}: PSNs with a wrong ICRC", path.display());
    }
    frames
}

#[test]
fn committed_captures_are_written_back_byte_for_byte() {
    let files = committed();
    assert!(files.len() >= 38, "only {} captures in pcaps/", files.len());
    assert!(check_all(&files) > 700);
}

#[test]
fn long_captures_are_written_back_byte_for_byte() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/rxe-pcaps");
    if !dir.exists() {
        eprintln!("skipped: {} is not on this machine", dir.display());
        return;
    }
    assert!(check_all(&captures(&dir)) > 2500);
}

#[test]
fn messages_are_those_that_were_posted() {
    let plain = |name: &str, messages, bytes| assert_eq!(totals(name), (messages, bytes, 0, 0), "{name}");
    plain("rc_write_5000_mtu1024.pcap", 2, 10_000);
    plain("rc_write_small_pads.pcap", 1, 1);
    plain("rc_write_len2.pcap", 1, 2);
    plain("rc_write_len1027.pcap", 1, 1027);
    plain("rc_write_len0.pcap", 1, 0);
    plain("rc_write_20000_mtu4096.pcap", 1, 20_000);
    plain("rc_write_pipelined.pcap", 16, 16 * 4096);
    plain("rc_send_3000.pcap", 2, 6_000);
    plain("rc_read_5000.pcap", 2, 10_000);
    plain("rc_atomic_fadd.pcap", 0, 0);
    plain("ud_send.pcap", 4, 1024);
    plain("ib_send_lat.pcap", 200, 12_800);
    plain("rc_write_psn_wrap.pcap", 1, 5_000);
}

#[test]
fn repeated_packets_count_once() {
    // One message of 5,000 bytes each, seen from both sides of a cable that lost, doubled or broke a packet.
    for (name, again) in [
        ("rc_write_drop_middle.pcap", 3),
        ("rc_write_drop_middle.at_responder.pcap", 2),
        ("rc_write_dup.at_responder.pcap", 3),
    ] {
        let (messages, _, icrc_bad, retransmitted) = totals(name);
        assert_eq!((messages, icrc_bad, retransmitted), (1, 0, again), "{name}");
    }
    let (messages, bytes, icrc_bad, _) = totals("rc_write_bad_icrc.at_responder.pcap");
    assert_eq!((messages, icrc_bad), (1, 1));
    assert_eq!(bytes, totals("rc_write_bad_icrc.pcap").1, "the broken packet is not counted, its repeat is");
}

#[test]
fn json_says_what_the_packets_say() {
    let lines = json_lines(&pcap("rc_write_drop_middle.pcap"));
    assert_eq!(lines[0]["opcode_name"], "RC_RDMA_WRITE_FIRST");
    assert_eq!((&lines[0]["index"], &lines[0]["psn"]), (&1.into(), &0x50.into()));
    assert_eq!(lines[0]["reth"]["va"], 0x7f00_0000_0000u64);
    let naks: Vec<_> = lines.iter().filter(|l| l["aeth"]["kind"] == "nak").collect();
    assert_eq!(naks.len(), 1);
    assert_eq!((&naks[0]["psn"], &naks[0]["aeth"]["syndrome"]), (&0x52.into(), &0x60.into()));
    assert_eq!(naks[0]["aeth"]["nak"], "PSN sequence error");

    let marked = json_lines(&pcap("rc_write_ce_marked.at_responder.pcap"));
    assert_eq!((&marked[0]["ecn"], &marked[0]["dscp"]), (&3.into(), &26.into()));
    assert!(marked[..6].iter().all(|l| l["icrc_ok"] == true), "CE does not touch the ICRC");

    let v6 = json_lines(&pcap("ud_send_ipv6.pcap"));
    assert!(v6[0]["src"].as_str().unwrap().contains(':'));
    assert_eq!(v6[0]["deth"]["qkey"], 0x1111_1111);
}

#[test]
fn frames_of_every_kind_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed.pcap");
    let mut writer = CaptureWriter::new(std::fs::File::create(&path).unwrap()).unwrap();
    let mut head = [0; HEAD_MAX];
    PfcFrame { enable: 0x18, quanta: [0, 0, 0, 0xffff, 0, 0, 0, 0] }.write(&mut head, [2; 6]);
    writer.write(0, &head[..60]).unwrap();
    writer.write(5, &[0xff; 60]).unwrap();
    writer.write(5, b"runt").unwrap();
    writer.finish().unwrap();

    let lines = json_lines(&path);
    assert_eq!(lines[0]["pfc"]["enable"], 0x18);
    assert_eq!(lines[0]["pfc"]["quanta"][3], 0xffff);
    assert!(lines[0]["opcode"].is_null() && lines[1]["opcode"].is_null() && lines[1]["icrc_ok"].is_null());
    assert_eq!(
        (&lines[1]["ts_ns"], &lines[2]["malformed"]),
        (&5.into(), &"the frame ends inside its headers".into())
    );
    assert_eq!((&lines[3]["frames"], &lines[3]["rocev2"]), (&3.into(), &0.into()));

    let mut out = Vec::new();
    dissect_file(&path, false, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("PFC priority 3 XOFF 65535 quanta, priority 4 XON"), "{text}");

    let vectors = json_lines(&pcap("icrc_vectors.pcap"));
    let cnp = vectors.iter().find(|l| l["opcode_name"] == "CNP").unwrap();
    assert_eq!((&cnp["opcode"], &cnp["becn"], &cnp["dscp"]), (&0x81.into(), &true.into(), &48.into()));
    let tagged = vectors.iter().find(|l| l["vlan"]["vid"] == 100).unwrap();
    assert_eq!(tagged["vlan"]["pcp"], 3);
    let rnr = vectors.iter().find(|l| l["aeth"]["kind"] == "rnr_nak").unwrap();
    assert_eq!(rnr["aeth"]["timer_ns"], 10_000);
}

#[test]
fn the_table_names_what_went_wrong() {
    let mut out = Vec::new();
    dissect_file(&pcap("rc_write_bad_icrc.at_responder.pcap"), false, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let bad: Vec<_> = text.lines().filter(|l| l.contains("BAD")).collect();
    assert_eq!(bad.len(), 1);
    assert!(bad[0].contains("0x51"), "{}", bad[0]);
    assert!(text.contains("NAK PSN sequence error"));
    assert!(text.contains("1 with a wrong ICRC"), "{text}");
}

#[test]
fn a_written_capture_reads_back_to_the_nanosecond() {
    let path = pcap("rc_read_5000.pcap");
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    for_each_frame(&path, |_, ts_ns, _, bytes| writer.write(ts_ns, bytes).unwrap());
    assert_eq!(writer.finish().unwrap(), with_snaplen(std::fs::read(&path).unwrap(), 65_535));
}

/// The capture with another snap length in its file header.
fn with_snaplen(mut file: Vec<u8>, snaplen: u32) -> Vec<u8> {
    file[16..20].copy_from_slice(&snaplen.to_le_bytes());
    file
}

#[test]
fn microsecond_and_cut_captures_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::read(pcap("rc_write_5000_mtu1024.pcap")).unwrap();
    file[..4].copy_from_slice(&0xa1b2_c3d4u32.to_le_bytes());
    file[28..32].copy_from_slice(&123_456u32.to_le_bytes());
    let path = dir.path().join("microseconds.pcap");
    std::fs::write(&path, &file).unwrap();
    let first = CaptureReader::open(&path).unwrap().read().unwrap().unwrap().ts_ns;
    assert_eq!(first % 1_000_000_000, 123_456_000);

    // A capture that keeps 64 bytes of every frame: lengths are right, the ICRC is neither right nor wrong.
    let cut = dir.path().join("cut.pcap");
    let mut bytes = std::fs::read(pcap("rc_write_5000_mtu1024.pcap")).unwrap()[..24].to_vec();
    for_each_frame(&pcap("rc_write_5000_mtu1024.pcap"), |_, ts_ns, _, frame| {
        let keep = frame.len().min(64);
        for word in [(ts_ns / 1_000_000_000) as u32, (ts_ns % 1_000_000_000) as u32, keep as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend(&frame[..keep]);
    });
    std::fs::write(&cut, bytes).unwrap();
    let lines = json_lines(&cut);
    assert_eq!(lines[1]["opcode"], u8::from(Opcode::RcWriteMiddle));
    assert_eq!((&lines[1]["payload_bytes"], &lines[1]["icrc_ok"]), (&1024.into(), &serde_json::Value::Null));
    // The FIRST packets lose half their RETH, and with it their message.
    assert_eq!(lines[0]["malformed"], "the frame ends inside its headers");
}

#[test]
fn unreadable_captures_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        CaptureReader::open(&path)
    };
    let Err(missing) = CaptureReader::open(&dir.path().join("none.pcap")) else { panic!("opened nothing") };
    assert!(matches!(missing, CaptureError::Open { .. }));
    assert!(missing.to_string().contains("none.pcap"), "{missing}");

    assert!(matches!(open("text.pcap", b"not a capture at all, sorry"), Err(CaptureError::Format { .. })));
    assert!(matches!(open("empty.pcap", b""), Err(CaptureError::Format { .. })));

    let good = std::fs::read(pcap("rc_write_5000_mtu1024.pcap")).unwrap();
    let mut cooked = good.clone();
    cooked[20] = 113;
    let Err(link) = open("cooked.pcap", &cooked) else { panic!("cooked capture accepted") };
    assert!(link.to_string().contains("LINUX_SLL"), "{link}");

    let mut reader = open("cut.pcap", &good[..good.len() - 5]).unwrap();
    let damage = loop {
        match reader.read() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut file ended as if it were whole"),
            Err(e) => break e.to_string(),
        }
    };
    assert!(damage.contains("cut.pcap is damaged at frame 12"), "{damage}");
}
