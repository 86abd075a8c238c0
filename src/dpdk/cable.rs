//! A cable inside a process: a device whose two ends are joined by rings.

use std::sync::Arc;

use super::ethdev::{PortSpec, refused};
use super::{DpdkError, Eal, EthPort, FrameRing, MbufPool, RingRx, RingTx, c_name};
use crate::plan::pools::LOOP_FRAMES;

/// Two ports of a process joined back to back: rings that stay until both are closed. What is sent on a queue arrives at
/// the queue of that number.
#[derive(Clone, Debug)]
pub struct LoopCable(Arc<Vec<Rings>>);

/// Those of one queue.
#[derive(Debug)]
struct Rings {
    there: (RingTx, RingRx),
    back: (RingTx, RingRx),
}

impl LoopCable {
    /// A cable of so many queues; `name` is unique in the process.
    ///
    /// # Errors
    /// No memory, or the name is taken.
    pub fn create(eal: &Eal, name: &str, queues: u16) -> Result<LoopCable, DpdkError> {
        let rings = |q: u16| {
            let ring = |way: u8| FrameRing::create(eal, &format!("loop_{name}_{way}_{q}"), LOOP_FRAMES);
            Ok(Rings { there: ring(0)?, back: ring(1)? })
        };
        Ok(LoopCable(Arc::new((0..queues).map(rings).collect::<Result<_, DpdkError>>()?)))
    }

    /// Memory a cable takes of EAL.
    pub fn memory_bytes(queues: u16) -> u64 {
        2 * u64::from(queues) * FrameRing::memory_bytes(LOOP_FRAMES)
    }

    /// One of the two ends as a port: `end` is 0 or 1.
    ///
    /// # Errors
    /// DPDK cannot make the port, or `spec` asks for other queues than the cable has.
    pub fn open(&self, eal: &Eal, end: u8, spec: &PortSpec, rx: &MbufPool) -> Result<EthPort, DpdkError> {
        if usize::from(spec.queues) != self.0.len() {
            let why = format!("the cable has {} queues and {} are asked for", self.0.len(), spec.queues);
            return Err(refused(spec, "could not be made", why));
        }
        let name = format!("loop_{}_{end}", spec.device.name);
        let c = c_name(&name)?;
        let there: Vec<_> = self.0.iter().map(|r| r.there.0.raw()).collect();
        let back: Vec<_> = self.0.iter().map(|r| r.back.0.raw()).collect();
        let (out, into) = if end == 0 { (&there, &back) } else { (&back, &there) };
        let n = u32::from(spec.queues);
        // SAFETY: EAL runs; the name is terminated and copied; each list holds `n` rings, which outlive the port, as it
        // keeps a clone of this cable.
        let port = unsafe { dpdk_sys::rte_eth_from_rings(c.as_ptr(), into.as_ptr(), n, out.as_ptr(), n, 0) };
        let Ok(port) = u16::try_from(port) else {
            return Err(refused(spec, "could not be made", super::last_error()));
        };
        EthPort::adopt(eal, port, spec, rx, Some(self.clone()))
    }
}
