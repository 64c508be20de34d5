//! The workspace's end-to-end tests.
