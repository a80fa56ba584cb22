//! Rotary position embeddings.

/// Turns queries or keys by their positions, in place: a score then depends on the distance of query and key only.
///
/// `x` holds rows of `dim` numbers, `[…, length, dim]` in row-major order; row r of each `length` is at position p = `first` + r.
/// There, each pair of neighbours (x₂ₙ, x₂ₙ₊₁) is turned by the angle θ = p · `base`^(−2n / `dim`):
///
/// ```text
/// x₂ₙ   ← x₂ₙ cos θ − x₂ₙ₊₁ sin θ
/// x₂ₙ₊₁ ← x₂ₙ sin θ + x₂ₙ₊₁ cos θ
/// ```
///
/// From Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021), with a `base` of 10000. Models whose
/// weights pair element n with n + `dim`/2 instead (GPT-NeoX, Llama in Hugging Face's form) need their rows reordered first.
///
/// # Panics
/// If `dim` is odd, or the length of `x` is not a multiple of `length` · `dim`.
pub fn rope(x: &mut [f32], length: usize, dim: usize, first: i64, base: f32) {
    assert!(dim.is_multiple_of(2), "rope turns pairs of numbers, but the rows have {dim}");
    assert!(x.len().is_multiple_of(length * dim), "{} numbers are not whole sequences of {length} × {dim}", x.len());
    if x.is_empty() {
        return;
    }
    let frequencies: Vec<f64> = (0..dim / 2).map(|n| f64::from(base).powf(-2.0 * n as f64 / dim as f64)).collect();
    for sequence in x.chunks_exact_mut(length * dim) {
        for (position, row) in (first..).zip(sequence.chunks_exact_mut(dim)) {
            for (pair, frequency) in row.as_chunks_mut::<2>().0.iter_mut().zip(&frequencies) {
                let (sin, cos) = (position as f64 * frequency).sin_cos(); // in f64: positions may be large
                let [a, b] = pair.map(f64::from);
                *pair = [(a * cos - b * sin) as f32, (a * sin + b * cos) as f32];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, expected {want:?}");
    }

    #[test]
    fn each_pair_turns_at_its_own_speed() {
        let mut x = [1.0, 0.0, 0.0, 2.0].repeat(3);
        rope(&mut x, 3, 4, 0, 10_000.0); // angles p and p / 100
        let row = |p: f32| [p.cos(), p.sin(), -2.0 * (p / 100.0).sin(), 2.0 * (p / 100.0).cos()];
        close(&x, &[row(0.0), row(1.0), row(2.0)].concat());
    }

    #[test]
    fn positions_start_again_with_each_sequence_and_may_be_negative() {
        let mut x = [0.6, 0.8].repeat(4);
        rope(&mut x, 2, 2, -1, 10_000.0);
        let row = |p: f32| [0.6 * p.cos() - 0.8 * p.sin(), 0.6 * p.sin() + 0.8 * p.cos()];
        close(&x, &[row(-1.0), row(0.0), row(-1.0), row(0.0)].concat());
    }

    #[test]
    fn products_depend_on_the_distance_only() {
        let (q, k) = ([0.3, -1.2, 0.7, 0.1], [-0.4, 0.9, 1.1, 0.2]);
        let product = |at_q: i64, at_k: i64| {
            let (mut q, mut k) = (q, k);
            rope(&mut q, 1, 4, at_q, 10_000.0);
            rope(&mut k, 1, 4, at_k, 10_000.0);
            q.iter().zip(&k).map(|(a, b)| a * b).sum::<f32>()
        };
        close(&[product(7, 3), product(-2, 5)], &[product(1007, 1003), product(100, 107)]);
    }

    #[test]
    fn nothing_to_turn() {
        rope(&mut [], 5, 4, 0, 10_000.0);
    }

    #[test]
    #[should_panic(expected = "rope turns pairs of numbers, but the rows have 3")]
    fn an_odd_dim() {
        rope(&mut [0.0; 3], 1, 3, 0, 10_000.0);
    }
}
