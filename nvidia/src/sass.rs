//! The machine code of a kernel: its loops, and what is in them.
