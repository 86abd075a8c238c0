//! Named sets of switch sizes, each with its origin, and the maps every SONiC switch starts with.

use super::quantity::Alpha;
use super::switch_doc::SlicesDoc;
use crate::units::{Bytes, Rate, Span};

/// Sizes of a switch chip as a whole; any key of `[switch]` overrides its own. The thresholds of a product follow from its
/// buffer configuration (pool, alpha, reserves; `config = [...]` imports SONiC's), not from its chip: a preset's XOFF point
/// for one group is that of the chip's memory with a default alpha, and differs from what is published for a SKU.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Name in `preset = ...`.
    pub name: &'static str,
    /// Where the numbers come from.
    pub origin: &'static str,
    /// Cell size, bytes.
    pub cell: u16,
    /// Packet buffer.
    pub buffer: Bytes,
    /// Dynamic threshold of lossless priority groups.
    pub alpha: Alpha,
    /// Headroom per port and priority, by highest port rate in Gb/s.
    pub headroom: &'static [(u64, u64)],
    /// XON offset, bytes.
    pub xon_offset: u64,
    /// Reserved bytes per priority group.
    pub reserved: u64,
    /// How the buffer is sliced.
    pub slices: SlicesDoc,
}

const TH5_HEADROOM: &[(u64, u64)] = &[(200, 300_990), (400, 393_192), (800, 724_662)];

/// All presets.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "generic-32mib",
        origin: "no chip in particular: 32 MiB and alpha 1/8 as in the HPCC simulations, Broadcom's \
             254-byte cell, \
                 headrooms of sonic-mgmt for Tomahawk 3 (100G, 300 m) and Tomahawk 5 (200G to 800G, 5 m)",
        cell: 254,
        buffer: Bytes(32 << 20),
        alpha: Alpha { num: 1, den: 8 },
        headroom: &[(100, 117_348), (200, 300_990), (400, 393_192), (800, 724_662)],
        xon_offset: 18_432,
        reserved: 0,
        slices: SlicesDoc::Whole,
    },
    Preset {
        name: "trident3",
        origin: "cell and headroom (100G, 300 m): sonic-mgmt QoS tables; 32 MB: commonly quoted, not \
             from a data sheet; alpha 1/8: a default. XOFF points of a SKU follow from its pool and alpha",
        cell: 256,
        buffer: Bytes(32_000_000),
        alpha: Alpha { num: 1, den: 8 },
        headroom: &[(100, 159_488)],
        xon_offset: 18_432,
        reserved: 0,
        slices: SlicesDoc::Whole,
    },
    Preset {
        name: "tomahawk2",
        origin: "cell and headroom (100G, 300 m): sonic-mgmt QoS tables; 42 MB: from the pool sizes of \
             SONiC's 7260CX3; four crosspoints: the vendor's public SDK; alpha 1/8: a default. XOFF \
             points of a SKU follow from its configuration",
        cell: 208,
        buffer: Bytes(42_000_000),
        alpha: Alpha { num: 1, den: 8 },
        headroom: &[(100, 101_296)],
        xon_offset: 18_432,
        reserved: 1_664,
        slices: SlicesDoc::Crosspoints,
    },
    Preset {
        name: "tomahawk3",
        origin: "cell and headroom (100G, 300 m): sonic-mgmt QoS tables; 64 MB: commonly quoted, not \
             from a data sheet; two slices: the vendor's public SDK; alpha 1/8: a default. XOFF points of a SKU follow from its pool and alpha",
        cell: 254,
        buffer: Bytes(64_000_000),
        alpha: Alpha { num: 1, den: 8 },
        headroom: &[(100, 117_348)],
        xon_offset: 18_432,
        reserved: 0,
        slices: SlicesDoc::Itms,
    },
    Preset {
        name: "tomahawk5",
        origin: "cell, headroom (5 m), alpha 1, reserved 8636 B and XON offset 3556 B: SONiC \
             pg_profile_lookup and \
                 sonic-mgmt QoS tables; two slices: seen from published thresholds; 165.2 MB: commonly quoted, not \
                 from a data sheet. XOFF points of a SKU follow from its pool",
        cell: 254,
        buffer: Bytes(165_200_000),
        alpha: Alpha { num: 1, den: 1 },
        headroom: TH5_HEADROOM,
        xon_offset: 3_556,
        reserved: 8_636,
        slices: SlicesDoc::Itms,
    },
    Preset {
        name: "spectrum3",
        origin: "cell, headroom (5 m) and reserved 19456 B: SONiC's pg_profile_lookup of the SN4700 and its generator of \
                 QoS parameters; alpha 1 (threshold 0 there); 64 MB: commonly quoted, not from a data sheet",
        cell: 144,
        buffer: Bytes(64_000_000),
        alpha: Alpha { num: 1, den: 1 },
        headroom: &[(25, 32_768), (100, 33_792), (200, 35_840), (400, 38_912)],
        xon_offset: 0,
        reserved: 19_456,
        slices: SlicesDoc::Whole,
    },
    Preset {
        name: "spectrum4",
        origin: "cell, headroom (5 m) and reserved 19456 B: SONiC's pg_profile_lookup of the SN5600 and its generator of \
                 QoS parameters; alpha 1 (threshold 0 there); 160 MB: commonly quoted, not from a data sheet",
        cell: 192,
        buffer: Bytes(160_000_000),
        alpha: Alpha { num: 1, den: 1 },
        headroom: &[
            (10, 45_056),
            (25, 48_128),
            (40, 57_344),
            (50, 63_488),
            (100, 113_664),
            (200, 131_072),
            (400, 231_424),
            (800, 257_024),
        ],
        xon_offset: 0,
        reserved: 19_456,
        slices: SlicesDoc::Whole,
    },
];

