//! Keys that take more than one kind of value: a word or a number, a word or a table, a word or a list.

use std::fmt;

use serde::de::{SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::quantity::{Dur, Size};
use crate::switch::config::WatchdogAction;

/// `"auto"` or a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dilation {
    /// As fast as the machine allows, never faster than real time.
    Auto,
    /// Real time over nominal time.
    Factor(f64),
}

impl Serialize for Dilation {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Dilation::Auto => s.serialize_str("auto"),
            Dilation::Factor(k) => s.serialize_f64(*k),
        }
    }
}

impl<'de> Deserialize<'de> for Dilation {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Dilation;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a factor from 1 to 1000000")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Dilation, E> {
                match text.parse::<f64>() {
                    _ if text == "auto" => Ok(Dilation::Auto),
                    Ok(k) => self.visit_f64(k),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_f64<E: serde::de::Error>(self, k: f64) -> Result<Dilation, E> {
                if !(1.0..=1e6).contains(&k) {
                    return Err(E::invalid_value(serde::de::Unexpected::Float(k), &self));
                }
                Ok(Dilation::Factor(k))
            }
            fn visit_i64<E: serde::de::Error>(self, k: i64) -> Result<Dilation, E> {
                self.visit_f64(k as f64)
            }
        }
        d.deserialize_any(V)
    }
}

/// One file or a list of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(pub Vec<String>);

impl Serialize for Files {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => s.serialize_str(one),
            all => all.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Files;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file like \"config_db.json\" or a list of files")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Files, E> {
                Ok(Files(vec![text.into()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Files, A::Error> {
                let mut files = Vec::new();
                while let Some(file) = seq.next_element::<String>()? {
                    files.push(file);
                }
                Ok(Files(files))
            }
        }
        d.deserialize_any(V)
    }
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PortRef {
    /// Number, from 0.
    Number(u32),
    /// Name.
    Name(String),
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = PortRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or a port name in quotes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PortRef, E> {
                Ok(PortRef::Name(text.into()))
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<PortRef, E> {
                u32::try_from(n)
                    .map(PortRef::Number)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(n), &self))
            }
        }
        d.deserialize_any(V)
    }
}

/// Frame lengths with FCS and their weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Imix(pub Vec<(u16, u32)>);

/// The "simple IMIX" 7:4:1 (64, 570, 1518 bytes with FCS).
pub const IMIX_SIMPLE: [(u16, u32); 3] = [(64, 7), (570, 4), (1518, 1)];

impl<'de> Deserialize<'de> for Imix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Imix;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"simple\" or a list of [bytes, weight] like [[64, 7], [1518, 1]]")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Imix, E> {
                match text {
                    "simple" => Ok(Imix(IMIX_SIMPLE.to_vec())),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Imix, A::Error> {
                let mut sizes = Vec::new();
                while let Some(entry) = seq.next_element::<(u16, u32)>()? {
                    sizes.push(entry);
                }
                Ok(Imix(sizes))
            }
        }
        d.deserialize_any(V)
    }
}

/// `wred = "off"` or `{ kmin, kmax, pmax }` and what may stand beside.
#[derive(Clone, Debug, PartialEq)]
pub enum WredDoc {
    /// No marking.
    Off,
    /// Marking between kmin and kmax.
    On(WredCurve),
}

/// The three numbers of WRED, and what colours and frames without ECN make of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WredCurve {
    /// Nothing is marked below.
    pub kmin: Size,
    /// Everything is marked above.
    pub kmax: Size,
    /// Probability at kmax.
    pub pmax: f64,
    /// Frames that can be marked are; otherwise all are dropped. Left out: true; of a colour: as of green frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecn: Option<bool>,
    /// The curve of yellow frames; left out: that of green ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yellow: Option<Box<WredDoc>>,
    /// The curve of red frames; left out: that of green ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red: Option<Box<WredDoc>>,
}

impl Serialize for WredDoc {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            WredDoc::Off => s.serialize_str("off"),
            WredDoc::On(curve) => curve.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for WredDoc {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = WredDoc;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\" or { kmin = \"400 kB\", kmax = \"1600 kB\", pmax = 0.2 }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WredDoc, E> {
                match text {
                    "off" => Ok(WredDoc::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WredDoc, A::Error> {
                WredCurve::deserialize(MapAccessDeserializer::new(map)).map(WredDoc::On)
            }
        }
        d.deserialize_any(V)
    }
}

/// `pfc_watchdog = "off"` or `{ detect, restore, action }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WatchdogDoc {
    /// None.
    Off,
    /// One on every port, over its lossless queues.
    On(WatchdogKeys),
}

/// The three keys of a watchdog (SONiC: detection_time, restoration_time, action).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogKeys {
    /// A queue paused for so long with frames waiting is stuck.
    pub detect: Dur,
    /// Without a pause for so long it is restored.
    pub restore: Dur,
    /// What happens to it.
    pub action: WatchdogActionDoc,
}

/// `action = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchdogActionDoc {
    /// Its frames are dropped.
    Drop,
    /// It sends all the same.
    Forward,
    /// It is counted.
    Alert,
}

impl From<WatchdogActionDoc> for WatchdogAction {
    fn from(a: WatchdogActionDoc) -> WatchdogAction {
        match a {
            WatchdogActionDoc::Drop => WatchdogAction::Drop,
            WatchdogActionDoc::Forward => WatchdogAction::Forward,
            WatchdogActionDoc::Alert => WatchdogAction::Alert,
        }
    }
}

impl Serialize for WatchdogDoc {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            WatchdogDoc::Off => s.serialize_str("off"),
            WatchdogDoc::On(keys) => keys.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for WatchdogDoc {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = WatchdogDoc;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\" or { detect = \"200 ms\", restore = \"200 ms\", action = \"drop\" }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WatchdogDoc, E> {
                match text {
                    "off" => Ok(WatchdogDoc::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WatchdogDoc, A::Error> {
                WatchdogKeys::deserialize(MapAccessDeserializer::new(map)).map(WatchdogDoc::On)
            }
        }
        d.deserialize_any(V)
    }
}
