//! The variants of the gallery at shapes that fit no tile, against the reference.

use crate::Gallery;
use crate::golden::Errors;
#[cfg(feature = "emit")]
use crate::golden::GoldenError;
#[cfg(feature = "emit")]
use crate::ptx;
use crate::run::{RandomInputs, compare_results};
use purview::{AnyAttention, Arguments, Device, Error, Shape, Tensor, Variant};
#[cfg(feature = "emit")]
use purview_compiler::device_model::DeviceModel;
use purview_compiler::ir::Element;
#[cfg(feature = "emit")]
use purview_nvidia::ptx::Counts;

/// At how many shapes `check --gallery` runs each variant: so many lines it prints of it with `--lines`.
pub const GALLERY_SHAPES: usize = 4;

/// A variant, with its default arguments, at a shape.
pub(crate) struct GalleryCase<'a> {
    pub variant: &'a Variant,
    shape: Shape,
}

/// Every variant at every shape.
pub(crate) fn cases<'a>(gallery: &'a Gallery) -> impl Iterator<Item = GalleryCase<'a>> {
    gallery.variants.iter().flat_map(|variant| shapes().into_iter().map(move |shape| GalleryCase { variant, shape }))
}

/// Lengths that no tile divides, key heads that query heads share, and few queries at the end of many keys; head dims that are those of models
/// and one that is none.
fn shapes() -> [Shape; GALLERY_SHAPES] {
    [
        Shape::new(2, 4, 150, 24).with_kv_heads(2).with_v_dim(20),
        Shape::new(1, 2, 257, 64),
        Shape::new(1, 4, 3, 64).with_kv_heads(2).with_keys([150]),
        Shape::new(2, 8, 1, 128).with_kv_heads(2).with_keys([333]),
    ]
}

impl GalleryCase<'_> {
    pub fn shape(&self, element: Element) -> Shape {
        Shape { element, ..self.shape.clone() }
    }

    fn attention(&self, device: &Device, element: Element) -> Result<(AnyAttention, RandomInputs), Error> {
        let shape = self.shape(element);
        let attention = (self.variant.make)(&Arguments::new(device.clone(), shape.clone()))?;
        let inputs = RandomInputs::new(&attention, device, &shape)?;
        Ok((attention, inputs))
    }

    pub fn run(&self, device: &Device, element: Element) -> Result<Errors, Error> {
        let (attention, inputs) = self.attention(device, element)?;
        let (outputs, lse) = attention.run_outputs_with_lse_if_any(device, &inputs.operands())?;
        let lse = lse.map(|lse| lse.to_vec()).transpose()?;
        let outputs = outputs.iter().map(Tensor::to_vec).collect::<Result<Vec<Vec<f32>>, Error>>()?;
        compare_results(&attention, &inputs, &outputs, lse)
    }

    /// The same, by the PTX of the kernel for `model`, on the CPU.
    #[cfg(feature = "emit")]
    pub fn run_ptx(&self, model: &DeviceModel, element: Element) -> Result<(Errors, Counts), GoldenError> {
        let (attention, inputs) = self.attention(&Device::cpu()?, element)?;
        let results = ptx::run(&attention.ptx_launch_operands(model, &inputs.operands())?)?;
        let outputs: Vec<&[f32]> = results.outputs().collect();
        Ok((compare_results(&attention, &inputs, &outputs, results.lse.clone())?, results.counts))
    }
}
