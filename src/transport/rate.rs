//! Who decides the rate of a queue pair: one choice per workload, and its parameters.
//!
//! Rate control costs a frame nothing until it acts: a queue pair carries its window and the time of the next event
//! ([`super::qp`], [`super::pace`]); everything else stands in a table beside ([`Reaction`]).

use serde::Serialize;

use super::dcqcn::ReactionPoint;
use super::swift::Swift;
use crate::units::{Bytes, Rate, Span};

/// Who decides the rate of a queue pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RateControl {
    /// Line rate, PFC only.
    None,
    /// A constant rate.
    Fixed(Rate),
    /// DCQCN with a named set of parameters.
    Dcqcn(DcqcnParams),
    /// So many bytes in flight and no more; the packets are in [`super::config::RcConfig::window`].
    Window(StaticWindow),
    /// Swift: a window that follows the round-trip delay.
    Swift(SwiftParams),
}

impl RateControl {
    /// `none`, `fixed`, `dcqcn`, `window` or `swift`.
    pub fn kind(&self) -> &'static str {
        match self {
            RateControl::None => "none",
            RateControl::Fixed(_) => "fixed",
            RateControl::Dcqcn(_) => "dcqcn",
            RateControl::Window(_) => "window",
            RateControl::Swift(_) => "swift",
        }
    }
    /// Name of the set of parameters and where they come from; empty where there are none.
    pub fn origin(&self) -> (&str, &str) {
        match self {
            RateControl::None | RateControl::Fixed(_) => ("", ""),
            RateControl::Dcqcn(p) => (&p.name, &p.origin),
            RateControl::Window(w) => (&w.name, &w.origin),
            RateControl::Swift(p) => (&p.name, &p.origin),
        }
    }
    /// Least span between CNPs for one flow at the notification point; `None` = no CNPs.
    pub fn cnp_interval(&self) -> Option<Span> {
        match self {
            RateControl::Dcqcn(p) => Some(p.cnp_interval),
            _ => None,
        }
    }
    /// The constant rate, if any.
    pub fn fixed_rate(&self) -> Option<Rate> {
        match self {
            RateControl::Fixed(rate) => Some(*rate),
            _ => None,
        }
    }
}

/// A static window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StaticWindow {
    /// `bdp`, or `typed`.
    pub name: String,
    /// How it was worked out.
    pub origin: String,
    /// Wire bytes in flight it stands for.
    pub bytes: Bytes,
    /// Round-trip time of the longest path when nothing queues; zero where the window was typed.
    pub base_rtt: Span,
}

/// DCQCN parameters (SIGCOMM'15 and what vendors made of it). Always from a named set, so that a default says
/// whose it is: see [`crate::transport::dcqcn::named`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DcqcnParams {
    /// Name as typed: `paper`, `nvidia-fw`, `hpcc`, `hpcc-paper`, ...
    pub name: String,
    /// Where the numbers come from.
    pub origin: String,
    /// Least span between CNPs for one flow at the notification point (`min_time_between_cnps`).
    pub cnp_interval: Span,
    /// Alpha update period (`dce_tcp_rtt`).
    pub alpha_period: Span,
    /// Rate decrease period (`rate_reduce_monitor_period`); `ZERO` = at every CNP (paper).
    pub decrease_period: Span,
    /// Rate increase timer (`rpg_time_reset`).
    pub increase_timer: Span,
    /// Byte counter of the increase (`rpg_byte_reset`); 0 = off.
    pub byte_counter: u64,
    /// Fast recovery stages (`rpg_threshold`).
    pub fast_recovery: u32,
    /// Gain g of alpha, 0..1 (`dce_tcp_g`, where 1019 means g = 5/1024).
    pub g: f64,
    /// Additive increase (`rpg_ai_rate`).
    pub rate_ai: Rate,
    /// Hyper increase (`rpg_hai_rate`).
    pub rate_hai: Rate,
    /// Floor (`rpg_min_rate`).
    pub rate_min: Rate,
    /// Rate that the first CNP sets (`rate_to_set_on_first_cnp`); `None` = off.
    pub rate_first_cnp: Option<Rate>,
    /// Clamp the target to the current rate at every cut (`clamp_tgt_rate`).
    pub clamp_target: bool,
    /// Without `clamp_target`: clamp also when only the timer has raised the rate since the last cut
    /// (`clamp_tgt_rate_after_time_inc`).
    pub clamp_after_timer: bool,
    /// Largest cut as a share of the rate (`rpg_min_dec_fac`, 0..=1; 1 = no limit).
    pub cut_max: f64,
    /// A cut takes alpha over this off the rate: 2 (`rpg_gd` 11), or 1 (10).
    pub cut_divisor: u32,
    /// Alpha before the first CNP, 0..=1.
    pub alpha_initial: f64,
    /// Alpha does not fall below, 0..=1.
    pub alpha_min: f64,
    /// Events of one instant in the order of a simulator (HPCC ns-3), whose ACKs are scheduled so long before they arrive.
    #[serde(skip)]
    pub ordered: Option<Span>,
}

/// Swift's parameters (SIGCOMM'20). Windows are in packets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwiftParams {
    /// Name of the set.
    pub name: String,
    /// Where the numbers come from.
    pub origin: String,
    /// Target delay of a path without hops and of a large window.
    pub base_target: Span,
    /// Target delay per switch on the path.
    pub per_hop: Span,
    /// Additive increase per round trip, packets.
    pub ai: f64,
    /// Multiplicative decrease: share of the excess over the target, 0..=1.
    pub beta: f64,
    /// Largest decrease at a time, 0..1.
    pub max_mdf: f64,
    /// Most that small windows add to the target.
    pub fs_range: Span,
    /// Window at which the target is largest.
    pub fs_min_cwnd: f64,
    /// Window from which nothing is added to the target.
    pub fs_max_cwnd: f64,
    /// Window at the start.
    pub cwnd_initial: f64,
    /// Smallest window; below one packet frames are paced.
    pub cwnd_min: f64,
    /// Largest window.
    pub cwnd_max: f64,
    /// Timeouts in a row that send the window to its minimum.
    pub retries_to_min: u32,
}

/// The rate state of one queue pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    /// DCQCN's reaction point.
    Dcqcn(ReactionPoint),
    /// Swift's window.
    Swift(Swift),
}

impl Reaction {
    /// The state of a new queue pair on a port of rate `line`; `None` where rate control has no state.
    pub fn new(control: &RateControl, line: Rate) -> Option<Reaction> {
        match control {
            RateControl::Dcqcn(p) => Some(Reaction::Dcqcn(ReactionPoint::new(p, line))),
            RateControl::Swift(p) => Some(Reaction::Swift(Swift::new(p))),
            RateControl::None | RateControl::Fixed(_) | RateControl::Window(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{dcqcn, swift};

    #[test]
    fn only_controls_that_react_have_state_beside_the_queue_pair() {
        let line = Rate::gbps(100);
        let has = |c: &RateControl| Reaction::new(c, line).is_some();
        let dcqcn = RateControl::Dcqcn(dcqcn::named("paper", line).expect("listed"));
        let swift = RateControl::Swift(swift::named("htsim").expect("listed"));
        assert!(has(&dcqcn) && has(&swift));
        assert!(!has(&RateControl::None) && !has(&RateControl::Fixed(line)));
        assert_eq!((dcqcn.cnp_interval(), swift.cnp_interval()), (Some(Span::from_us(50)), None));
        assert_eq!((swift.kind(), swift.origin().0), ("swift", "htsim"));
    }
}
