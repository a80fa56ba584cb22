//! What a program does at a shape: the tiles it visits, evaluates without a mask, and skips, what that costs, and what there is to
//! know about it.
//!
//! Tiles are found for every tile of queries as a kernel finds them, and visible pairs are [counted](crate::visible_pairs) without a
//! look at each: the time is proportional to the tiles.

use crate::analysis::bounds::undecided;
use crate::eval::{Environment, EvalError, HostTensor, Value, evaluate};
use crate::expr::Expr;
use crate::ir::forward::Operands;
use crate::ir::{Program, TileLoop};
use crate::launch::Launch;
use crate::lower::runtime_scalars;
use crate::needed_tiles::{LookedAt, TileError, needed_tiles};
use crate::notes::{self, Note};
use crate::picture::{CellCounts, Picture};
use crate::schedule::Schedule;
use crate::scheduled::Scheduled;
use crate::shortened::shortened;
use crate::spec::{ScalarValue, Spec};
use crate::tiles::Tiling;
use crate::visible_pairs::{self, MaskedRows, Visible};
use std::fmt::{self, Display, Formatter};
use std::ops::AddAssign;
use thiserror::Error;

/// The columns of a picture where nobody says how many there are.
pub const PICTURE_COLUMNS: usize = 64;

/// The most rows and columns of a mask's sample.
const SAMPLE_CELLS: usize = 64;
/// A cell of a sample is looked at in so many of its rows, and so many of its columns.
const SAMPLE_SIDE: usize = 4;
/// How many pairs are looked at in a cell of a sample.
pub const SAMPLED_PAIRS: u8 = (SAMPLE_SIDE * SAMPLE_SIDE) as u8;

/// What a program does at a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The attention's name.
    pub name: String,
    /// How it is run.
    pub schedule: Schedule,
    /// The shape, as [text](shape_text).
    pub shape: String,
    /// The scalars and their values, in the order of the specification.
    pub scalars: Vec<(String, ScalarValue)>,
    /// What each key loop does.
    pub loops: Vec<LoopReport>,
    /// The tiles of all loops, heads and batches.
    pub tiles: Tiles,
    /// The tiles with a visible pair, found by looking at every pair; `None` unless that was asked for.
    pub needed_tiles: Option<u64>,
    /// The visited tiles whose mask is evaluated, although every pair of them is visible; `None` with `needed_tiles`.
    pub missed_full_tiles: Option<u64>,
    /// The pairs of a query and a key, of all loops, heads and batches.
    pub pairs: u64,
    /// Those that are visible; `None` where more than [`MAX_COUNTED_ROWS`](visible_pairs::MAX_COUNTED_ROWS) or
    /// [`MAX_COUNTED_PAIRS`](visible_pairs::MAX_COUNTED_PAIRS) would have to be looked at.
    pub visible_pairs: Option<u64>,
    /// The queries that see no key at all; `None` with `visible_pairs`.
    pub masked_rows: Option<MaskedRows>,
    /// Multiplications and additions of both products on all visited tiles, as if each were whole.
    pub executed_flops: u64,
    /// Those of the visible pairs.
    pub useful_flops: Option<u64>,
    /// Bytes that are read and written, if nothing stays in a cache: queries, the outputs and the log-sum-exp (f32, of a softmax)
    /// once; and for every tile that a query head visits, its keys and values, of which a short last tile has fewer. Captured
    /// tensors and [`mask_bytes`](Report::mask_bytes) are not counted.
    pub bytes: u64,
    /// The memory of the [summaries](Program::summaries) of captured tensors that tiles are decided by. 0 for a mask of positions
    /// and scalars.
    pub mask_bytes: u64,
    /// What there is to know of it.
    pub notes: Vec<Note>,
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
    pub kind: Option<(String, String)>,
    /// The mask, as text: of several pushes, that of the pairs that any of them sees.
    pub mask: Option<String>,
    /// What each of its pushes pushes into, by name, and its own mask, as text.
    pub pushes: Vec<(String, Option<String>)>,
    /// The conditions of the mask that give no ranges, as text; the notes say why.
    pub undecided: Vec<String>,
    /// Its tiles, of all heads and batches.
    pub tiles: Tiles,
    /// Those with a visible pair; `None` unless that was asked for.
    pub needed_tiles: Option<u64>,
    /// Those whose mask is evaluated, although every pair of them is visible; `None` unless that was asked for.
    pub missed_full_tiles: Option<u64>,
    /// The first and the last position of the queries.
    pub queries: (i64, i64),
    /// The first and the last position of its keys.
    pub keys: (i64, i64),
    /// The tiles of the first head and batch.
    pub picture: Picture,
    /// About the share of visible pairs in each part of the mask of the first head and batch, a row for some queries and a column
    /// for some keys: how many of [`SAMPLED_PAIRS`] pairs in it are visible. Empty where there is no mask.
    pub sample: Vec<Vec<u8>>,
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
    /// The masks have no value.
    #[error("the masks of `{attention}`: {error}")]
    Mask {
        /// The attention's name.
        attention: String,
        /// What is wrong.
        error: EvalError,
    },
    /// The tiles are not those that the specification needs.
    #[error(transparent)]
    Tile(#[from] TileError),
}

