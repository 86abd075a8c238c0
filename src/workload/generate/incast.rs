//! Incast: all ranks but the last send one message to the last, at once; with READ the last one fetches them all, at
//! once.

use std::sync::Arc;

use crate::transport::config::Verb;
use crate::units::{RankId, Time};
use crate::workload::config::WorkloadConfig;
use crate::workload::interp::Agenda;
use crate::workload::schedule::OpId;

/// One rank of an incast. The tag is the sender's position in the workload.
#[derive(Debug)]
pub enum Incast {
    /// Sends one message.
    Sender {
        /// Where to.
        receiver: RankId,
        /// Message size.
        bytes: u64,
        /// Position in the workload.
        tag: u32,
    },
    /// Waits for one message from every sender.
    Receiver {
        /// How many send.
        senders: u32,
        /// Messages that came before the start of their iteration.
        early: u32,
    },
    /// Fetches one message from every other rank.
    Reader {
        /// Ranks of the workload, this one last.
        ranks: Arc<[RankId]>,
        /// Message size.
        bytes: u64,
    },
    /// Is read from: nothing to do.
    Source,
}

impl Incast {
    pub(super) fn new(cfg: &WorkloadConfig, index: usize, bytes: u64) -> Option<Incast> {
        let (receiver, senders) = cfg.ranks.split_last()?;
        if senders.is_empty() {
            None
        } else if cfg.verb == Verb::Read {
            let reader = Incast::Reader { ranks: Arc::clone(&cfg.ranks), bytes };
            Some(if index == senders.len() { reader } else { Incast::Source })
        } else if index == senders.len() {
            Some(Incast::Receiver { senders: senders.len() as u32, early: 0 })
        } else {
            Some(Incast::Sender { receiver: *receiver, bytes, tag: index as u32 })
        }
    }

    pub(super) fn begin(&mut self, agenda: &mut Agenda, at: Time) {
        match self {
            Incast::Sender { .. } => {
                agenda.expect(1);
                agenda.send_first(at, 0..1);
            }
            Incast::Receiver { senders, early } => {
                agenda.expect(u64::from(*senders));
                (0..std::mem::take(early)).for_each(|_| agenda.finish(at));
            }
            Incast::Reader { ranks, .. } => {
                let senders = ranks.len() as u32 - 1;
                agenda.expect(senders.into());
                agenda.send_first(at, 0..senders);
            }
            Incast::Source => agenda.expect(0),
        }
    }

    pub(super) fn message(&self, op: OpId) -> (RankId, u64, u32) {
        match self {
            Incast::Sender { receiver, bytes, tag } => (*receiver, *bytes, *tag),
            Incast::Reader { ranks, bytes } => {
                (ranks.get(op as usize).copied().unwrap_or(RankId(u32::MAX)), *bytes, op)
            }
            Incast::Receiver { .. } | Incast::Source => (RankId(u32::MAX), 0, 0), // has no sends to ask about
        }
    }

    pub(super) fn reads(&self) -> bool {
        matches!(self, Incast::Reader { .. })
    }

    pub(super) fn on_recv(
        &mut self,
        agenda: &mut Agenda,
        now: Time,
        started: bool,
        tag: u32,
        _bytes: u64,
    ) -> bool {
        match self {
            Incast::Receiver { senders, early } if tag < *senders => {
                if started {
                    agenda.finish(now);
                } else {
                    *early += 1;
                }
                true
            }
            _ => false,
        }
    }
}
