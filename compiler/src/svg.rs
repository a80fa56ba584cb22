//! A report as a picture: the tiles of each loop, and the mask over them, as a standalone SVG.

use crate::picture::{Cell, Picture};
use crate::report::{LoopReport, Report, SAMPLED_PAIRS};
use std::fmt::{self, Write};

/// The most rectangles of a loop's tiles; a picture that needs more is scaled down.
const MAX_RECTANGLES: usize = 2000;
/// The longer side of a picture.
const SIDE: usize = 512;
/// The shortest a side becomes where there are few queries or few keys.
const SHORTEST: usize = 48;
/// Around a picture: for its positions and its title.
const MARGIN: usize = 72;
/// How many shades a mask has.
const SHADES: u8 = 4;
/// The height of a line of text.
const LINE: usize = 18;

const COLORS: [(Cell, &str, &str); 3] =
    [(Cell::Full, "#3b6ea5", "full"), (Cell::Partial, "#f0a94a", "partial"), (Cell::Skipped, "#eceff1", "skipped")];

/// `report` as an SVG, with `shape` under its title. Keys go from left to right, queries from top to bottom; tiles are those of the
/// first head and batch.
pub fn svg(report: &Report, shape: &str) -> String {
    let sizes: Vec<_> = report.loops.iter().map(size).collect();
    let width = sizes.iter().map(|size| size.0).max().unwrap_or(0).max(SIDE) + 2 * MARGIN;
    let loops: usize = sizes.iter().map(|size| size.1 + MARGIN + 2 * LINE).sum();
    let height = 4 * LINE + loops + 3 * LINE;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, report, shape, (width, height), &sizes);
    text
}

/// Width and height of a loop's picture: in proportion to its keys and queries, as far as it can be looked at.
fn size(key_loop: &LoopReport) -> (usize, usize) {
    let (queries, keys) = (length(key_loop.queries), length(key_loop.keys));
    let longer = queries.max(keys).max(1);
    let side = |length: u64| ((SIDE as u64 * length / longer) as usize).max(SHORTEST);
    (side(keys), side(queries))
}

fn length((first, last): (i64, i64)) -> u64 {
    (last - first + 1).max(0) as u64
}

fn write(
    text: &mut String,
    report: &Report,
    shape: &str,
    (width, height): (usize, usize),
    sizes: &[(usize, usize)],
) -> fmt::Result {
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    )?;
    writeln!(text, "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>")?;
    let mut y = 2 * LINE;
    writeln!(text, "<text x=\"{MARGIN}\" y=\"{y}\" font-size=\"16\">{}</text>", escaped(&report.name))?;
    y += LINE;
    writeln!(text, "<text x=\"{MARGIN}\" y=\"{y}\">{}</text>", escaped(shape))?;
    y += LINE;
    for (key_loop, size) in report.loops.iter().zip(sizes) {
        write_loop(text, report, key_loop, y, *size)?;
        y += size.1 + MARGIN + 2 * LINE;
    }
    let mut x = MARGIN;
    for (_, color, name) in COLORS {
        legend(text, &mut x, y, color, 1.0, &format!("{name} tiles"))?;
    }
    legend(text, &mut x, y, "#000000", opacity(SHADES), "visible pairs")?;
    writeln!(text, "</svg>")
}

/// The shade of a part of a mask in which so many of the sampled pairs are visible: 0 if none is.
fn shade_of(visible: u8) -> u8 {
    (visible * SHADES).div_ceil(SAMPLED_PAIRS)
}

fn opacity(shade: u8) -> f32 {
    0.36 * f32::from(shade) / f32::from(SHADES)
}

fn legend(text: &mut String, x: &mut usize, y: usize, color: &str, opacity: f32, name: &str) -> fmt::Result {
    writeln!(
        text,
        "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{color}\" fill-opacity=\"{opacity:.2}\" stroke=\"#90a4ae\"/>"
    )?;
    writeln!(text, "<text x=\"{}\" y=\"{}\">{name}</text>", *x + 18, y + 11)?;
    *x += 120;
    Ok(())
}

fn write_loop(
    text: &mut String,
    report: &Report,
    key_loop: &LoopReport,
    y: usize,
    (width, height): (usize, usize),
) -> fmt::Result {
    let title = match &key_loop.mask {
        Some(mask) => format!("keys `{}`, visible where {mask}", key_loop.key),
        None => format!("keys `{}`, all visible", key_loop.key),
    };
    writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", y + LINE, escaped(&shortened(&title)))?;
    let top = y + 3 * LINE;
    positions(text, key_loop, top, (width, height))?;

    writeln!(text, "<svg x=\"{MARGIN}\" y=\"{top}\" width=\"{width}\" height=\"{height}\">")?;
    let tiles = drawable(&key_loop.picture);
    // What the last tiles have beyond the last positions is cut off.
    let whole = |side: usize, length: u64, tile: usize| {
        side as f64 * length.next_multiple_of(tile as u64) as f64 / length.max(1) as f64
    };
    let padded = (
        whole(width, length(key_loop.keys), report.schedule.key_tile()),
        whole(height, length(key_loop.queries), report.schedule.query_tile()),
    );
    for (cell, color, _) in COLORS {
        let is_cell = |row: usize, column: usize| tiles.rows()[row][column] == cell;
        let grid = Raster { rows: tiles.rows().len(), columns: tiles.rows().first().map_or(0, Vec::len), size: padded };
        layer(text, grid, is_cell, color, 1.0)?;
    }
    let mask = &key_loop.sample;
    let size = (width as f64, height as f64);
    let grid = Raster { rows: mask.len(), columns: mask.first().map_or(0, Vec::len), size };
    for shade in 1..=SHADES {
        let is_shade = |row: usize, column: usize| shade_of(mask[row][column]) == shade;
        layer(text, grid, is_shade, "#000000", opacity(shade))?;
    }
    writeln!(text, "</svg>")?;
    writeln!(
        text,
        "<rect x=\"{MARGIN}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#90a4ae\"/>"
    )
}