/// What `program`, compiled from `spec`, does at `launch`, which [`check_launch`](crate::analysis::ranges::check_launch)
/// must accept. `tensors` holds the values of the captured tensors; it may be empty where no range depends on them.
///
/// # Errors
/// As [`ReportError`] says, but for [`ReportError::Tile`].
pub fn report(
    spec: &Spec,
    program: &Scheduled,
    launch: &Launch,
    tensors: &[HostTensor],
) -> Result<Report, ReportError> {
    with_tiling(spec, program, launch, tensors, |_| Ok(None))
}

/// The same, with the tiles that are [needed](needed_tiles): it looks at every pair, and makes sure that none of them is skipped and
/// that a full tile hides nothing.
///
/// # Errors
/// As [`ReportError`] says.
pub fn verified_report(
    spec: &Spec,
    program: &Scheduled,
    launch: &Launch,
    tensors: &[HostTensor],
) -> Result<Report, ReportError> {
    with_tiling(spec, program, launch, tensors, |tiling| Ok(Some(needed_tiles(spec, tiling)?)))
}

fn with_tiling(
    spec: &Spec,
    program: &Scheduled,
    launch: &Launch,
    tensors: &[HostTensor],
    looked_at: impl FnOnce(&Tiling) -> Result<Option<Vec<LookedAt>>, ReportError>,
) -> Result<Report, ReportError> {
    let schedule = program.schedule();
    let scalars: Vec<Value> = runtime_scalars(spec, launch.scalars).into_iter().map(Value::from).collect();
    let (query_tile, key_tile) = (schedule.query_tile(), schedule.key_tile());
    let looked = Looked {
        program,
        launch,
        tiling: Tiling { program, launch, scalars: &scalars, tensors, query_tile, key_tile },
    };

    let mut loops = Vec::new();
    let mut tiles = Tiles::default();
    let (mut pairs, mut key_bytes, mut executed_flops) = (0, 0, 0u64);
    let tile_pairs = (query_tile * key_tile) as u64;
    for key_loop in &program.loops {
        let (loop_report, keys) = looked.report_loop(key_loop)?;
        tiles += loop_report.tiles;
        executed_flops = executed_flops
            .saturating_add(loop_report.tiles.visited.saturating_mul(tile_pairs * looked.flops_of_pair(key_loop)));
        key_bytes += keys * looked.bytes_of_key(key_loop);
        loops.push(loop_report);
        let keys = launch.keys[key_loop.column_set()].length;
        pairs += (launch.batch * launch.heads) as u64 * launch.queries as u64 * keys as u64;
    }
    let looked_at = looked_at(&looked.tiling)?;
    for (loop_report, found) in loops.iter_mut().zip(looked_at.iter().flatten()) {
        (loop_report.needed_tiles, loop_report.missed_full_tiles) = (Some(found.needed), Some(found.missed_full));
    }
    let all = |count: fn(&LookedAt) -> u64| looked_at.as_ref().map(|found| found.iter().map(count).sum());

    let masks: Vec<Expr> = program.loops.iter().filter_map(|key_loop| key_loop.visible(false)).collect();
    let tile_exprs = program.loops.iter().flat_map(TileLoop::tile_exprs);
    let (heads, repeated) = launch.heads_that_differ(masks.iter().chain(tile_exprs));
    let visible = visible_pairs::count(&looked.tiling, &heads, repeated)
        .map_err(|error| ReportError::Mask { attention: program.name.clone(), error })?;
    let mut notes = notes::of_program(spec, launch.scalars, program);
    notes.extend(notes::of_launch(spec, program, launch, visible.as_ref().map(|visible| &visible.masked)));
    let lengths: Vec<usize> = launch.keys.iter().map(|keys| keys.length).collect();
    let useful_flops = |visible: &Visible| {
        let of_loops = program.loops.iter().zip(&visible.pairs);
        of_loops.map(|(key_loop, pairs)| pairs * looked.flops_of_pair(key_loop)).sum()
    };
    Ok(Report {
        name: program.name.clone(),
        schedule,
        shape: shape_text((launch.batch, launch.heads, launch.kv_heads), launch.queries, &lengths, program.sizes()),
        scalars: spec.scalars.iter().map(|param| param.name.clone()).zip(launch.scalars.iter().copied()).collect(),
        loops,
        tiles,
        needed_tiles: all(|found| found.needed),
        missed_full_tiles: all(|found| found.missed_full),
        pairs,
        visible_pairs: visible.as_ref().map(|visible| visible.pairs.iter().sum()),
        executed_flops,
        useful_flops: visible.as_ref().map(useful_flops),
        masked_rows: visible.map(|visible| visible.masked),
        bytes: looked.row_bytes() + key_bytes,
        mask_bytes: looked.mask_bytes(),
        notes,
    })
}

