//! The tiles that have a visible pair, found by looking: the masks of the specification itself, before any pass, on every pair.
//!
//! It is what the ranges and tile kinds of a program are checked against, in time proportional to queries times keys.

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
        tile: TileAt,
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
        tile: TileAt,
        /// The query's position.
        query: i64,
        /// The key's position.
        key_position: i64,
    },
    /// A mask without a value.
    #[error("the mask at {tile}: {error}")]
    Eval {
        /// The tile.
        tile: TileAt,
        /// What is wrong.
        error: EvalError,
    },
    /// A specification without a program.
    #[error(transparent)]
    Lower(Box<LowerError>),
}

/// Which tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileAt {
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

impl std::fmt::Display for TileAt {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let TileAt { key, batch, head, query_tile, key_tile } = self;
        write!(f, "queries {query_tile} and `{key}` {key_tile}, batch {batch}, head {head}")
    }
}

/// What was found of a key loop's tiles, of all heads and batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Those with a visible pair.
    pub needed: u64,
    /// Those of the visited ones whose mask is evaluated, although they have no hidden pair.
    pub missed_full: u64,
}

/// What each key loop's tiles are, found by looking.
///
/// # Errors
/// If a tile that the program skips has a visible pair, or one that it calls full a hidden pair.
pub fn needed_tiles(spec: &Spec, tiling: &Tiling) -> Result<Vec<LookedAt>, TileError> {
    let lowered = lower(spec, tiling.launch.scalars, &tiling.program.operand_dims());
    let lowered = lowered.map_err(|error| TileError::Lower(Box::new(error)))?;
    let loops = 0..tiling.program.loops.len();
    loops.map(|place| needed_of_loop(tiling, place, lowered.loops[place].visible(false))).collect()
}

fn needed_of_loop(tiling: &Tiling, place: usize, visible: Option<Expr>) -> Result<LookedAt, TileError> {
    let (program, launch) = (tiling.program, tiling.launch);
    let key_loop = &program.loops[place];
    let keys = launch.keys[key_loop.column_set()];
    let key_tiles = tiling.key_tiles(key_loop);
    let visible = &visible.unwrap_or(Expr::Bool(true));
    let (heads, repeated) = launch.heads_that_differ(key_loop.tile_exprs().chain([visible]));
    let mut looked_at = LookedAt::default();
    for (batch, head) in heads {
        for query_tile in 0..tiling.query_tiles() {
            let of = |key_tile| TileAt {
                key: program.key_name(key_loop.column_set()).to_string(),
                batch,
                head,
                query_tile,
                key_tile,
            };
            let runs = tiling.runs(key_loop, batch, head, query_tile);
            let runs = runs.map_err(|error| TileError::Eval { tile: of(0), error })?;
            let mut at = Environment { clamped: false, ..tiling.environment(batch, head, query_tile) };
            for key_tile in 0..key_tiles {
                let run = runs.iter().find(|run| (run.from..run.to).contains(&key_tile));
                let full = run.is_some_and(|run| run.full);
                at.key_first = keys.offset + (key_tile * tiling.key_tile) as i64;
                at.key_last = keys.offset + ((key_tile + 1) * tiling.key_tile).min(keys.length) as i64 - 1;
                let wanted = match run {
                    None => Wanted::Visible,
                    Some(_) if full => Wanted::Hidden,
                    Some(_) => Wanted::Both,
                };
                let found =
                    look(visible, &mut at, wanted).map_err(|error| TileError::Eval { tile: of(key_tile), error })?;
                match (run, found.visible, found.hidden) {
                    (None, Some((query, key_position)), _) => {
                        return Err(TileError::NeededIsSkipped { tile: of(key_tile), query, key_position });
                    }
                    (Some(_), _, Some((query, key_position))) if full => {
                        return Err(TileError::FullHasHidden { tile: of(key_tile), query, key_position });
                    }
                    (_, visible, hidden) => {
                        looked_at.needed += u64::from(visible.is_some());
                        looked_at.missed_full += u64::from(!full && visible.is_some() && hidden.is_none());
                    }
                }
            }
        }
    }
    Ok(LookedAt { needed: looked_at.needed * repeated, missed_full: looked_at.missed_full * repeated })
}

/// Which pairs of a tile are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Visible,
    Hidden,
    Both,
}

/// The first visible and the first hidden pair of a tile, of those that were looked at.
#[derive(Default)]
struct FirstPairs {
    visible: Option<(i64, i64)>,
    hidden: Option<(i64, i64)>,
}

/// Looks at the pairs of a tile until what is wanted is found.
fn look(visible: &Expr, at: &mut Environment, wanted: Wanted) -> Result<FirstPairs, EvalError> {
    let mut found = FirstPairs::default();
    for query in at.query_first..=at.query_last {
        for key in at.key_first..=at.key_last {
            (at.query, at.key) = (query, key);
            let place = if sees(visible, at)? { &mut found.visible } else { &mut found.hidden };
            place.get_or_insert((query, key));
            let done = match wanted {
                Wanted::Visible => found.visible.is_some(),
                Wanted::Hidden => found.hidden.is_some(),
                Wanted::Both => found.visible.is_some() && found.hidden.is_some(),
            };
            if done {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
