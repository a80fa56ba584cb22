//! Sums for elements of what is captured: how they are split, so that the same shapes give the same bits whatever the number of cores, and no
//! two units write one element at the same time.
//!
//! The tiles of rows are split into tasks. Coordinates that are an index of the element by themselves (`bias[batch()][head()][i][j]` has the
//! batch, the head and the query) tell the elements of tasks apart. Along the others there are several copies of the sums where there would be
//! too few tasks otherwise, which are added in their order in the end.

use crate::expr::Expr;
use crate::ir::{Program, TileLoop};

/// Tasks and copies times tasks, at least, if there is as much to do.
const UNITS: usize = 32;

/// The elements of all copies together, at most, but where one copy has more: 64 MiB.
const MOST_ELEMENTS: usize = 1 << 24;

/// Which coordinates tell the elements of tiles of rows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Apart {
    /// The batch.
    pub batches: bool,
    /// The query head.
    pub heads: bool,
    /// The query.
    pub queries: bool,
}

impl Apart {
    /// Those of all that the loops of `program` add to.
    pub fn of(program: &Program) -> Apart {
        let elements: Vec<&Expr> = program.loops.iter().flat_map(TileLoop::elements).collect();
        let is_at = |element: &Expr, dimension: usize, coordinate: &Expr| match element {
            Expr::Load { index, .. } => index.get(dimension) == Some(coordinate),
            _ => false,
        };
        let tells = |coordinate: Expr| {
            let is_in_all = |dimension| elements.iter().all(|element| is_at(element, dimension, &coordinate));
            (0..4).any(is_in_all)
        };
        Apart { batches: tells(Expr::Batch), heads: tells(Expr::Head), queries: tells(Expr::Query) }
    }
}

/// How sums are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Parts of the work whose elements differ.
    pub tasks: usize,
    /// The tiles of rows, or the rows, of each.
    pub steps: usize,
    /// Copies of the sums, among which the steps of each task are distributed.
    pub copies: usize,
}

impl Split {
    /// That of so many `tiles` of rows, for each of so many batches and heads, and of so many `elements`.
    pub fn of_tiles(apart: Apart, [batches, heads, tiles]: [usize; 3], elements: usize) -> Split {
        let coordinates = [(apart.batches, batches), (apart.heads, heads), (apart.queries, tiles)];
        let product = |told: bool| coordinates.iter().filter(|(apart, _)| *apart == told).map(|(_, n)| n).product();
        Split::new(product(true), product(false), elements)
    }

    /// That of so many `rows`, of which nothing tells elements apart.
    pub fn of_rows(rows: usize, elements: usize) -> Split {
        Split::new(1, rows, elements)
    }

    fn new(tasks: usize, steps: usize, elements: usize) -> Split {
        let wanted = UNITS.div_ceil(tasks.max(1)).min(steps).max(1);
        Split { tasks, steps, copies: wanted.min(MOST_ELEMENTS / elements.max(1)).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Apart, Split};
    use crate::ir::parse::parse;

    #[track_caller]
    fn apart(element: &str, batches: bool, heads: bool, queries: bool) {
        let text = format!(
            "attention @f(t: Tensor<f32, 4>, u: Tensor<f32, 2>) -> like t
  q: f32[B, H, S, 8]
  k: f32[B, G, T0, 8]
  for i in tiles(S)
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      {element}
    store like t"
        );
        assert_eq!(Apart::of(&parse(&text).unwrap()), Apart { batches, heads, queries });
    }

    #[test]
    fn coordinates_that_tell_elements_apart() {
        apart("add s to t[batch()][head()][i][j]", true, true, true);
        apart("add s to t[j][0][i - j][head()]", false, true, false);
        // The element of one head in the first is that of another in the second.
        apart("add s to t[batch()][head()][i][j]\n add s to t[batch()][i][head()][j]", true, false, false);
        apart("add s to t[head() / 2][0][i / 2][j]", false, false, false);
    }

    #[test]
    fn work_is_split_by_its_shape() {
        let all = Apart { batches: true, heads: true, queries: true };
        assert_eq!(Split::of_tiles(all, [2, 3, 5], 7), Split { tasks: 30, steps: 1, copies: 1 });
        let heads = Apart { batches: false, heads: true, queries: false };
        assert_eq!(Split::of_tiles(heads, [2, 3, 50], 7), Split { tasks: 3, steps: 100, copies: 11 });
        // As many copies as fit, and at least one.
        assert_eq!(Split::of_tiles(heads, [2, 3, 50], 5 << 20).copies, 3);
        assert_eq!(Split::of_tiles(heads, [2, 3, 50], 1 << 30).copies, 1);
        assert_eq!(Split::of_rows(10, 3), Split { tasks: 1, steps: 10, copies: 10 });
    }
}
