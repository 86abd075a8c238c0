//! `[expect]`: limits as numbers (bytes, nanoseconds, ratios, counts), and as typed.

use super::doc::ExpectDoc;
use super::source::{Fault, fault};
use crate::plan::Expectation;

/// Expectations in the order of the document.
pub(super) fn build(doc: Option<&ExpectDoc>) -> Result<Vec<Expectation>, Fault> {
    let Some(e) = doc else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    let mut put = |name: &str, limit: Option<f64>, typed: Option<String>| {
        if let (Some(limit), Some(typed)) = (limit, typed) {
            all.push(Expectation { name: name.into(), limit, typed });
        }
    };
    let counts = [
        ("lossless_drops", e.lossless_drops),
        ("drops", e.drops),
        ("pfc_ports", e.pfc_ports),
        ("pfc_ports_min", e.pfc_ports_min),
        ("pfc_ports_max", e.pfc_ports_max),
        ("pfc_xoff_min", e.pfc_xoff_min),
        ("pfc_xoff_max", e.pfc_xoff_max),
        ("ce_marked_min", e.ce_marked_min),
        ("ce_marked_max", e.ce_marked_max),
        ("retransmitted_max", e.retransmitted_max),
        ("failed_max", e.failed_max),
        ("deadlocks", e.deadlocks),
        ("victims_max", e.victims_max),
    ];
    for (name, count) in counts {
        put(name, count.map(|c| c as f64), count.map(|c| c.to_string()));
    }
    for (name, ratio) in [("ideal_ratio_max", e.ideal_ratio_max), ("ideal_ratio_min", e.ideal_ratio_min)] {
        if ratio.is_some_and(|r| !(0.0..=1e6).contains(&r)) {
            return fault(format!("expect.{name}"), "must be a ratio from 0 to 1000000, for example 1.02");
        }
        put(name, ratio, ratio.map(|r| r.to_string()));
    }
    put(
        "headroom_bytes_max",
        e.headroom_bytes_max.map(|s| s.0.0 as f64),
        e.headroom_bytes_max.map(|s| s.to_string()),
    );
    put("completion_max", e.completion_max.map(|d| d.0.as_ns_f64()), e.completion_max.map(|d| d.to_string()));
    let low_high = [
        ("ideal_ratio_min", e.ideal_ratio_min, e.ideal_ratio_max),
        ("pfc_ports_min", e.pfc_ports_min.map(|n| n as f64), e.pfc_ports_max.map(|n| n as f64)),
        ("pfc_xoff_min", e.pfc_xoff_min.map(|n| n as f64), e.pfc_xoff_max.map(|n| n as f64)),
        ("ce_marked_min", e.ce_marked_min.map(|n| n as f64), e.ce_marked_max.map(|n| n as f64)),
    ];
    for (name, low, high) in low_high {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            return fault(
                format!("expect.{name}"),
                format!("is above its maximum {high}; nothing could pass"),
            );
        }
    }
    Ok(all)
}
