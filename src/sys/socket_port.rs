//! A port that is a socket: [`Port`] over [`FrameSocket`] with frames that hold all their bytes.

use std::io;
use std::time::Duration;

use super::socket::{FrameSocket, Handed};
use crate::frame::whole::{FRAME_BYTES_MAX, WholeFrame, WholePool};
use crate::frame::{Burst, Fill, Frame, FramePool, PfcSeen, Port, PortCaps, TxBatch};
use crate::limits::BURST;
use crate::units::{FrameLen, Span};

/// What a port counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SocketStats {
    /// Frames handed over.
    pub tx_frames: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent while nobody was at the other end: lost.
    pub tx_unplugged: u64,
    /// Frames received that are longer than any RoCE frame: thrown away.
    pub rx_oversize: u64,
    /// Frames that found the receive buffer full: lost.
    pub rx_missed: u64,
}

/// A socket as a port. A socket that fails stops carrying frames and keeps its error for [`SocketPort::failure`].
#[derive(Debug)]
pub struct SocketPort {
    socket: FrameSocket,
    pool: WholePool,
    frame_len_max: u16,
    stats: SocketStats,
    failure: Option<io::Error>,
}

impl SocketPort {
    /// A port whose received frames come from `pool`, a clone of the driver's. Frames longer than `frame_len_max`
    /// (without FCS) are never sent.
    pub fn new(socket: FrameSocket, pool: WholePool, frame_len_max: u16) -> SocketPort {
        SocketPort { socket, pool, frame_len_max, stats: SocketStats::default(), failure: None }
    }

    /// What was counted so far.
    pub fn stats(&mut self) -> SocketStats {
        self.stats.rx_missed += self.socket.missed();
        self.stats
    }

    /// Why the port carries nothing any more.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Sends from the front; false when the first frame was refused.
    fn send_first(&mut self, frames: &mut Burst<WholeFrame>) -> bool {
        let Some(first) = frames.first() else { return false };
        let handed = match first.wire_bytes() {
            Some(bytes) if self.failure.is_none() => self.socket.send(bytes),
            _ => Ok(Handed::Refused),
        };
        match handed {
            Ok(Handed::Sent) => self.stats.tx_frames += 1,
            Ok(Handed::Unplugged) => self.stats.tx_unplugged += 1,
            Ok(Handed::Refused) => return false,
            Err(e) => {
                self.failure = Some(e);
                return false;
            }
        }
        let frame = frames.remove(0);
        self.pool.give(frame);
        true
    }
}

impl Port for SocketPort {
    type Frame = WholeFrame;

    fn rx_burst(&mut self, out: &mut Burst<WholeFrame>) -> usize {
        let before = out.len();
        while !out.is_full() && self.failure.is_none() {
            let Some(mut frame) = self.pool.take(Fill::Writable, FrameLen(0)) else { break };
            match self.socket.receive(frame.room_mut()) {
                Ok(Some(n)) if n <= FRAME_BYTES_MAX => {
                    frame.meta_mut().len = FrameLen(n as u16);
                    self.stats.rx_frames += 1;
                    out.push(frame);
                    continue;
                }
                Ok(Some(_)) => {
                    self.stats.rx_oversize += 1;
                    self.pool.give(frame);
                    continue;
                }
                Ok(None) => {}
                Err(e) => self.failure = Some(e),
            }
            self.pool.give(frame);
            break;
        }
        out.len() - before
    }

    fn tx_room(&mut self) -> usize {
        if self.failure.is_some() { 0 } else { BURST }
    }

    fn tx_burst(&mut self, batch: &mut TxBatch<WholeFrame>) -> usize {
        let mut sent = 0;
        while self.send_first(&mut batch.control) {
            sent += 1;
        }
        if batch.control.is_empty() {
            while self.send_first(&mut batch.data) {
                sent += 1;
            }
        }
        sent
    }

    fn wait(&mut self, at_most: Span) {
        self.socket.wait(Duration::from_nanos(at_most.0 / 1000));
    }

    fn caps(&self) -> PortCaps {
        PortCaps { pfc_seen: PfcSeen::Frames, rx_timestamps: false, frame_len_max: self.frame_len_max }
    }
}
