//! First inputs of every target: the repository's captures, profiles, and small files as their authors write them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rankstorm::wire::headers::{Ext, Opcode};
use rankstorm::wire::stamp::{STAMP, Signature};
use rankstorm::wire::template::{BthFields, FrameSpec, Template};
use rankstorm::wire::{HEAD_MAX, neighbour};

use super::wire::RUN;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths.iter().filter_map(|p| std::fs::read(p).ok()).collect()
}

/// The first frames of a little-endian capture.
fn frames(capture: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut found) = (capture.get(24..).unwrap_or_default(), Vec::new());
    while let Some(len) = rest.get(8..12) {
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let Some(frame) = rest.get(16..16 + len) else { break };
        found.push(frame);
        rest = &rest[16 + len..];
    }
    found
}

const FLOWS: [&[u8]; 3] = [
    b"src,dst,bytes,start_ns\n10.0.0.1,10.0.0.2,1000000,0\n10.0.0.2,10.0.0.1,64,1500\n",
    b"3\n0 1 3 100 1000000 2.0\n1 0 3 100 2000 2.000001\n2 1 3 200 64 2.5\n",
    b"2\n0 1 3 100 1000000 2.0\n1 0 3 100 2000 2.000001\n\x001\n1 0\n",
];

const HPCC: &[u8] = b"ENABLE_QCN 1\nUSE_DYNAMIC_PFC_THRESHOLD 1\nPACKET_PAYLOAD_SIZE 1000\n\
TOPOLOGY_FILE topology.txt\nFLOW_FILE flow.txt\nSIMULATOR_STOP_TIME 4.00\nCC_MODE 1\nALPHA_RESUME_INTERVAL 1\n\
RATE_DECREASE_INTERVAL 4\nCLAMP_TARGET_RATE 0\nRP_TIMER 300\nEWMA_GAIN 0.00390625\nFAST_RECOVERY_TIMES 1\n\
RATE_AI 40Mb/s\nRATE_HAI 100Mb/s\nMIN_RATE 100Mb/s\nERROR_RATE_PER_LINK 0.0000\nHAS_WIN 0\nACK_HIGH_PRIO 0\n\
LINK_DOWN 0 0 0\nKMAX_MAP 1 100000000000 1600\nKMIN_MAP 1 100000000000 400\nPMAX_MAP 1 100000000000 0.20\n\
BUFFER_SIZE 32\n\x00\
4 1 3\n3\n0 3 100Gbps 1000ns 0\n1 3 100Gbps 1000ns 0\n2 3 100Gbps 1000ns 0\n\x00\
2\n0 2 3 100 1000000 2.0\n1 2 3 100 1000000 2.0\n";

const SONIC: &[u8] = br#"{"PORT": {"Ethernet0": {"speed": "100000", "lanes": "1"}},
"BUFFER_POOL": {"ingress_lossless_pool": {"type": "ingress", "mode": "dynamic", "size": "33554432", "xoff": "4194304"},
"egress_lossless_pool": {"type": "egress", "mode": "static", "size": "33554432"}},
"BUFFER_PROFILE": {"pg_lossless_100000_5m_profile": {"pool": "ingress_lossless_pool", "size": "1248", "xon": "2288",
"xon_offset": "2288", "xoff": "97856", "dynamic_th": "-3"}, "lossy": {"pool": "ingress_lossless_pool", "size": "0",
"dynamic_th": "3"}},
"BUFFER_PG": {"Ethernet0|3-4": {"profile": "pg_lossless_100000_5m_profile"}, "Ethernet0|0": {"profile": "lossy"}},
"DSCP_TO_TC_MAP": {"AZURE": {"3": "3", "4": "4", "0": "1"}},
"TC_TO_PRIORITY_GROUP_MAP": {"AZURE": {"3": "3", "4": "4", "0": "0"}},
"TC_TO_QUEUE_MAP": {"AZURE": {"3": "3", "4": "4", "0": "0"}},
"PORT_QOS_MAP": {"Ethernet0": {"pfc_enable": "3,4", "dscp_to_tc_map": "AZURE", "tc_to_pg_map": "AZURE",
"tc_to_queue_map": "AZURE"}},
"WRED_PROFILE": {"W": {"wred_green_enable": "true", "ecn": "ecn_all", "green_min_threshold": "250000",
"green_max_threshold": "1048576", "green_drop_probability": "5"}},
"SCHEDULER": {"s.0": {"type": "DWRR", "weight": "14"}},
"QUEUE": {"Ethernet0|3": {"wred_profile": "W", "scheduler": "s.0"}}}"#;

const LOOKUP: &[u8] = b"\n# PG lossless profiles.\n# speed cable size xon xoff threshold xon_offset\n\
100000 5m 1248 2288 97856 -3 2288\n100000 300m 1248 2288 165568 -3 2288\n";

