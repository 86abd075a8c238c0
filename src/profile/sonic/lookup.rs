//! `pg_profile_lookup.ini`: the headroom that a database leaves to be looked up, by port speed and cable.

use super::database::{SonicError, refuse};

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupLine {
    /// Port speed, Mb/s.
    pub speed: u64,
    /// Cable, metres.
    pub cable: u64,
    /// Reserved bytes; with the headroom where it is not below `xoff`.
    pub size: u64,
    /// XON floor, bytes.
    pub xon: u64,
    /// Headroom, bytes.
    pub xoff: u64,
    /// Exponent of alpha.
    pub threshold: i32,
    /// XON offset, bytes.
    pub xon_offset: u64,
}

/// The table of one platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    file: String,
    lines: Vec<LookupLine>,
}

impl Lookup {
    /// Reads `speed cable size xon xoff threshold [xon_offset]` per line; `#` starts a comment.
    ///
    /// # Errors
    /// Names file, line and column of the table.
    pub fn parse(file: &str, text: &str) -> Result<Lookup, SonicError> {
        let mut lines: Vec<LookupLine> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let place = format!("{file}:{}", i + 1);
            if !(6..=7).contains(&words.len()) {
                let text = format!(
                    "{} columns; needs speed cable size xon xoff threshold [xon_offset]",
                    words.len()
                );
                return refuse(place, text);
            }
            let number = |at: usize, name: &str| match words.get(at).map_or(Ok(0), |w| w.parse::<u64>()) {
                Ok(n) if n <= u64::from(u32::MAX) => Ok(n),
                _ => refuse(place.as_str(), format!("{name} = {:?} is no whole number", words[at])),
            };
            let Some(cable) = metres(words[1]) else {
                return refuse(place, format!("cable = {:?} must be a length like 5m", words[1]));
            };
            let threshold = words[5].parse::<i32>().ok().filter(|x| (-8..=7).contains(x));
            let Some(threshold) = threshold else {
                return refuse(place, format!("threshold = {:?} must be from -8 to 7", words[5]));
            };
            let one = LookupLine {
                speed: number(0, "speed")?,
                cable,
                size: number(2, "size")?,
                xon: number(3, "xon")?,
                xoff: number(4, "xoff")?,
                threshold,
                xon_offset: number(6, "xon_offset")?,
            };
            if lines.iter().any(|l| (l.speed, l.cable) == (one.speed, one.cable)) {
                return refuse(place, format!("{} {}m is there twice; keep one", one.speed, one.cable));
            }
            lines.push(one);
        }
        if lines.is_empty() {
            return refuse(file, "has no line with speed cable size xon xoff threshold");
        }
        Ok(Lookup { file: file.to_owned(), lines })
    }

    /// The line of a port.
    ///
    /// # Errors
    /// Names what the table has, and what to add.
    pub fn find(&self, speed: u64, cable: u64) -> Result<LookupLine, String> {
        if let Some(line) = self.lines.iter().find(|l| (l.speed, l.cable) == (speed, cable)) {
            return Ok(*line);
        }
        let same: Vec<String> =
            self.lines.iter().filter(|l| l.speed == speed).map(|l| format!("{}m", l.cable)).collect();
        let has = match same.is_empty() {
            true => "none of this speed".to_owned(),
            false => format!("{} for this speed", same.join(", ")),
        };
        Err(format!("{} has no line `{speed} {cable}m` ({has}); add it or set xoff_headroom", self.file))
    }
}

/// `"40m"` in metres.
pub(super) fn metres(text: &str) -> Option<u64> {
    text.trim().strip_suffix('m')?.parse::<u64>().ok().filter(|m| *m <= 1_000_000)
}

/// Speed and cable in `pg_lossless_100000_300m_profile` (also with `_mtu9100_`... between).
pub(super) fn in_name(profile: &str) -> Option<(u64, u64)> {
    let mut words = profile.strip_prefix("pg_lossless_")?.strip_suffix("_profile")?.split('_');
    Some((words.next()?.parse().ok()?, metres(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_speed_and_cable() {
        let text = "# speed cable size xon xoff threshold xon_offset\n 800000 5m 8636 0 724662 0 3556\n10000 5m 1 2 3 -1";
        let table = Lookup::parse("t.ini", text).unwrap();
        let line = table.find(800_000, 5).unwrap();
        assert_eq!((line.size, line.xoff, line.xon_offset), (8_636, 724_662, 3_556));
        assert_eq!(table.find(10_000, 5).unwrap().threshold, -1);
        let missing = table.find(800_000, 40).unwrap_err();
        assert!(missing.contains("`800000 40m` (5m for this speed)"), "{missing}");
    }

    #[test]
    fn broken_lines_are_named() {
        let refused = |text: &str| Lookup::parse("t.ini", text).unwrap_err().to_string();
        assert!(refused("").contains("has no line"));
        assert!(refused("#\n1 5m 1").starts_with("t.ini:2: 3 columns"));
        assert!(refused("1 5 1 1 1 0").contains("cable = \"5\""));
        assert!(refused("1 5m 1 1 x 0").contains("xoff = \"x\""));
        assert!(refused("1 5m 1 1 1 9").contains("threshold = \"9\""));
        assert!(refused("1 5m 1 1 1 0\n1 5m 1 1 1 0").contains("twice"));
    }

    #[test]
    fn names_tell_speed_and_cable() {
        assert_eq!(in_name("pg_lossless_100000_300m_profile"), Some((100_000, 300)));
        assert_eq!(in_name("pg_lossless_100000_300m_mtu1500_profile"), Some((100_000, 300)));
        assert_eq!(in_name("ingress_lossy_profile"), None);
    }
}
