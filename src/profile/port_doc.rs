//! `[[port]]` as typed.

use serde::{Deserialize, Serialize};

use super::doc::{Fec, ReceiveDoc, Role, absent, table};
use super::quantity::{BitRate, Cable, Dur, Size};
use crate::plan::lab::Pacing;

table! {
    /// `[[port]]`: one tester port.
    PortDoc {
        /// Name in reports.
        name: Option<String>,
        /// Machine that owns it.
        host: Option<String>,
        /// PCI address, interface or vdev.
        device: Option<String>,
        /// Whether its ranks send or receive.
        role: Option<Role>,
        /// Rate.
        rate: Option<BitRate>,
        /// Cable to the switch.
        cable: Option<Cable>,
        /// FEC; must be that of `[switch] ports` on an embedded switch.
        fec: Option<Fec>,
        /// MAC to use instead of the device's.
        mac: Option<String>,
        /// Test traffic may go out on an interface that others use.
        allow_in_use: Option<bool>,
        /// The device's own flow control may be set to what `pfc` needs.
        set_flow_control: Option<bool>,
        /// Most bytes handed to the device ahead of the wire.
        tx_backlog: Option<Size>,
        /// Our side of the link.
        address: Option<String>,
        /// Next hop.
        gateway: Option<String>,
        /// Network of the ranks behind it.
        ranks: Option<String>,
        /// Ranks behind it.
        ranks_per_port: Option<u32>,
        /// Headroom of the switch's side; left out: that of `[switch]`.
        xoff_headroom: Option<Size>,
        /// By how much its clock is off, in millionths.
        clock_ppm: Option<i64>,
        /// Name on the switch's side.
        dut_port: Option<String>,
        /// Queues of the device, each with ranks and a worker of its own.
        queues: Option<u16>,
        /// Who sends frames of streams at their times; left out: the device where it can.
        pacing: Option<PacingDoc>,
        /// Of each queue pair and stream one frame of so many carries a stamp; left out: all do.
        stamp_every: Option<u32>,
        /// Who obeys XOFF.
        pfc: Option<PfcDoc>,
        /// Span between a PFC frame's arrival and the port obeying it.
        pfc_response: Option<Dur>,
        /// A machine behind the port that is slower than the link.
        receive: Option<ReceiveDoc>,
    }
}

/// `pfc = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PfcDoc {
    /// The device.
    Hardware,
    /// The tester's loop.
    Software,
    /// Nobody.
    Ignore,
}

/// `pacing = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PacingDoc {
    /// The device where it can, otherwise the tester's loop.
    Auto,
    /// The tester's loop.
    Software,
    /// The device.
    Hardware,
}

impl From<PacingDoc> for Pacing {
    fn from(p: PacingDoc) -> Pacing {
        match p {
            PacingDoc::Auto => Pacing::Auto,
            PacingDoc::Software => Pacing::Software,
            PacingDoc::Hardware => Pacing::Hardware,
        }
    }
}
