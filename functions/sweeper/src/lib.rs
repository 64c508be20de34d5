//! Sends again what a crash left behind.
