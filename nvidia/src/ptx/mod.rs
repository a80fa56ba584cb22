//! Running PTX on the CPU.
