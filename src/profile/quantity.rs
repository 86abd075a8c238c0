//! Quantities as people write them: `"4 MiB"`, `"2 ms"`, `"100G"`, `"5 m"`, `"1/8"`, `"80 %"`. Every type
//! reads with
//! one clear complaint, and writes itself so that it reads back exactly.

use std::fmt;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Bytes, Rate, Span};

/// Splits `"4 MiB"` into the number and the unit, both trimmed. A complaint names what is missing.
fn split<'t>(text: &'t str, what: &str, example: &str) -> Result<(&'t str, &'t str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    if text.starts_with('-') {
        return Err(format!("a {what} cannot be negative; write it like {example}"));
    }
    if number.is_empty() {
        return Err(format!("a {what} starts with a number; write it like {example}"));
    }
    if unit.is_empty() {
        return Err(format!("a {what} needs a unit; write it like {example}"));
    }
    Ok((number, unit))
}

/// `number x scale` as an integer, exact: more decimals than the scale can carry are refused, not rounded.
fn scaled(number: &str, scale: u128, what: &str, smallest: &str) -> Result<u64, String> {
    let digits: String = number.chars().filter(|c| *c != '_').collect();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(format!("{number} is not a number"));
    }
    if whole.len() > 24 || fraction.len() > 15 {
        return Err(format!("{number} has more digits than a {what} can hold"));
    }
    let parse = |s: &str| if s.is_empty() { Ok(0) } else { s.parse::<u128>() };
    let (Ok(w), Ok(f)) = (parse(whole), parse(fraction)) else {
        return Err(format!("{number} is not a number"));
    };
    let ten = 10u128.pow(fraction.len() as u32);
    let part = f * scale;
    if !part.is_multiple_of(ten) {
        return Err(format!("{number} is finer than the smallest {what}, 1 {smallest}"));
    }
    w.checked_mul(scale)
        .map(|v| v + part / ten)
        .and_then(|v| u64::try_from(v).ok())
        .ok_or_else(|| format!("{number} is larger than a {what} can be"))
}

/// Reads a size: `B kB MB GB` (powers of ten) or `KiB MiB GiB` (powers of two).
///
/// # Errors
/// One sentence: what is wrong with the number or the unit, and the units that exist.
pub fn parse_size(text: &str) -> Result<Bytes, String> {
    let (number, unit) = split(text, "size", "\"4 MiB\" or \"9000 B\"")?;
    let scale: u128 = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("unknown size unit {unit:?}; use B, kB, MB, GB, KiB, MiB, GiB")),
    };
    Ok(Bytes(scaled(number, scale, "size", "B")?))
}

/// Writes a size with the unit that divides it and leaves the smallest number.
pub fn size_text(bytes: Bytes) -> String {
    let units = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    match units.iter().find(|(scale, _)| bytes.0 > 0 && bytes.0.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{} {unit}", bytes.0 / scale),
        None => format!("{} B", bytes.0),
    }
}

/// Reads a span of time: `ps ns us ms s min h`.
///
/// # Errors
/// As [`parse_size`].
pub fn parse_span(text: &str) -> Result<Span, String> {
    let (number, unit) = split(text, "time", "\"2 ms\" or \"250 ns\"")?;
    let scale: u128 = match unit {
        "ps" => 1,
        "ns" => 1_000,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000_000,
        "ms" => 1_000_000_000,
        "s" => 1_000_000_000_000,
        "min" => 60_000_000_000_000,
        "h" => 3_600_000_000_000_000,
        _ => return Err(format!("unknown time unit {unit:?}; use ps, ns, us, ms, s, min, h")),
    };
    Ok(Span(scaled(number, scale, "time", "ps")?))
}

/// Writes a span with the largest decimal unit that divides it (hours and minutes as seconds).
pub fn span_text(span: Span) -> String {
    let ps = span.0;
    if ps == 0 {
        return "0 ns".into();
    }
    for (scale, unit) in [(1_000_000_000_000, "s"), (1_000_000_000, "ms"), (1_000_000, "us"), (1_000, "ns")] {
        if ps.is_multiple_of(scale) {
            return format!("{} {unit}", ps / scale);
        }
    }
    format!("{ps} ps")
}

