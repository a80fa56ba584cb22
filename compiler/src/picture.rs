//! The tiles of a loop as a grid of a size that can be looked at.

use crate::tiles::Run;

/// The most columns and rows that are kept. A launch with more tiles has several in a cell.
pub const MAX_CELLS: usize = 256;

/// What the tiles of a cell are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// All are skipped.
    Skipped,
    /// Some are partial, or they are of several kinds.
    Partial,
    /// All are full.
    Full,
}

/// The tiles of a loop, of one head and batch: a row of cells for some tiles of queries, a column for some of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    rows: Vec<Vec<Cell>>,
    /// How many tiles of queries, and of keys, it is of.
    tiles: (usize, usize),
}

impl Picture {
    /// The cells, row by row.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// The same with at most so many rows and columns.
    pub fn scaled(&self, rows: usize, columns: usize) -> Picture {
        let width = self.rows.first().map_or(0, Vec::len);
        let (rows, columns) = (self.rows.len().min(rows), width.min(columns));
        let cell = |row, column| {
            let (from, to) = part(row, rows, self.rows.len());
            let (left, right) = part(column, columns, width);
            let mut cells = self.rows[from..to].iter().flat_map(|row| &row[left..right]);
            let first = cells.next().copied().unwrap_or(Cell::Skipped);
            if cells.all(|cell| *cell == first) { first } else { Cell::Partial }
        };
        let rows = (0..rows).map(|row| (0..columns).map(|column| cell(row, column)).collect()).collect();
        Picture { rows, tiles: self.tiles }
    }

    /// The picture in a terminal with so many columns: `█` full, `▒` partial (or of several kinds), `·` skipped. A character is
    /// about twice as high as wide.
    pub fn lines(&self, columns: usize) -> Vec<String> {
        let character = |cell: &Cell| match cell {
            Cell::Skipped => '·',
            Cell::Partial => '▒',
            Cell::Full => '█',
        };
        self.in_columns(columns).rows.iter().map(|row| row.iter().map(character).collect()).collect()
    }

    /// What the characters of [`lines`](Picture::lines) mean, and how many tiles of queries and of keys each is of; `None` where there
    /// are no lines.
    pub fn legend(&self, columns: usize) -> Option<String> {
        let scaled = self.in_columns(columns);
        let (rows, columns) = (scaled.rows.len(), scaled.rows.first()?.len());
        if columns == 0 {
            return None;
        }
        let (queries, keys) = self.tiles;
        let (partial, cell) = if (rows, columns) == self.tiles {
            ("partial", "a tile".to_string())
        } else {
            let counted = (self.rows.len(), self.rows[0].len());
            let exact = [queries, counted.0].iter().all(|length| length % rows == 0)
                && [keys, counted.1].iter().all(|length| length % columns == 0);
            let (high, wide) = (queries as f64 / rows as f64, keys as f64 / columns as f64);
            let about = if exact { "" } else { "about " };
            let decimals = |number: f64| if number.fract() == 0.0 { 0 } else { 1 };
            let cell = format!("{about}{high:.*}×{wide:.*} tiles", decimals(high), decimals(wide));
            ("partial or mixed", cell)
        };
        Some(format!("█ full  ▒ {partial}  · skipped; batch 0, head 0; a cell is {cell}"))
    }

    /// As in a terminal with so many columns.
    fn in_columns(&self, columns: usize) -> Picture {
        self.scaled((columns / 2).max(1), columns.max(1))
    }
}

/// Numbers of tiles in each cell, while they are found.
pub(crate) struct CellCounts {
    query_tiles: usize,
    key_tiles: usize,
    /// Visited and full tiles of each cell, row by row.
    cells: Vec<Vec<(u64, u64)>>,
}

impl CellCounts {
    pub fn new(query_tiles: usize, key_tiles: usize) -> CellCounts {
        let (rows, columns) = (query_tiles.min(MAX_CELLS), key_tiles.min(MAX_CELLS));
        CellCounts { query_tiles, key_tiles, cells: vec![vec![(0, 0); columns]; rows] }
    }

    /// Adds what a tile of queries visits.
    pub fn add(&mut self, query_tile: usize, runs: &[Run]) {
        let cells = &mut self.cells[place(query_tile, MAX_CELLS, self.query_tiles)];
        let columns = cells.len();
        for run in runs.iter().filter(|run| run.count() > 0) {
            let of = |tile| place(tile, MAX_CELLS, self.key_tiles);
            for (column, cell) in cells.iter_mut().enumerate().take(of(run.to - 1) + 1).skip(of(run.from)) {
                let (left, right) = part(column, columns, self.key_tiles);
                let tiles = right.min(run.to).saturating_sub(left.max(run.from)) as u64;
                cell.0 += tiles;
                cell.1 += if run.full { tiles } else { 0 };
            }
        }
    }

    pub fn picture(&self) -> Picture {
        let height = self.cells.len();
        let rows = self.cells.iter().enumerate().map(|(row, cells)| {
            let (from, to) = part(row, height, self.query_tiles);
            let width = cells.len();
            let cell = |(column, (visited, full)): (usize, &(u64, u64))| {
                let (left, right) = part(column, width, self.key_tiles);
                match () {
                    () if *visited == 0 => Cell::Skipped,
                    () if *full == ((to - from) * (right - left)) as u64 => Cell::Full,
                    () => Cell::Partial,
                }
            };
            cells.iter().enumerate().map(cell).collect()
        });
        Picture { rows: rows.collect(), tiles: (self.query_tiles, self.key_tiles) }
    }
}

/// The `place`th of `parts` parts of `0..length`.
fn part(place: usize, parts: usize, length: usize) -> (usize, usize) {
    (place * length / parts, (place + 1) * length / parts)
}

/// The part that `item` of `0..length` is in, of at most `most` parts.
fn place(item: usize, most: usize, length: usize) -> usize {
    let parts = length.min(most);
    // The last part that begins at or before the item.
    ((item + 1) * parts).div_ceil(length) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_is_in_one_cell() {
        for length in 1..700 {
            for item in 0..length {
                let parts = length.min(MAX_CELLS);
                let (from, to) = part(place(item, MAX_CELLS, length), parts, length);
                assert!((from..to).contains(&item), "{item} of {length}");
            }
        }
    }

    #[test]
    fn cells_of_several_kinds_are_partial() {
        let mut counts = CellCounts::new(4, 8);
        for tile in 0..4 {
            counts.add(
                tile,
                &[Run { from: 0, to: 2 * tile, full: true }, Run { from: 2 * tile, to: 2 * tile + 1, full: false }],
            );
        }
        let picture = counts.picture();
        assert_eq!(picture.lines(64), ["▒·······", "██▒·····", "████▒···", "██████▒·"]);
        assert_eq!(picture.lines(4), ["▒▒··", "██▒▒"]);
        assert_eq!(picture.lines(0), ["▒"]);
        let legend = |columns| picture.legend(columns).unwrap();
        assert_eq!(legend(64), "█ full  ▒ partial  · skipped; batch 0, head 0; a cell is a tile");
        assert_eq!(legend(4), "█ full  ▒ partial or mixed  · skipped; batch 0, head 0; a cell is 2×2 tiles");
        assert!(legend(6).ends_with("; a cell is about 1.3×1.3 tiles"), "{}", legend(6));
        let none = CellCounts::new(0, 0).picture();
        assert_eq!((none.lines(64), none.legend(64)), (Vec::<String>::new(), None));
    }
}
