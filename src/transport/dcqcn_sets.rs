//! The named sets of DCQCN parameters. Sources disagree, so every set says whose it is and what was filled
//! in.

use super::config::DcqcnParams;
use crate::units::{Rate, Span};

/// What firmware's byte counters count in.
pub const FIRMWARE_BYTES: u64 = 64;

/// Gain of alpha from firmware's weight of the old value, in 1024ths (`dce_tcp_g`, OTG's `alpha_g`).
pub fn firmware_gain(old_weight: u32) -> f64 {
    (1024.0 - f64::from(old_weight)) / 1024.0
}

/// So many percent of a rate, to the nearest bit per second.
pub fn percent_of(line: Rate, percent: f64) -> Rate {
    Rate { bits_per_s: (line.bits_per_s as f64 * percent / 100.0).round() as u64 }
}

/// Names that [`named`] knows.
pub fn names() -> &'static [&'static str] {
    &["paper", "ns3-rdma", "nvidia-fw", "nvidia-card", "hpcc", "hpcc-paper", "spirent", "otg"]
}

/// The parameters with this name for ports of rate `line`; `None` for an unknown name (see [`names`]).
pub fn named(name: &str, line: Rate) -> Option<DcqcnParams> {
    let us = Span::from_us;
    let mbps = Rate::mbps;
    let paper = DcqcnParams {
        name: name.to_owned(),
        origin: "Zhu et al., Congestion Control for Large-Scale RDMA Deployments, SIGCOMM 2015; hyper increase as in \
                 the authors' simulator, floor 10 Mb/s ours"
            .to_owned(),
        cnp_interval: us(50),
        alpha_period: us(55),
        decrease_period: Span::ZERO,
        increase_timer: us(55),
        byte_counter: 10_000_000,
        fast_recovery: 5,
        g: 1.0 / 256.0,
        rate_ai: mbps(40),
        rate_hai: mbps(200),
        rate_min: mbps(10),
        rate_first_cnp: None,
        clamp_target: true,
        clamp_after_timer: true,
        cut_max: 1.0,
        cut_divisor: 2,
        alpha_initial: 1.0,
        alpha_min: 0.0,
        ordered: None,
    };
    // The HPCC simulator scales its increments with the port: 5 and 50 Mb/s per 25 Gb/s.
    let per_25g =
        |m: u64| Rate { bits_per_s: (m * 1_000_000).saturating_mul(line.bits_per_s) / 25_000_000_000 };
    let hpcc = DcqcnParams {
        origin: "HPCC ns-3 simulator (alibaba-edu), configuration dcqcn: every marked frame acts as a CNP"
            .to_owned(),
        cnp_interval: Span::ZERO,
        alpha_period: us(1),
        decrease_period: us(4),
        increase_timer: us(300),
        byte_counter: 0,
        fast_recovery: 1,
        rate_ai: per_25g(5),
        rate_hai: per_25g(50),
        rate_min: Rate::gbps(1),
        // 1.0 times the rate it has, which is the line's.
        rate_first_cnp: Some(line),
        clamp_target: false,
        ..paper.clone()
    };
    let nvidia = DcqcnParams {
        origin: "NVIDIA ConnectX firmware defaults (mlxconfig, DOCA documentation): alpha weight 1019/1024, \
                 min_time_between_cnps 4 us, byte reset 32767 x 64 B (unit inferred)"
            .to_owned(),
        cnp_interval: us(4),
        alpha_period: us(1),
        decrease_period: us(4),
        increase_timer: us(300),
        byte_counter: 32_767 * FIRMWARE_BYTES,
        fast_recovery: 1,
        g: firmware_gain(1019),
        rate_ai: mbps(5),
        rate_hai: mbps(50),
        rate_min: mbps(1),
        clamp_target: false,
        cut_max: 0.5,
        ..paper.clone()
    };
    Some(match name {
        "paper" => paper,
        "ns3-rdma" => DcqcnParams {
            origin: "ns-3 simulator of the paper's authors (bobzhuyb/ns3-rdma, mix/config.txt); floor 10 Mb/s ours"
                .to_owned(),
            increase_timer: us(60),
            byte_counter: 300_000_000,
            ..paper
        },
        "hpcc" => hpcc,
        "hpcc-paper" => DcqcnParams {
            origin: "HPCC ns-3 simulator (alibaba-edu), configuration dcqcn_paper: every marked frame acts as a CNP"
                .to_owned(),
            alpha_period: us(50),
            decrease_period: us(50),
            increase_timer: us(55),
            ..hpcc
        },
        "nvidia-fw" => nvidia,
        "nvidia-card" => DcqcnParams {
            origin: "as nvidia-fw, with min_time_between_cnps 2 us as read from one card (mlxconfig)".to_owned(),
            cnp_interval: us(2),
            ..nvidia
        },
        "spirent" => DcqcnParams {
            origin: "Spirent RoCEv2 object defaults; increase timer, stages and gain are not stated there and taken \
                     from the paper"
                .to_owned(),
            alpha_period: Span::from_us(1550),
            byte_counter: 2_000_000,
            rate_ai: mbps(5),
            rate_hai: mbps(40),
            rate_min: mbps(2),
            alpha_min: 0.001,
            ..paper
        },
        "otg" => {
            let percent = |x| percent_of(line, x);
            DcqcnParams {
                origin: "OTG (open-traffic-generator/models, port/rocev2.yaml), defaults of dcqcn_settings and of \
                         cnp_delay_timer; rates in percent of the port's, byte counter in 64 B as in firmware (the unit \
                         is not stated)"
                    .to_owned(),
                cnp_interval: us(55),
                alpha_period: us(21),
                decrease_period: us(21),
                increase_timer: us(250),
                byte_counter: 32_767 * FIRMWARE_BYTES,
                fast_recovery: 25,
                g: firmware_gain(1019),
                rate_ai: percent(0.001),
                rate_hai: percent(0.001),
                rate_min: percent(0.002),
                rate_first_cnp: Some(percent(0.002)),
                clamp_target: false,
                cut_max: 0.1,
                ..paper
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Rate = Rate::gbps(100);

    /// N, alpha period, decrease period, increase timer (us), byte counter, F, g, AI, HAI, floor (Mb/s), largest cut,
    /// least alpha, clamp, rate at the first CNP (Mb/s): what the sources state, at 100G where they scale.
    type Row = (&'static str, [u64; 4], u64, u32, f64, [u64; 3], f64, f64, bool, Option<u64>);

    #[test]
    fn every_set_carries_the_numbers_of_its_source() {
        let rows: [Row; 8] = [
            ("paper", [50, 55, 0, 55], 10_000_000, 5, 1. / 256., [40, 200, 10], 1., 0., true, None),
            ("ns3-rdma", [50, 55, 0, 60], 300_000_000, 5, 1. / 256., [40, 200, 10], 1., 0., true, None),
            ("nvidia-fw", [4, 1, 4, 300], 2_097_088, 1, 5. / 1024., [5, 50, 1], 0.5, 0., false, None),
            ("nvidia-card", [2, 1, 4, 300], 2_097_088, 1, 5. / 1024., [5, 50, 1], 0.5, 0., false, None),
            // 5 and 50 Mb/s per 25 Gb/s; the first CNP sets 1.0 times the rate.
            ("hpcc", [0, 1, 4, 300], 0, 1, 1. / 256., [20, 200, 1000], 1., 0., false, Some(100_000)),
            ("hpcc-paper", [0, 50, 50, 55], 0, 1, 1. / 256., [20, 200, 1000], 1., 0., false, Some(100_000)),
            ("spirent", [50, 1550, 0, 55], 2_000_000, 5, 1. / 256., [5, 40, 2], 1., 0.001, true, None),
            // 0.001 and 0.002 % of 100G are 1 and 2 Mb/s.
            ("otg", [55, 21, 21, 250], 2_097_088, 25, 5. / 1024., [1, 1, 2], 0.1, 0., false, Some(2)),
        ];
        assert_eq!(rows.map(|r| r.0).as_slice(), names(), "every set is looked at");
        for (name, spans, bytes, stages, g, rates, cut, alpha_min, clamp, first) in rows {
            let p = named(name, LINE).expect("listed");
            assert_eq!(p.name, name);
            assert!(!p.origin.is_empty());
            let of_p = [p.cnp_interval, p.alpha_period, p.decrease_period, p.increase_timer];
            assert_eq!(of_p, spans.map(Span::from_us), "{name}");
            assert_eq!((p.byte_counter, p.fast_recovery), (bytes, stages), "{name}");
            assert_eq!([p.rate_ai, p.rate_hai, p.rate_min], rates.map(Rate::mbps), "{name}");
            assert_eq!((p.g, p.cut_max, p.alpha_min), (g, cut, alpha_min), "{name}");
            assert_eq!((p.clamp_target, p.rate_first_cnp), (clamp, first.map(Rate::mbps)), "{name}");
            assert_eq!((p.clamp_after_timer, p.cut_divisor, p.alpha_initial), (true, 2, 1.0), "{name}");
        }
        assert!(named("dctcp", LINE).is_none());
    }
}
