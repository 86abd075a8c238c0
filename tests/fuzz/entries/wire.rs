//! Frames and captures.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rankstorm::cli;
use rankstorm::frame::boxed::BoxPool;
use rankstorm::frame::bytes::materialise;
use rankstorm::frame::{Fill, Frame, FramePool};
use rankstorm::units::{FrameLen, Span, Time};
use rankstorm::wire::capture::{CaptureReader, CaptureWriter};
use rankstorm::wire::dissect::{Body, dissect, encode};
use rankstorm::wire::fast::{self, IpKey, Kind};
use rankstorm::wire::headers::{Ext, Opcode};
use rankstorm::wire::messages::MessageCounter;
use rankstorm::wire::neighbour::{self, Neighbour, Own};
use rankstorm::wire::pfc::{PFC_LEN, PfcFrame};
use rankstorm::wire::stamp::{STAMP, Signature};
use rankstorm::wire::template::{BthFields, FrameSpec, Template};
use rankstorm::wire::{HEAD_MAX, icrc, pad_of};
use rankstorm::workload::import::Replay;
use rankstorm::workload::import::pcap as import_pcap;

use super::Input;

/// The first bytes of a frame as the packet path sees them.
pub fn head_of(frame: &[u8]) -> [u8; HEAD_MAX] {
    let mut head = [0; HEAD_MAX];
    let n = frame.len().min(HEAD_MAX);
    head[..n].copy_from_slice(&frame[..n]);
    head
}

/// Length, then the head.
pub fn fast_parser(data: &[u8]) {
    let mut input = Input(data);
    let len = FrameLen(input.u16());
    let mut head = head_of(input.0);
    let Ok(f) = fast::parse(&head, len) else { return };
    let hash = fast::ecmp_hash(&f, 7);
    if f.kind == Kind::Roce {
        assert!(usize::from(f.ext_off) <= HEAD_MAX && usize::from(f.bth_off) + 12 == usize::from(f.ext_off));
        assert!(usize::from(f.head_len()) + usize::from(f.payload_len) <= usize::from(len.0));
        let _ = (f.ext(&head), f.aeth(&head), f.reth(&head), f.imm(&head));
        let _ = icrc::register_after_head(&head, &f);
    }
    // Marking changes the mark alone.
    let before = fast::ecn(&head);
    if fast::set_ce(&mut head) {
        assert_eq!(fast::ecn(&head), 3);
        let again = fast::parse(&head, len).expect("a mark breaks nothing");
        assert_eq!((fast::ecmp_hash(&again, 7), again.payload_len, again.dst), (hash, f.payload_len, f.dst));
    } else {
        assert_eq!(fast::ecn(&head), before);
    }
}

/// A whole frame, possibly cut by the capture (first byte), against the fast parser and back to bytes.
pub fn dissector(data: &[u8]) {
    let mut input = Input(data);
    let cut = usize::from(input.u8());
    let frame = input.0;
    let Ok(d) = dissect(frame, frame.len() + cut) else { return };
    let again = encode(&d);
    assert_eq!(again.len(), frame.len());
    let _ = (icrc::verify(frame), icrc::of_frame(frame));
    if cut == 0 && frame.len() <= usize::from(u16::MAX) {
        let quick = fast::parse(&head_of(frame), FrameLen(frame.len() as u16));
        if let (Body::Roce(r), Ok(q)) = (&d.body, quick)
            && d.tags.len() <= 1
            && q.kind == Kind::Roce
        {
            assert_eq!((q.dest_qp, q.psn, q.opcode), (r.bth.dest_qp, r.bth.psn, r.bth.opcode));
            assert_eq!((q.payload_len, q.dscp, q.ecn), (r.payload_len, r.net.dscp(), r.net.ecn()));
            assert_eq!((IpAddr::from(q.src), IpAddr::from(q.dst)), (plain(r.net.src()), plain(r.net.dst())));
        }
    }
    let mut sealed = frame.to_vec();
    if icrc::seal(&mut sealed).is_ok() {
        assert_eq!(icrc::verify(&sealed), Ok(true));
    }
}

