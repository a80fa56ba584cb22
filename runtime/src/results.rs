//! What a launch gives beside its outputs, in the type of an attention.

use crate::error::Error;
use crate::launch::Launched;
use crate::tensor::Tensor;
use crate::validate;
use purview_compiler::ir::{Kept, RowNumber};
use purview_compiler::spec::Spec;
use std::marker::PhantomData;

pub(crate) mod sealed {
    use super::*;

    /// What [`super::Results`] needs to know.
    pub trait Sealed {
        /// The numbers of each row that a launch gives.
        const KEPT: Kept = Kept::LogSumExp;

        /// Whether a backward pass may follow.
        const SAVES: bool = false;

        /// That the rows of `spec` have them.
        fn check(spec: &Spec) -> Result<(), Error> {
            validate::has_kept(spec, Self::KEPT)
        }
    }
}

/// What [`run`](crate::Attention::run) gives for an [`AttentionOver`](crate::AttentionOver).
pub trait Results: sealed::Sealed {
    /// The tensors.
    type Tensors;

    /// Those of a launch.
    #[doc(hidden)]
    fn of(launched: Launched) -> Self::Tensors;
}

/// The outputs of an attention with `COUNT` of them, 1 to 8, without a number of its rows: a [`Tensor`] of one, a tuple of several.
#[derive(Clone, Copy, Debug)]
pub enum Outputs<const COUNT: usize> {}

/// The outputs `O`, and each row's log-sum-exp `[B, H, S]`: [`with_lse`](crate::AttentionOver::with_lse).
#[derive(Clone, Copy, Debug)]
pub struct WithLse<O>(PhantomData<O>);

/// The outputs `O`, and each row's maximum `[B, H, S]`: [`with_max`](crate::AttentionOver::with_max).
#[derive(Clone, Copy, Debug)]
pub struct WithMax<O>(PhantomData<O>);

/// The outputs `O`, each row's log-sum-exp and its maximum, `[B, H, S]`: `with_lse().with_max()`.
#[derive(Clone, Copy, Debug)]
pub struct WithLseAndMax<O>(PhantomData<O>);

impl sealed::Sealed for Outputs<1> {
    fn check(spec: &Spec) -> Result<(), Error> {
        validate::has_outputs(spec, 1)
    }
}

impl Results for Outputs<1> {
    type Tensors = Tensor;

    fn of(mut launched: Launched) -> Tensor {
        launched.outputs.remove(0)
    }
}

macro_rules! several_outputs {
    ($($count:literal: $($tensor:ident)*;)*) => {$(
        impl sealed::Sealed for Outputs<$count> {
            fn check(spec: &Spec) -> Result<(), Error> {
                validate::has_outputs(spec, $count)
            }
        }

        impl Results for Outputs<$count> {
            type Tensors = ($(several_outputs!(@tensor $tensor),)*);

            fn of(launched: Launched) -> Self::Tensors {
                let outputs: [Tensor; $count] = launched.outputs.try_into().expect("the number of outputs was checked");
                let [$($tensor),*] = outputs;
                ($($tensor,)*)
            }
        }
    )*};
    (@tensor $name:ident) => { Tensor };
}

several_outputs! {
    2: a b;
    3: a b c;
    4: a b c d;
    5: a b c d e;
    6: a b c d e f;
    7: a b c d e f g;
    8: a b c d e f g h;
}

/// The outputs of an attention with any number of them.
pub(crate) enum AnyOutputs {}

impl sealed::Sealed for AnyOutputs {}

impl Results for AnyOutputs {
    type Tensors = Vec<Tensor>;

    fn of(launched: Launched) -> Vec<Tensor> {
        launched.outputs
    }
}

impl<O: Results> sealed::Sealed for WithLse<O> {
    fn check(spec: &Spec) -> Result<(), Error> {
        O::check(spec)?;
        validate::has_row_number(spec, RowNumber::LogSumExp)
    }
}

impl<O: Results> Results for WithLse<O> {
    type Tensors = (O::Tensors, Tensor);

    fn of(launched: Launched) -> (O::Tensors, Tensor) {
        let lse = launched.number(RowNumber::LogSumExp);
        (O::of(launched), lse)
    }
}

impl<O: Results> sealed::Sealed for WithMax<O> {
    const KEPT: Kept = Kept::LogSumExpAndMaximum;

    fn check(spec: &Spec) -> Result<(), Error> {
        O::check(spec)?;
        validate::has_kept(spec, Self::KEPT)
    }
}

impl<O: Results> Results for WithMax<O> {
    type Tensors = (O::Tensors, Tensor);

    fn of(launched: Launched) -> (O::Tensors, Tensor) {
        let maximum = launched.number(RowNumber::Maximum);
        (O::of(launched), maximum)
    }
}

impl<O: Results> sealed::Sealed for WithLseAndMax<O> {
    const KEPT: Kept = Kept::LogSumExpAndMaximum;

    fn check(spec: &Spec) -> Result<(), Error> {
        O::check(spec)?;
        validate::has_kept(spec, Self::KEPT)
    }
}

impl<O: Results> Results for WithLseAndMax<O> {
    type Tensors = (O::Tensors, Tensor, Tensor);

    fn of(launched: Launched) -> (O::Tensors, Tensor, Tensor) {
        let (lse, maximum) = (launched.number(RowNumber::LogSumExp), launched.number(RowNumber::Maximum));
        (O::of(launched), lse, maximum)
    }
}
