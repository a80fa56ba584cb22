//! Gradients of an attention against the reference's.

use purview::interpret_backward::ReferenceGradients;
use purview::spec::Spec;
use purview::{AnyAttention, Device, Error, Saved, Tensor};
use purview_cli::golden::gradient_error;

/// The names of all that `spec` has gradients of: operands, captured tensors and scalars of floats, and `scale()`; with the reference's.
fn all_of(spec: &Spec, reference: ReferenceGradients) -> Vec<(String, Vec<f64>)> {
    let ReferenceGradients { operands, tensors, scalars, scale } = reference;
    let operands = spec.operands.iter().map(|param| param.name.clone()).zip(operands.into_iter().map(|of| of.data));
    let tensors = spec.tensors.iter().map(|param| param.name.clone()).zip(tensors);
    let tensors = tensors.filter_map(|(name, of)| Some((name, of?.data)));
    let scalars = spec.scalars.iter().map(|param| param.name.clone()).zip(scalars);
    let scalars = scalars.filter_map(|(name, of)| Some((name, vec![of?])));
    operands.chain(tensors).chain(scalars).chain([("scale()".into(), vec![scale])]).collect()
}

/// The [errors](gradient_error) of all gradients of `attention` on `device`.
///
/// # Errors
/// As [`AnyAttention::run_outputs_with_gradients`], [`Saved::backward_outputs`] and [`AnyAttention::reference_gradients`].
///
/// # Panics
/// Where a second pass gives other bits.
pub fn errors(
    attention: &AnyAttention,
    device: &Device,
    operands: &[&Tensor],
    d_outputs: &[&Tensor],
    d_lse: Option<&Tensor>,
) -> Result<Vec<(String, f64)>, Error> {
    let (_, saved) = attention.run_outputs_with_gradients(device, operands)?;
    let want = all_of(attention.spec(), attention.reference_gradients(operands, d_outputs, d_lse)?);
    let names: Vec<&str> = want.iter().map(|(name, _)| name.as_str()).collect();
    let saved: Saved = saved.only(&names)?;
    let backward = || match d_lse {
        Some(d_lse) => saved.backward_with_lse(d_outputs[0], d_lse),
        None => saved.backward_outputs(d_outputs),
    };
    let (found, again) = (backward()?, backward()?);
    let mut errors = Vec::new();
    for (name, want) in &want {
        let numbers = |of: &purview::Gradients| of.of(name).expect("what was asked for is there").to_vec::<f32>();
        let (found, again) = (numbers(&found)?, numbers(&again)?);
        let bits = |of: &[f32]| of.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&again), "the same tensors give the same bits");
        errors.push((name.clone(), gradient_error(&found, want)));
    }
    Ok(errors)
}
