//! Where an expression is evaluated.

use cubecl::prelude::*;

/// The rows of a vector, one column, and the tile that they are in.
///
/// The rows are queries and the column is a key, or with `rows_are_keys` the other way round: vectors run over rows, whichever they are.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Place<N: Size> {
    /// The rows' absolute positions.
    pub rows: Vector<i32, N>,
    /// The rows' query heads, where they differ.
    pub heads: Vector<i32, N>,
    /// The column's absolute position.
    pub column: i32,
    /// The tile.
    pub tile: TilePlace,
    /// Whether the rows of a vector are of different heads.
    #[cube(comptime)]
    pub heads_differ: bool,
    /// Whether the rows are keys.
    #[cube(comptime)]
    pub rows_are_keys: bool,
}

/// What is uniform over a tile.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct TilePlace {
    /// The batch index.
    pub batch: i32,
    /// The query head, or the first of them.
    pub head: i32,
    /// The key and value head.
    pub kv_head: i32,
    /// Its rows.
    pub rows: Ends,
    /// Its columns.
    pub columns: Ends,
}

/// Absolute positions.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Ends {
    /// The first.
    pub first: i32,
    /// The last.
    pub last: i32,
}

#[cube]
impl TilePlace {
    /// A tile of rows, before any column.
    pub fn new(batch: i32, head: i32, kv_head: i32, rows: Ends) -> TilePlace {
        TilePlace { batch, head, kv_head, rows, columns: Ends { first: 0i32, last: 0i32 } }
    }
}

#[cube]
impl<N: Size> Place<N> {
    /// Queries as rows, in `tile`, before any column.
    pub fn of_queries(
        tile: TilePlace,
        rows: Vector<i32, N>,
        heads: Vector<i32, N>,
        #[comptime] heads_differ: bool,
    ) -> Place<N> {
        Place::<N> { rows, heads, column: 0i32, tile, heads_differ, rows_are_keys: false }
    }

    /// Keys as rows, in `tile`, before any column.
    pub fn of_keys(tile: TilePlace, rows: Vector<i32, N>) -> Place<N> {
        Place::<N> { rows, heads: Vector::new(tile.head), column: 0i32, tile, heads_differ: false, rows_are_keys: true }
    }

    /// The same place in query head `head`, which reads key and value head `kv_head`.
    pub fn of_head(&self, head: i32, kv_head: i32) -> Place<N> {
        let TilePlace { batch, rows, columns, .. } = self.tile;
        let tile = TilePlace { batch, head, kv_head, rows, columns };
        self.in_tile(tile)
    }

    /// The same place for other rows of the tile, at such positions, of the heads `heads` where they differ.
    pub fn of_rows(&self, rows: Vector<i32, N>, heads: Vector<i32, N>) -> Place<N> {
        let (heads_differ, rows_are_keys) = comptime![(self.heads_differ, self.rows_are_keys)];
        Place::<N> { rows, heads, column: self.column, tile: self.tile, heads_differ, rows_are_keys }
    }

    /// The same place for a tile of other rows.
    pub fn of_row_tile(&self, rows: Ends) -> Place<N> {
        let TilePlace { batch, head, kv_head, columns, .. } = self.tile;
        let tile = TilePlace { batch, head, kv_head, rows, columns };
        self.in_tile(tile)
    }

    /// The same place for a tile of other columns.
    pub fn of_columns(&self, columns: Ends) -> Place<N> {
        let TilePlace { batch, head, kv_head, rows, .. } = self.tile;
        let tile = TilePlace { batch, head, kv_head, rows, columns };
        self.in_tile(tile)
    }

    fn in_tile(&self, tile: TilePlace) -> Place<N> {
        let (heads_differ, rows_are_keys) = comptime![(self.heads_differ, self.rows_are_keys)];
        Place::<N> { rows: self.rows, heads: self.heads, column: self.column, tile, heads_differ, rows_are_keys }
    }

    /// The same place for the column at position `column`.
    pub fn of_column(&self, column: i32) -> Place<N> {
        let (heads_differ, rows_are_keys) = comptime![(self.heads_differ, self.rows_are_keys)];
        Place::<N> { rows: self.rows, heads: self.heads, column, tile: self.tile, heads_differ, rows_are_keys }
    }
}