/// First inputs of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    // The fuzz package lies two folders below the repository's root.
    let root =
        [root(), root().join("../..")].into_iter().find(|r| r.join("pcaps").is_dir()).unwrap_or_else(root);
    let captures = files(&root.join("pcaps"), "pcap");
    let first_frames =
        || captures.iter().flat_map(|c| frames(c).into_iter().take(4)).filter(|f| f.len() < 2048);
    let pause = [&[1, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x88, 8, 1, 1, 0, 8][..], &[0; 42]].concat();
    match target {
        "fast" | "pfc" => first_frames()
            .map(<[u8]>::to_vec)
            .chain([pause])
            .map(|f| [&(f.len() as u16).to_be_bytes()[..], &f[..f.len().min(126)]].concat())
            .collect(),
        "dissect" => first_frames().chain([&pause[..]]).map(|f| [&[0], f].concat()).collect(),
        "capture" => captures.iter().filter(|c| c.len() < 16_384).cloned().collect(),
        "flows" => FLOWS.iter().map(|f| f.to_vec()).collect(),
        "hpcc" => vec![HPCC.to_vec()],
        "neighbour" => neighbours(),
        "stamp" => stamps(),
        "device" => DEVICES.iter().map(|d| [&1_518u16.to_be_bytes()[..], d.as_bytes()].concat()).collect(),
        "sonic" => vec![[SONIC, b"\0", LOOKUP].concat()],
        "profile" => files(&root.join("profiles"), "toml").into_iter().map(|p| small(&p)).collect(),
        // Short programs over the targets' own steps: they are found quickly from anything.
        _ => (0..8u8).map(|n| (0..96u8).map(|i| i.wrapping_mul(37).wrapping_add(n * 11)).collect()).collect(),
    }
}

const DEVICES: [&str; 8] = [
    "eth1",
    "0000:3b:00.0",
    "loop:a",
    "net_af_packet0,iface=eth1,framesz=4096",
    "net_af_xdp0,iface=eth1",
    "net_memif0,role=client,socket=@x,bsize=8192",
    "net_tap0,remote=eth1",
    "net_virtio_user0,path=/dev/vhost-net",
];

/// Questions and answers of both families, untagged and tagged.
fn neighbours() -> Vec<Vec<u8>> {
    let v4 = [IpAddr::from([198, 18, 0, 1]), IpAddr::from([198, 18, 0, 2])];
    let v6 = [0x2001_0002_u128 << 96 | 1, 0x2001_0002_u128 << 96 | 2].map(|a| IpAddr::from(a.to_be_bytes()));
    let mut found = Vec::new();
    for ([a, b], vlan) in [(v4, None), (v6, None), (v4, Some(0x6064)), (v6, Some(7))] {
        let mut head = [0; HEAD_MAX];
        for len in [
            neighbour::ask(&mut head, vlan, [2; 6], a, b),
            neighbour::tell(&mut head, vlan, [2; 6], a, ([4; 6], b)),
        ] {
            let len = usize::from(len.map_or(0, |l| l.0));
            found.push(head[..len.min(HEAD_MAX)].to_vec());
        }
    }
    found
}

/// Stamped frames of both families, untagged and tagged, short and long, that come in a microsecond after they left.
fn stamps() -> Vec<Vec<u8>> {
    let ip = |a: &str| a.parse().expect("an address");
    let v4 = FrameSpec { src_ip: ip("198.18.0.1"), dst_ip: ip("198.18.0.2"), ..FrameSpec::default() };
    let v6 = FrameSpec { src_ip: ip("2001:2::1"), dst_ip: ip("2001:2::2"), ..v4 };
    let tagged = |spec| FrameSpec { vlan: Some((3, 100)), ..spec };
    let bth = BthFields { opcode: Opcode::RcWriteMiddle.into(), dest_qp: 17, psn: 5, ..BthFields::default() };
    let (sent, port) = (8_000_000_000u64, 3);
    let mut found = Vec::new();
    for (spec, payload) in [(v4, 28), (v4, 1_024), (v6, 4_096), (tagged(v4), 64), (tagged(v6), 1_024)] {
        let mut head = [0; HEAD_MAX];
        let wire = Template::new(&spec).expect("one family").write(&mut head, &bth, &Ext::None, payload);
        let at = usize::from(wire.head_len);
        let first = Signature { run: RUN, port }.first_word(0x12_3456);
        head[at..at + STAMP].copy_from_slice([first, sent, sent - 7].map(u64::to_le_bytes).as_flattened());
        let said = [&(sent + 1_000_000).to_be_bytes()[..], &[wire.head_len], &wire.len.0.to_be_bytes()];
        found.push([said.concat(), head.to_vec()].concat());
    }
    found
}

/// A profile with numbers that the target takes.
fn small(profile: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(profile);
    let lines = text.lines().filter(|l| !l.trim_start().starts_with('#')).map(|l| {
        let code = l.split_once(" #").map_or(l, |(code, _)| code).trim_end();
        let mut out = String::new();
        let mut digits = String::new();
        for c in code.chars().chain(['\n']) {
            if c.is_ascii_digit() || (c == '_' && !digits.is_empty()) {
                digits.push(c);
                continue;
            }
            let n: u64 = digits.replace('_', "").parse().unwrap_or(0);
            out.push_str(if n > 64 { "33" } else { &digits });
            digits.clear();
            out.push(c);
        }
        out
    });
    lines.collect::<String>().into_bytes()
}