/// IPv4-mapped IPv6 addresses are IPv4 addresses to the fast parser.
fn plain(ip: IpAddr) -> IpAddr {
    IpAddr::from(IpKey::from(ip))
}

/// Length, then a frame that may be PFC.
pub fn pfc(data: &[u8]) {
    let mut input = Input(data);
    let len = FrameLen(input.u16());
    let head = head_of(input.0);
    let Some(f) = PfcFrame::parse(&head, len) else { return };
    let mut again = [0; HEAD_MAX];
    let written = f.write(&mut again, [2; 6]);
    assert_eq!((written.len, PfcFrame::parse(&again, PFC_LEN)), (PFC_LEN, Some(f)));
    for p in 0..8 {
        assert_eq!(f.quanta_of(p).is_some(), f.enable & (1 << p) != 0);
    }
}

/// Number of the run whose stamps are looked for.
pub const RUN: u32 = 0x5eed_0001;

/// A time, an offset, and a frame of so many bytes that a port takes in at that time: what is read as a stamp of its run is
/// one, at that offset and where the parser says the payload begins.
pub fn stamps(data: &[u8]) {
    let mut input = Input(data);
    let (now, at, len) = (Time(input.u64()), usize::from(input.u8()), FrameLen(input.u16()));
    let head = head_of(input.0);
    read_stamp(now, &head, at, len.0);
    if let Ok(f) = fast::parse(&head, len)
        && f.kind == Kind::Roce
    {
        read_stamp(now, &head, f.head_len().into(), f.payload_len);
    }
}

fn read_stamp(now: Time, head: &[u8; HEAD_MAX], at: usize, payload_len: u16) {
    let Some(s) = (Signature { run: RUN, port: 0 }).read(now, head, at, payload_len) else { return };
    assert!(usize::from(payload_len) >= STAMP, "a stamp has its room");
    assert!(s.wire_out.since(now) <= Span::from_us(1), "no frame came before it left: {s:?} at {now:?}");
    let first = Signature { run: RUN, port: s.port }.first_word(s.sender);
    let bytes = [first, s.wire_out.0, s.intended.0].map(u64::to_le_bytes);
    assert_eq!(head[at..at + STAMP], *bytes.as_flattened(), "it says what stands there");
}

