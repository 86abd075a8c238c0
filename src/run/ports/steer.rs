//! Rules that lead what is for a rank to the queue of its worker.

use crate::dpdk::{DpdkError, EthPort};
use crate::plan::Plan;
use crate::plan::device::Steering;
use crate::plan::shards::{Homes, low_word};

/// How frames find the queues of a port, as the report says it.
pub(super) type Steered = Option<&'static str>;

/// Sets up the queues of port `port`: a rule per rank, or one per queue where the device has too few.
///
/// # Errors
/// The device takes neither.
pub(super) fn steer(plan: &Plan, port: usize, device: &mut EthPort) -> Result<Steered, DpdkError> {
    let (lab, host) = (&plan.lab.ports[port], &plan.hosts[port]);
    let (Some(spec), true) = (&lab.device, lab.queues > 1) else { return Ok(None) };
    if spec.is_sink() {
        return Ok(None);
    }
    match spec.steering() {
        Steering::QueueToQueue => return Ok(Some("queue-to-queue")),
        Steering::None => return Ok(Some("none")),
        Steering::Rules => {}
    }
    let homes = Homes::new(&host.ranks, lab.queues);
    let kinds: Vec<bool> = [false, true]
        .into_iter()
        .filter(|tagged| plan.classes.iter().any(|c| c.vlan.is_some() == *tagged))
        .collect();
    let mut each = || {
        for rank in &host.ranks {
            let queue = homes.of(low_word(rank.ip)).unwrap_or(0);
            for tagged in &kinds {
                device.steer((rank.ip, u128::MAX), *tagged, queue, false)?;
            }
        }
        Ok(())
    };
    let Err(first) = each() else { return Ok(Some("rules")) };
    device.forget_rules();
    // As addresses follow each other, their low bits tell the queue.
    if !lab.queues.is_power_of_two() {
        return Err(first);
    }
    let mask = u128::from(lab.queues - 1);
    for rank in host.ranks.iter().take(lab.queues.into()) {
        let queue = homes.of(low_word(rank.ip)).unwrap_or(0);
        for tagged in &kinds {
            // What the device said to the rule of a rank says more than what it says to a mask.
            device.steer((rank.ip, mask), *tagged, queue, false).map_err(|_| first.clone())?;
        }
    }
    Ok(Some("masks"))
}
