//! What the benchmark of the Lambdas measures against; the README beside the manifest says what it measures, and how.

pub mod floor;
pub mod stub;
