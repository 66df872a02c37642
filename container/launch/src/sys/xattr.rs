//! Extended attributes and whole-file-system calls.
