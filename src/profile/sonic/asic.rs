//! What a database does not say: the chip's cell size, and how its SONiC counts a pool's size.

use crate::switch::config::Slices;

/// How the size of an ingress pool relates to what is reserved beside the shared cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolSize {
    /// As SAI defines it (Broadcom): what groups and queues reserve, private headroom and the shared headroom pool are
    /// taken from the pool's size.
    Whole,
    /// As SONiC computes it for Spectrum: the size is what is left when everything reserved is taken away. The published
    /// thresholds of Tomahawk 1 and 2 are those of such sizes too (sonic-mgmt, brcm/qos_param_generator.py).
    SharedOnly,
}

/// A chip family as far as the import needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asic {
    /// Name in reports.
    pub name: &'static str,
    /// Cell size, bytes.
    pub cell: u16,
    /// How its buffer is sliced.
    pub slices: Slices,
    /// Lanes of all its pipes together, in whose order they are numbered; of chips whose buffer is sliced.
    pub lanes: u16,
    /// What of a pool's size its queues have.
    pub guaranteed: Guaranteed,
}

/// What of a pool's size queues have for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guaranteed {
    /// What the queues of the database reserve.
    Bound,
    /// Nothing, whatever they reserve.
    Nothing,
    /// As many queues a port as the largest reserve of one, whether they are bound or not.
    Queues(u64),
}

/// A chip whose buffer is one memory.
const fn whole(name: &'static str, cell: u16) -> Asic {
    Asic { name, cell, slices: Slices::Whole, lanes: 0, guaranteed: Guaranteed::Bound }
}

/// A Tomahawk 1 or 2 with so many lanes.
const fn crosspoints(name: &'static str, lanes: u16) -> Asic {
    Asic { name, cell: 208, slices: Slices::Crosspoints, lanes, guaranteed: Guaranteed::Nothing }
}

/// A Tomahawk 3 or later with so many lanes; its queues are ten a port (`bcm_num_cos`).
const fn itms(name: &'static str, lanes: u16) -> Asic {
    Asic { name, cell: 254, slices: Slices::Itms, lanes, guaranteed: Guaranteed::Queues(10) }
}

/// Words in `hwsku` or `platform` (lower case, without - _), most telling first, and the chip. Cell sizes: sonic-mgmt's
/// QoS tables (Broadcom), SONiC's generator of QoS parameters (Spectrum).
const KNOWN: [(&[&str], Asic); 10] = [
    (&["7060x6"], itms("Tomahawk 5", 512)),
    (&["7060dx5", "7060px5"], itms("Tomahawk 4", 512)),
    (&["z9332f", "7060dx4", "7060px4", "as971632d", "ixr7220h3"], itms("Tomahawk 3", 256)),
    (&["7260cx3"], crosspoints("Tomahawk 2", 256)),
    (&["7060cx", "z9100", "s6100"], crosspoints("Tomahawk", 128)),
    (&["7050cx3"], whole("Trident 3", 256)),
    (&["s6000", "7050qx"], Asic { guaranteed: Guaranteed::Nothing, ..whole("Trident 2", 208) }),
    (&["sn2"], whole("Spectrum", 96)),
    (&["sn3", "sn4"], whole("Spectrum-2 or -3", 144)),
    (&["sn5"], whole("Spectrum-4", 192)),
];

/// The chip with cells of this size, where only one family has them.
pub fn of_cell(cell: u16) -> Option<Asic> {
    (cell == 254).then_some(itms("Tomahawk 3 or later", 0))
}

/// The chip of a platform, if it is known.
pub fn of_platform(hwsku: &str, platform: &str) -> Option<Asic> {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_'], "");
    let names = [plain(hwsku), plain(platform)];
    let tells = |words: &[&str]| names.iter().any(|n| words.iter().any(|w| n.contains(w)));
    KNOWN.iter().find(|(words, _)| tells(words)).map(|(_, asic)| *asic)
}

