//! The agent loop: evidence, turns, checks, resume.
pub mod ports;