/// What is reported on.
struct Looked<'a> {
    program: &'a Program,
    launch: &'a Launch<'a>,
    tiling: Tiling<'a>,
}

impl Looked<'_> {
    /// What a loop does, and how many keys its tiles have, of all heads and batches.
    fn report_loop(&self, key_loop: &TileLoop) -> Result<(LoopReport, u64), ReportError> {
        let parameters = self.program.parameters();
        let (query_tiles, key_tiles) = (self.tiling.query_tiles(), self.tiling.key_tiles(key_loop));
        let (heads, repeated) = self.launch.heads_that_differ(key_loop.tile_exprs());
        let visible = key_loop.visible(false);
        if self.tiling.tensors.len() < self.program.tensors.len() {
            let reads = |expr: &Expr| {
                matches!(expr, Expr::Load { .. } | Expr::Extreme { .. } | Expr::Count { .. } | Expr::Next { .. })
            };
            let mut exprs = key_loop.tile_exprs().chain(&visible);
            if let Some(expr) = exprs.find(|expr| expr.any(&mut |expr| reads(expr))) {
                return Err(ReportError::NeedsTensors(expr.display(parameters).to_string()));
            }
        }

        let key = self.program.key_name(key_loop.column_set()).to_string();
        let keys = self.launch.keys[key_loop.column_set()];
        let failed = |error| ReportError::Eval { key: key.clone(), error };
        let mut tiles = Tiles::default();
        let mut visited_keys = 0;
        let mut counts = CellCounts::new(query_tiles, key_tiles);
        for (place, &(batch, head)) in heads.iter().enumerate() {
            for query_tile in 0..query_tiles {
                let runs = self.tiling.runs(key_loop, batch, head, query_tile).map_err(failed)?;
                tiles.total += key_tiles as u64;
                for run in &runs {
                    tiles.visited += run.count() as u64;
                    tiles.full += if run.full { run.count() as u64 } else { 0 };
                    let end = (run.to * self.tiling.key_tile).min(keys.length);
                    visited_keys += (end - run.from * self.tiling.key_tile) as u64;
                }
                if place == 0 {
                    counts.add(query_tile, &runs);
                }
            }
        }
        let tiles =
            Tiles { total: tiles.total * repeated, visited: tiles.visited * repeated, full: tiles.full * repeated };
        let text = |expr: &Expr| expr.display(parameters).to_string();
        let undecided = visible.as_ref().map(|visible| undecided(visible, parameters)).unwrap_or_default();
        let positions = |first: i64, length: usize| (first, first + length as i64 - 1);
        let loop_report = LoopReport {
            key: key.clone(),
            visit: key_loop.visit.iter().map(|range| self.program.range(range)).collect(),
            full: key_loop.full.iter().map(|range| self.program.range(range)).collect(),
            kind: key_loop.kind.as_ref().map(|kind| (text(&kind.some), text(&kind.all))),
            mask: visible.as_ref().map(text),
            pushes: key_loop
                .pushes()
                .iter()
                .map(|push| {
                    let accumulator = self.program.accumulators[push.accumulator].name.clone();
                    (accumulator, push.mask.as_ref().map(|(visible, _)| text(visible)))
                })
                .collect(),
            undecided: undecided.iter().map(text).collect(),
            tiles,
            needed_tiles: None,
            missed_full_tiles: None,
            queries: positions(self.launch.query_offset, self.launch.queries),
            keys: positions(keys.offset, keys.length),
            picture: counts.picture(),
            sample: self.sample(key_loop).map_err(failed)?,
        };
        Ok((loop_report, visited_keys * repeated))
    }

    /// How many of some pairs are visible in each part of a mask. The pairs are spread over the part by chance, always the same, so
    /// that none of a mask's own regularity is taken for all of it.
    fn sample(&self, key_loop: &TileLoop) -> Result<Vec<Vec<u8>>, EvalError> {
        let keys = self.launch.keys[key_loop.column_set()];
        let Some(visible) = key_loop.visible(false).filter(|_| !self.launch.is_empty()) else { return Ok(Vec::new()) };
        let (rows, columns) = (self.launch.queries.min(SAMPLE_CELLS), keys.length.min(SAMPLE_CELLS));
        let mut at = Environment { clamped: false, ..self.tiling.environment(0, 0, 0) };
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut sample = vec![vec![0; columns]; rows];
        for (row, cells) in sample.iter_mut().enumerate() {
            for (column, cell) in cells.iter_mut().enumerate() {
                for pair in 0..SAMPLE_SIDE * SAMPLE_SIDE {
                    let (query, key) =
                        (row * SAMPLE_SIDE + pair / SAMPLE_SIDE, column * SAMPLE_SIDE + pair % SAMPLE_SIDE);
                    let query = somewhere(&mut state, query, rows * SAMPLE_SIDE, self.launch.queries);
                    let key = somewhere(&mut state, key, columns * SAMPLE_SIDE, keys.length);
                    (at.query, at.key) = (self.launch.query_offset + query as i64, keys.offset + key as i64);
                    *cell += u8::from(evaluate(&visible, &at)?.is_some_and(Value::bool));
                }
            }
        }
        Ok(sample)
    }

    /// What is read and written for the rows.
    fn row_bytes(&self) -> u64 {
        let rows = (self.launch.batch * self.launch.heads * self.launch.queries) as u64;
        let loaded = self.program.loads.iter().map(|load| &self.program.operands[load.operand]);
        let loaded: usize = loaded.map(|operand| operand.dim * operand.element.size()).sum();
        let stored: usize = self.program.outputs.iter().map(|output| output.dim * output.element.size()).sum();
        let of_numbers = 4 * self.program.row_numbers().len();
        rows * (loaded + stored + of_numbers) as u64
    }

    /// The floating-point operations of the products and pushes of a loop for one pair of a query and a key.
    fn flops_of_pair(&self, key_loop: &TileLoop) -> u64 {
        let dots = key_loop.dots();
        let of_dots = dots.iter().flatten().map(|term| term.dim);
        let pushes = key_loop.pushes();
        2 * of_dots.chain(pushes.iter().map(|push| push.dim)).sum::<usize>() as u64
    }

    /// What a query head reads of each key of a loop.
    fn bytes_of_key(&self, key_loop: &TileLoop) -> u64 {
        let is_read = |place: &usize| {
            let in_dots = key_loop.dots().iter().flatten().any(|term| term.column == *place);
            in_dots || key_loop.pushes().iter().any(|push| push.values == *place)
        };
        let read = (0..self.program.operands.len()).filter(is_read).map(|place| &self.program.operands[place]);
        read.map(|operand| (operand.dim * operand.element.size()) as u64).sum()
    }

    fn mask_bytes(&self) -> u64 {
        let summaries = self.program.summaries().into_iter();
        summaries.map(|summary| summary.bytes(&self.launch.tensors[summary.tensor].shape) as u64).sum()
    }
}

