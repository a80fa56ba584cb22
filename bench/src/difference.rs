//! How much two outputs differ.

/// The greatest difference of two numbers at the same place; infinity where there is a NaN, or not as many numbers.
pub fn greatest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    greatest(ours, theirs, |ours, theirs| (ours - theirs).abs())
}

/// Likewise, of numbers above 1 the difference in ours: what a logarithm of a sum may be.
pub fn greatest_relative_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    greatest(ours, theirs, |ours, theirs| (ours - theirs).abs() / ours.abs().max(1.0))
}

fn greatest(ours: &[f32], theirs: &[f32], difference: impl Fn(f32, f32) -> f32) -> f32 {
    if ours.len() != theirs.len() {
        return f32::INFINITY;
    }
    let differences = ours.iter().zip(theirs).map(|(ours, theirs)| difference(*ours, *theirs));
    differences.fold(0.0, |most, next| if next.is_nan() { f32::INFINITY } else { most.max(next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_difference_counts_and_a_nan_is_the_greatest() {
        assert_eq!(greatest_difference(&[1.0, -8.0, 3.0], &[1.5, -4.0, 3.0]), 4.0);
        assert_eq!(greatest_relative_difference(&[1.0, -8.0, 0.5], &[1.0, -4.0, 0.75]), 0.5);
        assert_eq!(greatest_difference(&[], &[]), 0.0);
        for difference in [greatest_difference, greatest_relative_difference] {
            assert_eq!(difference(&[1.0], &[1.0, 1.0]), f32::INFINITY);
            for (ours, theirs) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, f32::INFINITY)] {
                assert_eq!(difference(&[ours, 1.0], &[theirs, 1.0]), f32::INFINITY, "{ours} and {theirs}");
                assert_eq!(difference(&[1.0, ours], &[1.0, theirs]), f32::INFINITY, "{ours} and {theirs}");
            }
        }
    }
}
