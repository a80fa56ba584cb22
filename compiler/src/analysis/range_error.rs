//! What is said of a launch whose integers may leave their tensors or 32 bits.

use crate::spec::Location;
use thiserror::Error;

/// Why a launch is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// An index that can leave its tensor.
    #[error(
        "{location}: index `{index}` of `{tensor}` ranges over {low}..={high}, its dimension {dimension} has length {length}{}",
        help_line(.help)
    )]
    Index {
        /// Where it is written.
        location: Location,
        /// The index, as text.
        index: Box<str>,
        /// The tensor's name.
        tensor: String,
        /// The least value that the index can be proved to have.
        low: i64,
        /// The greatest.
        high: i64,
        /// The dimension, from 0.
        dimension: usize,
        /// Its length.
        length: usize,
        /// What to write instead, if something is known.
        help: Option<Box<str>>,
    },
    /// An integer that can leave 32 bits.
    #[error("{location}: `{text}` ranges over {low}..={high}, which leaves 32 bits{}", help_line(.help))]
    Overflow {
        /// Where it is written.
        location: Location,
        /// The expression, as text.
        text: String,
        /// The least value that it can be proved to have.
        low: i64,
        /// The greatest.
        high: i64,
        /// What to write instead, if something is known.
        help: Option<Box<str>>,
    },
    /// An integer divisor that can be zero.
    #[error("{location}: the divisor of `{text}` ranges over {low}..={high}, which includes zero")]
    Division {
        /// Where it is written.
        location: Location,
        /// The division, as text.
        text: String,
        /// The least value that the divisor can be proved to have.
        low: i64,
        /// The greatest.
        high: i64,
    },
    /// A captured tensor whose summary would be too large; only of [`check_tiles`](super::ranges::check_tiles).
    #[error("a summary of `{tensor}` would have {blocks} blocks, at most {most} are made")]
    Summary {
        /// The tensor's name.
        tensor: String,
        /// The blocks that its summary would have.
        blocks: u64,
        /// The most there may be.
        most: u64,
    },
    /// Positions that leave 32 bits.
    #[error("{what} are at {low}..={high}, which leaves 32 bits")]
    Positions {
        /// Whose.
        what: String,
        /// The first.
        low: i64,
        /// The last, with those that fill the last tile.
        high: i64,
    },
    /// A launch that does not fit the attention.
    #[error("`{attention}` takes {expected} {what}, {given} were given")]
    Count {
        /// The attention's name.
        attention: String,
        /// What is counted.
        what: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        given: usize,
    },
}

fn help_line(help: &Option<Box<str>>) -> String {
    help.as_ref().map_or_else(String::new, |help| format!("\nhelp: {help}"))
}
