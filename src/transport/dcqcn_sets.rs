//! The named sets of DCQCN parameters. Sources disagree, so every set says whose it is and what was filled
//! in.

use super::config::DcqcnParams;
use crate::units::{Rate, Span};

/// Names that [`named`] knows.
pub fn names() -> &'static [&'static str] {
    &["paper", "ns3-rdma", "nvidia-fw", "hpcc", "hpcc-paper", "spirent"]
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
        clamp_target: true,
        cut_max: 1.0,
        alpha_initial: 1.0,
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
        clamp_target: false,
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
        "nvidia-fw" => DcqcnParams {
            origin: "NVIDIA ConnectX firmware defaults (mlxconfig, DOCA documentation): alpha weight 1019/1024, \
                     min_time_between_cnps 4 us, byte reset 32767 x 64 B (unit inferred)"
                .to_owned(),
            cnp_interval: us(4),
            alpha_period: us(1),
            decrease_period: us(4),
            increase_timer: us(300),
            byte_counter: 32_767 * 64,
            fast_recovery: 1,
            g: 5.0 / 1024.0,
            rate_ai: mbps(5),
            rate_hai: mbps(50),
            rate_min: mbps(1),
            clamp_target: false,
            cut_max: 0.5,
            ..paper
        },
        "spirent" => DcqcnParams {
            origin: "Spirent RoCEv2 object defaults; increase timer, stages and gain are not stated there and taken \
                     from the paper; its least alpha of 0.001 is not modelled"
                .to_owned(),
            alpha_period: Span::from_us(1550),
            byte_counter: 2_000_000,
            rate_ai: mbps(5),
            rate_hai: mbps(40),
            rate_min: mbps(2),
            ..paper
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_numbers_and_an_origin() {
        for name in names() {
            let p = named(name, Rate::gbps(100)).expect("listed");
            assert_eq!(p.name, *name);
            assert!(!p.origin.is_empty() && p.g > 0.0 && p.g < 1.0);
        }
        assert!(named("dctcp", Rate::gbps(100)).is_none());
        // 100G: AI 20 Mb/s, HAI 200 Mb/s (stated for the reference runs of the simulator).
        let p = named("hpcc", Rate::gbps(100)).expect("listed");
        assert_eq!((p.rate_ai, p.rate_hai), (Rate::mbps(20), Rate::mbps(200)));
    }
}