/// Beginnings of names of chips that keep frames at the ingress in queues for every output: no shared-buffer switch.
const VIRTUAL_OUTPUT_QUEUES: [&str; 9] =
    ["jericho", "qumran", "arad", "ramon", "q100", "q200", "p100", "silicon-one", "silicon one"];

/// True for a chip with virtual output queues, which the model does not describe.
pub fn has_virtual_output_queues(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    VIRTUAL_OUTPUT_QUEUES.iter().any(|chip| name.starts_with(chip))
}

impl Preset {
    /// The preset of that name.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|p| p.name == name)
    }
    /// Headroom for ports of up to `rate`.
    pub fn headroom_for(&self, rate: Rate) -> Option<Bytes> {
        self.headroom.iter().find(|(gbps, _)| Rate::gbps(*gbps) >= rate).map(|(_, bytes)| Bytes(*bytes))
    }
}

/// SONiC's AZURE default map from DSCP to traffic class, which is also the priority group, queue and PFC
/// priority:
/// 3 and 4 are lossless, 5 -> 2, 8 -> 0, 46 -> 5, 48 -> 6, all others -> 1 (sonic-buildimage qos_config).
pub const AZURE_DSCP_MAP: [u8; 64] = {
    let mut map = [1u8; 64];
    map[3] = 3;
    map[4] = 4;
    map[5] = 2;
    map[8] = 0;
    map[46] = 5;
    map[48] = 6;
    map
};

/// Scheduling weights: SONiC's 14 and 15 (DWRR), with 6 (CNP) and 7 (network control) strict, as RoCE
/// set-ups have it.
pub const WEIGHTS: [u16; 8] = [14, 14, 14, 15, 15, 14, 0, 0];

/// Ingress pipeline of a switch chip of this decade: 400 to 800 ns are published.
pub const PIPELINE: Span = Span::from_ns(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::predict::response_quanta;

    #[test]
    fn headroom_follows_the_rate() {
        let th5 = Preset::named("tomahawk5").unwrap();
        // pg_profile_lookup, 800000 5m: xoff 724662 = 2853 cells of 254 B.
        assert_eq!(th5.headroom_for(Rate::gbps(800)), Some(Bytes(2853 * 254)));
        assert_eq!(th5.headroom_for(Rate::gbps(25)), Some(Bytes(1185 * 254)));
        assert_eq!(Preset::named("trident3").unwrap().headroom_for(Rate::gbps(400)), None);
    }

    #[test]
    fn response_bytes_match_the_standard_table() {
        // 100G: 394 quanta of 64 bytes are 25,216 B.
        assert_eq!(u64::from(response_quanta(Rate::gbps(100))) * 64, 25_216);
        assert_eq!(Rate::gbps(400).quanta(response_quanta(Rate::gbps(400))), Span(905 * 1_280));
    }
}
