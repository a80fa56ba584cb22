//! What a program does at a shape.
