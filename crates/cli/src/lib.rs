//! The command line: the whole pipeline in one process.