/// Reads a bit rate: `"100G"`, `"100 Gb/s"`, `"25 Mb/s"`, `"10 kb/s"`, `"9 b/s"`, `"1.6T"`.
///
/// # Errors
/// As [`parse_size`].
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let (number, unit) = split(text, "rate", "\"100G\" or \"25 Mb/s\"")?;
    let scale: u128 = match unit {
        "b/s" | "bps" | "bit/s" => 1,
        "k" | "kb/s" | "kbps" | "kbit/s" => 1_000,
        "M" | "Mb/s" | "Mbps" | "Mbit/s" => 1_000_000,
        "G" | "Gb/s" | "Gbps" | "Gbit/s" => 1_000_000_000,
        "T" | "Tb/s" | "Tbps" | "Tbit/s" => 1_000_000_000_000,
        _ => return Err(format!("unknown rate unit {unit:?}; use b/s, kb/s, Mb/s, Gb/s, Tb/s or M, G, T")),
    };
    Ok(Rate { bits_per_s: scaled(number, scale, "rate", "b/s")? })
}

/// Writes a rate with the largest unit that divides it.
pub fn rate_text(rate: Rate) -> String {
    let b = rate.bits_per_s;
    match b {
        0 => "0 b/s".into(),
        _ if b.is_multiple_of(1_000_000_000) => format!("{}G", b / 1_000_000_000),
        _ if b.is_multiple_of(1_000_000) => format!("{}M", b / 1_000_000),
        _ if b.is_multiple_of(1_000) => format!("{} kb/s", b / 1_000),
        _ => format!("{b} b/s"),
    }
}

macro_rules! text_quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:path, $write:path, $hint:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$write(self.0))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.to_string())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any(Text(|t: &str| $parse(t).map($name), $hint))
            }
        }
    };
}

/// A visitor that takes text (and says how to write it when it gets a bare number).
struct Text<F>(F, &'static str);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<T, E> {
        Err(E::custom(format!("{n} has no unit; write {}", self.1)))
    }
    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<T, E> {
        Err(E::custom(format!("{n} has no unit; write {}", self.1)))
    }
}

text_quantity!(
    /// A size in bytes.
    Size(Bytes), parse_size, size_text, "a size in quotes like \"4 MiB\" or \"9000 B\""
);
text_quantity!(
    /// A span of time.
    Dur(Span), parse_span, span_text, "a time in quotes like \"2 ms\" or \"250 ns\""
);
text_quantity!(
    /// A bit rate.
    BitRate(Rate), parse_rate, rate_text, "a rate in quotes like \"100G\" or \"25 Mb/s\""
);

/// Speed of light in fibre and copper as SONiC's headroom script has it: 198,000 km/s, 5.0505 ns per metre.
const CABLE_PS_PER_KM: u128 = 1_000_000_000_000 / 198_000;

/// A cable: its length, or the delay itself (`"1 us"`, for comparisons with simulators).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Length in millimetres.
    Length(u64),
    /// One-way delay.
    Delay(Span),
}

impl Cable {
    /// One-way delay of the cable.
    pub fn delay(self) -> Span {
        match self {
            // 10^6 mm in a km
            Cable::Length(mm) => Span((u128::from(mm) * CABLE_PS_PER_KM / 1_000_000) as u64),
            Cable::Delay(span) => span,
        }
    }
}

fn parse_cable(text: &str) -> Result<Cable, String> {
    let (number, unit) = split(text, "cable", "\"5 m\"")?;
    let scale: u128 = match unit {
        "m" => 1_000,
        "cm" => 10,
        "km" => 1_000_000,
        "ps" | "ns" | "us" | "ms" => return parse_span(text).map(Cable::Delay),
        _ => return Err(format!("unknown cable unit {unit:?}; use cm, m, km, or a delay in ns, us, ms")),
    };
    Ok(Cable::Length(scaled(number, scale, "cable", "mm")?))
}

