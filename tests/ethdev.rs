//! Ports over DPDK devices that need neither hardware nor rights. One test, as a process has one EAL.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use rankstorm::dpdk::{
    Eal, EalOptions, EthPort, LoopCable, MbufFrame, MbufFrames, MbufPool, PoolSpec, PortSpec, ethdev, stamps,
};
use rankstorm::frame::{Burst, Fill, Frame, FramePool, Port, TxBatch};
use rankstorm::plan::device::DeviceSpec;
use rankstorm::plan::lab::Pacing;
use rankstorm::units::FrameLen;
use rankstorm::wire::headers::{Ext, Opcode};
use rankstorm::wire::icrc;
use rankstorm::wire::pad_of;
use rankstorm::wire::template::{BthFields, FrameSpec, Template};

const FRAME_MAX: u16 = 4_178;

fn spec(device: &str) -> PortSpec {
    let device = DeviceSpec::parse(device).unwrap();
    PortSpec { device, frame_bytes_max: FRAME_MAX, promiscuous: true, queues: 1, pacing: Pacing::Auto }
}

struct Lab {
    eal: &'static Eal,
    control: MbufPool,
    data: MbufPool,
    pool: MbufFrames,
    template: Template,
    psn: u32,
}

impl Lab {
    fn rx(&self, spec: &PortSpec, name: &str) -> MbufPool {
        MbufPool::create(self.eal, &spec.rx_pool(name.into()).unwrap()).unwrap()
    }

