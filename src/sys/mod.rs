//! Placeholder of the `sys` layer.
