//! A program built for a newer CPU than the one it runs on says so, instead of dying of an illegal instruction.

/// What this CPU lacks of what the program was built for, with the fix; `None` when all is there or cannot be asked.
///
/// The standard library's `is_x86_feature_detected!` is of no use here: it answers from the build where the build
/// already assumes a feature. So CPUID is asked (Intel SDM volume 2A, leaf 7 subleaf 0, EBX bit 5 AVX2 and bit 8 BMI2;
/// leaf 1, ECX bit 12 FMA).
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub fn lacking() -> Option<String> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let highest = __cpuid(0).eax;
    let ebx = if highest >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    missing(__cpuid(1).ecx, ebx)
}

/// Nothing beyond the architecture is assumed.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub fn lacking() -> Option<String> {
    None
}

#[cfg(any(test, all(target_arch = "x86_64", target_feature = "avx2")))]
fn missing(leaf_1_ecx: u32, leaf_7_ebx: u32) -> Option<String> {
    let lacks: Vec<&str> = [("FMA", leaf_1_ecx >> 12), ("AVX2", leaf_7_ebx >> 5), ("BMI2", leaf_7_ebx >> 8)]
        .into_iter()
        .filter(|&(_, bits)| bits & 1 == 0)
        .map(|(name, _)| name)
        .collect();
    (!lacks.is_empty()).then(|| {
        format!(
            "this rankstorm is built for CPUs of x86-64-v3 (Intel since Haswell, AMD since Excavator) and this one lacks \
             {}: on a virtual machine choose the host's CPU model, or build with RUSTFLAGS=\"-C target-cpu=x86-64\" and \
             --no-default-features",
            lacks.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_fix() {
        assert_eq!(missing(1 << 12, 1 << 5 | 1 << 8), None);
        let said = missing(1 << 12, 1 << 8).unwrap();
        assert!(said.contains("lacks AVX2:") && said.contains("target-cpu=x86-64\""), "{said}");
        assert!(missing(0, 0).unwrap().contains("FMA, AVX2, BMI2"));
    }
}
