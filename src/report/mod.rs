//! Placeholder of the `report` layer.
