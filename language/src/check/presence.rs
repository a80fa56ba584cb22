//! Whether a function has what it must have.

use crate::signature::{ParameterKind, Signature};

/// Whether something that must be in a function is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its absence is a mistake.
    Missing,
    Found,
    /// What may have been it was reported, so that its absence is no second mistake.
    Reported,
}

/// What must be in an attention.
pub struct Needs {
    /// The loop over the queries.
    pub query_loop: Presence,
    /// The accumulator as the last line of that loop.
    pub output: Presence,
    /// A push, anywhere.
    pub push: Presence,
    /// The push of the loop over keys that is being checked.
    pub push_of_loop: Presence,
    /// A use of each query parameter, where there are several.
    pub queries: Vec<Presence>,
    /// A loop over each key parameter, or a product with it.
    pub keys: Vec<Presence>,
    /// A push of each value parameter.
    pub values: Vec<Presence>,
}

impl Needs {
    /// Those of a function with this signature, none of which is found yet. Parameters that are missing were reported; values are not
    /// where part of the keys serves as values.
    pub fn of(signature: &Signature, keys_are_values: bool) -> Self {
        let count = |kind| signature.of_kind(kind).count();
        let (queries, keys, values) =
            (count(ParameterKind::Query), count(ParameterKind::Key), count(ParameterKind::Value));
        let unless = |reported| if reported { Presence::Reported } else { Presence::Missing };
        Needs {
            query_loop: Presence::Missing,
            output: Presence::Missing,
            push: unless(queries == 0 || keys == 0 || values == 0 && !keys_are_values),
            push_of_loop: Presence::Missing,
            queries: vec![Presence::Missing; queries],
            keys: vec![Presence::Missing; keys],
            values: vec![Presence::Missing; values],
        }
    }

    /// Says that a statement was reported which may have been a loop, a push, or the only use of a parameter.
    pub fn doubt(&mut self) {
        let Needs { query_loop, output: _, push, push_of_loop, queries, keys, values } = self;
        for need in [query_loop, push, push_of_loop].into_iter().chain(queries).chain(keys).chain(values) {
            if *need == Presence::Missing {
                *need = Presence::Reported;
            }
        }
    }
}
