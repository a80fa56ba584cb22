//! Variants by name, with arguments from outside: what the command line and the table of test cases are made of.

use crate::attention::AnyAttention;
use crate::device::Device;
use crate::error::Error;
use crate::shape::Shape;
use crate::tensor::{Tensor, TensorElement, elements_of};
use std::collections::BTreeMap;

/// An attention variant that can be made by name.
#[derive(Clone, Copy)]
pub struct Variant {
    /// Its name: the function's.
    pub name: &'static str,
    /// Makes it, taking what it needs from the arguments.
    pub make: fn(&Arguments) -> Result<AnyAttention, Error>,
}

/// The device, the shape, and the scalars and captured tensors that are given; the rest has defaults.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Where captured tensors are made.
    pub device: Device,
    /// The shape of the launch, for tensors that are made by default.
    pub shape: Shape,
    /// Given scalars, by name; truth values are 0 or 1.
    pub scalars: BTreeMap<String, f64>,
    /// Given captured tensors, by name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Arguments {
    /// Nothing given, for `shape` on `device`.
    pub fn new(device: Device, shape: Shape) -> Arguments {
        Arguments { device, shape, scalars: BTreeMap::new(), tensors: BTreeMap::new() }
    }

    /// The number of keys of the last set, whose positions the queries share.
    pub fn keys(&self) -> usize {
        self.shape.keys.last().copied().unwrap_or(0)
    }

    /// The scalar `name`, or `default`.
    ///
    /// # Errors
    /// [`Error::Scalar`] if what was given is not a `u32`.
    pub fn u32(&self, name: &str, default: u32) -> Result<u32, Error> {
        self.integer(name, f64::from(default), 0.0, f64::from(u32::MAX)).map(|value| value as u32)
    }

    /// The scalar `name`, or `default`.
    ///
    /// # Errors
    /// [`Error::Scalar`] if what was given is not an `i32`.
    pub fn i32(&self, name: &str, default: i32) -> Result<i32, Error> {
        self.integer(name, f64::from(default), f64::from(i32::MIN), f64::from(i32::MAX)).map(|value| value as i32)
    }

    /// The scalar `name`, or `default`.
    pub fn f32(&self, name: &str, default: f32) -> f32 {
        self.scalars.get(name).map_or(default, |value| *value as f32)
    }

    /// The scalar `name`, or `default`.
    ///
    /// # Errors
    /// [`Error::Scalar`] if what was given is neither 0 nor 1.
    pub fn bool(&self, name: &str, default: bool) -> Result<bool, Error> {
        self.integer(name, f64::from(default), 0.0, 1.0).map(|value| value != 0.0)
    }

    fn integer(&self, name: &str, default: f64, low: f64, high: f64) -> Result<f64, Error> {
        match self.scalars.get(name) {
            None => Ok(default),
            Some(value) if value.fract() == 0.0 && (low..=high).contains(value) => Ok(*value),
            Some(value) => Err(Error::Scalar {
                name: name.into(),
                given: value.to_string(),
                expected: format!("an integer from {low} to {high}"),
            }),
        }
    }

    /// The captured tensor `name`, or one of `shape` whose element at each index is `element(index)`.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn tensor<T: TensorElement, const RANK: usize>(
        &self,
        name: &str,
        shape: [usize; RANK],
        element: impl Fn([usize; RANK]) -> T,
    ) -> Result<Tensor, Error> {
        if let Some(tensor) = self.tensors.get(name) {
            return Ok(tensor.clone());
        }
        let elements = elements_of(&shape)?;
        let mut data = Vec::with_capacity(elements);
        for place in 0..elements {
            let mut rest = place;
            let mut index = [0; RANK];
            for axis in (0..RANK).rev() {
                index[axis] = rest % shape[axis];
                rest /= shape[axis];
            }
            data.push(element(index));
        }
        Tensor::from_slice(&self.device, shape, &data)
    }
}