impl fmt::Display for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cable::Length(mm) if mm % 1_000 == 0 => write!(f, "{} m", mm / 1_000),
            Cable::Length(mm) => write!(f, "{}.{:03} m", mm / 1_000, mm % 1_000),
            Cable::Delay(span) => f.write_str(&span_text(*span)),
        }
    }
}
impl Serialize for Cable {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}
impl<'de> Deserialize<'de> for Cable {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Text(parse_cable, "a length in quotes like \"5 m\""))
    }
}

/// A dynamic-threshold factor as a fraction: `"1/8"`, `0.125`, `"2"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpha {
    /// Numerator, 1..=65536.
    pub num: u32,
    /// Denominator, 1..=65536.
    pub den: u32,
}

impl Alpha {
    /// SONiC's `dynamic_th`: alpha = 2^x.
    pub fn from_dynamic_th(x: i32) -> Option<Alpha> {
        match x {
            -8..=0 => Some(Alpha { num: 1, den: 1 << -x }),
            1..=7 => Some(Alpha { num: 1 << x, den: 1 }),
            _ => None,
        }
    }
    /// The factor as a float (for reports and predictions).
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }
}

const ALPHA_HINT: &str = "a fraction like \"1/8\" or 0.125, from 1/65536 to 65536";

fn parse_alpha(text: &str) -> Result<Alpha, String> {
    let bad = || format!("{text:?} is not an alpha; write {ALPHA_HINT}");
    let (n, d) = text.split_once('/').unwrap_or((text, "1"));
    match (n.trim().parse::<u32>(), d.trim().parse::<u32>()) {
        (Ok(num @ 1..=65_536), Ok(den @ 1..=65_536)) => Ok(Alpha { num, den }),
        (Ok(_), Ok(_)) => Err(bad()),
        _ => text.trim().parse::<f64>().map_err(|_| bad()).and_then(alpha_from_f64),
    }
}

fn alpha_from_f64(x: f64) -> Result<Alpha, String> {
    let mut den = 1u32;
    while den <= 65_536 {
        let num = x * f64::from(den);
        if num.fract() == 0.0 && (1.0..=65_536.0).contains(&num) {
            return Ok(Alpha { num: num as u32, den });
        }
        den *= 2;
    }
    Err(format!("{x} is not a binary fraction from 1/65536 to 65536; write it as \"numerator/denominator\""))
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 { write!(f, "{}", self.num) } else { write!(f, "{}/{}", self.num, self.den) }
    }
}
impl Serialize for Alpha {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}
impl<'de> Deserialize<'de> for Alpha {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Alpha;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ALPHA_HINT)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Alpha, E> {
                parse_alpha(text).map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Alpha, E> {
                alpha_from_f64(x).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Alpha, E> {
                alpha_from_f64(n as f64).map_err(E::custom)
            }
        }
        d.deserialize_any(V)
    }
}

/// Offered load: share of the port (layer 1), layer-2 rate, or frames per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoadText {
    /// `"80 %"`: share of the wire, gap and preamble counted. 0..=1.
    Share(f64),
    /// `"10 Gb/s"`: layer 2, FCS counted.
    Rate(Rate),
    /// `"1.5 Mpps"`.
    Fps(f64),
}

fn parse_load(text: &str) -> Result<LoadText, String> {
    let (number, unit) = split(text, "load", "\"80 %\", \"10 Gb/s\" or \"1.5 Mpps\"")?;
    let scale = match unit {
        "%" => 0.01,
        "pps" | "fps" => 1.0,
        "kpps" | "kfps" => 1e3,
        "Mpps" | "Mfps" => 1e6,
        _ => {
            return parse_rate(text)
                .map(LoadText::Rate)
                .map_err(|_| format!("unknown load unit {unit:?}; use %, a rate (Gb/s) or frames (Mpps)"));
        }
    };
    let x = number.replace('_', "").parse::<f64>().map_err(|_| format!("{number} is not a number"))?;
    let x = if unit == "%" { x / 100.0 } else { x * scale };
    match unit {
        "%" if x > 1.0 => Err(format!("{number} % is more than the port can carry; at most \"100 %\"")),
        "%" => Ok(LoadText::Share(x)),
        _ => Ok(LoadText::Fps(x)),
    }
}

