//! The DPDK layer against real pools and rings. One test, as a process has one EAL; on huge pages when some
//! are free.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::manual_is_multiple_of)]

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rankstorm::dpdk::{Eal, EalOptions, FrameRing, MbufFrame, MbufFrames, MbufPool, PoolSpec, eal};
use rankstorm::frame::{
    Burst, Fill, Frame, FrameMeta, FramePool, HEAD_MAX, PAYLOAD_BYTE, Payload, Written, flags,
};
use rankstorm::limits::BURST;
use rankstorm::sys::affinity;
use rankstorm::units::{FrameLen, Time};
use rankstorm::wire::fixed::{FixedHead, PsnSums};
use rankstorm::wire::headers::{Ext, Opcode, Reth};
use rankstorm::wire::icrc::AfterHead;
use rankstorm::wire::template::{BthFields, FrameSpec, Template, WireLen};
use rankstorm::wire::{ICRC_LEN, fast, icrc, pad_of, psn};

const SEED: u64 = 0x5eed_0001;

fn spec(name: &str, frames: u32, frame_bytes_max: u16, cache: u32) -> PoolSpec {
    PoolSpec { name: name.to_owned(), frames, frame_bytes_max, cache }
}

#[test]
fn frames_live_in_mbufs_and_nothing_is_lost() {
    assert!(Eal::get().is_err(), "nobody has started EAL yet");
    let cores_before = core_affinity::get_core_ids().unwrap().len();
    let memory_bytes = 64 << 20;
    let eal = Eal::init(EalOptions { memory_bytes, ..EalOptions::default() }).unwrap();
    println!("{}: {:?}, {}", eal::version(), eal.memory_kind(), eal.arguments().join(" "));

    assert_eq!(core_affinity::get_core_ids().unwrap().len(), cores_before, "EAL pinned its caller");
    assert!(std::ptr::eq(eal, Eal::init(EalOptions { memory_bytes, ..EalOptions::default() }).unwrap()));
    let left: Vec<_> = std::fs::read_dir("/var/run/dpdk").into_iter().flatten().flatten().collect();
    let pid = std::process::id().to_string();
    assert!(
        left.iter().all(|e| !e.file_name().to_string_lossy().contains(&pid)),
        "EAL left a folder: {left:?}"
    );

    pools_lend_exactly_what_they_hold(eal);
    pools_give_their_memory_back(eal);
    requests_dpdk_cannot_meet_are_refused_with_a_reason(eal);
    sealed_frames_are_right_whatever_the_mbuf_held_before(eal);
    frames_cross_between_pinned_threads(eal);
    a_ring_frees_what_it_still_holds(eal);
}

fn pools_lend_exactly_what_they_hold(eal: &Eal) {
    let control = MbufPool::create(eal, &spec("exact-control", 100, 126, 0)).unwrap();
    let data = MbufPool::create(eal, &spec("exact-data", 333, 4154, 0)).unwrap();
    let mut pool = MbufFrames::new(&control, &data, &[]);
    let mut held = Vec::new();
    while let Some(frame) = pool.take(Fill::Const, FrameLen(4154)) {
        assert_eq!(
            *frame.meta(),
            FrameMeta { fill: Fill::Const, len: FrameLen(4154), ..FrameMeta::default() }
        );
        held.push(frame);
    }
    assert_eq!(held.len(), 333);
    assert!(pool.take(Fill::Control, FrameLen(62)).is_some(), "control frames have a pool of their own");
    for (i, frame) in held.drain(..).enumerate() {
        if i % 3 == 0 { drop(frame) } else { pool.give(frame) }
    }
    assert!(pool.take(Fill::Const, FrameLen(4155)).is_none(), "longer than the pool was made for");
    drop(pool);
    assert_eq!((control.in_use(), data.in_use()), (0, 0));
}

