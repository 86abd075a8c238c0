//! RC queue pairs: requester, responder, rate control.

pub mod config;
