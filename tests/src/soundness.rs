//! What the analyses claim of tiles, against the predicate itself, for every tile there can be at small lengths.

use purview::{AnyAttention, Error};
use purview_compiler::analysis::bounds::{full_queries, visiting_queries};
use purview_compiler::eval::{Environment, HostTensor, Value, evaluate};
use purview_compiler::expr::Expr;
use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::{Element, Kept, Program, Range};
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::lower::{dims_of, lower};
use purview_compiler::passes::compile;
use purview_compiler::spec::{ScalarValue, Spec};
use purview_compiler::tiles::Tiling;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::rc::Rc;

/// The longest lengths.
pub const LENGTH: usize = 40;
/// The positions of the first query.
pub const OFFSETS: std::ops::RangeInclusive<i64> = -5..=20;
/// Tiles are squares of these sizes.
pub const TILES: [usize; 3] = [4, 8, 16];
/// Batches and query heads, the latter two to a key head.
pub const BATCHES: usize = 2;
/// See [`BATCHES`].
pub const HEADS: usize = 4;

/// An attention with the values of its parameters.
pub struct Case {
    /// The attention.
    pub spec: Spec,
    /// Its scalars.
    pub scalars: Vec<ScalarValue>,
    /// Its captured tensors.
    pub tensors: Vec<HostTensor>,
}

/// Numbers of tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub all: u64,
    /// Those that are visited.
    pub visited: u64,
    /// Those with a visible pair.
    pub needed: u64,
    /// Those that are called full.
    pub full: u64,
    /// Those without a hidden pair.
    pub without_hidden: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.all += other.all;
        self.visited += other.visited;
        self.needed += other.needed;
        self.full += other.full;
        self.without_hidden += other.without_hidden;
    }
}

/// Where queries are that can be launched.
const QUERIES: std::ops::Range<i64> = *OFFSETS.start()..*OFFSETS.end() + LENGTH as i64;

/// Which pairs a predicate lets a query see, for one batch and head: counts of visible pairs above and to the left.
struct Visible {
    sums: Vec<u32>,
}

impl Visible {
    const COLUMNS: usize = LENGTH + 1;

    fn of(predicate: &Expr, at: &Environment) -> Visible {
        let rows = (QUERIES.end - QUERIES.start) as usize;
        let mut sums = vec![0; (rows + 1) * Self::COLUMNS];
        for (row, query) in QUERIES.enumerate() {
            for key in 0..LENGTH {
                let at = Environment { query, key: key as i64, ..*at };
                let sees = evaluate(predicate, &at).expect("a predicate has a value") == Some(Value::Bool(true));
                let place = (row + 1) * Self::COLUMNS + key + 1;
                sums[place] =
                    sums[place - 1] + sums[place - Self::COLUMNS] - sums[place - Self::COLUMNS - 1] + u32::from(sees);
            }
        }
        Visible { sums }
    }

    /// How many pairs of queries i0..=i1 and keys j0..j2 are visible.
    fn pairs(&self, i0: i64, i1: i64, j0: usize, j2: usize) -> u32 {
        let row = |query: i64| (query - QUERIES.start) as usize * Self::COLUMNS;
        let (above, below) = (row(i0), row(i1 + 1));
        self.sums[below + j2] + self.sums[above + j0] - self.sums[below + j0] - self.sums[above + j2]
    }
}

/// Which pairs a predicate lets a query see at some lengths, where it depends on those.
struct VisibleAtLengths<'a> {
    predicate: &'a Expr,
    at: &'a Environment<'a>,
    /// By the number of queries and of keys; 0 where it does not matter.
    known: HashMap<(usize, usize), Rc<Visible>>,
}

impl VisibleAtLengths<'_> {
    fn of(&mut self, queries: usize, keys: usize) -> Rc<Visible> {
        let of = |length: usize, leaf: &Expr| if self.predicate.mentions(leaf) { length } else { 0 };
        let lengths = (of(queries, &Expr::QueryLen), of(keys, &Expr::KeyLen(0)));
        let find = || {
            let keys = [Keys { length: keys, offset: 0 }];
            let at = Environment { query_length: queries as i64, keys: &keys, ..*self.at };
            Rc::new(Visible::of(self.predicate, &at))
        };
        self.known.entry(lengths).or_insert_with(find).clone()
    }
}

