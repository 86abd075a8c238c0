//! RC queue pairs: requester, responder, rate control, and the timers and lists that decide who sends next.
//!
//! One frame touches one [`qp::Qp`]: two adjacent cache lines. Everything that changes per message or less
//! lives elsewhere ([`messages`], [`rate::Reaction`]).

pub mod config;
pub mod dcqcn;
mod dcqcn_sets;
pub mod messages;
pub mod middle;
pub mod pace;
pub mod qp;
pub mod rate;
pub mod reads;
pub mod ready;
pub mod reorder;
pub mod requester;
pub mod responder;
pub mod swift;
pub mod wheel;
