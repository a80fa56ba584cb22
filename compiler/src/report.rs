//! What a program does at a shape: the tiles it visits, evaluates without a mask, and skips.
//!
//! The ends of the key ranges are evaluated for every query tile, as a kernel does; the time is proportional to the query
//! tiles. Only the number of visible pairs comes from the mask itself, and is left out where there are many pairs.

use crate::eval::{self, Environment, EvalError, HostTensor, Value};
use crate::expr::Expr;
use crate::ir::{KeyLoop, Program};
use crate::launch::Launch;
use crate::lower::runtime_scalars;
use crate::schedule::Schedule;
use crate::spec::Spec;
use crate::tiles::{Run, Tiling};
use std::fmt::{self, Display, Formatter};
use std::ops::AddAssign;
use thiserror::Error;

/// The most pairs for which masks are evaluated to count the visible ones.
pub const MAX_COUNTED_PAIRS: u64 = 4 << 20;

/// The most columns of a picture.
const PICTURE_COLUMNS: usize = 64;
/// The most rows of a picture: a character is about twice as high as wide.
const PICTURE_ROWS: usize = 32;

/// What a program does at a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The attention's name.
    pub name: String,
    /// How it is run.
    pub schedule: Schedule,
    /// What each key loop does.
    pub loops: Vec<LoopReport>,
    /// The tiles of all loops, heads and batches.
    pub tiles: Tiles,
    /// The pairs of a query and a key, of all loops, heads and batches.
    pub pairs: u64,
    /// Those that are visible; `None` where there are more than [`MAX_COUNTED_PAIRS`] to look at.
    pub visible_pairs: Option<u64>,
    /// Multiplications and additions of both products on all visited tiles, as if each were whole.
    pub executed_flops: u64,
    /// Those of the visible pairs.
    pub useful_flops: Option<u64>,
}

/// What a key loop does.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopReport {
    /// The name of its keys.
    pub key: String,
    /// The key ranges that it visits, as text.
    pub visit: Vec<String>,
    /// The key ranges that need no mask, as text.
    pub full: Vec<String>,
    /// What decides of the other tiles, as text: whether one is visited, and whether it needs no mask.
    pub class: Option<(String, String)>,
    /// The mask, as text.
    pub mask: Option<String>,
    /// Its tiles, of all heads and batches.
    pub tiles: Tiles,
    /// The tiles of the first head and batch: a line for each row, with `█` full, `▒` partial (or of several kinds), `·`
    /// skipped.
    pub picture: Vec<String>,
}

/// Numbers of tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// All there are.
    pub total: u64,
    /// Those that are visited.
    pub visited: u64,
    /// Those of the visited ones whose mask is not evaluated.
    pub full: u64,
}

impl Tiles {
    /// Those of the visited ones whose mask is evaluated.
    pub fn partial(&self) -> u64 {
        self.visited - self.full
    }

    /// Those that are not visited.
    pub fn skipped(&self) -> u64 {
        self.total - self.visited
    }

    /// The share that is visited, 0 to 1.
    pub fn share(&self) -> f64 {
        self.visited as f64 / self.total.max(1) as f64
    }
}

impl AddAssign for Tiles {
    fn add_assign(&mut self, other: Tiles) {
        self.total += other.total;
        self.visited += other.visited;
        self.full += other.full;
    }
}

