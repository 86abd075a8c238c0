//! TOML as typed, to a [`Plan`] with every default visible.

pub mod doc;
pub mod quantity;
mod source;

pub use source::ProfileError;