/// The positions of keys above a picture, and of queries on its left.
fn positions(text: &mut String, key_loop: &LoopReport, top: usize, (width, height): (usize, usize)) -> fmt::Result {
    for ((first, last), side, of_keys) in [(key_loop.keys, width, true), (key_loop.queries, height, false)] {
        let length = length((first, last));
        if length == 0 {
            continue;
        }
        let ticks = (side / 120).clamp(1, 4);
        for tick in 0..=ticks {
            let position = first + (length as i64 - 1) * tick as i64 / ticks as i64;
            let place = side * tick / ticks;
            let (x, y, anchor) =
                if of_keys { (MARGIN + place, top - 6, "middle") } else { (MARGIN - 6, top + place + 4, "end") };
            writeln!(text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"#546e7a\">{position}</text>")?;
        }
    }
    let (x, y) = (MARGIN + width + 8, top - 6);
    writeln!(text, "<text x=\"{}\" y=\"{y}\" fill=\"#546e7a\">j</text>", x + 16)?;
    writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#546e7a\">i</text>",
        MARGIN - 6,
        top + height + LINE
    )
}

/// A picture that takes at most so many rectangles.
fn drawable(picture: &Picture) -> Picture {
    let columns = picture.rows().first().map_or(0, Vec::len);
    let mut most = picture.rows().len().max(columns);
    let mut scaled = picture.clone();
    while most > 1 && COLORS.iter().map(|(cell, ..)| rectangles_of(&scaled, *cell)).sum::<usize>() > MAX_RECTANGLES {
        most = most.div_ceil(2);
        scaled = picture.scaled(most, most);
    }
    scaled
}

fn rectangles_of(picture: &Picture, cell: Cell) -> usize {
    let columns = picture.rows().first().map_or(0, Vec::len);
    rectangles(picture.rows().len(), columns, |row, column| picture.rows()[row][column] == cell).len()
}

/// Cells, and the width and height that they fill.
#[derive(Clone, Copy)]
struct Raster {
    rows: usize,
    columns: usize,
    size: (f64, f64),
}

/// The cells of a grid that are so, as rectangles.
fn layer(
    text: &mut String,
    Raster { rows, columns, size: (width, height) }: Raster,
    is: impl Fn(usize, usize) -> bool,
    color: &str,
    opacity: f32,
) -> fmt::Result {
    let found = rectangles(rows, columns, is);
    if found.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "<svg width=\"{width:.2}\" height=\"{height:.2}\" viewBox=\"0 0 {columns} {rows}\" preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">\
         <g fill=\"{color}\" fill-opacity=\"{opacity:.2}\">"
    )?;
    for Rectangle { row, column, height, width } in found {
        writeln!(text, "<rect x=\"{column}\" y=\"{row}\" width=\"{width}\" height=\"{height}\"/>")?;
    }
    writeln!(text, "</g></svg>")
}

struct Rectangle {
    row: usize,
    column: usize,
    height: usize,
    width: usize,
}

/// Runs of cells in a row, each of which grows downwards as long as the next row has the same run.
fn rectangles(rows: usize, columns: usize, is: impl Fn(usize, usize) -> bool) -> Vec<Rectangle> {
    let mut found: Vec<Rectangle> = Vec::new();
    // The rectangles that end in the row before.
    let mut above: Vec<usize> = Vec::new();
    for row in 0..rows {
        let mut here = Vec::new();
        let mut column = 0;
        while column < columns {
            if !is(row, column) {
                column += 1;
                continue;
            }
            let end = (column..columns).find(|&at| !is(row, at)).unwrap_or(columns);
            let width = end - column;
            let same = above.iter().find(|&&place| found[place].column == column && found[place].width == width);
            match same {
                Some(&place) => {
                    found[place].height += 1;
                    here.push(place);
                }
                None => {
                    here.push(found.len());
                    found.push(Rectangle { row, column, height: 1, width });
                }
            }
            column = end;
        }
        above = here;
    }
    found
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A text that fits its line.
fn shortened(text: &str) -> String {
    const MOST: usize = 88;
    if text.chars().count() <= MOST { text.into() } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged() {
        let cells = ["##..", "##.#", ".#.#"];
        let is = |row: usize, column: usize| cells[row].as_bytes()[column] == b'#';
        let found: Vec<_> = rectangles(3, 4, is).iter().map(|r| (r.row, r.column, r.height, r.width)).collect();
        assert_eq!(found, [(0, 0, 2, 2), (1, 3, 2, 1), (2, 1, 1, 1)]);
    }
}
