//! How many iterations of loops an invocation of a kernel takes, at most. Mesa's driver for CPUs ends all loops of an invocation after
//! a number of iterations, without a word, so a launch that may need more must not run there.
//!
//! What a row needs that is computed a second time, with care (`emit/careful_row.rs`), is counted apart: whether one is depends on what is
//! in the tensors, and a launch for which it is too much can do without.
//!
//! Only the `cube` schedule's kernels are counted, which are the ones that such a driver runs. A loop whose body runs n times counts n + 1,
//! because the driver also counts the iteration that leaves it. What is unrolled by `#[unroll]` is no loop; a driver that unrolls more takes
//! fewer. The numbers follow the loops of `emit/cube/mod.rs`, `cube/products.rs`, `cube/matrices.rs`, `key_tiles.rs` and of what expressions
//! read from summaries: whoever adds a loop there adds it here. `tests/tests/device_limits.rs` runs launches that just fit.

use crate::analysis::affine::Affine;
use crate::eval::{Environment, Value, evaluate};
use crate::expr::{BinaryOp, Expr};
use crate::ir::{Program, Range, SUMMARY_BLOCK, Summary, TileLoop};
use crate::launch::Launch;
use crate::lower::runtime_scalars;
use crate::schedule::{CubeSchedule, Products, Schedule};
use crate::scheduled::Scheduled;
use crate::spec::Spec;
use crate::tiles::{Run, Tiling};

/// The iterations of a launch's loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopIterations {
    /// All of them, at most, of the invocation that takes the most, if no row is computed again.
    pub needed: u64,
    /// Those that it takes besides where its rows are computed [again, with care](crate::emit::careful).
    pub careful: u64,
    /// Those of them that are there without a key.
    pub fixed: u64,
    /// The most that a tile of keys takes.
    pub per_tile: u64,
    /// Keys in a tile.
    pub tile: u64,
    /// The keys of the tiles that a query may visit, at most.
    pub keys: u64,
}

impl LoopIterations {
    /// How many keys fit for each query where a driver runs `limit` iterations, in whole tiles.
    pub fn fitting(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.fixed) / self.per_tile.max(1) * self.tile
    }
}

/// The iterations of the kernel of `program` at `launch`, if its schedule is `cube`; those within `limit` may be more than there are.
/// Operands are read in vectors of `width` elements.
pub fn loop_iterations(
    spec: &Spec,
    program: &Scheduled,
    launch: &Launch,
    width: usize,
    limit: u64,
) -> Option<LoopIterations> {
    let Schedule::Cube(schedule) = program.schedule() else { return None };
    let scalars = runtime_scalars(spec, launch.scalars).into_iter().map(Value::from).collect();
    let counted = Counted { program, launch, schedule, width, scalars };
    let every_tile = |key_loop: &TileLoop| launch.keys[key_loop.column_set()].length.div_ceil(schedule.keys) as u64;
    let all: Vec<u64> = program.loops.iter().map(every_tile).collect();
    let found = counted.with_tiles(&all);
    if found.needed.saturating_add(found.careful) <= limit {
        return Some(found);
    }
    let fewer = counted.tiles_in_ranges().map(|tiles| counted.with_tiles(&tiles));
    Some(fewer.filter(|fewer| fewer.needed < found.needed).unwrap_or(found))
}

/// What is counted.
struct Counted<'a> {
    program: &'a Program,
    launch: &'a Launch<'a>,
    schedule: CubeSchedule,
    width: usize,
    scalars: Vec<Value>,
}

