//! The gallery: one attention variant a file. Each is a program of its own (`cargo run --example minilm`) and a module of this
//! crate, through which the tests and the command line reach it.

//pub mod minilm;
