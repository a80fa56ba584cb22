//! NVIDIA's compilers and disassemblers as processes.
