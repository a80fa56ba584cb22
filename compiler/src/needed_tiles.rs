//! The tiles that have a visible pair, found by looking: the masks of the specification itself, before any pass, on every pair.
//!
//! It is what the ranges and classes of a program are checked against, in time proportional to queries times keys.

use crate::eval::{Environment, EvalError};
use crate::expr::Expr;
use crate::lower::{LowerError, lower};
use crate::spec::Spec;
use crate::tiles::Tiling;
use crate::visible_pairs::sees;
use thiserror::Error;

/// Why a program's tiles are not those of its specification.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TileError {
    /// A tile with a visible pair is not visited.
    #[error(
        "the tile of {tile} is skipped, although the query at {query} sees the key at {key_position}: this is a bug of Purview"
    )]
    NeededIsSkipped {
        /// The tile.
        tile: Place,
        /// The query's position.
        query: i64,
        /// The key's position.
        key_position: i64,
    },
    /// A tile with a hidden pair is called full.
    #[error(
        "the tile of {tile} is called full, although the query at {query} does not see the key at {key_position}: this is a bug of Purview"
    )]
    FullHasHidden {
        /// The tile.
        tile: Place,
        /// The query's position.
        query: i64,
        /// The key's position.
        key_position: i64,
    },
    /// A mask without a value.
    #[error("the mask at {tile}: {error}")]
    Eval {
        /// The tile.
        tile: Place,
        /// What is wrong.
        error: EvalError,
    },
    /// A specification without a program.
    #[error(transparent)]
    Lower(Box<LowerError>),
}

/// Which tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The keys.
    pub key: String,
    /// The batch index.
    pub batch: usize,
    /// The query head.
    pub head: usize,
    /// The tile of queries, from 0.
    pub query_tile: usize,
    /// The tile of keys, from 0.
    pub key_tile: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Place { key, batch, head, query_tile, key_tile } = self;
        write!(f, "queries {query_tile} and `{key}` {key_tile}, batch {batch}, head {head}")
    }
}

/// How many tiles of each key loop have a visible pair, of all heads and batches.
///
/// # Errors
/// If a tile that the program skips has a visible pair, or one that it calls full a hidden pair.
pub fn needed_tiles(spec: &Spec, tiling: &Tiling) -> Result<Vec<u64>, TileError> {
    let lowered = lower(spec, tiling.launch.scalars, tiling.program.operands);
    let lowered = lowered.map_err(|error| TileError::Lower(Box::new(error)))?;
    let loops = 0..tiling.program.loops.len();
    loops.map(|place| needed_of_loop(tiling, place, lowered.loops[place].visible())).collect()
}

fn needed_of_loop(tiling: &Tiling, place: usize, visible: Option<&Expr>) -> Result<u64, TileError> {
    let (program, launch) = (tiling.program, tiling.launch);
    let key_loop = &program.loops[place];
    let keys = launch.keys[key_loop.pair];
    let key_tiles = tiling.key_tiles(key_loop);
    let everywhere = Expr::Bool(true);
    let visible = visible.unwrap_or(&everywhere);
    let (heads, repeated) = launch.heads_that_differ(key_loop.tile_exprs().chain([visible]));
    let mut needed = 0;
    for (batch, head) in heads {
        for query_tile in 0..tiling.query_tiles() {
            let of =
                |key_tile| Place { key: program.pairs[key_loop.pair].key.clone(), batch, head, query_tile, key_tile };
            let runs = tiling.runs(key_loop, batch, head, query_tile);
            let runs = runs.map_err(|error| TileError::Eval { tile: of(0), error })?;
            let mut at = Environment { clamped: false, ..tiling.environment(batch, head, query_tile) };
            for key_tile in 0..key_tiles {
                let run = runs.iter().find(|run| (run.from..run.to).contains(&key_tile));
                let full = run.is_some_and(|run| run.full);
                at.key_first = keys.offset + (key_tile * tiling.key_tile) as i64;
                at.key_last = keys.offset + ((key_tile + 1) * tiling.key_tile).min(keys.length) as i64 - 1;
                let found =
                    look(visible, &mut at, full).map_err(|error| TileError::Eval { tile: of(key_tile), error })?;
                let (query, key_position) = (at.query, at.key);
                match (found, run) {
                    (Found::Hidden, _) => {
                        return Err(TileError::FullHasHidden { tile: of(key_tile), query, key_position });
                    }
                    (Found::Visible, None) => {
                        return Err(TileError::NeededIsSkipped { tile: of(key_tile), query, key_position });
                    }
                    (Found::Visible, Some(_)) => needed += 1,
                    (Found::None, _) => {}
                }
            }
        }
    }
    Ok(needed * repeated)
}

enum Found {
    /// A visible pair: and, where every pair was to be looked at, no hidden one.
    Visible,
    /// A hidden pair, where every pair was to be looked at.
    Hidden,
    /// No visible pair.
    None,
}

/// Looks at the pairs of a tile until one is visible; at `every` one until one is hidden. Leaves in `at` where it stopped.
fn look(visible: &Expr, at: &mut Environment, every: bool) -> Result<Found, EvalError> {
    for query in at.query_first..=at.query_last {
        for key in at.key_first..=at.key_last {
            (at.query, at.key) = (query, key);
            if sees(visible, at)? != every {
                return Ok(if every { Found::Hidden } else { Found::Visible });
            }
        }
    }
    Ok(if every { Found::Visible } else { Found::None })
}