fn pools_give_their_memory_back(eal: &Eal) {
    // 20 x 20 MiB do not fit at the same time.
    for round in 0..20 {
        let data =
            MbufPool::create(eal, &spec("again", 4500, 4154, 256)).unwrap_or_else(|e| panic!("{round}: {e}"));
        let mut pool = MbufFrames::new(&data, &data, &[]);
        let frame = pool.take(Fill::Const, FrameLen(1000)).unwrap();
        pool.give(frame);
    }
    // A frame outlives every handle of its pool.
    let data = MbufPool::create(eal, &spec("outlived", 100, 1082, 0)).unwrap();
    let mut pool = MbufFrames::new(&data, &data, &[]);
    let mut frame = pool.take(Fill::Const, FrameLen(1082)).unwrap();
    drop((pool, data));
    frame.head_mut().fill(7);
    assert_eq!(frame.head(), &[7; HEAD_MAX]);
}

fn requests_dpdk_cannot_meet_are_refused_with_a_reason(eal: &Eal) {
    let _one = MbufPool::create(eal, &spec("twice", 100, 126, 0)).unwrap();
    let twice = MbufPool::create(eal, &spec("twice", 100, 126, 0)).unwrap_err().to_string();
    assert!(twice.contains("'twice'") && twice.contains("exists"), "{twice}");
    let vast = MbufPool::create(eal, &spec("vast", 1 << 30, 9216, 0)).unwrap_err().to_string();
    assert!(vast.contains("1073741824 frames of up to 9216 B"), "{vast}");
    let long = MbufPool::create(eal, &spec("long", 10, u16::MAX, 0)).unwrap_err().to_string();
    assert!(long.contains("an mbuf holds 65407 B"), "{long}");
    assert!(
        MbufPool::create(eal, &spec("zero\0", 10, 126, 0)).unwrap_err().to_string().contains("zero byte")
    );
    assert!(FrameRing::create(eal, "none", 0).is_err());
    let long_name = FrameRing::create(eal, &"x".repeat(40), 8).unwrap_err().to_string();
    assert!(long_name.contains("too long"), "{long_name}");
    if eal.memory_kind() == rankstorm::dpdk::MemoryKind::Ordinary {
        let more =
            Eal::init(EalOptions { memory_bytes: 1 << 40, ..EalOptions::default() }).unwrap_err().to_string();
        assert!(more.contains("are needed"), "{more}");
    }
}

/// Headers of one of several shapes: with and without VLAN, IPv4 and IPv6.
fn templates() -> Vec<Template> {
    let mut list = Vec::new();
    for vlan in [None, Some((3, 100))] {
        for (src, dst) in [("198.18.0.1", "198.18.0.2"), ("2001:2::1", "2001:2::2")] {
            let ips = (src.parse().unwrap(), dst.parse().unwrap());
            list.push(
                Template::new(&FrameSpec {
                    vlan,
                    src_ip: ips.0,
                    dst_ip: ips.1,
                    dscp: 26,
                    ..FrameSpec::default()
                })
                .unwrap(),
            );
        }
    }
    list
}

/// Writes the headers of one data packet, and rubbish over the rest of the head as a careless writer may.
fn write_head(
    frame: &mut MbufFrame,
    template: &Template,
    rng: &mut Pcg64Mcg,
    payload_len: u16,
) -> (WireLen, AfterHead) {
    rng.fill_bytes(frame.head_mut());
    let psn = rng.next_u32();
    let (opcode, ext) = match rng.next_u32() % 2 {
        0 => (Opcode::RcWriteMiddle, Ext::None),
        _ => (
            Opcode::RcWriteOnly,
            Ext::Reth(Reth { va: rng.next_u64(), rkey: psn, dma_len: payload_len.into() }),
        ),
    };
    let bth = BthFields {
        opcode: opcode.into(),
        dest_qp: psn >> 3,
        psn,
        pad: pad_of(payload_len),
        ..BthFields::default()
    };
    let wire = template.write(frame.head_mut(), &bth, &ext, payload_len);
    frame.meta_mut().head_len = wire.head_len;
    frame.meta_mut().len = wire.len;
    let register = template.register(template.flow().sport, &bth, frame.head(), wire);
    (wire, AfterHead { register, payload_len, pad: bth.pad })
}

