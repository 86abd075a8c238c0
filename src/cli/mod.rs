//! Placeholder of the `cli` layer.
