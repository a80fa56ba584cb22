//! The ranges of integer expressions at a launch.