impl Report {
    /// The share of pairs that are visible, 0 to 1, where they are counted.
    pub fn density(&self) -> Option<f64> {
        self.visible_pairs.map(|visible| visible as f64 / self.pairs.max(1) as f64)
    }
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ReportError {
    /// A program that is not scheduled has no tiles.
    #[error("`{0}` has no schedule")]
    NoSchedule(String),
    /// Tiles that depend on captured tensors, without their values.
    #[error("`{0}` depends on a captured tensor, whose values were not given")]
    NeedsTensors(String),
    /// What decides of tiles has no value.
    #[error("the tiles of `{key}`: {error}")]
    Eval {
        /// The keys.
        key: String,
        /// What is wrong.
        error: EvalError,
    },
}

/// What `program`, compiled from `spec`, does at `launch`, which [`check_launch`](crate::analysis::ranges::check_launch)
/// must accept. `tensors` holds the values of the captured tensors; it may be empty where no range depends on them.
pub fn report(spec: &Spec, program: &Program, launch: &Launch, tensors: &[HostTensor]) -> Result<Report, ReportError> {
    let Some(schedule) = program.schedule else { return Err(ReportError::NoSchedule(program.name.clone())) };
    let scalars: Vec<Value> = runtime_scalars(spec, launch.scalars).into_iter().map(Value::from).collect();
    let (query_tile, key_tile) = (schedule.query_tile(), schedule.key_tile());
    let tiling = Tiling { program, launch, scalars: &scalars, tensors, query_tile, key_tile };
    let looked_at = Looked { program, launch, tiling };

    let mut loops = Vec::new();
    let mut tiles = Tiles::default();
    let mut pairs = 0;
    let mut visible_pairs = Some(0);
    for key_loop in &program.loops {
        let loop_report = looked_at.report_loop(key_loop)?;
        tiles += loop_report.tiles;
        loops.push(loop_report);
        let keys = launch.keys[key_loop.pair].length;
        pairs += (launch.batch * launch.heads) as u64 * launch.queries as u64 * keys as u64;
        visible_pairs = visible_pairs.and_then(|sum: u64| Some(sum + looked_at.count_visible(key_loop)?));
    }
    let flops = 2 * (program.operands.qk_dim + program.operands.v_dim) as u64;
    Ok(Report {
        name: program.name.clone(),
        schedule,
        loops,
        tiles,
        pairs,
        visible_pairs,
        executed_flops: tiles.visited * (schedule.query_tile() * schedule.key_tile()) as u64 * flops,
        useful_flops: visible_pairs.map(|visible| visible * flops),
    })
}

/// What is reported on.
struct Looked<'a> {
    program: &'a Program,
    launch: &'a Launch<'a>,
    tiling: Tiling<'a>,
}

impl Looked<'_> {
    fn report_loop(&self, key_loop: &KeyLoop) -> Result<LoopReport, ReportError> {
        let parameters = self.program.parameters();
        let (query_tiles, key_tiles) = (self.tiling.query_tiles(), self.tiling.key_tiles(key_loop));
        let heads = self.heads_that_differ(&mut key_loop.tile_exprs());
        if self.tiling.tensors.len() < self.program.tensors.len() {
            let reads = |expr: &Expr| matches!(expr, Expr::Load { .. } | Expr::Extreme { .. } | Expr::Count { .. });
            if let Some(expr) = key_loop.tile_exprs().find(|expr| expr.any(&mut |expr| reads(expr))) {
                return Err(ReportError::NeedsTensors(expr.display(parameters).to_string()));
            }
        }

        let mut tiles = Tiles::default();
        let mut picture = Picture::new(query_tiles, key_tiles);
        for (place, &(batch, head)) in heads.iter().enumerate() {
            for query_tile in 0..query_tiles {
                let runs = self
                    .tiling
                    .runs(key_loop, batch, head, query_tile)
                    .map_err(|error| ReportError::Eval { key: self.program.pairs[key_loop.pair].key.clone(), error })?;
                tiles.total += key_tiles as u64;
                for run in &runs {
                    tiles.visited += run.count() as u64;
                    tiles.full += if run.full { run.count() as u64 } else { 0 };
                }
                if place == 0 {
                    picture.add(query_tile, &runs);
                }
            }
        }
        let repeated = (self.launch.batch * self.launch.heads / heads.len().max(1)) as u64;
        let tiles =
            Tiles { total: tiles.total * repeated, visited: tiles.visited * repeated, full: tiles.full * repeated };
        let text = |expr: &Expr| expr.display(parameters).to_string();
        Ok(LoopReport {
            key: self.program.pairs[key_loop.pair].key.clone(),
            visit: key_loop.visit.iter().map(|range| self.program.range(range)).collect(),
            full: key_loop.full.iter().map(|range| self.program.range(range)).collect(),
            class: key_loop.class.as_ref().map(|class| (text(&class.some), text(&class.all))),
            mask: key_loop.visible().map(text),
            tiles,
            picture: picture.lines(),
        })
    }

    /// A batch and head for each way that the expressions can differ: all of them, or the first.
    fn heads_that_differ<'e>(&self, exprs: &mut impl Iterator<Item = &'e Expr>) -> Vec<(usize, usize)> {
        let heads = (0..self.launch.batch).flat_map(|batch| (0..self.launch.heads).map(move |head| (batch, head)));
        let differ = exprs.any(|expr| [Expr::Batch, Expr::Head, Expr::KvHead].iter().any(|leaf| expr.mentions(leaf)));
        heads.take(if differ { usize::MAX } else { 1 }).collect()
    }

    /// How many pairs of a loop are visible, in all heads and batches; `None` where they cannot be counted.
    fn count_visible(&self, key_loop: &KeyLoop) -> Option<u64> {
        let keys = self.launch.keys[key_loop.pair];
        let pairs = self.launch.queries as u64 * keys.length as u64;
        let all = (self.launch.batch * self.launch.heads) as u64;
        let Some(visible) = key_loop.visible() else { return Some(pairs * all) };
        let heads = self.heads_that_differ(&mut std::iter::once(visible));
        if pairs * heads.len() as u64 > MAX_COUNTED_PAIRS {
            return None;
        }
        let mut count = 0;
        for &(batch, head) in &heads {
            let mut at = Environment { clamped: false, ..self.tiling.environment(batch, head, 0) };
            for query in 0..self.launch.queries {
                at.query = self.launch.query_offset + query as i64;
                for key in 0..keys.length {
                    at.key = keys.offset + key as i64;
                    count += u64::from(eval::evaluate(visible, &at).ok()? == Some(Value::Bool(true)));
                }
            }
        }
        Some(count * (all / heads.len().max(1) as u64))
    }
}

