//! A picture of ratios: for each case a bar for each way PyTorch has, on a logarithmic scale.

use std::fmt::{self, Write};

/// The ratios of a case: PyTorch's time over ours.
pub struct Bar<'a> {
    /// The case's name.
    pub case: &'a str,
    /// That of `scaled_dot_product_attention`.
    pub sdpa: Option<f64>,
    /// That of FlexAttention.
    pub flex: Option<f64>,
    /// That of FlexAttention and making its block mask.
    pub flex_with_mask: Option<f64>,
}

/// The width of the picture.
const WIDTH: usize = 760;
/// Where bars begin: the left of it is for names.
const LEFT: usize = 160;
/// How far they may go: the right of it is for numbers.
const LENGTH: usize = 540;
/// The height of a bar with its number.
const BAR: usize = 13;
/// What is between two cases.
const GAP: usize = 9;
/// What is above the first.
const TOP: usize = 74;

const SDPA: (&str, &str) = ("#3b6ea5", "SDPA");
const FLEX: (&str, &str) = ("#f0a94a", "FlexAttention");
const FLEX_WITH_MASK: (&str, &str) = ("#b5651d", "FlexAttention and its block mask");

/// The bars as an SVG on a white ground of its own, so that it can be read on any page.
pub fn ratios_svg(title: &str, bars: &[Bar]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, title, bars);
    text
}

impl Bar<'_> {
    /// The bars that there are, with their colors.
    fn ratios(&self) -> impl Iterator<Item = (f64, &'static str)> {
        let all = [(self.sdpa, SDPA.0), (self.flex, FLEX.0), (self.flex_with_mask, FLEX_WITH_MASK.0)];
        all.into_iter().filter_map(|(ratio, color)| Some((ratio.filter(|ratio| ratio.is_finite())?, color)))
    }

    fn height(&self) -> usize {
        self.ratios().count().max(1) * BAR
    }
}

fn write(text: &mut String, title: &str, bars: &[Bar]) -> fmt::Result {
    let all = || bars.iter().flat_map(Bar::ratios).map(|(ratio, _)| ratio);
    // From a half or less to twice or more.
    let (low, high) = (all().fold(0.5, f64::min).log2().floor(), all().fold(2.0, f64::max).log2().ceil());
    let place = |ratio: f64| LEFT as f64 + LENGTH as f64 * (ratio.log2() - low) / (high - low);
    let bottom = TOP + bars.iter().map(|bar| bar.height() + GAP).sum::<usize>();
    let height = bottom + 12;
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"11\" fill=\"#263238\">"
    )?;
    writeln!(text, "<rect width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"#fff\"/>")?;
    writeln!(text, "<text x=\"12\" y=\"22\" font-size=\"13\">{title}</text>")?;
    let mut x = LEFT;
    for (color, name) in [SDPA, FLEX, FLEX_WITH_MASK] {
        writeln!(text, "<rect x=\"{x}\" y=\"34\" width=\"10\" height=\"10\" fill=\"{color}\"/>")?;
        writeln!(text, "<text x=\"{}\" y=\"43\">{name}</text>", x + 15)?;
        x += 40 + 7 * name.len();
    }
    for power in low as i32..=high as i32 {
        let ratio = 2f64.powi(power);
        let (x, color) = (place(ratio), if power == 0 { "#263238" } else { "#cfd8dc" });
        writeln!(text, "<path d=\"M{x:.0} {}V{bottom}\" stroke=\"{color}\"/>", TOP - 8)?;
        writeln!(
            text,
            "<text x=\"{x:.0}\" y=\"{}\" text-anchor=\"middle\" fill=\"#546e7a\">{ratio}×</text>",
            TOP - 12
        )?;
    }
    let mut y = TOP;
    for bar in bars {
        let middle = y + bar.height() / 2 + 4;
        writeln!(text, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>", LEFT - 8, bar.case)?;
        for (place_in_case, (ratio, color)) in bar.ratios().enumerate() {
            let (top, from, to) = (y + place_in_case * BAR, place(1.0).min(place(ratio)), place(1.0).max(place(ratio)));
            let width = to - from;
            writeln!(
                text,
                "<rect x=\"{from:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" fill=\"{color}\"/><text x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>",
                top + 1,
                BAR - 2,
                to + 4.0,
                top + BAR - 3,
            )?;
        }
        y += bar.height() + GAP;
    }
    writeln!(text, "</svg>")
}