/// Words in `hwsku` or `platform` of switches with virtual output queues, and their chip. Every Arista 7280, 7500R and
/// 7800R, Nokia's 7250 IXR, UfiSpace's S95xx to S97xx and Edgecore's 79xx with deep buffers have a chip of Broadcom's
/// DNX line; every Cisco 8000 (platforms x86_64-8...) is a Silicon One, whose queues are virtual output queues too.
const VIRTUAL_OUTPUT_QUEUES: [(&[&str], &str); 3] = [
    (
        &[
            "7280",
            "7500r",
            "7504r",
            "7508r",
            "7512r",
            "7516r",
            "7800",
            "7804",
            "7808",
            "7812",
            "7816",
            "7020sr",
            "7020tr",
            "7020r",
            "ixr7250",
            "ufispaces95",
            "ufispaces96",
            "ufispaces97",
            "as5915",
            "as5916",
            "as7316",
            "as7926",
            "as7946",
            "as9926",
            "as9936",
            "as9947",
            "j2c",
            "broadcomdnx",
        ],
        "Broadcom DNX (Jericho, Qumran, Ramon)",
    ),
    (&["jericho", "qumran", "ramon"], "Broadcom DNX (Jericho, Qumran, Ramon)"),
    (&["cisco8", "x86648", "8101", "8102", "8201", "8202", "88lc0", "siliconone"], "Cisco Silicon One"),
];

/// The chip of a platform whose frames wait at the ingress in queues for every output, which is not modelled.
pub fn with_virtual_output_queues(hwsku: &str, platform: &str) -> Option<&'static str> {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let names = [plain(hwsku), plain(platform)];
    let tells = |words: &[&str]| names.iter().any(|n| words.iter().any(|w| n.contains(w)));
    VIRTUAL_OUTPUT_QUEUES.iter().find(|(words, _)| tells(words)).map(|(_, chip)| *chip)
}

/// How a chip with cells of this size counts its pools. Only Spectrum has cells of 96, 144 and 192 bytes.
pub fn pool_size(cell: u16) -> PoolSize {
    if matches!(cell, 96 | 144 | 192) { PoolSize::SharedOnly } else { PoolSize::Whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_tell_their_cell() {
        let cell = |sku, platform| of_platform(sku, platform).map(|a| a.cell);
        assert_eq!(cell("ACS-MSN3700", "x86_64-mlnx_msn3700-r0"), Some(144));
        assert_eq!(cell("ACS-SN5600", "x86_64-nvidia_sn5600-r0"), Some(192));
        assert_eq!(cell("Arista-7260CX3-D108C8", "x86_64-arista_7260cx3_64"), Some(208));
        assert_eq!(cell("Arista-7060X6-64PE-B-O128", ""), Some(254));
        assert_eq!(cell("Force10-S6000", "x86_64-dell_s6000_s1220-r0"), Some(208));
        assert_eq!(cell("Unheard-Of", "x86_64-none-r0"), None);
        assert_eq!(pool_size(144), PoolSize::SharedOnly);
        assert_eq!(pool_size(254), PoolSize::Whole);
    }

    #[test]
    fn chips_with_virtual_output_queues_are_known_by_name() {
        let of = with_virtual_output_queues;
        for sku in [
            "Nokia-IXR7250E-36x400G",
            "UFISPACE-S9700-53DX",
            "UFISPACE-S9705-48D",
            "UFISPACE-S9710-76D",
            "Arista-7280CR3-C40",
            "DCS-7280DR3A-36",
            "Arista-7500R3-36CQ-LC",
            "Arista-7800R3A-36DM2-C36",
            "Arista-7808R3-FM",
            "Accton-AS7946-74XKFB",
            "Any-Vendor-J2C-48D",
        ] {
            assert!(of(sku, "").is_some_and(|chip| chip.contains("Jericho")), "{sku}");
        }
        assert!(of("other", "x86_64-nokia_ixr7250e_36x400g-r0").is_some());
        assert!(of("other", "x86_64-ufispace_s9710_76d-r0").is_some());
        assert_eq!(of("other", "x86_64-8111_32eh_o-r0"), Some("Cisco Silicon One"));
        assert_eq!(of("Cisco-8102-C64", ""), Some("Cisco Silicon One"));
        for sku in [
            "Arista-7060X6-64PE",
            "Arista-7060DX5-64S",
            "Arista-7260CX3-D108C8",
            "Arista-7050CX3-32S-C32",
            "ACS-MSN3700",
            "ACS-SN5640",
            "DellEMC-Z9332f-O32",
            "Force10-S6000",
            "UFISPACE-S9300-32D",
            "Accton-AS7712-32X",
            "Accton-AS9716-32D",
            "Nokia-IXR7220-H3",
        ] {
            assert_eq!(of(sku, ""), None, "{sku}");
        }
    }
}
