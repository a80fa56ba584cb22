//! Attention on images: windows of pixels, shifted in every other layer.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// The window of a pixel's row or column, at `place`.
///
/// Swin shifts an image around, and masks pixels of one window that come from opposite borders. Floor division without that gives these
/// windows and regions as they are: what is shifted past 0 is in a window −1 of its own.
#[index]
pub fn window_of(place: Pos, window: u32, shift: u32) -> i32 {
    (place - shift) / window
}

/// Each pixel sees those of its window of `window` by `window` pixels, of windows that are moved by `shift` rows and columns; their
/// distance adds `table[head][rows + window - 1][columns + window - 1]`, and `table` is `[heads, 2 · window − 1, 2 · window − 1]`.
/// Positions count the pixels of an image of `width` columns, row after row.
///
/// Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (2021): layers without a shift and with one of
/// half a window take turns. There pixels are put in the order of the windows first; here they stay where they are.
#[attention]
pub fn swin(q: Query, k: Key, v: Value, table: Tensor<f32, 3>, width: u32, window: u32, shift: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let rows = window_of(i / width, window, shift) == window_of(j / width, window, shift);
            let columns = window_of(i % width, window, shift) == window_of(j % width, window, shift);
            let down = i / width - j / width;
            let right = i % width - j % width;
            let bias = table[head()][down + window - 1][right + window - 1];
            o.push(mask(dot(q[i], k[j]) * scale() + bias, rows && columns), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| {
    let (width, window) = (args.u32("width", 16)?, args.u32("window", 4)?);
    let shift = args.u32("shift", window / 2)?;
    let side = (2 * window as usize).saturating_sub(1);
    let table = args.tensor("table", [args.shape.heads, side, side], |[h, down, right]| {
        ((3 * h + 5 * down + 7 * right) % 11) as f32 / 5.0 - 1.0
    })?;
    swin(&table, width, window, shift)
});

/// Runs it, on an image of 16 by 16 pixels, without a shift and with one, and compares both with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let table = Tensor::from_slice(&device, [2, 7, 7], &demo::numbers(1, 2 * 7 * 7))?;
    demo::check(&device, swin(&table, 16, 4, 0), &Shape::new(1, 2, 256, 64))?;
    demo::check(&device, swin(&table, 16, 4, 2), &Shape::new(1, 2, 256, 64))
}