/// One of the `place`th of `parts` parts of `0..length`, by chance (xorshift64*: Vigna 2016).
fn somewhere(state: &mut u64, place: usize, parts: usize, length: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let chance = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as f64 / (1u64 << 32) as f64;
    let place = (place as f64 + chance) * length as f64 / parts as f64;
    (place as usize).min(length - 1)
}

/// A report as text, with pictures of so many columns at most. Long conditions are cut.
pub struct ReportText<'a> {
    report: &'a Report,
    columns: usize,
}

impl Report {
    /// As text, with pictures of at most `columns` columns.
    pub fn text(&self, columns: usize) -> ReportText<'_> {
        ReportText { report: self, columns }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.text(PICTURE_COLUMNS).fmt(f)
    }
}

impl Display for ReportText<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let report = self.report;
        let (queries, keys) = (report.schedule.query_tile(), report.schedule.key_tile());
        writeln!(f, "{}: {} schedule, tiles of {queries} queries by {keys} keys", report.name, report.schedule.name())?;
        writeln!(f, "  shape      {}", report.shape)?;
        if let Some(scalars) = scalars_text(report.scalars.iter().map(|(name, value)| (name.as_str(), *value))) {
            writeln!(f, "  scalars    {scalars}")?;
        }
        for key_loop in &report.loops {
            key_loop.write(f, self.columns)?;
        }
        match (report.visible_pairs, report.density()) {
            (Some(visible), Some(density)) => {
                writeln!(f, "  pairs      {visible} of {} visible ({:.1} %)", report.pairs, 100.0 * density)?;
            }
            _ => writeln!(f, "  pairs      {}, too many to count the visible ones", report.pairs)?,
        }
        if let Some(masked) = report.masked_rows.as_ref().filter(|masked| masked.count > 0) {
            writeln!(f, "  masked     {} queries see no key, those at {}", masked.count, masked.text())?;
        }
        write!(f, "  FLOPs      {:.3e} executed", report.executed_flops as f64)?;
        match report.useful_flops {
            Some(useful) => writeln!(f, ", {:.3e} useful", useful as f64)?,
            None => writeln!(f)?,
        }
        let (moved, of_mask) = (bytes_text(report.bytes), bytes_text(report.mask_bytes));
        writeln!(f, "  bytes      {moved} moved; memory for the mask: {of_mask}")?;
        report.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        if report.loops.iter().any(LoopReport::is_shortened) {
            writeln!(f, "  What ends in … is cut here. `cargo purview program` and `report --json` print it whole.")?;
        }
        Ok(())
    }
}

