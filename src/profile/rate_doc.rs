//! The tables of rate control as typed: ours, and the one of the Open Traffic Generator model.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::quantity::{BitRate, Dur, Size, parse_size, size_text};
use crate::transport::rate::{DcqcnParams, SwiftParams};
use crate::units::Rate;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$fdoc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$ty>,)*
        }

        impl $name {
            /// Names of the keys that differ from those of `other`.
            pub fn differing(&self, other: &$name) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field != other.$field { names.push(stringify!($field)); })*
                names
            }
            /// This, and what it leaves out from `other`.
            #[must_use]
            pub fn or(self, other: $name) -> $name {
                $name { $($field: self.$field.or(other.$field),)* }
            }
        }
    };
}

table! {
    /// `[workload.dcqcn]`: changes to a named set; the effective profile holds every value.
    DcqcnDoc {
        /// The set the values belong to; must be that of `rate_control`.
        set: String,
        /// Least span between CNPs of one flow.
        cnp_interval: Dur,
        /// Alpha update period.
        alpha_period: Dur,
        /// Rate decrease period; 0 = at every CNP.
        decrease_period: Dur,
        /// Rate increase timer; 0 = off.
        increase_timer: Dur,
        /// Byte counter; 0 = off.
        byte_counter: Size,
        /// Fast recovery stages.
        fast_recovery: u32,
        /// Gain of alpha.
        g: f64,
        /// Additive increase.
        rate_ai: BitRate,
        /// Hyper increase.
        rate_hai: BitRate,
        /// Floor.
        rate_min: BitRate,
        /// Rate that the first CNP sets; 0 = off.
        rate_first_cnp: BitRate,
        /// Clamp the target at every cut.
        clamp_target: bool,
        /// Clamp it after the timer alone has raised the rate.
        clamp_after_timer: bool,
        /// Largest cut, a share of the rate.
        cut_max: f64,
        /// A cut takes alpha over this off the rate.
        cut_divisor: u32,
        /// Alpha before the first CNP.
        alpha_initial: f64,
        /// Least alpha.
        alpha_min: f64,
    }
}

impl DcqcnDoc {
    /// All values of a set.
    pub fn of(p: &DcqcnParams) -> DcqcnDoc {
        DcqcnDoc {
            set: Some(p.name.clone()),
            cnp_interval: Some(Dur(p.cnp_interval)),
            alpha_period: Some(Dur(p.alpha_period)),
            decrease_period: Some(Dur(p.decrease_period)),
            increase_timer: Some(Dur(p.increase_timer)),
            byte_counter: Some(Size(crate::units::Bytes(p.byte_counter))),
            fast_recovery: Some(p.fast_recovery),
            g: Some(p.g),
            rate_ai: Some(BitRate(p.rate_ai)),
            rate_hai: Some(BitRate(p.rate_hai)),
            rate_min: Some(BitRate(p.rate_min)),
            rate_first_cnp: Some(BitRate(p.rate_first_cnp.unwrap_or_default())),
            clamp_target: Some(p.clamp_target),
            clamp_after_timer: Some(p.clamp_after_timer),
            cut_max: Some(p.cut_max),
            cut_divisor: Some(p.cut_divisor),
            alpha_initial: Some(p.alpha_initial),
            alpha_min: Some(p.alpha_min),
        }
    }

    /// The set `base` with these values in place of its own.
    pub fn apply(&self, base: DcqcnParams) -> DcqcnParams {
        let rate = |own: Option<BitRate>, base: Rate| own.map_or(base, |r| r.0);
        DcqcnParams {
            cnp_interval: self.cnp_interval.map_or(base.cnp_interval, |d| d.0),
            alpha_period: self.alpha_period.map_or(base.alpha_period, |d| d.0),
            decrease_period: self.decrease_period.map_or(base.decrease_period, |d| d.0),
            increase_timer: self.increase_timer.map_or(base.increase_timer, |d| d.0),
            byte_counter: self.byte_counter.map_or(base.byte_counter, |s| s.0.0),
            fast_recovery: self.fast_recovery.unwrap_or(base.fast_recovery),
            g: self.g.unwrap_or(base.g),
            rate_ai: rate(self.rate_ai, base.rate_ai),
            rate_hai: rate(self.rate_hai, base.rate_hai),
            rate_min: rate(self.rate_min, base.rate_min),
            rate_first_cnp: match self.rate_first_cnp {
                Some(r) => Some(r.0).filter(|r| r.bits_per_s > 0),
                None => base.rate_first_cnp,
            },
            clamp_target: self.clamp_target.unwrap_or(base.clamp_target),
            clamp_after_timer: self.clamp_after_timer.unwrap_or(base.clamp_after_timer),
            cut_max: self.cut_max.unwrap_or(base.cut_max),
            cut_divisor: self.cut_divisor.unwrap_or(base.cut_divisor),
            alpha_initial: self.alpha_initial.unwrap_or(base.alpha_initial),
            alpha_min: self.alpha_min.unwrap_or(base.alpha_min),
            ordered: base.ordered,
            ..base
        }
    }
}