/// An ARP or neighbour discovery frame, as the kernel or a switch sends it: its answer and what we would send are read
/// back as what they are.
pub fn neighbours(data: &[u8]) {
    let Some(n) = neighbour::parse(data) else { return };
    let mut out = [0; HEAD_MAX];
    match n {
        Neighbour::Asks { ip, mac, target } => {
            let own = Own { ip: target, mac: [2, 0, 0, 0, 0, 9] };
            if let Some(len) = own.answer(data, &mut out) {
                let told = neighbour::parse(&out[..usize::from(len.0).min(HEAD_MAX)]);
                assert_eq!(told, Some(Neighbour::Tells { ip: target, mac: own.mac }));
            } else {
                assert_ne!(ip.is_ipv4(), target.is_ipv4(), "a question in one family has an answer");
            }
            let other = Own { ip: IpAddr::from([0, 0, 0, 0]), mac };
            assert!(target == other.ip || other.answer(data, &mut out).is_none());
        }
        Neighbour::Tells { ip, mac } => {
            let len = neighbour::ask(&mut out, None, mac, ip, ip).expect("one family");
            let asked = neighbour::parse(&out[..usize::from(len.0).min(HEAD_MAX)]);
            assert_eq!(asked, Some(Neighbour::Asks { ip, mac, target: ip }));
        }
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Bytes as a file, for decoders that take a path; gone when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(bytes: &[u8]) -> TempFile {
        let shm = PathBuf::from("/dev/shm");
        let folder = if shm.is_dir() { shm } else { std::env::temp_dir() };
        let name =
            format!("rankstorm-fuzz-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("room for a temporary file");
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A whole capture file: read, listed, imported.
pub fn capture(data: &[u8]) {
    let file = TempFile::new(data);
    read_capture(&file);
}

fn read_capture(file: &TempFile) {
    let Ok(mut reader) = CaptureReader::open(&file.0) else { return };
    while let Ok(Some(frame)) = reader.read() {
        let _ = dissect(frame.bytes, frame.wire_len);
    }
    for json in [false, true] {
        let _ = cli::dissect::dissect(&file.0, json, &mut std::io::sink());
    }
    for replay in [Replay::Timed, Replay::Dependent] {
        if let Ok(schedule) = import_pcap::read(&file.0, replay) {
            let _ = schedule.check();
            assert!(schedule.summary().ranks <= 1 << 20);
        }
    }
}

/// Packets of any order, opcode and sequence number, as a receiver of valid frames would see them: counted, and
/// written to a capture that is imported again.
pub fn messages(data: &[u8]) {
    let mut input = Input(data);
    let mut counter = MessageCounter::new();
    let mut out = CaptureWriter::new(Vec::new()).expect("memory");
    let mut pool = BoxPool::new(1, 1);
    let mut bytes = Vec::new();
    let (mut at, mut psn, mut packets, mut payload_sum) = (0u64, 0u32, 0u64, 0u64);
    while !input.is_empty() && packets < 512 {
        let (opcode, who, step, size) = (input.u8(), input.u8(), input.u16(), input.u16());
        let dma_len = if who & 0x80 != 0 { input.u32() } else { u32::from(size) };
        let Some(op) = Opcode::from_u8(opcode) else { continue };
        // Mostly the next sequence number; sometimes anything.
        psn = if step & 0xff < 0xc0 { psn + 1 } else { psn.wrapping_add(u32::from(step) << 4) } & 0xff_ffff;
        let payload = if op.has_payload() { size % 4097 } else { 0 };
        let ip = |n: u8| IpAddr::from([198, 18, 0, 1 + n]);
        let (from, to) = (ip(who & 3), ip(who >> 2 & 3));
        let spec = FrameSpec { src_ip: from, dst_ip: to, ..FrameSpec::default() };
        let mut words = [who; 28];
        words[8..16].copy_from_slice(&(u64::from(step) << 32 | u64::from(dma_len)).to_be_bytes());
        let Some(ext) = Ext::parse(op.ext(), &words) else { continue };
        let dest_qp = u32::from(who >> 4 & 7);
        let pad = pad_of(payload);
        let bth = BthFields { opcode, dest_qp, psn, ack_req: step & 1 != 0, pad, becn: false };
        let template = Template::new(&spec).expect("IPv4 both");
        let mut frame = pool.take(Fill::Const, FrameLen(60)).expect("one frame");
        let wire = template.write(frame.head_mut(), &bth, &ext, payload);
        let meta = frame.meta_mut();
        (meta.len, meta.head_len) = (wire.len, wire.head_len);
        materialise(&frame, &mut bytes).expect("what we write is whole");
        pool.give(frame);
        let d = dissect(&bytes, bytes.len()).expect("an Ethernet frame");
        let Body::Roce(r) = &d.body else { panic!("what we write is RoCEv2") };
        assert_eq!((r.icrc_ok, r.payload_len), (Some(true), payload));
        counter.on_packet(from.into(), to.into(), &r.bth, &r.ext, payload);
        at += u64::from(step);
        out.write(at, &bytes).expect("memory");
        packets += 1;
        payload_sum += u64::from(payload);
    }
    let totals = counter.finish();
    assert!(totals.messages <= packets && totals.retransmitted <= packets);
    // A message announces its length: what was announced may exceed what was seen, by at most 2^32 per message.
    assert!(totals.message_bytes <= payload_sum + (totals.messages << 32));
    let file = TempFile::new(&out.finish().expect("memory"));
    read_capture(&file);
}
