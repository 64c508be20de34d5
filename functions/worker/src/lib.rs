//! A job to an investigation to its deliveries.