impl Case {
    /// That of `attention`, its captured tensors read from their device.
    ///
    /// # Errors
    /// As [`purview::Tensor::to_vec`].
    pub fn of(attention: &AnyAttention) -> Result<Case, Error> {
        let tensors = attention.tensors().iter().map(|tensor| {
            let data = tensor.to_vec::<f32>()?.into_iter().map(f64::from).collect();
            Ok(HostTensor { shape: tensor.shape().to_vec(), data })
        });
        let tensors = tensors.collect::<Result<_, Error>>()?;
        Ok(Case { spec: attention.spec().clone(), scalars: attention.scalars().to_vec(), tensors })
    }
}

/// Checks that no visible pair is in a skipped tile and no hidden one in a full tile, for all tiles of queries and keys that
/// occur at lengths up to [`LENGTH`] with [`OFFSETS`], and counts the tiles; likewise for the queries that visit a tile of keys.
pub fn check(case: &Case) -> Tally {
    let mut tally = Tally::default();
    for tile in TILES {
        tally += check_tiles(case, tile);
    }
    tally
}

/// As [`check`], for tiles of one size.
pub fn check_tiles(case: &Case, tile: usize) -> Tally {
    let Case { spec, scalars, tensors } = case;
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 8 };
    let program = compile(spec, scalars, &dims_of(spec, operands), Kept::default()).expect("a program");
    let lowered = lower(spec, scalars, &dims_of(spec, operands)).expect("a program");
    let values: Vec<Value> =
        purview_compiler::lower::runtime_scalars(spec, scalars).into_iter().map(Value::from).collect();
    let facts: Vec<_> =
        tensors.iter().map(|tensor| TensorFacts { shape: tensor.shape.clone(), values: None }).collect();
    let mut tally = Tally::default();
    for (key_loop, asked) in program.loops.iter().zip(&lowered.loops) {
        let predicate = asked.visible(false).unwrap_or(Expr::Bool(true));
        let differ = [Expr::Batch, Expr::Head, Expr::KvHead].iter().any(|leaf| predicate.mentions(leaf));
        for head in 0..if differ { HEADS } else { 1 } {
            let batch = head % BATCHES;
            let at = Environment {
                batch: batch as i64,
                head: head as i64,
                kv_head: head as i64 / 2,
                scalars: &values,
                tensors,
                tensor_params: &program.tensors,
                clamped: true,
                ..Environment::EMPTY
            };
            let mut visible = VisibleAtLengths { predicate: &predicate, at: &at, known: HashMap::new() };
            check_queries_of_keys(&program, &predicate, &visible.of(LENGTH, LENGTH), &at, tile);
            for i0 in QUERIES {
                for i1 in i0..(i0 + tile as i64).min(QUERIES.end) {
                    if let Some(hop) = &key_loop.key_hop {
                        let at = Environment { query_first: i0, query_last: i1, ..at };
                        // No hop depends on a length.
                        let visible = visible.of(LENGTH, LENGTH);
                        for j0 in (0..LENGTH).step_by(tile) {
                            let hop =
                                evaluate(hop, &Environment { key_first: j0 as i64, ..at }).expect("a hop has a value");
                            let end = hop.map_or(0, Value::int).clamp(j0 as i64, LENGTH as i64) as usize;
                            let seen = visible.pairs(i0, i1, j0, end);
                            assert!(
                                seen == 0,
                                "{seen} visible pairs of {i0}..={i1} are hopped over from {j0}\n{program}"
                            );
                        }
                    }
                    for length in (1..=LENGTH).filter(|length| *length == LENGTH || length % tile != 0) {
                        let keys = vec![Keys { length, offset: 0 }; spec.sets()];
                        let launch = Launch {
                            batch: BATCHES,
                            heads: HEADS,
                            kv_heads: HEADS / 2,
                            queries: (i1 - i0 + 1) as usize,
                            query_offset: i0,
                            keys: &keys,
                            scalars,
                            tensors: &facts,
                        };
                        let tiling = Tiling {
                            program: &program,
                            launch: &launch,
                            scalars: &values,
                            tensors,
                            query_tile: tile,
                            key_tile: tile,
                        };
                        let visible = visible.of(launch.queries, length);
                        let runs = tiling.runs(key_loop, batch, head, 0).expect("tiles have a kind");
                        // The whole tiles of a length are those of the longest.
                        let first = if length == LENGTH { 0 } else { (length - 1) / tile };
                        for key_tile in first..length.div_ceil(tile) {
                            let (j0, j2) = (key_tile * tile, ((key_tile + 1) * tile).min(length));
                            let run = runs.iter().find(|run| (run.from..run.to).contains(&key_tile));
                            let seen = visible.pairs(i0, i1, j0, j2);
                            let pairs = (i1 - i0 + 1) as u32 * (j2 - j0) as u32;
                            let place = || {
                                format!("queries {i0}..={i1}, keys {j0}..{j2}, batch {batch}, head {head}\n{program}")
                            };
                            assert!(run.is_some() || seen == 0, "{seen} visible pairs are skipped: {}", place());
                            let full = run.is_some_and(|run| run.full);
                            assert!(
                                !full || seen == pairs,
                                "{} hidden pairs are called visible: {}",
                                pairs - seen,
                                place()
                            );
                            tally += Tally {
                                all: 1,
                                visited: run.is_some().into(),
                                needed: (seen > 0).into(),
                                full: full.into(),
                                without_hidden: (seen == pairs).into(),
                            };
                        }
                    }
                }
            }
        }
    }
    tally
}

