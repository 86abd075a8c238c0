//! Placeholder of the `profile` layer.
