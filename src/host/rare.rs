//! What a queue pair needs for READs, atomics, receive queues, credits and delayed ACKs: a row of its own, made when it
//! is first needed.

use super::answers::Answers;
use super::receive::{Credits, ReceiveQueue};
use super::{Host, NONE};
use crate::units::Time;

/// State that most queue pairs never have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// What we answer.
    pub(super) answers: Answers,
    /// READs of ours that were asked for and are not complete.
    pub(super) reads_out: u32,
    /// Responses are missing and were asked for again; nothing more is asked for until one arrives.
    pub(super) asked_again: bool,
    /// An answer left last: a request of ours is next.
    pub(super) request_next: bool,
    /// Our buffers for SENDs.
    pub(super) receive: Option<ReceiveQueue>,
    /// What we know of the other end's.
    pub(super) credits: Option<Credits>,
    /// When a delayed ACK is due.
    pub(super) ack_at: Time,
}

impl Host {
    /// The rare state of a queue pair, made now if there is none.
    pub(super) fn rare(&mut self, qp: u32) -> &mut Rare {
        let cold = &mut self.cold[qp as usize];
        if cold.rare == NONE {
            cold.rare = self.rares.len() as u32;
            self.rares.push(Rare::default());
        }
        &mut self.rares[cold.rare as usize]
    }
}
