//! Priority flow control (IEEE 802.1Qbb, 802.3 annex 31D) at a tester port.
//!
//! * `obeyed`: pauses that others put on us
//! * `sent`: pauses we put on the switch, for the timeline or for a receive buffer that fills
//! * `trains`: PFC frames generated on purpose, well-formed or not
//! * `receive`: the buffer of a slow receiver

mod obeyed;
mod receive;
mod sent;
mod trains;

pub(super) use obeyed::Obeyed;
pub(super) use receive::{AtWire, Held, Receive};
pub(super) use sent::{Order, Sent};

/// Quanta of every XOFF that is refreshed.
const QUANTA_MAX: u16 = 0xffff;
