//! Measuring in turns. What else a machine does comes and goes in seconds: each turn measures everything that is compared, one
//! after the other, and what is compared are medians over turns.

use std::time::{Duration, Instant};

/// How long the calls of a turn take together, at least: enough that neither the clock nor waking up counts.
pub const TURN: Duration = Duration::from_millis(20);

/// How many calls of `milliseconds` make a turn.
pub fn calls(milliseconds: f64) -> usize {
    let calls = TURN.as_secs_f64() * 1e3 / milliseconds.max(1e-3);
    (calls.ceil() as usize).clamp(1, 2000)
}

/// The milliseconds of a call of `run`, over so many `calls`.
///
/// # Errors
/// The first error of `run`.
pub fn time<T, E>(calls: usize, mut run: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
    let start = Instant::now();
    for _ in 0..calls {
        run()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / calls as f64)
}

/// The milliseconds of a call of `launch`, over so many `calls` on a GPU that are waited for together by `wait`. Before, a quarter as
/// many more are launched and waited for, since a GPU that did nothing starts slowly.
///
/// # Errors
/// The first error of either.
pub fn time_together<T, E>(
    calls: usize,
    mut launch: impl FnMut() -> Result<T, E>,
    wait: impl Fn() -> Result<(), E>,
) -> Result<f64, E> {
    for _ in 0..calls.div_ceil(4) {
        launch()?;
    }
    wait()?;
    let start = Instant::now();
    for _ in 0..calls {
        launch()?;
    }
    wait()?;
    Ok(start.elapsed().as_secs_f64() * 1e3 / calls as f64)
}

/// The median; NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}
