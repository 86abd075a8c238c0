//! The fast ways against the slow ones: templates against a field-by-field encoder, the constant-payload ICRC
//! against the CRC of the whole frame, incremental checksums against full ones, and any bytes at all against
//! the parsers.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::IpAddr;
use std::path::Path;

use etherparse::{
    EtherType, Ethernet2Header, IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6Header, SingleVlanHeader, UdpHeader,
    VlanId, VlanPcp,
};
use proptest::prelude::*;
use rankstorm::frame::boxed::BoxPool;
use rankstorm::frame::bytes::materialise;
use rankstorm::frame::{Fill, Frame, FramePool};
use rankstorm::units::{FrameLen, Time};
use rankstorm::wire::capture::CaptureReader;
use rankstorm::wire::dissect::{Body, Dissected, Net, Roce, dissect, encode};
use rankstorm::wire::fast::{self, Kind};
use rankstorm::wire::headers::{Aeth, AtomicAckEth, AtomicEth, Bth, Deth, Ext, Ieth, ImmDt, Opcode, Reth};
use rankstorm::wire::icrc::{self, ConstPayload};
use rankstorm::wire::pfc::PfcFrame;
use rankstorm::wire::stamp::{STAMP, Signature, Stamp};
use rankstorm::wire::template::{
    BthFields, Entropy, FrameSpec, Marking, SpecError, Template, udp_sport_kernel,
};
use rankstorm::wire::{HEAD_MAX, PAYLOAD_BYTE, pad_of};

/// Encodes a frame field by field, as slowly as one likes.
fn slow_frame(spec: &FrameSpec, bth: &BthFields, ext: Ext, payload: &[u8]) -> Vec<u8> {
    let pad = vec![0; bth.pad.into()];
    let udp_len = 8 + 12 + ext.len() + payload.len() + pad.len() + 4;
    let (ethertype, net) = match (spec.src_ip, spec.dst_ip) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (src, dst) = (src.octets(), dst.octets());
            let mut h = Ipv4Header::new(udp_len as u16, spec.ttl, IpNumber::UDP, src, dst).unwrap();
            h.dscp = IpDscp::try_new(spec.dscp).unwrap();
            h.ecn = IpEcn::try_new(spec.ecn_bits).unwrap();
            h.dont_fragment = true;
            h.identification = spec.ip_id;
            h.header_checksum = h.calc_header_checksum();
            (EtherType::IPV4, Net::V4(h))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let h = Ipv6Header {
                traffic_class: spec.dscp << 2 | spec.ecn_bits,
                payload_length: udp_len as u16,
                next_header: IpNumber::UDP,
                hop_limit: spec.ttl,
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv6Header::default()
            };
            (EtherType::IPV6, Net::V6(h))
        }
        _ => panic!("mixed families"),
    };
    let tag = spec.vlan.map(|(pcp, vid)| SingleVlanHeader {
        pcp: VlanPcp::try_new(pcp).unwrap(),
        drop_eligible_indicator: false,
        vlan_id: VlanId::try_new(vid).unwrap(),
        ether_type: ethertype,
    });
    let d = Dissected {
        ethernet: Ethernet2Header {
            source: spec.src_mac,
            destination: spec.dst_mac,
            ether_type: if tag.is_some() { EtherType::VLAN_TAGGED_FRAME } else { ethertype },
        },
        tags: tag.into_iter().collect(),
        body: Body::Roce(Box::new(Roce {
            net,
            udp: UdpHeader {
                source_port: spec.sport,
                destination_port: 4791,
                length: udp_len as u16,
                checksum: 0,
            },
            bth: Bth {
                opcode: bth.opcode,
                pad: bth.pad,
                pkey: 0xffff,
                becn: bth.becn,
                dest_qp: bth.dest_qp,
                ack_req: bth.ack_req,
                psn: bth.psn,
                ..Bth::default()
            },
            ext,
            payload_len: payload.len() as u16,
            payload,
            pad: &pad,
            icrc: Some(0),
            icrc_ok: None,
        })),
        trailer: &[],
    };
    encode(&d)
}

