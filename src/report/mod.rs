//! The report: one [`model::RunReport`] per run, its verdict, and the forms it is written in.

pub mod answer;
pub mod build;
pub mod compare;
pub mod expect;
pub mod fabric;
pub mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub mod model;
pub mod network;
pub(crate) mod number;
mod pauses;
pub mod rate;
pub mod streams;
pub mod text;
mod text_fabric;
