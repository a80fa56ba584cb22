//! Numbers that look random and are the same in every run.

use half::{bf16, f16};
use purview::ir::Element;
use purview::{AnyAttention, Device, Error, Shape, Tensor};

/// A sequence of numbers: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer of `low..high`.
    pub fn integer(&mut self, low: i32, high: i32) -> i32 {
        low + (self.next() % u64::from(high.abs_diff(low))) as i32
    }

    /// `count` multiples of 1/8 from −2 to 2: exact in every float type, and so are their products in f32.
    pub fn eighths(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.integer(-16, 17) as f32 / 8.0).collect()
    }

    /// A tensor of `element`s from −1 to 1 in `shape`.
    pub fn tensor(&mut self, device: &Device, element: Element, shape: &[usize]) -> Result<Tensor, Error> {
        floats_of(device, element, shape, &self.floats(shape.iter().product()))
    }

    /// `count` floats from −1 to 1, which are no round numbers.
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }

    /// What `attention` takes along queries and keys for `shape`, in the order of the signature.
    ///
    /// # Errors
    /// As [`Shape::operand_shapes`] and [`Tensor::from_slice`].
    pub fn all_operands(
        &mut self,
        device: &Device,
        attention: &AnyAttention,
        shape: &Shape,
    ) -> Result<Vec<Tensor>, Error> {
        let shapes = shape.operand_shapes(attention.spec())?.into_iter();
        shapes.map(|of_operand| self.tensor(device, shape.element, &of_operand)).collect()
    }

    /// Queries for `shape`, and keys and values for each pair of `attention`.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    #[allow(clippy::type_complexity, reason = "a pair of tensors for each pair of the attention")]
    pub fn operands(
        &mut self,
        device: &Device,
        attention: &AnyAttention,
        shape: &Shape,
    ) -> Result<(Tensor, Vec<(Tensor, Tensor)>), Error> {
        let mut tensor = |heads: usize, length: usize, dim: usize| {
            self.tensor(device, shape.element, &[shape.batch, heads, length, dim])
        };
        let query = tensor(shape.heads, shape.queries, shape.qk_dim)?;
        let pairs = (0..attention.spec().sets()).map(|_| {
            let key = tensor(shape.kv_heads, shape.keys[0], shape.qk_dim)?;
            Ok((key, tensor(shape.kv_heads, shape.keys[0], shape.v_dim)?))
        });
        let pairs = pairs.collect::<Result<_, Error>>()?;
        Ok((query, pairs))
    }
}

/// A tensor of `floats`, rounded to `element`.
pub fn floats_of(device: &Device, element: Element, shape: &[usize], floats: &[f32]) -> Result<Tensor, Error> {
    match element {
        Element::F32 => Tensor::from_slice(device, shape, floats),
        Element::F16 => {
            Tensor::from_slice(device, shape, &floats.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>())
        }
        Element::Bf16 => {
            Tensor::from_slice(device, shape, &floats.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
        }
    }
}