fn sealed_frames_are_right_whatever_the_mbuf_held_before(eal: &Eal) {
    println!("seed {SEED:#x}");
    let mut rng = Pcg64Mcg::seed_from_u64(SEED);
    let templates = templates();
    // Few mbufs, so that each is used in every way after every other.
    let control = MbufPool::create(eal, &spec("sealed-control", 3, 200, 0)).unwrap();
    let data = MbufPool::create(eal, &spec("sealed-data", 3, 4300, 0)).unwrap();
    let mut pool = MbufFrames::new(&control, &data, &[1024, 4093, 4096]);
    for round in 0..30_000 {
        let r = rng.next_u32();
        let template = &templates[r as usize % templates.len()];
        let payload_len = match r >> 8 & 3 {
            0 => [1024, 4096, 4093, 0][r as usize >> 12 & 3],
            1 => (r >> 16) % 80,
            _ => (r >> 16) % 4097,
        } as u16;
        match (r >> 4) % 7 {
            0 => check_control(&mut pool, template, &mut rng),
            2 => check_row(&mut pool, template, &mut rng, payload_len & !3),
            1 => check_writable(&mut pool, template, &mut rng, payload_len),
            _ => check_const(&mut pool, template, &mut rng, payload_len, round),
        }
    }
    drop(pool);
    assert_eq!((control.in_use(), data.in_use()), (0, 0));
}

fn check_const(pool: &mut MbufFrames, template: &Template, rng: &mut Pcg64Mcg, payload_len: u16, round: u32) {
    let mut frame = pool.take(Fill::Const, FrameLen(4300)).unwrap();
    let (wire, after) = write_head(&mut frame, template, rng, payload_len);
    let head = *frame.head();
    if rng.next_u32() % 8 == 0 {
        // Given up before it was complete.
        return pool.give(frame);
    }
    if rng.next_u32() % 2 == 0 {
        pool.seal(&mut frame)
    } else {
        pool.seal_after(&mut frame, &after)
    }
    let (bytes, head_len) = (frame.bytes(), usize::from(wire.head_len));
    let context = || format!("round {round}: {payload_len} B of payload, {head_len} B of headers");
    assert_eq!(bytes.len(), usize::from(wire.len.0));
    assert_eq!(bytes[..head_len], head[..head_len], "{}", context());
    let (payload, tail) = bytes[head_len..].split_at(payload_len.into());
    let stray = payload.iter().position(|&b| b != PAYLOAD_BYTE);
    assert_eq!(stray, None, "{}: a byte of an earlier frame shows there", context());
    let pad = usize::from(pad_of(payload_len));
    assert!(tail[..pad].iter().all(|&b| b == 0), "{}: pad", context());
    assert_eq!(icrc::verify(bytes), Ok(true), "{}", context());
    assert_eq!(frame.payload(), Payload::Bytes(&bytes[head_len..bytes.len() - ICRC_LEN]));
    // A switch on the way marks it; the ICRC does not see that.
    if fast::set_ce(frame.head_mut()) {
        assert_eq!(icrc::verify(frame.bytes()), Ok(true), "{}", context());
    }
    // As the stamps of a port do, with an ICRC that is right again.
    if rng.next_u32() % 2 == 0 && payload_len > 24 && head_len + 24 <= HEAD_MAX {
        let whole = frame.wire_bytes_mut().unwrap();
        rng.fill_bytes(&mut whole[head_len..head_len + 24]);
        icrc::seal(whole).unwrap();
    }
    if rng.next_u32() % 2 == 0 { pool.give(frame) } else { drop(frame) }
}

