//! The entry points of the fuzz targets with bounded random input: a few seconds of what `tools/fuzz` does for as long
//! as one likes. Same seed, same inputs.
#![allow(clippy::unwrap_used)]

#[path = "fuzz/entries/mod.rs"]
mod entries;

use entries::{ENTRIES, seeds};
use rankstorm::rng::Rng;

/// Inputs per target.
const INPUTS: u64 = 4_000;

/// A seed with some bytes changed, cut, doubled or put in.
fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[rng.below(seeds.len() as u64) as usize].clone();
    for _ in 0..rng.below(12) {
        let at = rng.below(input.len().max(1) as u64) as usize;
        match rng.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at.min(input.len()), rng.below(256) as u8),
            2 => {
                let piece = input[at.min(input.len())..].iter().take(40).copied().collect::<Vec<u8>>();
                input.extend(piece);
            }
            3 => input.get_mut(at).into_iter().for_each(|b| *b ^= 1 << rng.below(8)),
            4 => {
                input.get_mut(at).into_iter().for_each(|b| *b = [0, 0xff, b'9', b'-'][rng.below(4) as usize])
            }
            _ => {
                let digits = b"0123456789";
                input.get_mut(at).into_iter().for_each(|b| *b = digits[rng.below(10) as usize]);
            }
        }
    }
    input
}

#[test]
fn no_entry_point_breaks_on_mutated_input() {
    for (name, entry) in ENTRIES {
        let seeds = seeds::of(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        seeds.iter().for_each(|s| entry(s));
        let mut rng = Rng::new(1, name, 0);
        let inputs = if name == "capture" || name == "profile" { INPUTS / 4 } else { INPUTS };
        for _ in 0..inputs {
            entry(&mutate(&mut rng, &seeds));
        }
    }
}

#[test]
fn what_fuzzing_found_stays_mended() {
    // The count of a map doubled beyond 64 bits.
    entries::run("hpcc", b"KMIN_MAP 9951084489762988944 3 100\n");
    // The headroom of a cable that is days long, and hosts that no memory holds.
    let scenario = String::from_utf8(seeds::of("hpcc").remove(0)).unwrap();
    for (was, is) in [("1000ns", "999999s"), ("\x004 1 3", "\x004294967295 1 3")] {
        let changed = scenario.replace(was, is);
        assert_ne!(changed, scenario);
        entries::run("hpcc", changed.as_bytes());
    }
}

/// Writes the first inputs of every target below the folder that `RANKSTORM_FUZZ_SEEDS` names; `tools/fuzz` does so.
#[test]
fn seeds_are_written_where_asked() {
    let Some(folder) = std::env::var_os("RANKSTORM_FUZZ_SEEDS") else { return };
    for (name, _) in ENTRIES {
        let folder = std::path::Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (i, seed) in seeds::of(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i:03}")), seed).unwrap();
        }
    }
}
