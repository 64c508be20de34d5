//! Where findings are told.
