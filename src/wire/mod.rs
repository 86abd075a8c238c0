//! Placeholder of the `wire` layer.
