//! Conditions and ranges that are too long to be read, cut.

use std::borrow::Cow;

/// The most characters of a condition, or of a list of ranges, where a report is shown as text.
const SHOWN_CHARACTERS: usize = 240;

/// `text` as a report shows it: the first [`SHOWN_CHARACTERS`] at most, up to a space, and how many there are.
pub fn shortened(text: &str) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(SHOWN_CHARACTERS) else { return text.into() };
    let end = text[..end].rfind(' ').unwrap_or(end);
    format!("{} … ({} characters)", &text[..end], text.chars().count()).into()
}
