//! Rules that lead what is for a rank to the queue of its worker.

use std::net::IpAddr;

use crate::dpdk::{DpdkError, EthPort};
use crate::host::config::RankAddr;
use crate::plan::Plan;
use crate::plan::device::Steering;
use crate::plan::shards::{Homes, low_word};

/// How frames find the queues of a port, as the report says it.
pub(super) type Steered = Option<&'static str>;

/// What takes rules.
trait Ruled {
    type Error: Clone;
    /// Frames for `ip`, where `mask` has ones, are to arrive at `queue`.
    fn rule(&mut self, ip: IpAddr, mask: u128, tagged: bool, queue: u16) -> Result<(), Self::Error>;
    fn forget(&mut self);
}

impl Ruled for EthPort {
    type Error = DpdkError;
    fn rule(&mut self, ip: IpAddr, mask: u128, tagged: bool, queue: u16) -> Result<(), DpdkError> {
        self.steer(ip, mask, tagged, queue)
    }
    fn forget(&mut self) {
        self.forget_rules();
    }
}

/// Sets up the queues of port `port`.
///
/// # Errors
/// The device takes no rules that suffice.
pub(super) fn steer(plan: &Plan, port: usize, device: &mut EthPort) -> Result<Steered, DpdkError> {
    let lab = &plan.lab.ports[port];
    let Some(spec) = lab.device.as_ref().filter(|d| lab.queues > 1 && !d.is_sink()) else { return Ok(None) };
    match spec.steering() {
        Steering::QueueToQueue => Ok(Some("queue-to-queue")),
        Steering::None => Ok(Some("none")),
        Steering::Rules => {
            let used = |tagged: &bool| plan.classes.iter().any(|c| c.vlan.is_some() == *tagged);
            let tags: Vec<bool> = [false, true].into_iter().filter(used).collect();
            lead(device, &plan.hosts[port].ranks, lab.queues, &tags).map(Some)
        }
    }
}

/// A rule per rank, or one per queue where the device has too few: by the low bits of the addresses, which tell the queue, as
/// addresses follow each other and queues are a power of two.
fn lead<D: Ruled>(
    device: &mut D,
    ranks: &[RankAddr],
    queues: u16,
    tags: &[bool],
) -> Result<&'static str, D::Error> {
    let homes = Homes::new(ranks, queues);
    let mut all = |ranks: &[RankAddr], mask: u128| {
        let made = ranks.iter().try_for_each(|r| {
            let queue = homes.of(low_word(r.ip)).unwrap_or(0);
            tags.iter().try_for_each(|tagged| device.rule(r.ip, mask, *tagged, queue))
        });
        made.inspect_err(|_| device.forget())
    };
    let Err(refused) = all(ranks, u128::MAX) else { return Ok("rules") };
    if !queues.is_power_of_two() {
        return Err(refused);
    }
    // What the device said to the rule of a rank says more than what it says to a mask.
    let few = &ranks[..ranks.len().min(queues.into())];
    all(few, u128::from(queues - 1)).map_err(|_| refused)?;
    Ok("masks")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{PortId, RankId};

    /// Rules as a device applies them: the first that fits.
    struct Table {
        room: usize,
        masks: bool,
        rules: Vec<(u32, u32, bool, u16)>,
    }

    impl Ruled for Table {
        type Error = &'static str;
        fn rule(&mut self, ip: IpAddr, mask: u128, tagged: bool, queue: u16) -> Result<(), &'static str> {
            if self.rules.len() == self.room {
                return Err("table full");
            }
            if !self.masks && mask != u128::MAX {
                return Err("no masks");
            }
            self.rules.push((low_word(ip), mask as u32, tagged, queue));
            Ok(())
        }
        fn forget(&mut self) {
            self.rules.clear();
        }
    }

    impl Table {
        fn queue_of(&self, ip: IpAddr, tagged: bool) -> u16 {
            let fits = |r: &&(u32, u32, bool, u16)| (low_word(ip) ^ r.0) & r.1 == 0 && r.2 == tagged;
            self.rules.iter().find(fits).map_or(0, |r| r.3)
        }
    }

    fn ranks(n: u32) -> Vec<RankAddr> {
        let rank = |i: u32| RankAddr {
            rank: RankId(8 + i),
            port: PortId(1),
            ip: IpAddr::from([198, 18, 0, 9 + i as u8]),
        };
        (0..n).map(rank).collect()
    }

    #[test]
    fn each_rank_has_a_rule_or_shares_one_by_the_low_bits_of_its_address() {
        let ranks = ranks(7);
        for (room, queues, tags, how) in [
            (100, 3, &[false][..], "rules"),
            (100, 4, &[false, true], "rules"),
            (6, 4, &[true], "masks"),
            (8, 4, &[false, true], "masks"),
            (6, 2, &[false], "masks"),
        ] {
            let mut table = Table { room, masks: true, rules: Vec::new() };
            assert_eq!(lead(&mut table, &ranks, queues, tags), Ok(how));
            for (i, r) in (0u16..).zip(&ranks) {
                for tagged in tags {
                    assert_eq!(table.queue_of(r.ip, *tagged), i % queues, "{how}, {queues} queues: {}", r.ip);
                }
            }
        }
    }

    #[test]
    fn a_device_that_takes_too_few_rules_is_refused_with_its_first_word_and_keeps_none() {
        for (room, queues, masks) in [(6, 3, true), (0, 4, true), (3, 4, true), (6, 4, false)] {
            let mut table = Table { room, masks, rules: Vec::new() };
            assert_eq!(lead(&mut table, &ranks(7), queues, &[false]), Err("table full"));
            assert!(table.rules.is_empty());
        }
    }
}
