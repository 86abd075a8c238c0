//! Numbers as a reader wants them.

/// 655360 -> "655,360".
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A unit that suits the largest value of a column, with the divisor from nanoseconds.
pub fn time_unit(ns_max: f64) -> (&'static str, f64) {
    match ns_max {
        x if x >= 1e10 => ("s", 1e9),
        x if x >= 1e6 => ("ms", 1e6),
        x if x >= 1e3 => ("us", 1e3),
        _ => ("ns", 1.0),
    }
}

/// Nanoseconds with three or four significant digits and their unit: "131 us", "8.58 ms".
pub fn time(ns: f64) -> String {
    let (unit, by) = time_unit(ns.abs() * 1.000_5);
    format!("{} {unit}", significant(ns / by))
}

/// Three significant digits, never in exponent form.
pub fn significant(x: f64) -> String {
    match x.abs() {
        a if a >= 99.95 || x == 0.0 => format!("{x:.0}"),
        a if a >= 9.995 => format!("{x:.1}"),
        a if a >= 0.9995 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
    }
}

/// Bytes with a decimal unit and three significant digits: "742 kB", "29.7 MB".
pub fn bytes(n: u64) -> String {
    let x = n as f64;
    match n {
        0..=9_999 => format!("{n} B"),
        10_000..=999_499 => format!("{} kB", significant(x / 1e3)),
        999_500..=999_499_999 => format!("{} MB", significant(x / 1e6)),
        999_500_000..=999_499_999_999 => format!("{} GB", significant(x / 1e9)),
        _ => format!("{} TB", significant(x / 1e12)),
    }
}

/// A share as a percentage: "78 %", "0.4 %".
pub fn percent(share: f64) -> String {
    match share.abs() * 100.0 {
        0.0 => "0 %".into(),
        a if a >= 99.95 || a.fract() == 0.0 => format!("{:.0} %", share * 100.0),
        a if a >= 0.95 => format!("{:.1} %", share * 100.0),
        _ => format!("{:.4} %", share * 100.0),
    }
}

/// A plain number: integers whole, others with up to four digits after the point.
pub fn plain(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 1e15 {
        return format!("{x:.0}");
    }
    let text = format!("{x:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// "1 rank", "3 ranks".
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 655_360].map(grouped), ["0", "999", "1,000", "655,360"]);
        assert_eq!([131_400.0, 8_580_000.0, 61.3, 0.0].map(time), ["131 us", "8.58 ms", "61.3 ns", "0 ns"]);
        assert_eq!([117_348, 23_800_000, 640, 999_600].map(bytes), ["117 kB", "23.8 MB", "640 B", "1.00 MB"]);
        assert_eq!(
            [0.0, 0.78, 0.004, 1.0, 0.1234].map(percent),
            ["0 %", "78 %", "0.4000 %", "100 %", "12.3 %"]
        );
        assert_eq!([1.02, 32.0, 0.33333].map(plain), ["1.02", "32", "0.3333"]);
    }
}