    fn open(&self, device: &str, name: &str) -> EthPort {
        let spec = spec(device);
        EthPort::open(self.eal, &spec, &self.rx(&spec, name)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A data frame of `payload` bytes with the next PSN.
    fn frame(&mut self, payload: u16) -> MbufFrame {
        let mut frame = self.pool.take(Fill::Const, FrameLen(FRAME_MAX)).unwrap();
        self.psn += 1;
        let bth = BthFields {
            opcode: Opcode::RcWriteMiddle.into(),
            dest_qp: 17,
            psn: self.psn,
            pad: pad_of(payload),
            ..BthFields::default()
        };
        let wire = self.template.write(frame.head_mut(), &bth, &Ext::None, payload);
        (frame.meta_mut().head_len, frame.meta_mut().len) = (wire.head_len, wire.len);
        self.pool.seal(&mut frame);
        frame
    }

    /// Sends `lens.len()` frames from `a` to `b`, in one burst, and holds what arrives against what left.
    fn carries(&mut self, a: &mut EthPort, b: &mut EthPort, lens: &[u16]) {
        let what = format!("{} -> {}", a.name(), b.name());
        let mut batch = TxBatch::new();
        lens.iter().for_each(|l| batch.data.push(self.frame(*l)));
        let sent: Vec<Vec<u8>> = batch.data.iter().map(|f| f.bytes().to_vec()).collect();
        let mut arrived: Burst<MbufFrame> = Burst::new();
        // memif takes frames only once its other end has asked for some.
        for _ in 0..2_000 {
            a.tx_burst(&mut batch);
            b.rx_burst(&mut arrived);
            if arrived.len() == lens.len() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let got: Vec<Vec<u8>> = arrived.iter().map(|f| f.bytes().to_vec()).collect();
        assert_eq!(got.len(), sent.len(), "{what}");
        assert!(got == sent, "{what}: bytes changed on the way");
        assert!(got.iter().all(|b| icrc::verify(b) == Ok(true)), "{what}");
        for frame in arrived.drain(..) {
            self.pool.give(frame);
        }
    }

    fn nothing_is_lent(&mut self) {
        // Frames at hand do not count as lost: a fresh lender holds none.
        self.pool = MbufFrames::new(&self.control, &self.data, &[1024, 4096]);
        assert_eq!((self.control.in_use(), self.data.in_use()), (0, 0));
    }
}

#[test]
fn devices_carry_frames_and_go_away_again() {
    let eal = Eal::init(EalOptions { memory_bytes: 220 << 20, ..EalOptions::default() }).unwrap();
    let pool =
        |name: &str, bytes| PoolSpec { name: name.into(), frames: 4_000, frame_bytes_max: bytes, cache: 0 };
    let control = MbufPool::create(eal, &pool("control", 126)).unwrap();
    let data = MbufPool::create(eal, &pool("data", FRAME_MAX)).unwrap();
    let frames = MbufFrames::new(&control, &data, &[1024, 4096]);
    let template = Template::new(&FrameSpec {
        src_ip: "198.18.0.1".parse().unwrap(),
        dst_ip: "198.18.0.2".parse().unwrap(),
        ..FrameSpec::default()
    });
    let mut lab = Lab { eal, control, data, pool: frames, template: template.unwrap(), psn: 0 };

    two_ends_of_a_cable(&mut lab);
    times_to_send_at_travel_in_the_frame(&mut lab);
    memif_both_ends_in_one_process(&mut lab);
    captures_are_played_and_written(&mut lab);
    a_sink_takes_all(&mut lab);
    what_is_not_there_is_refused_by_name(&mut lab);
    assert_eq!(ethdev::ports_open(eal), 0, "every port is gone");
    lab.nothing_is_lent();
}

fn two_ends_of_a_cable(lab: &mut Lab) {
    // Twice: the second time only works when the first left nothing behind.
    for round in 0..2 {
        let cable = LoopCable::create(lab.eal, "a", 1).unwrap();
        let s = spec("loop:a");
        let rx = lab.rx(&s, "loop-rx");
        let mut a = cable.open(lab.eal, 0, &s, &rx).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let mut b = cable.open(lab.eal, 1, &s, &rx).unwrap();
        assert_eq!(ethdev::ports_open(lab.eal), 2);
        assert!(a.link().unwrap().up);
        lab.carries(&mut a, &mut b, &[0, 1, 63, 1024, 4096]);
        lab.carries(&mut b, &mut a, &[4096; 32]);
        let (sa, sb) = (a.stats().unwrap(), b.stats().unwrap());
        assert_eq!((sa.tx_frames, sa.rx_frames, sb.tx_frames, sb.rx_frames), (5, 32, 32, 5));

        // A ring that is full refuses, keeps the order, and loses nothing.
        let mut burst: Burst<MbufFrame> = Burst::new();
        let mut taken = 0;
        while burst.is_empty() {
            (0..32).for_each(|_| burst.push(lab.frame(100)));
            taken += a.send(&mut burst);
        }
        assert_eq!((taken, a.tx_refused()), (1_024, burst.len() as u64));
        burst.drain(..).for_each(|f| lab.pool.give(f));
        // Frames still in the cable go back to their pool with it.
        drop((a, b, cable));
        lab.nothing_is_lent();
    }
}

/// A ring hands on the very mbuf, so that its other end sees what a device that paces would be given.
fn times_to_send_at_travel_in_the_frame(lab: &mut Lab) {
    let cable = LoopCable::create(lab.eal, "times", 1).unwrap();
    let s = spec("loop:times");
    let rx = lab.rx(&s, "times-rx");
    let (mut a, mut b) = (cable.open(lab.eal, 0, &s, &rx).unwrap(), cable.open(lab.eal, 1, &s, &rx).unwrap());
    assert!(!a.could_pace() && !a.paces(), "no ring offers it, and nothing is pretended");
    let mut frame = lab.frame(100);
    assert!(!a.send_at(&mut frame, Some(1 << 40)) && frame.send_time().is_none());
    lab.pool.give(frame);

    stamps::register_send_times(lab.eal).unwrap();
    stamps::register_send_times(lab.eal).unwrap();
    let times = [Some(1), None, Some(1_700_000_000_123_456_789), Some(u64::MAX)];
    // Twice: the second time in memory that has times of the first.
    for round in 0..2 {
        let mut batch = TxBatch::new();
        for time in times.iter().cycle().skip(round).take(4) {
            let mut frame = lab.frame(1024);
            frame.set_send_time(*time);
            assert_eq!(frame.send_time(), *time);
            batch.data.push(frame);
        }
        a.tx_burst(&mut batch);
        let mut arrived: Burst<MbufFrame> = Burst::new();
        b.rx_burst(&mut arrived);
        let got: Vec<Option<u64>> = arrived.iter().map(MbufFrame::send_time).collect();
        assert_eq!(got, times.into_iter().cycle().skip(round).take(4).collect::<Vec<_>>());
        assert!(arrived.iter().all(|f| icrc::verify(f.bytes()) == Ok(true)), "the frame is as it was");
        arrived.drain(..).for_each(|f| lab.pool.give(f));
    }
    drop((a, b, cable));

    // Asked for by name, a device that cannot is refused; left open, it is taken without.
    for (device, driver) in [("net_null7", "net_null"), ("loop:no", "net_ring")] {
        let s = PortSpec { pacing: Pacing::Hardware, ..spec(device) };
        let rx = lab.rx(&s, "no-times");
        let e = match device.strip_prefix("loop:") {
            Some(name) => LoopCable::create(lab.eal, name, 1).unwrap().open(lab.eal, 0, &s, &rx),
            None => EthPort::open(lab.eal, &s, &rx),
        };
        let e = e.unwrap_err().to_string();
        assert!(
            e.starts_with(&format!("device {device} cannot send at given times: its driver {driver}")),
            "{e}"
        );
        assert!(e.contains("SEND_ON_TIMESTAMP") && e.contains("pacing = \"software\" or \"auto\""), "{e}");
    }
    lab.nothing_is_lent();
}

fn memif_both_ends_in_one_process(lab: &mut Lab) {
    let socket = format!("socket=@rankstorm-test-{}", std::process::id());
    let mut a = lab.open(&format!("net_memif0,role=server,{socket}"), "memif-a");
    let mut b = lab.open(&format!("net_memif1,role=client,{socket}"), "memif-b");
    lab.carries(&mut a, &mut b, &[0, 1024, 4096]);
    lab.carries(&mut b, &mut a, &[4096, 8, 1]);
    assert!(a.link().unwrap().up, "both ends are there");
}

fn captures_are_played_and_written(lab: &mut Lab) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frames.pcap");
    let path = file.to_str().unwrap();
    let frames = [lab.frame(1024), lab.frame(0), lab.frame(4096)];
    let bytes: Vec<Vec<u8>> = frames.iter().map(|f| f.bytes().to_vec()).collect();
    let mut out = lab.open(&format!("net_pcap0,tx_pcap={path}"), "pcap-out");
    let mut batch = TxBatch::new();
    frames.into_iter().for_each(|f| batch.data.push(f));
    assert_eq!(out.tx_burst(&mut batch), 3);
    drop(out);
    let mut back = lab.open(&format!("net_pcap1,rx_pcap={path}"), "pcap-in");
    let mut arrived = Burst::new();
    back.rx_burst(&mut arrived);
    assert!(arrived.iter().map(|f: &MbufFrame| f.bytes().to_vec()).eq(bytes), "as captured");
    assert_eq!(back.stats().unwrap().rx_frames, 3);
    let names: Vec<String> = back.xstats().unwrap().into_iter().map(|(n, _)| n).collect();
    assert!(names.iter().any(|n| n == "rx_good_packets"), "{names:?}");
}

fn a_sink_takes_all(lab: &mut Lab) {
    let mut sink = lab.open("net_null0,size=64", "null");
    assert_eq!(sink.driver(), "net_null");
    for _ in 0..100 {
        let mut burst: Burst<MbufFrame> = Burst::new();
        (0..32).for_each(|_| burst.push(lab.frame(64)));
        assert_eq!(sink.send(&mut burst), 32);
    }
    assert_eq!(sink.stats().unwrap().tx_frames, 3_200);
    assert_eq!(sink.flow_control(), None, "a device without pauses says nothing, not \"off\"");
    let refusal = sink.set_flow_control(ethdev::FlowControl::Obeys, true).unwrap_err().to_string();
    assert!(refusal.contains("device net_null0,size=64 does not set flow control so"), "{refusal}");
}

fn what_is_not_there_is_refused_by_name(lab: &mut Lab) {
    let rx = lab.rx(&spec("net_null0"), "never");
    let cases = [
        ("net_null9,sise=64", "net_null9,sise=64 could not be attached"),
        ("net_nul0", "net_nul0 could not be attached"),
        ("0000:ff:1f.7", "bound to vfio-pci"),
        ("no-such-if0", "CAP_NET_RAW"),
        ("net_af_xdp0,iface=no-such-if0", "could not be attached"),
        ("loop:x", "two ports must name it"),
    ];
    for (device, says) in cases {
        let mut s = spec(device);
        s.frame_bytes_max = 1_102;
        let e = EthPort::open(lab.eal, &s, &rx).unwrap_err().to_string();
        assert!(e.contains(says), "{device}: {e}");
        assert_eq!(ethdev::ports_open(lab.eal), 0, "{device} left a port");
    }
    let e = spec("net_af_xdp0,iface=eth1").rx_pool("x".into()).unwrap_err().to_string();
    assert!(e.contains("3300 B"), "{e}");
}