/// Checks the bounds the other way round: the queries that may see a key of a tile, and those that see all of its keys.
fn check_queries_of_keys(program: &Program, predicate: &Expr, visible: &Visible, at: &Environment, tile: usize) {
    let visiting = visiting_queries(predicate, program.parameters());
    let full = full_queries(predicate, program.parameters());
    let keys = [Keys { length: LENGTH, offset: 0 }];
    let at = &Environment { query_length: LENGTH as i64, keys: &keys, ..*at };
    for j0 in 0..LENGTH {
        for j1 in j0..(j0 + tile).min(LENGTH) {
            let at = Environment { key_first: j0 as i64, key_last: j1 as i64, ..*at };
            let (visiting, full) = (spans(&visiting, &at), spans(&full, &at));
            for query in QUERIES {
                let is_in = |spans: &[(i64, i64)]| spans.iter().any(|(from, to)| (*from..*to).contains(&query));
                let seen = visible.pairs(query, query, j0, j1 + 1) as usize;
                assert!(
                    is_in(&visiting) || seen == 0,
                    "query {query} sees a key of {j0}..={j1} and does not visit it\n{program}"
                );
                assert!(
                    !is_in(&full) || seen == j1 + 1 - j0,
                    "query {query} is said to see all keys of {j0}..={j1}, and does not\n{program}"
                );
            }
        }
    }
}

/// Where ranges begin and end at a tile.
fn spans(ranges: &[Range], at: &Environment) -> Vec<(i64, i64)> {
    let value = |expr: &Expr| evaluate(expr, at).expect("a bound has a value").expect("a bound is not hidden");
    let end = |end: &Option<Expr>, open: i64| end.as_ref().map_or(open, |end| value(end).int());
    let holds = ranges.iter().filter(|range| range.when.as_ref().is_none_or(|when| value(when).bool()));
    holds.map(|Range { from, to, .. }| (end(from, i64::MIN), end(to, i64::MAX))).collect()
}

/// How many tiles of queries the ranges of an attention of one loop visit from tiles of keys, both of this size, at [`LENGTH`]s; and how many of
/// those have a visible pair.
pub fn tiles_of_queries(case: &Case, tile: usize) -> Tally {
    let Case { spec, scalars, tensors } = case;
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 8 };
    let program = lower(spec, scalars, &dims_of(spec, operands)).expect("a program");
    let predicate = program.loops[0].visible(false).unwrap_or(Expr::Bool(true));
    let values: Vec<Value> =
        purview_compiler::lower::runtime_scalars(spec, scalars).into_iter().map(Value::from).collect();
    let keys = [Keys { length: LENGTH, offset: 0 }];
    let at = Environment {
        scalars: &values,
        tensors,
        tensor_params: &program.tensors,
        query_length: LENGTH as i64,
        keys: &keys,
        clamped: true,
        ..Environment::EMPTY
    };
    let visible = Visible::of(&predicate, &at);
    let visiting = visiting_queries(&predicate, program.parameters());
    let mut tally = Tally::default();
    for j0 in (0..LENGTH).step_by(tile) {
        let j2 = (j0 + tile).min(LENGTH);
        let spans = spans(&visiting, &Environment { key_first: j0 as i64, key_last: j2 as i64 - 1, ..at });
        for i0 in (0..LENGTH as i64).step_by(tile) {
            let i2 = (i0 + tile as i64).min(LENGTH as i64);
            let is_visited = spans.iter().any(|(from, to)| i0.max(*from) < i2.min(*to));
            let is_needed = visible.pairs(i0, i2 - 1, j0, j2) > 0;
            tally += Tally { all: 1, visited: is_visited.into(), needed: is_needed.into(), ..Tally::default() };
        }
    }
    tally
}
