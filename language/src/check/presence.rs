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
    /// A loop over each key parameter.
    pub keys: Vec<Presence>,
    /// A push of each value parameter.
    pub values: Vec<Presence>,
}

impl Needs {
    /// Those of a function with this signature, none of which is found yet. Parameters that are missing, and keys that are not
    /// as many as values, were reported.
    pub fn of(signature: &Signature) -> Self {
        let count = |kind| signature.of_kind(kind).count();
        let (queries, keys, values) =
            (count(ParameterKind::Query), count(ParameterKind::Key), count(ParameterKind::Value));
        let unless = |reported| if reported { Presence::Reported } else { Presence::Missing };
        Needs {
            query_loop: Presence::Missing,
            output: Presence::Missing,
            push: unless(queries == 0 || keys == 0 || values == 0),
            push_of_loop: Presence::Missing,
            keys: vec![unless(keys != values); keys],
            values: vec![unless(keys != values); values],
        }
    }

    /// Says that a statement was reported which may have been a loop, a push, or the only use of a parameter.
    pub fn doubt(&mut self) {
        let Needs { query_loop, output: _, push, push_of_loop, keys, values } = self;
        for need in [query_loop, push, push_of_loop].into_iter().chain(keys).chain(values) {
            if *need == Presence::Missing {
                *need = Presence::Reported;
            }
        }
    }
}