table! {
    /// `[workload.dcqcn_settings]`: the fields of the Open Traffic Generator model (`Rocev2.DCQCN`), spelled as there,
    /// and `cnp_delay_timer` of its `Rocev2.CNP`. Periods are microseconds, rates percent of the port's.
    OtgDoc {
        /// Rate control at all.
        enable_dcqcn: bool,
        /// Weight of the old alpha, 1024ths.
        alpha_g: u32,
        /// Alpha at the first CNP, 1023rds.
        initial_alpha: u32,
        /// Alpha period.
        alpha_update_period: u64,
        /// Decrease period.
        rate_reduction_time_period: u64,
        /// Rate at the first CNP; 0 = off.
        initial_rate_after_first_cnp: f64,
        /// Floor.
        minimum_rate_limmit: f64,
        /// Largest cut, percent.
        maximum_rate_decrement_at_time: u32,
        /// Clamp the target at every cut.
        clamp_target_rate: bool,
        /// Increase timer.
        rate_increment_time: u64,
        /// Byte counter, units of 64 B.
        rate_increment_byte_counter: u64,
        /// Stages.
        rate_increment_threshold: u32,
        /// Additive increase.
        additive_increment_rate: f64,
        /// Hyper increase.
        hyper_increment_rate: f64,
        /// A cut takes alpha over 2 (11) or alpha (10).
        rate_decrement_coefficient: u32,
        /// Least time between CNPs.
        cnp_delay_timer: u64,
    }
}

table! {
    /// `[workload.swift]`: changes to a named set; the effective profile holds every value.
    SwiftDoc {
        /// The set the values belong to; must be that of `rate_control`.
        set: String,
        /// Target delay before hops and small windows add to it.
        base_target: Dur,
        /// Target delay per switch.
        per_hop: Dur,
        /// Additive increase, packets per round trip.
        ai: f64,
        /// Share of the excess delay that a decrease takes.
        beta: f64,
        /// Largest decrease.
        max_mdf: f64,
        /// Most that small windows add to the target.
        fs_range: Dur,
        /// Window of the largest target.
        fs_min_cwnd: f64,
        /// Window from which nothing is added.
        fs_max_cwnd: f64,
        /// Window at the start, packets.
        cwnd_initial: f64,
        /// Smallest window, packets.
        cwnd_min: f64,
        /// Largest window, packets.
        cwnd_max: f64,
        /// Timeouts in a row that send the window to its minimum.
        retries_to_min: u32,
    }
}

impl SwiftDoc {
    /// All values of a set.
    pub fn of(p: &SwiftParams) -> SwiftDoc {
        SwiftDoc {
            set: Some(p.name.clone()),
            base_target: Some(Dur(p.base_target)),
            per_hop: Some(Dur(p.per_hop)),
            ai: Some(p.ai),
            beta: Some(p.beta),
            max_mdf: Some(p.max_mdf),
            fs_range: Some(Dur(p.fs_range)),
            fs_min_cwnd: Some(p.fs_min_cwnd),
            fs_max_cwnd: Some(p.fs_max_cwnd),
            cwnd_initial: Some(p.cwnd_initial),
            cwnd_min: Some(p.cwnd_min),
            cwnd_max: Some(p.cwnd_max),
            retries_to_min: Some(p.retries_to_min),
        }
    }

    /// The set `base` with these values in place of its own.
    pub fn apply(&self, base: SwiftParams) -> SwiftParams {
        SwiftParams {
            base_target: self.base_target.map_or(base.base_target, |d| d.0),
            per_hop: self.per_hop.map_or(base.per_hop, |d| d.0),
            ai: self.ai.unwrap_or(base.ai),
            beta: self.beta.unwrap_or(base.beta),
            max_mdf: self.max_mdf.unwrap_or(base.max_mdf),
            fs_range: self.fs_range.map_or(base.fs_range, |d| d.0),
            fs_min_cwnd: self.fs_min_cwnd.unwrap_or(base.fs_min_cwnd),
            fs_max_cwnd: self.fs_max_cwnd.unwrap_or(base.fs_max_cwnd),
            cwnd_initial: self.cwnd_initial.unwrap_or(base.cwnd_initial),
            cwnd_min: self.cwnd_min.unwrap_or(base.cwnd_min),
            cwnd_max: self.cwnd_max.unwrap_or(base.cwnd_max),
            retries_to_min: self.retries_to_min.unwrap_or(base.retries_to_min),
            ..base
        }
    }
}

/// `window = ...`: what may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowDoc {
    /// So many packets.
    Packets(u32),
    /// So many bytes of payload.
    Bytes(Size),
    /// The bandwidth-delay product of the longest path.
    Bdp,
}

impl Serialize for WindowDoc {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            WindowDoc::Packets(n) => s.serialize_u32(*n),
            WindowDoc::Bytes(size) => s.serialize_str(&size_text(size.0)),
            WindowDoc::Bdp => s.serialize_str("bdp"),
        }
    }
}

impl<'de> Deserialize<'de> for WindowDoc {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = WindowDoc;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of packets, \"bdp\", or a size in quotes like \"64 KiB\"")
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<WindowDoc, E> {
                u32::try_from(n)
                    .map(WindowDoc::Packets)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(n), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WindowDoc, E> {
                match text {
                    "bdp" => Ok(WindowDoc::Bdp),
                    _ => parse_size(text).map(|b| WindowDoc::Bytes(Size(b))).map_err(E::custom),
                }
            }
        }
        d.deserialize_any(V)
    }
}
