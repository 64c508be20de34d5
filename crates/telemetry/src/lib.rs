//! Logs and correlation ids.