impl LoopReport {
    /// Whether its text leaves something out.
    fn is_shortened(&self) -> bool {
        let is_long = |text: &str| text != shortened(text);
        let kind = self.kind.iter().flat_map(|(some, all)| [some, all]);
        self.mask.iter().chain(kind).chain(&self.undecided).any(|text| is_long(text))
            || is_long(&self.visit.join(", "))
            || is_long(&self.full.join(", "))
    }

    fn write(&self, f: &mut Formatter, columns: usize) -> fmt::Result {
        let Tiles { total, visited, full } = self.tiles;
        let (partial, skipped) = (self.tiles.partial(), self.tiles.skipped());
        let joined = |ranges: &[String], none: &str| if ranges.is_empty() { none.into() } else { ranges.join(", ") };
        writeln!(f, "  keys `{}`", self.key)?;
        match &self.pushes[..] {
            [_, _, ..] => {
                for (accumulator, mask) in &self.pushes {
                    let mask = mask.as_ref().map_or("all".to_string(), |mask| shortened(mask).to_string());
                    writeln!(f, "    visible  {mask}, for `{accumulator}`")?;
                }
            }
            _ => {
                if let Some(mask) = &self.mask {
                    writeln!(f, "    visible  {}", shortened(mask))?;
                }
            }
        }
        writeln!(f, "    visited  {}", shortened(&joined(&self.visit, "nowhere")))?;
        writeln!(f, "    full     {}", shortened(&joined(&self.full, "not known from ranges")))?;
        if let Some((some, all)) = &self.kind {
            writeln!(f, "    skipped  unless {}", shortened(some))?;
            writeln!(f, "    full     where {}", shortened(all))?;
        }
        for condition in &self.undecided {
            let shown = shortened(condition);
            let again = self.mask.as_ref() == Some(condition) && shown != *condition;
            writeln!(f, "    no range {}", if again { "the whole mask" } else { &shown })?;
        }
        let share = 100.0 * self.tiles.share();
        writeln!(
            f,
            "    tiles    {visited} of {total} visited ({share:.1} %): {full} full, {partial} partial; {skipped} skipped"
        )?;
        if let Some(needed) = self.needed_tiles {
            writeln!(f, "    needed   {needed}, each of which is visited; no full tile hides a pair")?;
        }
        if let Some(missed) = self.missed_full_tiles.filter(|missed| *missed > 0) {
            writeln!(f, "    missed   {missed} partial tiles that hide no pair: their mask is evaluated for nothing")?;
        }
        self.picture.lines(columns).iter().try_for_each(|line| writeln!(f, "      {line}"))?;
        self.picture.legend(columns).iter().try_for_each(|legend| writeln!(f, "      {legend}"))
    }
}

