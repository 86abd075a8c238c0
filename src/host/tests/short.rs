//! The short way in (`host::streak`) beside the long one.

use super::*;
use crate::frame::{Burst, PfcSeen, Port, PortCaps};

/// A port that says nothing.
pub(super) struct Anywhere;

impl Port for Anywhere {
    type Frame = BoxFrame;
    fn rx_burst(&mut self, _: &mut Burst<BoxFrame>) -> usize {
        0
    }
    fn tx_room(&mut self) -> usize {
        0
    }
    fn tx_burst(&mut self, _: &mut TxBatch<BoxFrame>) -> usize {
        0
    }
    fn caps(&self) -> PortCaps {
        PortCaps { pfc_seen: PfcSeen::Frames, rx_timestamps: false, frame_len_max: u16::MAX }
    }
}

#[test]
fn the_short_way_in_does_what_the_long_one_does() {
    let run = |seed: u64, short: bool| {
        let mut rng = crate::rng::Rng::new(seed, "short", 0);
        let rc = RcConfig { ack_timeout: Span::from_us(50), ack_every: 3, ..RcConfig::default() };
        let other = RcConfig { ack_every: 1, ..rc };
        let ws = [rc, other].map(|rc| WorkloadConfig { rc, ..messages(&[5000, 0, 70_000, 1024, 33_333]) });
        let rule = |_: &Sent| match rng.below(40) {
            0 => Fate::Drop,
            1 => Fate::Twice,
            2 => Fate::Behind,
            3 => Fate::MarkCe,
            _ => Fate::Pass,
        };
        let mut n = Net::new(pair(ws.into(), vec![class("roce", 3, 1024)], 0xff_fff8), rule);
        n.streaks = short.then(Default::default);
        n.iterate(Time(1_000_000_000_000));
        n.streaks.iter_mut().flatten().zip(&mut n.hosts).for_each(|(s, host)| host.count_streaks(s));
        let stats = n.hosts.iter().map(|h| format!("{:?}", h.stats())).collect::<Vec<_>>();
        (n.log, n.rec.map(|r| (format!("{:?}", r.messages), r.arrivals)), stats)
    };
    for seed in 0..20 {
        assert_eq!(run(seed, false), run(seed, true), "seed {seed}");
    }
}