impl fmt::Display for LoadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Twelve decimals and no trailing zeros: what was typed as "80 %" is written as "80 %".
            LoadText::Share(x) => {
                let text = format!("{:.12}", x * 100.0);
                write!(f, "{} %", text.trim_end_matches('0').trim_end_matches('.'))
            }
            LoadText::Rate(rate) => f.write_str(&rate_text(*rate)),
            LoadText::Fps(x) => write!(f, "{x} pps"),
        }
    }
}
impl Serialize for LoadText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}
impl<'de> Deserialize<'de> for LoadText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Text(parse_load, "a load in quotes like \"80 %\", \"10 Gb/s\" or \"1.5 Mpps\""))
    }
}

/// Reads an integer in `range` or complains with the range.
///
/// # Errors
/// When the number is outside.
pub fn in_range<'de, D: Deserializer<'de>>(
    d: D,
    range: std::ops::RangeInclusive<i64>,
) -> Result<i64, D::Error> {
    let n = i64::deserialize(d)?;
    if range.contains(&n) {
        return Ok(n);
    }
    let text = format!("a number from {} to {}", range.start(), range.end());
    Err(D::Error::invalid_value(Unexpected::Signed(n), &text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_know_ten_from_two() {
        assert_eq!(parse_size("4 MiB"), Ok(Bytes(4 << 20)));
        assert_eq!(parse_size("4MB"), Ok(Bytes(4_000_000)));
        assert_eq!(parse_size("1.5 KiB"), Ok(Bytes(1536)));
        assert_eq!(parse_size("117_348 B"), Ok(Bytes(117_348)));
        assert_eq!(
            parse_size("4 MiX").unwrap_err(),
            "unknown size unit \"MiX\"; use B, kB, MB, GB, KiB, MiB, GiB"
        );
        assert!(parse_size("0.5 B").unwrap_err().contains("smallest size, 1 B"));
        assert!(parse_size("4").unwrap_err().contains("needs a unit"));
        assert!(parse_size("-4 B").unwrap_err().contains("negative"));
        assert!(parse_size("99999999999999 GiB").unwrap_err().contains("larger"));
    }

    #[test]
    fn what_is_written_reads_back() {
        for b in [0, 1, 1000, 1024, 117_348, 4 << 20, 1 << 30, u64::MAX] {
            assert_eq!(parse_size(&size_text(Bytes(b))), Ok(Bytes(b)));
            assert_eq!(parse_span(&span_text(Span(b))), Ok(Span(b)));
            assert_eq!(parse_rate(&rate_text(Rate { bits_per_s: b })), Ok(Rate { bits_per_s: b }));
        }
        for share in ["80 %", "99.98 %", "100 %", "0.5 %", "33.3333 %"] {
            let load = parse_load(share).unwrap();
            assert_eq!(load.to_string(), share);
            assert_eq!(parse_load(&load.to_string()), Ok(load));
        }
        assert_eq!(parse_load("1.5 Mpps").unwrap(), LoadText::Fps(1_500_000.0));
    }

    #[test]
    fn alpha_takes_fractions_floats_and_exponents() {
        let eighth = Alpha { num: 1, den: 8 };
        assert_eq!(parse_alpha("1/8"), Ok(eighth));
        assert_eq!(alpha_from_f64(0.125), Ok(eighth));
        assert_eq!(Alpha::from_dynamic_th(-3), Some(eighth));
        assert_eq!(Alpha::from_dynamic_th(3), Some(Alpha { num: 8, den: 1 }));
        assert_eq!(Alpha::from_dynamic_th(8), None);
        assert!(parse_alpha("0/8").is_err() && parse_alpha("1/0").is_err());
        assert!(alpha_from_f64(0.1).unwrap_err().contains("numerator/denominator"));
    }

    #[test]
    fn cables_are_lengths_or_delays() {
        assert_eq!(parse_cable("5 m"), Ok(Cable::Length(5_000)));
        // 5 m at 198,000 km/s: 25.25 ns.
        assert_eq!(parse_cable("5 m").unwrap().delay(), Span(25_252));
        assert_eq!(parse_cable("1 us").unwrap().delay(), Span::from_us(1));
        assert!(parse_cable("5 ft").unwrap_err().contains("cm, m, km"));
    }
}
