//! Operands as they are written (PTX ISA, "Instruction Operands", "Constants").

/// An operand before its names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParsedOperand<'a> {
    /// A register, a label, a symbol or a number.
    Word(&'a str),
    /// `-5`
    Negative(&'a str),
    /// `!%p1`
    Not(&'a str),
    /// `symbol+8`
    Sum(&'a str, i64),
    /// `{%r1, %r2}`
    Vector(Vec<ParsedOperand<'a>>),
    /// `[%rd1+8]`
    Address { base: &'a str, offset: i64 },
    /// `%r1|%p1`
    Pair(&'a str, &'a str),
}

/// A literal: decimal, `0x` hexadecimal, `0b` binary, octal, or the bits of a float as `0f` or `0d` and hexadecimal digits.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = |digits: &str, radix| u64::from_str_radix(digits.trim_end_matches(['U', 'u']), radix).ok();
    match text.get(..2) {
        Some("0x" | "0X") => digits(&text[2..], 16),
        Some("0b" | "0B") => digits(&text[2..], 2),
        Some("0f" | "0F") if text.len() == 10 => digits(&text[2..], 16),
        Some("0d" | "0D") if text.len() == 18 => digits(&text[2..], 16),
        Some(_) if text.starts_with('0') && text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            digits(&text[1..], 8)
        }
        _ => digits(text, 10),
    }
}
