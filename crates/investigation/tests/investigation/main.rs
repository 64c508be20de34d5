//! Whole investigations over a store in memory, a scripted model and scripted tools.

mod ends;
mod resume;
mod shown;
mod support;
mod turns;
