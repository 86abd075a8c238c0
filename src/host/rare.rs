//! What a queue pair needs for READs and atomics: a row of its own, made when it is first needed.

use super::answers::Answers;
use super::{Host, NONE};

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
