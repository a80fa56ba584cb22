//! A module: projections around an attention.

use crate::attention;
use crate::error::Error;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use purview::AnyAttention;

/// What a [`PurviewAttention`] is made of.
#[derive(Config, Debug)]
pub struct PurviewAttentionConfig {
    /// The features of a position, in the input and in the output.
    pub d_model: usize,
    /// The heads of queries.
    pub heads: usize,
    /// The heads of keys and values, which divide those of queries: as many as of queries if `None`, one for multi-query attention.
    #[config(default = "None")]
    pub kv_heads: Option<usize>,
    /// The features of a head: those of a position divided by the heads if `None`.
    #[config(default = "None")]
    pub head_dim: Option<usize>,
    /// Whether the projections add a bias.
    #[config(default = true)]
    pub bias: bool,
    /// How weights and biases begin.
    #[config(default = "Initializer::KaimingUniform { gain: 1.0 / 3.0f64.sqrt(), fan_out_only: false }")]
    pub initializer: Initializer,
}

/// Multi-head attention, of any variant that takes queries, keys and values: projections of the input to those, the attention, and a
/// projection of its output. Heads of keys and values may be fewer than of queries.
///
/// ```
/// # use burn::tensor::{Device, Distribution, Tensor};
/// # use purview::prelude::*;
/// # #[attention]
/// # fn causal(q: Query, k: Key, v: Value) -> Output {
/// #     for i in q.tiles() {
/// #         let mut o = Softmax::new();
/// #         for j in k.tiles() {
/// #             o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
/// #         }
/// #         o
/// #     }
/// # }
/// use purview_burn::PurviewAttentionConfig;
///
/// # fn main() -> Result<(), purview_burn::Error> {
/// let device = Device::cpu();
/// let layer = PurviewAttentionConfig::new(64, 4).with_kv_heads(Some(2)).init(&device);
/// let x = Tensor::<3>::random([2, 50, 64], Distribution::Default, &device);
/// assert_eq!(layer.forward(&causal(), x)?.dims(), [2, 50, 64]);
/// # Ok(())
/// # }
/// ```
///
/// The variant is an argument of the forward pass and no part of the module: what it captures may be other tensors for each batch, and a
/// record holds weights alone.
#[derive(Module, Debug)]
pub struct PurviewAttention {
    /// To queries: `[d_model, heads * head_dim]`.
    pub query: Linear,
    /// To keys: `[d_model, kv_heads * head_dim]`.
    pub key: Linear,
    /// To values: `[d_model, kv_heads * head_dim]`.
    pub value: Linear,
    /// Of the attention's output: `[heads * head_dim, d_model]`.
    pub output: Linear,
    /// The features of a head.
    pub head_dim: usize,
}

impl PurviewAttentionConfig {
    /// A module with weights as the initializer draws them.
    ///
    /// # Panics
    /// Where there are no heads, or where `head_dim` is `None` and `heads` does not divide `d_model`.
    pub fn init(&self, device: &Device) -> PurviewAttention {
        let &PurviewAttentionConfig { d_model, heads, .. } = self;
        let kv_heads = self.kv_heads.unwrap_or(heads);
        assert!(
            heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "query heads must be a multiple of key heads: heads is {heads}, kv_heads is {kv_heads}"
        );
        let head_dim = self.head_dim.unwrap_or_else(|| {
            assert!(
                d_model.is_multiple_of(heads),
                "without head_dim, heads must divide d_model: d_model is {d_model}, heads is {heads}"
            );
            d_model / heads
        });
        let linear = |from, to| {
            let config = LinearConfig::new(from, to).with_bias(self.bias);
            config.with_initializer(self.initializer.clone()).init(device)
        };
        PurviewAttention {
            query: linear(d_model, heads * head_dim),
            key: linear(d_model, kv_heads * head_dim),
            value: linear(d_model, kv_heads * head_dim),
            output: linear(heads * head_dim, d_model),
            head_dim,
        }
    }
}

impl PurviewAttention {
    /// The attention of positions `[B, S, d_model]` to each other.
    ///
    /// # Errors
    /// As [`attention`].
    pub fn forward<A>(&self, variant: &A, x: Tensor<3>) -> Result<Tensor<3>, Error>
    where
        A: Clone + Into<AnyAttention>,
    {
        self.forward_cross(variant, x.clone(), x)
    }

    /// The attention of positions `[B, S, d_model]` to others, `[B, T, d_model]`.
    ///
    /// # Errors
    /// As [`attention`].
    pub fn forward_cross<A>(&self, variant: &A, x: Tensor<3>, to: Tensor<3>) -> Result<Tensor<3>, Error>
    where
        A: Clone + Into<AnyAttention>,
    {
        let query = self.heads(self.query.forward(x));
        let (key, value) = (self.heads(self.key.forward(to.clone())), self.heads(self.value.forward(to)));
        let attended = attention(variant, query, key, value)?;
        let [batch, heads, length, dim] = attended.dims();
        Ok(self.output.forward(attended.swap_dims(1, 2).reshape([batch, length, heads * dim])))
    }

    /// `[B, S, H * D]` as `[B, H, S, D]`.
    fn heads(&self, projected: Tensor<3>) -> Tensor<4> {
        let [batch, length, features] = projected.dims();
        projected.reshape([batch, length, features / self.head_dim, self.head_dim]).swap_dims(1, 2)
    }
}
