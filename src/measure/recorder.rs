//! The measurement of a run: implements [`super::record::Record`].

/// Collects events of one engine; merged over engines at the end.
#[derive(Debug, Default)]
pub struct Recorder {}