/// Frames written by the burst: heads that are kept, a stamp in every other, and no more than the pool has.
fn check_row(pool: &mut MbufFrames, template: &Template, rng: &mut Pcg64Mcg, payload_len: u16) {
    let opcode = Opcode::UcSendOnly.into();
    let bth = BthFields { opcode, dest_qp: rng.next_u32() & psn::MASK, ..BthFields::default() };
    let Some((head, shape, register)) =
        FixedHead::new(template, template.flow(), &bth, &Ext::None, payload_len)
    else {
        return;
    };
    let sums = PsnSums::new(&shape);
    let fill = if payload_len == 0 { Fill::Control } else { Fill::Const };
    let common =
        FrameMeta { len: shape.len, head_len: shape.head_len, fill, class: 3, ..FrameMeta::default() };
    let (first, wanted, whole) = (rng.next_u32(), 1 + rng.next_u32() as usize % 4, rng.next_u32() % 4 != 0);
    let mut out: Burst<MbufFrame> = Burst::new();
    let n = pool.write_many(&common, 4, &mut out, |i, frame| {
        if i == wanted {
            return Written::Nothing;
        }
        let number = first.wrapping_add(i as u32) & psn::MASK;
        head.write(frame.head_mut(), number, &shape);
        frame.meta_mut().flow = number;
        if whole { Written::Whole(sums.icrc(register, number)) } else { Written::Head }
    });
    assert_eq!((n, out.len()), (wanted.min(3), wanted.min(3)), "three mbufs are all there are");
    for (i, mut frame) in out.drain(..).enumerate() {
        let number = first.wrapping_add(i as u32) & psn::MASK;
        assert_eq!(*frame.meta(), FrameMeta { flow: number, ..common });
        let f = fast::parse(frame.head(), frame.len()).unwrap();
        assert_eq!((f.psn, f.payload_len), (number, payload_len));
        let payload = &frame.bytes()[usize::from(shape.head_len)..frame.bytes().len() - ICRC_LEN];
        assert!(payload.iter().all(|&b| b == PAYLOAD_BYTE), "{payload_len} B: an earlier frame shows there");
        assert_eq!(icrc::verify(frame.bytes()), Ok(true), "{payload_len} B, PSN {number}");
        if i % 2 == 0 && payload_len > 24 {
            let at = usize::from(shape.head_len);
            frame.wire_bytes_mut().unwrap()[at..at + 24].fill(!PAYLOAD_BYTE);
        }
        pool.give(frame);
    }
}

fn check_writable(pool: &mut MbufFrames, template: &Template, rng: &mut Pcg64Mcg, payload_len: u16) {
    let mut frame = pool.take(Fill::Writable, FrameLen(4300)).unwrap();
    let (_, after) = write_head(&mut frame, template, rng, payload_len);
    let mut payload = vec![0; frame.payload_mut().len()];
    rng.fill_bytes(&mut payload);
    frame.payload_mut().copy_from_slice(&payload);
    if rng.next_u32() % 2 == 0 {
        pool.seal(&mut frame)
    } else {
        pool.seal_after(&mut frame, &after)
    }
    let Payload::Bytes(kept) = frame.payload() else { panic!("an mbuf holds bytes") };
    assert_eq!(kept[..payload_len.into()], payload[..payload_len.into()]);
    assert_eq!(icrc::verify(frame.bytes()), Ok(true));
    pool.give(frame);
}

fn check_control(pool: &mut MbufFrames, template: &Template, rng: &mut Pcg64Mcg) {
    let mut cnp = pool.take(Fill::Control, FrameLen(98)).unwrap();
    assert!(cnp.payload_mut().is_empty());
    rng.fill_bytes(cnp.head_mut());
    let wire = template.write_cnp(cnp.head_mut(), rng.next_u32());
    (cnp.meta_mut().head_len, cnp.meta_mut().len) = (wire.head_len, wire.len);
    pool.seal(&mut cnp);
    assert_eq!(icrc::verify(cnp.bytes()), Ok(true));
    assert_eq!(cnp.payload(), Payload::Bytes(&[]));

    // PFC: 60 bytes, no ICRC, nothing of earlier frames behind its fields.
    let mut pfc = pool.take(Fill::Control, FrameLen(60)).unwrap();
    rng.fill_bytes(pfc.head_mut());
    pfc.head_mut()[12..16].copy_from_slice(&[0x88, 0x08, 0x01, 0x01]);
    let head = *pfc.head();
    (pfc.meta_mut().head_len, pfc.meta_mut().flags) = (34, flags::PFC);
    pool.seal(&mut pfc);
    assert_eq!(pfc.bytes()[..34], head[..34]);
    assert_eq!(pfc.bytes()[34..], [0; 26]);
    pool.give(cnp);
    pool.give(pfc);
}