fn overlap(a: (usize, usize), b: (usize, usize)) -> usize {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

/// Numbers of tiles in each cell of a grid that is not larger than the terminal.
struct Picture {
    query_tiles: usize,
    key_tiles: usize,
    /// Visited and full tiles of each cell, row by row.
    cells: Vec<Vec<(usize, usize)>>,
}

impl Picture {
    fn new(query_tiles: usize, key_tiles: usize) -> Picture {
        let (rows, columns) = (query_tiles.min(PICTURE_ROWS), key_tiles.min(PICTURE_COLUMNS));
        Picture { query_tiles, key_tiles, cells: vec![vec![(0, 0); columns]; rows] }
    }

    fn add(&mut self, query_tile: usize, runs: &[Run]) {
        let rows = self.cells.len();
        let cells = &mut self.cells[query_tile * rows / self.query_tiles];
        let columns = cells.len();
        for (column, cell) in cells.iter_mut().enumerate() {
            let span = part(column, columns, self.key_tiles);
            for run in runs {
                let tiles = overlap(span, (run.from, run.to));
                cell.0 += tiles;
                cell.1 += if run.full { tiles } else { 0 };
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let rows = self.cells.iter().enumerate();
        rows.map(|(row, cells)| {
            let of_row = (0..self.query_tiles).filter(|tile| tile * self.cells.len() / self.query_tiles == row).count();
            let columns = cells.iter().enumerate();
            let characters = columns.map(|(column, (visited, full))| {
                let span = part(column, cells.len(), self.key_tiles);
                match () {
                    () if *visited == 0 => '·',
                    () if *full == of_row * (span.1 - span.0) => '█',
                    () => '▒',
                }
            });
            characters.collect()
        })
        .collect()
    }
}

/// The `place`th of `parts` parts of `0..length`.
fn part(place: usize, parts: usize, length: usize) -> (usize, usize) {
    (place * length / parts, (place + 1) * length / parts)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let (queries, keys) = (self.schedule.query_tile(), self.schedule.key_tile());
        writeln!(f, "{}: {} schedule, tiles of {queries} queries by {keys} keys", self.name, self.schedule.name())?;
        for key_loop in &self.loops {
            let Tiles { total, visited, full: full_tiles } = key_loop.tiles;
            let (partial, skipped) = (key_loop.tiles.partial(), key_loop.tiles.skipped());
            let visit = if key_loop.visit.is_empty() { "nowhere".to_string() } else { key_loop.visit.join(", ") };
            writeln!(f, "  keys `{}`", key_loop.key)?;
            if let Some(mask) = &key_loop.mask {
                writeln!(f, "    visible  {mask}")?;
            }
            writeln!(f, "    visited  {visit}")?;
            let full = if key_loop.full.is_empty() { "not known from ranges".into() } else { key_loop.full.join(", ") };
            writeln!(f, "    full     {full}")?;
            if let Some((some, all)) = &key_loop.class {
                writeln!(f, "    skipped  unless {some}")?;
                writeln!(f, "    full     where {all}")?;
            }
            let share = 100.0 * key_loop.tiles.share();
            writeln!(
                f,
                "    tiles    {visited} of {total} visited ({share:.1} %): {full_tiles} full, {partial} partial; {skipped} skipped"
            )?;
            for line in &key_loop.picture {
                writeln!(f, "      {line}")?;
            }
        }
        if let (Some(visible), Some(density)) = (self.visible_pairs, self.density()) {
            writeln!(f, "  pairs      {visible} of {} visible ({:.1} %)", self.pairs, 100.0 * density)?;
        }
        write!(f, "  FLOPs      {:.3e} executed", self.executed_flops as f64)?;
        match self.useful_flops {
            Some(useful) => writeln!(f, ", {:.3e} useful", useful as f64),
            None => writeln!(f),
        }
    }
}
