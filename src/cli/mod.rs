//! Placeholder of the `cli` layer.

pub mod dissect;