fn any_spec() -> impl Strategy<Value = FrameSpec> {
    let ips = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    let vlan = proptest::option::of((0..8u8, 0..4096u16));
    (ips, any::<([u8; 6], [u8; 6])>(), vlan, 0..64u8, 0..4u8, any::<(u8, u16, u16)>()).prop_map(
        |((src_ip, dst_ip), (src_mac, dst_mac), vlan, dscp, ecn_bits, (ttl, ip_id, sport))| FrameSpec {
            src_mac,
            dst_mac,
            vlan,
            src_ip,
            dst_ip,
            dscp,
            ecn_bits,
            ttl,
            // IPv6 has no such field.
            ip_id: if src_ip.is_ipv4() { ip_id } else { 0 },
            sport,
        },
    )
}

fn any_packet() -> impl Strategy<Value = (BthFields, Ext, u16)> {
    let op = proptest::sample::select(Opcode::ALL);
    (op, any::<[u8; 28]>(), any::<(bool, bool)>(), 0..1u32 << 24, 0..1u32 << 24, 0..4097u16).prop_map(
        |(op, ext, (ack_req, becn), dest_qp, psn, len)| {
            let payload_len = if op.has_payload() { len } else { 0 };
            let pad = pad_of(payload_len);
            let ext = Ext::parse(op.ext(), &ext).unwrap();
            (BthFields { opcode: op.into(), dest_qp, psn, ack_req, pad, becn }, ext, payload_len)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn templates_write_what_a_slow_encoder_writes(
        spec in any_spec(),
        (bth, ext, payload_len) in any_packet(),
    ) {
        let payload = vec![PAYLOAD_BYTE; payload_len.into()];
        let want = slow_frame(&spec, &bth, ext, &payload);

        let mut head = [0xee; HEAD_MAX];
        let wrote = Template::new(&spec).unwrap().write(&mut head, &bth, &ext, payload_len);
        let head_len = usize::from(wrote.head_len);
        prop_assert_eq!(usize::from(wrote.len.0), want.len());
        prop_assert_eq!(&head[..head_len], &want[..head_len]);
        prop_assert_eq!(icrc::verify(&want), Ok(true));

        // Head and constant payload alone give the ICRC of the whole frame.
        let f = fast::parse(&head, wrote.len).unwrap();
        prop_assert_eq!((f.kind, f.head_len(), f.payload_len), (Kind::Roce, wrote.head_len, payload_len));
        let fast_way = ConstPayload::new(payload_len, PAYLOAD_BYTE, bth.pad);
        prop_assert_eq!(&fast_way.icrc(&head, &f).to_le_bytes()[..], &want[want.len() - 4..]);

        // So does the register carried on from the template, also when the template belongs to other flows.
        let template = Template::new(&spec).unwrap();
        let register = template.register(spec.sport, &bth, &head, wrote);
        prop_assert_eq!(&fast_way.finish(register).to_le_bytes()[..], &want[want.len() - 4..]);
        let marking = Marking::new(spec.dscp, spec.ecn_bits, spec.vlan.map_or(0, |v| v.0)).unwrap();
        let bare =
            FrameSpec { dscp: 1, ecn_bits: 1, sport: 7, vlan: spec.vlan.map(|v| (v.0 ^ 5, v.1)), ..spec };
        let bare = Template::new(&bare).unwrap();
        let mut other = [0x55; HEAD_MAX];
        let flow = Entropy { sport: spec.sport, marking };
        prop_assert_eq!(bare.write_as(flow, &mut other, &bth, &ext, payload_len), wrote);
        prop_assert_eq!(&other[..head_len], &want[..head_len]);
        prop_assert_eq!(bare.register(spec.sport, &bth, &other, wrote), register);

        // A frame of a pool writes out as the same bytes.
        let mut pool = BoxPool::new(1, 1);
        let mut frame = pool.take(Fill::Const, wrote.len).unwrap();
        *frame.head_mut() = head;
        frame.meta_mut().head_len = wrote.head_len;
        let mut bytes = Vec::new();
        materialise(&frame, &mut bytes).unwrap();
        prop_assert_eq!(&bytes, &want);

        // Every field comes back.
        let d = dissect(&want, want.len()).unwrap();
        prop_assert_eq!(encode(&d), want.clone());
        let Body::Roce(r) = d.body else { return Err(TestCaseError::fail("not RoCEv2")) };
        prop_assert_eq!((r.ext, r.payload, r.icrc_ok), (ext, &payload[..], Some(true)));
        prop_assert_eq!((r.bth.psn, r.bth.dest_qp, r.bth.becn), (bth.psn, bth.dest_qp, bth.becn));
    }

    #[test]
    fn marking_keeps_checksum_and_icrc_right(spec in any_spec(), (bth, ext, payload_len) in any_packet()) {
        let mut frame = slow_frame(&spec, &bth, ext, &vec![1; payload_len.into()]);
        let mut head = [0; HEAD_MAX];
        let n = frame.len().min(HEAD_MAX);
        head[..n].copy_from_slice(&frame[..n]);
        prop_assert_eq!(fast::ecn(&head), spec.ecn_bits);
        prop_assert_eq!(fast::set_ce(&mut head), spec.ecn_bits != 0);
        frame[..n].copy_from_slice(&head[..n]);
        let d = dissect(&frame, frame.len()).unwrap();
        let Body::Roce(r) = d.body else { return Err(TestCaseError::fail("not RoCEv2")) };
        prop_assert_eq!(r.net.ecn(), if spec.ecn_bits == 0 { 0 } else { 3 });
        prop_assert_eq!((r.net.dscp(), r.icrc_ok), (spec.dscp, Some(true)));
        if let Net::V4(h) = r.net {
            // RFC 1624: the sum with its checksum is all ones; 0x0000 and 0xffff both say so.
            let off = fast::parse(&head, FrameLen(frame.len() as u16)).unwrap().ip_off as usize;
            let words = frame[off..off + 20].chunks(2);
            let sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
            prop_assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "checksum {:#x}", h.header_checksum);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), more in 0..2000usize) {
        survive(&bytes, bytes.len() + more)?;
    }
}

/// All parsers take `bytes` without panicking, and what the dissector read it can write.
fn survive(bytes: &[u8], wire_len: usize) -> Result<(), TestCaseError> {
    let mut head = [0; HEAD_MAX];
    let n = bytes.len().min(HEAD_MAX);
    head[..n].copy_from_slice(&bytes[..n]);
    if let Ok(f) = fast::parse(&head, FrameLen(wire_len as u16)) {
        let _ = (f.ext(&head), f.aeth(&head), f.reth(&head), f.imm(&head), fast::ecmp_hash(&f, 7));
        if f.kind == Kind::Roce {
            let _ = icrc::register_after_head(&head, &f);
        }
    }
    let _ = PfcFrame::parse(&head, FrameLen(wire_len as u16));
    let _ = (fast::set_ce(&mut head), icrc::verify(bytes));
    if let Ok(d) = dissect(bytes, wire_len) {
        let mut again = encode(&d);
        if let Body::Roce(r) = &d.body
            && r.icrc_ok == Some(false)
        {
            let off = again.len() - 4 - d.trailer.len();
            again[off..off + 4].copy_from_slice(&bytes[off..off + 4]);
        }
        prop_assert_eq!(&again, bytes, "{:?}", d);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived_as_a_stamp(
        bytes in proptest::collection::vec(any::<u8>(), HEAD_MAX),
        (run, port, now) in any::<(u32, u8, u64)>(),
        (at, payload_len) in (0..2 * HEAD_MAX, any::<u16>()),
    ) {
        let head: &[u8; HEAD_MAX] = bytes.first_chunk().unwrap();
        let theirs = Signature { run, port }.read(Time(now), head, at, payload_len);
        // Nobody draws our number by chance in so few cases.
        prop_assert_eq!(theirs, None);
        let Some(first) = bytes.get(at..at + 4) else { return Ok(()) };
        // With their number as ours it is one if it lies inside and does not come from the future.
        let ours = Signature { run: u32::from_le_bytes([first[0], first[1], first[2], first[3]]), port };
        let read = ours.read(Time(now), head, at, payload_len);
        let inside = at + STAMP <= HEAD_MAX && usize::from(payload_len) >= STAMP;
        let past = |b: &[u8]| u64::from_le_bytes(*b.first_chunk().unwrap()) <= now.saturating_add(1_000_000);
        prop_assert_eq!(read.is_some(), inside && past(&bytes[at + 8..]));
    }

    #[test]
    fn stamps_are_read_as_they_were_written_by_their_own_run_alone(
        (run, port, sender, other_bit) in (any::<u32>(), any::<u8>(), 0..1u32 << 24, 0..32u32),
        (wire_out, intended, later) in (0..1u64 << 60, any::<u64>(), 0..1u64 << 60),
        (at, payload_len) in (0..=HEAD_MAX - STAMP, STAMP as u16..9_000),
    ) {
        let ours = Signature { run, port };
        let mut head = [PAYLOAD_BYTE; HEAD_MAX];
        let words = [ours.first_word(sender), wire_out, intended].map(u64::to_le_bytes);
        head[at..at + STAMP].copy_from_slice(words.as_flattened());
        let stamp = Stamp { wire_out: Time(wire_out), intended: Time(intended), port, sender };
        let now = Time(wire_out + later);
        prop_assert_eq!(ours.read(now, &head, at, payload_len), Some(stamp));
        let other = Signature { run: run ^ 1 << other_bit, port };
        prop_assert_eq!(other.read(now, &head, at, payload_len), None, "of another run");
        prop_assert_eq!(ours.read(now, &head, at, STAMP as u16 - 1), None, "no room for one");
        if let Some(before) = wire_out.checked_sub(1_000_001) {
            prop_assert_eq!(ours.read(Time(before), &head, at, payload_len), None, "from the future");
        }
    }
}

fn frames_of_captures() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let names = ["rc_write_imm_only", "rc_read_5000", "rc_atomic_fadd", "ud_send_imm", "ud_send_ipv6"];
    let mut frames = Vec::new();
    for name in names {
        let mut reader = CaptureReader::open(&dir.join(name).with_extension("pcap")).unwrap();
        while let Some(f) = reader.read().unwrap() {
            frames.push(f.bytes.to_vec());
        }
    }
    let spec = FrameSpec { vlan: Some((3, 100)), ..FrameSpec::default() };
    frames.push(slow_frame(
        &spec,
        &BthFields { opcode: 0x11, ..BthFields::default() },
        Ext::Aeth(Aeth::ack(1)),
        &[],
    ));
    let mut head = [0; HEAD_MAX];
    PfcFrame::one(3, 0xffff).write(&mut head, [2; 6]);
    frames.push(head[..60].to_vec());
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_real_frames_are_survived(
        pick in any::<proptest::sample::Selector>(),
        hits in proptest::collection::vec((0..90usize, any::<u8>()), 1..6),
        keep in 0..120usize,
        cut in any::<bool>(),
        grown in 0..80usize,
    ) {
        let mut frame = pick.select(FRAMES.with(|f| f.clone()));
        let wire_len = frame.len();
        if cut {
            frame.truncate(keep);
        } else {
            frame.extend(std::iter::repeat_n(0, grown));
        }
        for (at, value) in hits {
            if let Some(b) = frame.get_mut(at) {
                *b = value;
            }
        }
        survive(&frame, wire_len.max(frame.len()))?;
    }
}

thread_local! {
    static FRAMES: Vec<Vec<u8>> = frames_of_captures();
}

#[test]
fn short_frames_may_carry_ethernet_padding() {
    // An empty SEND is 58 bytes and leaves the MAC with two more.
    let bth = BthFields { opcode: Opcode::RcSendOnly.into(), ..BthFields::default() };
    let mut frame = slow_frame(&FrameSpec::default(), &bth, Ext::None, &[]);
    assert_eq!(frame.len(), 58);
    frame.extend([0; 2]);
    assert_eq!(icrc::verify(&frame), Ok(true));
    let d = dissect(&frame, 60).unwrap();
    assert_eq!(d.trailer, [0; 2]);
    assert_eq!(encode(&d), frame);
}

#[test]
fn flows_that_do_not_fit_the_headers_are_refused() {
    let v4 = FrameSpec::default();
    let mixed = FrameSpec { dst_ip: "2001:2::1".parse().unwrap(), ..v4 };
    assert!(matches!(Template::new(&mixed), Err(SpecError::MixedFamilies(..))));
    let dscp = Template::new(&FrameSpec { dscp: 64, ..v4 }).unwrap_err();
    assert_eq!(dscp.to_string(), "DSCP 64 is out of range 0..64");
    assert!(Template::new(&FrameSpec { vlan: Some((8, 1)), ..v4 }).is_err());
    assert!(Template::new(&FrameSpec { vlan: Some((7, 4096)), ..v4 }).is_err());
}

#[test]
fn a_cnp_is_74_bytes_of_the_shape_hardware_sends() {
    let spec = FrameSpec { dscp: 48, ecn_bits: 2, sport: 0, ..FrameSpec::default() };
    let mut head = [0xee; HEAD_MAX];
    let wrote = Template::new(&spec).unwrap().write_cnp(&mut head, 0x118);
    assert_eq!((wrote.len, wrote.head_len), (FrameLen(74), 70));
    assert_eq!(head[15], 0xc2, "DSCP 48, ECT(0)");
    assert_eq!(head[16..18], [0, 60], "IP length");
    assert_eq!(head[34..42], [0, 0, 0x12, 0xb7, 0, 40, 0, 0], "UDP");
    assert_eq!(head[42..54], [0x81, 0, 0xff, 0xff, 0x40, 0, 1, 0x18, 0, 0, 0, 0], "BTH");
    assert_eq!(head[54..70], [0; 16]);
}

#[test]
fn source_ports_are_the_kernels_and_the_same_from_both_ends() {
    for (a, b) in [(0x11, 0x11), (0x11, 0x1234), (0xff_ffff, 0xff_fffe)] {
        let port = udp_sport_kernel(a, b);
        assert_eq!(port, udp_sport_kernel(b, a));
        assert!(port >= 0xc000);
    }
    // 17 x 17 = 289 fits the low 14 bits.
    assert_eq!(udp_sport_kernel(0x11, 0x11), 0xc000 | 289);
}

#[test]
fn ecmp_spreads_ports_and_addresses_evenly_and_seeds_do_not_polarise() {
    let spec = FrameSpec::default();
    let hash = |src: u32, sport: u16, seed: u32| {
        let spec = FrameSpec { src_ip: IpAddr::from((0xc612_0000 + src).to_be_bytes()), sport, ..spec };
        let mut head = [0; HEAD_MAX];
        let wrote = Template::new(&spec).unwrap().write(&mut head, &BthFields::default(), &Ext::None, 0);
        fast::ecmp_hash(&fast::parse(&head, wrote.len).unwrap(), seed)
    };
    // Flows that differ in the source port, or in the last address bits, over 2..8 paths: chi-squared far
    // below the 0.1 % point, for the low and the high bits of the hash alike.
    let chi = |paths: u32, of: &dyn Fn(u32) -> u32| {
        let mut load = vec![0f64; paths as usize];
        (0..4096).for_each(|i| load[(of(i) % paths) as usize] += 1.0);
        let mean = 4096.0 / f64::from(paths);
        load.iter().map(|l| (l - mean).powi(2) / mean).sum::<f64>()
    };
    for paths in [2, 3, 4, 7, 8] {
        assert!(chi(paths, &|i| hash(1, 0xc000 + i as u16, 1)) < 25.0, "ports over {paths}");
        assert!(chi(paths, &|i| hash(i, 0xc000, 1)) < 25.0, "addresses over {paths}");
        assert!(chi(paths, &|i| hash(i, 0xc000, 1) >> 16) < 25.0, "high bits over {paths}");
    }
    // Among the flows a first tier sent one way, a second tier with its own seed still uses both.
    let left: Vec<u32> = (0..4096).filter(|&i| hash(i, 0xc000, 1) % 2 == 0).collect();
    let again = left.iter().filter(|&&i| hash(i, 0xc000, 2) % 2 == 0).count();
    let share = again as f64 / left.len() as f64;
    assert!((0.45..0.55).contains(&share), "{share}");
}

#[test]
fn every_extended_header_has_a_wire_form() {
    // Frames of every kind through template, dissector and back; the properties above draw them at random.
    let all = [
        (Opcode::RcWriteOnlyImm, Ext::RethImm(Reth { va: 1, rkey: 2, dma_len: 3 }, ImmDt(4))),
        (Opcode::RcSendOnlyInv, Ext::Ieth(Ieth(5))),
        (Opcode::RcAtomicAck, Ext::AethAtomicAck(Aeth::ack(6), AtomicAckEth { original: 7 })),
        (Opcode::RcFetchAdd, Ext::Atomic(AtomicEth { va: 8, rkey: 9, swap_add: 10, compare: 11 })),
        (Opcode::UdSendOnlyImm, Ext::DethImm(Deth { qkey: 12, resv8: 0, src_qp: 13 }, ImmDt(14))),
    ];
    for (op, ext) in all {
        let bth = BthFields { opcode: op.into(), ..BthFields::default() };
        let frame = slow_frame(&FrameSpec::default(), &bth, ext, &[]);
        let d = dissect(&frame, frame.len()).unwrap();
        let Body::Roce(r) = d.body else { panic!("{op}") };
        assert_eq!((r.ext, r.opcode()), (ext, Some(op)));
    }
}