impl Counted<'_> {
    /// The iterations if each loop looks at so many tiles.
    fn with_tiles(&self, tiles: &[u64]) -> LoopIterations {
        let rows = self.schedule.rows.min(self.launch.queries.max(1));
        let mut found = LoopIterations {
            needed: 0,
            careful: left(self.schedule.rows),
            // The loop around what is done with care is left at once.
            fixed: self.stage_queries() + left(0),
            per_tile: 0,
            tile: self.schedule.keys as u64,
            keys: 0,
        };
        let mut of_tiles = 0u64;
        for (key_loop, &tiles) in self.program.loops.iter().zip(tiles) {
            let ranges = key_loop.visit.iter().chain(&key_loop.full).flat_map(Range::exprs);
            let once = ranges.map(|expr| self.of_expr(expr, false)).sum::<u64>() + self.invariants(key_loop);
            let kind = key_loop.kind.iter().flat_map(|kind| [&kind.some, &kind.all]);
            let kind: u64 = if key_loop.occurs(false) { kind.map(|expr| self.of_expr(expr, true)).sum() } else { 0 };
            let hop = key_loop.key_hop.as_ref().map_or(0, |hop| self.of_expr(hop, false));
            // The loop over tiles looks for the first before it begins, and leaves once; that over keys, with care, does so too.
            found.fixed += once + hop + 1;
            let with_care = self.schedule.keys as u64 * (1 + hop + self.careful_dots(key_loop));
            let of_row = (once + hop + 1).saturating_add(tiles.saturating_mul(with_care));
            found.careful = found.careful.saturating_add(of_row.saturating_mul(rows as u64));
            let per_tile = 1 + kind + hop + self.products(key_loop);
            of_tiles = of_tiles.saturating_add(tiles.saturating_mul(per_tile));
            found.per_tile = found.per_tile.max(per_tile);
            found.keys += tiles * self.schedule.keys as u64;
        }
        found.needed = found.fixed.saturating_add(of_tiles);
        found
    }

    /// Copying the queries into shared memory.
    fn stage_queries(&self) -> u64 {
        let program = self.program;
        let loads = (0..program.loads.len()).filter(|load| program.is_in_dots(*load));
        let vectors = |load: usize| CubeSchedule::vectors_of(program.operands[program.loads[load].operand].dim);
        match self.schedule.matrix_memory(&program.sizes()) {
            None => loads.map(|load| left(vectors(load).div_ceil(self.schedule.unit_columns))).sum(),
            Some(memory) => self.stage_rows(self.schedule.queries(), memory.qk_dim),
        }
    }

    /// All products of a tile.
    fn products(&self, key_loop: &TileLoop) -> u64 {
        let (operands, schedule) = (&self.program.sizes(), &self.schedule);
        let dots = self.dot_dims(key_loop).into_iter().map(CubeSchedule::vectors_of);
        let pushes = key_loop.pushes().into_iter().map(|push| push.dim);
        // Where there are barriers the driver was seen to take a few iterations more than there are, so each loop counts one more.
        let left = |times: usize| left(times) + 1;
        if let (Some(memory), Products::Matrices { m, n, k, plane }) =
            (schedule.matrix_memory(operands), schedule.products)
        {
            let planes = (schedule.units() / plane).max(1);
            let multiply = |rows: usize, depth: usize| {
                let matrices = (rows / m * (schedule.queries() / n)).div_ceil(planes);
                left(matrices) + matrices as u64 * left(depth / k)
            };
            return self.stage_rows(schedule.keys, memory.qk_dim)
                + multiply(schedule.keys, memory.qk_dim)
                + self.stage_rows(schedule.keys, memory.v_dim)
                + multiply(memory.v_dim, schedule.keys);
        }
        if schedule.stages() {
            let chunk = schedule.chunk / CubeSchedule::WIDTH;
            let stage = left((schedule.keys * chunk).div_ceil(schedule.units()));
            let chunks = |vectors: usize| vectors.div_ceil(chunk);
            let dots = dots.map(|qk| left(chunks(qk)) + chunks(qk) as u64 * (stage + left(chunk.min(qk))));
            let pushes = pushes.map(CubeSchedule::vectors_of);
            return dots.chain(pushes.map(|v| chunks(v) as u64 * (stage + left(schedule.keys)))).sum();
        }
        let pushes = pushes.map(|dim| schedule.keys / schedule.keys_per_step(dim));
        dots.chain(pushes).map(|times| times as u64 + 1).sum()
    }

    /// The head dims of all products of queries and keys.
    fn dot_dims(&self, key_loop: &TileLoop) -> Vec<usize> {
        key_loop.dots().iter().flatten().map(|term| term.dim).collect()
    }

    /// The product of a key and a query, computed [with care](crate::emit::careful).
    fn careful_dots(&self, key_loop: &TileLoop) -> u64 {
        let dots = self.dot_dims(key_loop).into_iter();
        if self.schedule.stages() { dots.map(|dim| left(dim / self.width)).sum() } else { 0 }
    }

    /// Copying rows of `dim` elements into the memory of matrices.
    fn stage_rows(&self, rows: usize, dim: usize) -> u64 {
        left((rows * dim / CubeSchedule::WIDTH).div_ceil(self.schedule.units()))
    }

    /// What a loop's kind reads that is the same for all tiles, and is read once.
    fn invariants(&self, key_loop: &TileLoop) -> u64 {
        let kind = key_loop.kind.iter().flat_map(|kind| [&kind.some, &kind.all]);
        kind.map(|expr| self.of_expr(expr, false) - self.of_expr(expr, true)).sum()
    }

    /// The loops in the value of `expr`; not those of what is the same for all key tiles, if they are `known`.
    fn of_expr(&self, expr: &Expr, known: bool) -> u64 {
        let varies = expr.mentions(&Expr::KeyFirst) || expr.mentions(&Expr::KeyLast);
        let own = match expr {
            Expr::Extreme { .. } | Expr::Count { .. } if known && !varies => return 0,
            // A bisection.
            Expr::Count { tensor, .. } => {
                let elements = self.launch.tensors[*tensor].shape.last().copied().unwrap_or(0);
                left(elements.checked_ilog2().map_or(0, |halvings| halvings as usize + 1))
            }
            Expr::Extreme { index, .. } => Summary::of(expr).map_or(0, |summary| {
                let blocks = self.blocks(&summary, index);
                let columns = blocks.last().copied().unwrap_or(1);
                let rows = blocks.iter().rev().nth(1).copied().unwrap_or(1);
                (rows + 1).saturating_add(rows.saturating_mul(columns + 1))
            }),
            Expr::Next { index, .. } => Summary::of(expr).map_or(0, |summary| {
                let blocks = self.blocks(&summary, index);
                blocks.last().copied().unwrap_or(1)
            }),
            _ => 0,
        };
        expr.children().into_iter().map(|child| self.of_expr(child, known)).fold(own, u64::saturating_add)
    }

    /// How many blocks of `summary` are read along each dimension in which `index` has more than one.
    fn blocks(&self, summary: &Summary, index: &[(Expr, Expr)]) -> Vec<u64> {
        let there = summary.shape(&self.launch.tensors[summary.tensor].shape);
        let along = index.iter().enumerate().filter(|(_, (first, last))| first != last);
        let blocks = along.map(|(dimension, (first, last))| {
            let touched = self.distance(first, last).map_or(u64::MAX, |distance| {
                let size = if summary.blocked[dimension] { SUMMARY_BLOCK as u64 } else { 1 };
                distance.div_ceil(size) + 1
            });
            touched.min(there[dimension] as u64)
        });
        blocks.collect()
    }

    /// The most that `last` can be above `first` in a tile, where their form tells.
    fn distance(&self, first: &Expr, last: &Expr) -> Option<u64> {
        if first == last {
            return Some(0);
        }
        let mut between = Affine::of(last)?.plus(&Affine::of(first)?, -1)?;
        let mut most = 0i64;
        for (from, to, length) in [
            (Expr::QueryFirst, Expr::QueryLast, self.schedule.queries()),
            (Expr::KeyFirst, Expr::KeyLast, self.schedule.keys),
        ] {
            let factor = between.coefficient(&to);
            if between.coefficient(&from) != -factor {
                return None;
            }
            most = most.checked_add(factor.max(0).checked_mul(length as i64 - 1)?)?;
            between = between.without(&from).without(&to);
        }
        most = most.checked_add(between.constant)?;
        match between.terms.as_slice() {
            [] => {}
            [(more, 1), (less, -1)] | [(less, -1), (more, 1)] => {
                most = most.checked_add(i64::try_from(self.distance_of_parts(less, more)?).ok()?)?;
            }
            _ => return None,
        }
        Some(most.max(0) as u64)
    }

    /// The same of two expressions that are no sums.
    fn distance_of_parts(&self, first: &Expr, last: &Expr) -> Option<u64> {
        match (first, last) {
            (Expr::Binary(BinaryOp::Div, a, b), Expr::Binary(BinaryOp::Div, c, d)) if b == d => {
                let whole = self.distance(a, c)?;
                Some(self.number(b).filter(|divisor| *divisor > 0).map_or(whole, |by| whole.div_ceil(by as u64)))
            }
            (Expr::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b), Expr::Binary(other, c, d)) if op == other => {
                Some(self.distance(a, c)?.max(self.distance(b, d)?))
            }
            _ => None,
        }
    }

    /// The value of an integer of constants, scalars and lengths.
    fn number(&self, expr: &Expr) -> Option<i64> {
        let known = |expr: &Expr| {
            let of_launch = matches!(expr, Expr::Scalar(_) | Expr::QueryLen | Expr::KeyLen(_));
            of_launch || matches!(expr, Expr::Int(_) | Expr::Bool(_) | Expr::Unary(..) | Expr::Binary(..))
        };
        if expr.any(&mut |expr| !known(expr)) {
            return None;
        }
        let (scalars, keys) = (&self.scalars[..], self.launch.keys);
        let at = Environment { scalars, query_length: self.launch.queries as i64, keys, ..Environment::EMPTY };
        evaluate(expr, &at).ok().flatten().map(Value::int)
    }

    /// The tiles that each loop's ranges have at the query tile at which they are the most; `None` where that depends on what is in
    /// captured tensors.
    fn tiles_in_ranges(&self) -> Option<Vec<u64>> {
        let loops: Vec<TileLoop> = self.program.loops.iter().map(only_ranges).collect();
        let exprs: Vec<&Expr> = loops.iter().flat_map(TileLoop::tile_exprs).collect();
        let read = |expr: &Expr| {
            matches!(expr, Expr::Load { .. } | Expr::Extreme { .. } | Expr::Count { .. } | Expr::Next { .. })
        };
        if exprs.iter().any(|expr| expr.any(&mut { read })) {
            return None;
        }
        let tiling = Tiling {
            program: self.program,
            launch: self.launch,
            scalars: &self.scalars,
            tensors: &[],
            query_tile: self.schedule.queries(),
            key_tile: self.schedule.keys,
        };
        let mut most = vec![0; loops.len()];
        for (batch, head) in self.launch.heads_that_differ(exprs).0 {
            for query_tile in 0..tiling.query_tiles() {
                for (key_loop, most) in loops.iter().zip(&mut most) {
                    let runs = tiling.runs(key_loop, batch, head, query_tile).ok()?;
                    *most = (*most).max(runs.iter().map(Run::count).sum::<usize>() as u64);
                }
            }
        }
        Some(most)
    }
}

/// The loop without what else decides of a tile that a range has: the kernel's loop looks at each of those.
fn only_ranges(key_loop: &TileLoop) -> TileLoop {
    TileLoop { full: Vec::new(), kind: None, key_hop: None, ..key_loop.clone() }
}

/// A loop whose body runs so often, with the iteration that leaves it.
fn left(times: usize) -> u64 {
    times as u64 + 1
}
