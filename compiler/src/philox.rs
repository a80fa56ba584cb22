//! Philox 4×32-10, a generator of random numbers without a state: number n of a seed is a function of n and the seed.
//!
//! Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. A program that drops weights gives each pair of
//! positions a number by it, which is the same on every device, in every order, and in a backward pass.

/// What the first and the third word of the counter are multiplied by in a round.
pub const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];

/// What is added to the words of the key after a round.
pub const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// How many rounds there are.
pub const ROUNDS: usize = 10;

/// Four random words of a counter and a key.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
    for _ in 0..ROUNDS {
        let (first, third) = (u64::from(a) * u64::from(MULTIPLIERS[0]), u64::from(c) * u64::from(MULTIPLIERS[1]));
        let high = |product: u64| (product >> 32) as u32;
        (a, b, c, d) = (high(third) ^ b ^ k, third as u32, high(first) ^ d ^ l, first as u32);
        (k, l) = (k.wrapping_add(KEY_STEPS[0]), l.wrapping_add(KEY_STEPS[1]));
    }
    [a, b, c, d]
}

/// The random number in [0, 1) of a pair of positions: the first 24 bits of the first word for the counter (key position, query position,
/// head, batch) and the key (seed, 0). Negative positions and seeds are the words of their two's complement.
pub fn random(seed: i64, batch: i64, head: i64, query: i64, key: i64) -> f64 {
    let word = |number: i64| number as u32;
    let [bits, ..] = philox([key, query, head, batch].map(word), [word(seed), 0]);
    f64::from(bits >> 8) / f64::from(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::{philox, random};

    /// Random123's known answers (`kat_vectors`, philox4x32 with 10 rounds).
    #[test]
    fn known_answers() {
        let of_zero = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
        assert_eq!(philox([0; 4], [0; 2]), of_zero);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let expected = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), expected);
        assert_eq!(random(0, 0, 0, 0, 0), f64::from(0x0066_27e8) / 16_777_216.0);
    }
}
