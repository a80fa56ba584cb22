//! The tiles that a key loop visits, found on the host as a kernel finds them: for the report and the tests.

use crate::eval::{Environment, EvalError, HostTensor, Value, evaluate};
use crate::expr::Expr;
use crate::ir::{Program, Range, TileLoop};
use crate::launch::Launch;

/// Consecutive key tiles that a query tile visits, all full or all partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first tile.
    pub from: usize,
    /// The tile after the last.
    pub to: usize,
    /// Whether their mask is not evaluated.
    pub full: bool,
}

impl Run {
    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.to - self.from
    }
}

/// Key loops at a launch.
#[derive(Clone, Copy, Debug)]
pub struct Tiling<'a> {
    /// The program.
    pub program: &'a Program,
    /// What it is launched with.
    pub launch: &'a Launch<'a>,
    /// The values of the program's scalars.
    pub scalars: &'a [Value],
    /// The captured tensors.
    pub tensors: &'a [HostTensor],
    /// Queries in a tile.
    pub query_tile: usize,
    /// Keys in a tile.
    pub key_tile: usize,
}

impl Tiling<'_> {
    /// The tiles that `key_loop` visits for tile `query_tile` of the queries of one batch and head, in order.
    ///
    /// # Errors
    /// What the expressions that decide of tiles can't be evaluated for.
    pub fn runs(
        &self,
        key_loop: &TileLoop,
        batch: usize,
        head: usize,
        query_tile: usize,
    ) -> Result<Vec<Run>, EvalError> {
        let keys = self.launch.keys[key_loop.column_set()];
        if keys.length == 0 {
            return Ok(Vec::new());
        }
        let mut at = self.environment(batch, head, query_tile);
        let mut visited = self.spans(&key_loop.visit, &at, |from, to| keys.tiles(from, to, self.key_tile))?;
        visited.sort_unstable();
        let full = self.spans(&key_loop.full, &at, |from, to| keys.tiles_inside(from, to, self.key_tile))?;

        let mut runs: Vec<Run> = Vec::new();
        let mut add = |from: usize, to: usize, full: bool| match runs.last_mut() {
            Some(last) if last.to == from && last.full == full => last.to = to,
            _ => runs.push(Run { from, to, full }),
        };
        let mut tile = 0;
        for (from, to) in visited {
            tile = tile.max(from);
            while tile < to {
                if let Some(inside) = full.iter().find(|span| (span.0..span.1).contains(&tile)) {
                    let end = inside.1.min(to);
                    add(tile, end, true);
                    tile = end;
                } else if let Some(kind) = &key_loop.kind {
                    at.key_first = keys.offset + (tile * self.key_tile) as i64;
                    at.key_last = keys.offset + ((tile + 1) * self.key_tile).min(keys.length) as i64 - 1;
                    if holds(&kind.some, &at)? {
                        add(tile, tile + 1, holds(&kind.all, &at)?);
                    }
                    tile += 1;
                } else {
                    let next = full.iter().map(|span| span.0).filter(|start| *start > tile).min();
                    let end = next.unwrap_or(to).min(to);
                    add(tile, end, false);
                    tile = end;
                }
            }
        }
        Ok(runs)
    }

    /// How many tiles of queries there are.
    pub fn query_tiles(&self) -> usize {
        self.launch.queries.div_ceil(self.query_tile)
    }

    /// How many tiles of `key_loop`'s keys there are.
    pub fn key_tiles(&self, key_loop: &TileLoop) -> usize {
        self.launch.keys[key_loop.column_set()].length.div_ceil(self.key_tile)
    }

    /// What expressions are evaluated with for a tile of queries; captured tensors are read as kernels read them.
    pub fn environment(&self, batch: usize, head: usize, query_tile: usize) -> Environment<'_> {
        let first = query_tile * self.query_tile;
        let last = (first + self.query_tile).min(self.launch.queries).max(first + 1) - 1;
        Environment {
            batch: batch as i64,
            head: head as i64,
            kv_head: self.launch.kv_head(head) as i64,
            query_length: self.launch.queries as i64,
            keys: self.launch.keys,
            query_first: self.launch.query_offset + first as i64,
            query_last: self.launch.query_offset + last as i64,
            scalars: self.scalars,
            tensors: self.tensors,
            tensor_params: &self.program.tensors,
            clamped: true,
            ..Environment::EMPTY
        }
    }

    /// The tiles of each range.
    fn spans(
        &self,
        ranges: &[Range],
        at: &Environment,
        tiles: impl Fn(i64, i64) -> (usize, usize),
    ) -> Result<Vec<(usize, usize)>, EvalError> {
        let mut spans = Vec::new();
        for range in ranges {
            let end = |end: &Option<Expr>, open: i64| match end {
                None => Ok(open),
                Some(end) => Ok::<_, EvalError>(evaluate(end, at)?.map_or(open, Value::int)),
            };
            let when = range.when.as_ref().map_or(Ok(true), |when| holds(when, at))?;
            let (from, to) = tiles(end(&range.from, i64::MIN)?, end(&range.to, i64::MAX)?);
            if when && from < to {
                spans.push((from, to));
            }
        }
        Ok(spans)
    }
}

fn holds(condition: &Expr, at: &Environment) -> Result<bool, EvalError> {
    Ok(evaluate(condition, at)?.is_some_and(Value::bool))
}