fn frames_cross_between_pinned_threads(eal: &'static Eal) {
    const FRAMES: u64 = 50_000;
    let control = MbufPool::create(eal, &spec("cross-control", 511, 126, 64)).unwrap();
    let data = MbufPool::create(eal, &spec("cross-data", 1023, 4200, 64)).unwrap();
    let (mut tx, mut rx) = FrameRing::create(eal, "cross", 100).unwrap();
    assert_eq!((tx.room(), rx.len()), (100, 0));
    let cores = affinity::cores();
    let (a, b) = (cores[0], cores[cores.len() - 1]);
    let stamp = |i: u64| FrameMeta {
        start: Time(i * 3),
        arrive: Time(!i),
        flow: i as u32,
        class: (i % 7) as u8,
        driver: 0,
        ..FrameMeta::default()
    };
    let template = &templates()[0];
    std::thread::scope(|threads| {
        let (control, data) = (&control, &data);
        threads.spawn(move || {
            affinity::pin_current(a).unwrap();
            let _lcore = eal.register_thread().unwrap();
            let _again = eal.register_thread().unwrap();
            assert!(eal::is_lcore());
            let mut rng = Pcg64Mcg::seed_from_u64(SEED);
            let mut pool = MbufFrames::new(control, data, &[]);
            let mut burst: Burst<MbufFrame> = Burst::new();
            let mut i = 0;
            while i < FRAMES || !burst.is_empty() {
                while i < FRAMES && !burst.is_full() {
                    let Some(mut frame) = pool.take(Fill::Const, FrameLen(4200)) else { break };
                    let (wire, _) = write_head(&mut frame, template, &mut rng, (i % 4097) as u16);
                    *frame.meta_mut() =
                        FrameMeta { len: wire.len, head_len: wire.head_len, fill: Fill::Const, ..stamp(i) };
                    pool.seal(&mut frame);
                    burst.push(frame);
                    i += 1;
                }
                if tx.push(&mut burst) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        threads.spawn(move || {
            affinity::pin_current(b).unwrap();
            let _lcore = eal.register_thread().unwrap();
            let mut pool = MbufFrames::new(control, data, &[]);
            let mut burst: Burst<MbufFrame> = Burst::new();
            let mut i = 0;
            while i < FRAMES {
                if rx.pop(&mut burst) == 0 {
                    std::thread::yield_now();
                }
                for frame in burst.drain(..) {
                    let m = *frame.meta();
                    let sent = FrameMeta { len: m.len, head_len: m.head_len, fill: m.fill, ..stamp(i) };
                    assert_eq!(m, sent, "frames arrive in order with their meta");
                    let f = fast::parse(frame.head(), frame.len()).unwrap();
                    assert_eq!(u64::from(f.payload_len), i % 4097);
                    assert_eq!(icrc::verify(frame.bytes()), Ok(true), "frame {i}");
                    pool.give(frame);
                    i += 1;
                }
            }
            assert!(rx.is_empty());
        });
    });
    assert_eq!((control.in_use(), data.in_use()), (0, 0));
    assert!(!std::thread::spawn(eal::is_lcore).join().unwrap(), "registration ends with the guard");
}

fn a_ring_frees_what_it_still_holds(eal: &Eal) {
    let data = MbufPool::create(eal, &spec("left", 200, 1082, 0)).unwrap();
    let mut pool = MbufFrames::new(&data, &data, &[1024]);
    let (mut tx, mut rx) = FrameRing::create(eal, "left", BURST as u32 + 8).unwrap();
    let mut burst: Burst<MbufFrame> = Burst::new();
    for sent in [BURST, 8] {
        while let Some(i) = (!burst.is_full()).then_some(burst.len()) {
            let mut frame = pool.take(Fill::Const, FrameLen(1082)).unwrap();
            frame.meta_mut().flow = i as u32;
            burst.push(frame);
        }
        assert_eq!(tx.push(&mut burst), sent, "the ring holds exactly {}", BURST + 8);
    }
    assert_eq!((tx.room(), burst.len()), (0, BURST - 8));
    assert!(burst.iter().map(|f| f.meta().flow).eq(8..BURST as u32), "what was refused keeps its order");
    assert_eq!(rx.pop(&mut burst), 8, "as far as the burst has room");
    drop((tx, pool));
    assert_eq!(data.in_use(), 2 * BURST as u32);
    drop(burst);
    assert_eq!(rx.len(), BURST);
    drop(rx);
    assert_eq!(data.in_use(), 0);
}
