//! Drivers and clocks: the engine that moves frames, the calendar, the phases of a run.

pub mod result;