/// A shape as text: `batch 1, 8 heads on 2, 1024 queries, 1024 keys, head dim 64, f32`. `keys` has the length of each set.
pub fn shape_text(
    (batch, heads, kv_heads): (usize, usize, usize),
    queries: usize,
    keys: &[usize],
    operands: Operands,
) -> String {
    let Operands { element, qk_dim, v_dim } = operands;
    let on = if kv_heads == heads { String::new() } else { format!(" on {kv_heads}") };
    let keys = keys.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
    let of_values = if v_dim == qk_dim { String::new() } else { format!(", of values {v_dim}") };
    format!(
        "batch {batch}, {heads} heads{on}, {queries} queries, {keys} keys, head dim {qk_dim}{of_values}, {}",
        element.name()
    )
}

/// Scalars and their values as text, `window 256, shift 0`; `None` where there are none.
pub fn scalars_text<'a>(scalars: impl IntoIterator<Item = (&'a str, ScalarValue)>) -> Option<String> {
    let text = |(name, value): (&str, ScalarValue)| match value {
        ScalarValue::I32(value) => format!("{name} {value}"),
        ScalarValue::U32(value) => format!("{name} {value}"),
        ScalarValue::F32(value) => format!("{name} {value:?}"),
        ScalarValue::Bool(value) => format!("{name} {value}"),
    };
    let texts: Vec<String> = scalars.into_iter().map(text).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// `512 bytes`, `98.2 MB`: three digits.
fn bytes_text(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut number = bytes as f64;
    let mut unit = "bytes";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // What would be printed as 1000 of a unit is 1.00 of the next.
        if number < 999.5 {
            break;
        }
        (number, unit) = (number / 1000.0, larger);
    }
    let decimals = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.00 kB"),
            (9_995, "10.0 kB"),
            (98_170_000, "98.2 MB"),
            (999_400_000, "999 MB"),
            (999_600_000, "1.00 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
    }
}
