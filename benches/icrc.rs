//! What one frame costs: header template, head parser, and the ICRC the plain way against the
//! constant-payload way.

#![allow(missing_docs, clippy::expect_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rankstorm::wire::fast::{self, Fast};
use rankstorm::wire::headers::{Ext, Opcode, Reth};
use rankstorm::wire::icrc::{self, ConstPayload};
use rankstorm::wire::template::{BthFields, FrameSpec, Template, WireLen};
use rankstorm::wire::{HEAD_MAX, PAYLOAD_BYTE};

fn template(src: &str, dst: &str) -> Template {
    let spec = FrameSpec {
        src_ip: src.parse().expect("address"),
        dst_ip: dst.parse().expect("address"),
        dscp: 26,
        ecn_bits: 2,
        ..FrameSpec::default()
    };
    Template::new(&spec).expect("one family")
}

const MIDDLE: BthFields = BthFields {
    opcode: Opcode::RcWriteMiddle as u8,
    dest_qp: 0x11,
    psn: 0x100,
    ack_req: false,
    pad: 0,
    becn: false,
};

fn write_middle(t: &Template, head: &mut [u8; HEAD_MAX], psn: u32, payload_len: u16) -> WireLen {
    t.write(head, &BthFields { psn, ..MIDDLE }, &Ext::None, payload_len)
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    let mut head = [0; HEAD_MAX];
    for (name, t) in
        [("ipv4", template("198.18.0.1", "198.18.0.2")), ("ipv6", template("2001:2::1", "2001:2::2"))]
    {
        let mut psn = 0;
        group.bench_function(BenchmarkId::new("write MIDDLE", name), |b| {
            b.iter(|| {
                psn += 1;
                let len = write_middle(&t, &mut head, black_box(psn), black_box(4096));
                black_box(&mut head);
                len
            })
        });
        group.bench_function(BenchmarkId::new("write FIRST", name), |b| {
            b.iter(|| {
                psn += 1;
                let reth = Ext::Reth(Reth { va: u64::from(psn), rkey: 7, dma_len: 1 << 20 });
                let bth = BthFields { opcode: Opcode::RcWriteFirst.into(), psn: black_box(psn), ..MIDDLE };
                let len = t.write(&mut head, &bth, &reth, black_box(4096));
                black_box(&mut head);
                len
            })
        });
        let len = write_middle(&t, &mut head, 1, 4096).len;
        // What the first switch does with a frame.
        group.bench_function(BenchmarkId::new("parse and hash", name), |b| {
            b.iter(|| fast::parse(black_box(&head), black_box(len)).map_or(0, |f| fast::ecmp_hash(&f, 1)))
        });
        // What a receiving host reads.
        group.bench_function(BenchmarkId::new("parse for host", name), |b| {
            b.iter(|| {
                let f = fast::parse(black_box(&head), black_box(len)).unwrap_or_default();
                u64::from(f.dest_qp) << 32
                    | u64::from(f.psn) ^ u64::from(f.payload_len) ^ u64::from(f.ecn) ^ u64::from(f.opcode)
            })
        });
        let f = fast::parse(&head, len).expect("a good frame");
        group.bench_function(BenchmarkId::new("ecmp_hash", name), |b| {
            b.iter(|| fast::ecmp_hash(black_box(&f), 1))
        });
        group.bench_function(BenchmarkId::new("set_ce", name), |b| {
            b.iter(|| fast::set_ce(black_box(&mut head)))
        });
    }
}

fn icrc(c: &mut Criterion) {
    let t = template("198.18.0.1", "198.18.0.2");
    let mut group = c.benchmark_group("icrc");
    for payload_len in [64u16, 1024, 4096] {
        let mut head = [0; HEAD_MAX];
        let len = write_middle(&t, &mut head, 1, payload_len);
        let f: Fast = fast::parse(&head, len.len).expect("a good frame");
        let mut frame = head[..usize::from(len.head_len)].to_vec();
        frame.resize(usize::from(len.len.0) - 4, PAYLOAD_BYTE);
        frame.extend([0; 4]);
        let fast_way = ConstPayload::new(payload_len, PAYLOAD_BYTE, 0);
        let full = icrc::of_frame(&frame).expect("RoCEv2").expected;
        assert_eq!(fast_way.icrc(&head, &f), full, "both ways must agree before they race");

        group.bench_with_input(BenchmarkId::new("whole frame", payload_len), &frame, |b, frame| {
            b.iter(|| icrc::of_frame(black_box(frame)))
        });
        group.bench_with_input(BenchmarkId::new("constant payload", payload_len), &head, |b, head| {
            b.iter(|| fast_way.icrc(black_box(head), black_box(&f)))
        });
    }
}

criterion_group!(benches, heads, icrc);
criterion_main!(benches);
