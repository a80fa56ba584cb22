//! PTX text as words and punctuation (PTX ISA, "Source Format", "Identifiers").

use super::fault::PtxParseError;

/// A word with all its dots, a string, or a character of punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PtxToken<'a> {
    pub text: &'a str,
    /// Line of the source, from 1.
    pub line: usize,
}

/// The source by lines, for errors.
pub(super) fn error(source: &str, line: usize, reason: impl Into<String>) -> PtxParseError {
    let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
    PtxParseError { line, text, reason: reason.into() }
}

/// Splits the source; comments and `.loc` and `.file` lines are left out.
pub(super) fn tokens(source: &str) -> Result<Vec<PtxToken<'_>>, PtxParseError> {
    let bytes = source.as_bytes();
    let (mut at, mut line) = (0, 1);
    let mut found = Vec::new();
    while let Some(&byte) = bytes.get(at) {
        let rest = &source[at..];
        if byte == b'\n' {
            line += 1;
            at += 1;
        } else if byte.is_ascii_whitespace() {
            at += 1;
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| error(source, line, "this comment has no end"))?;
            line += rest[..end].matches('\n').count();
            at += end + 2;
        } else if byte == b'"' {
            let end = rest[1..].find('"').ok_or_else(|| error(source, line, "this string has no end"))?;
            found.push(PtxToken { text: &rest[..end + 2], line });
            at += end + 2;
        } else if is_word(byte) {
            let length = word_length(rest.as_bytes());
            let text = &rest[..length];
            // Where the code came from, which is a line and not a statement.
            if text == ".loc" || text == ".file" {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            found.push(PtxToken { text, line });
            at += length;
        } else if byte.is_ascii_punctuation() {
            found.push(PtxToken { text: &rest[..1], line });
            at += 1;
        } else {
            return Err(error(source, line, "a character that PTX does not have"));
        }
    }
    Ok(found)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// The length of a word, in which `::` may stand as in `shared::cta`.
fn word_length(text: &[u8]) -> usize {
    let mut length = 0;
    loop {
        match text.get(length..) {
            Some([byte, ..]) if is_word(*byte) => length += 1,
            Some([b':', b':', byte, ..]) if is_word(*byte) => length += 2,
            _ => return length,
        }
    }
}
