//! The tokens of the text of programs and expressions.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A word; `raw` where it was written `r#word`.
    Word {
        /// The word, without `r#`.
        word: String,
        /// Whether it was written so.
        raw: bool,
    },
    /// An integer or a float, without a sign, as it is written.
    Number(String),
    /// A sign of one or two characters.
    Sign(&'static str),
    /// Something that is none of these.
    Unknown(char),
    /// The end of the text.
    End,
}

impl Token {
    /// What it is, for messages.
    pub fn text(&self) -> String {
        match self {
            Token::Word { word, raw: true } => format!("`r#{word}`"),
            Token::Word { word, raw: false } => format!("`{word}`"),
            Token::Number(number) => format!("`{number}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::Unknown(char) => format!("`{char}`"),
            Token::End => "the end".to_string(),
        }
    }
}

/// The signs; longer ones come first.
pub const SIGNS: &[&str] = &[
    "->", "<=", ">=", "==", "!=", "&&", "||", "#", "@", "(", ")", "[", "]", "{", "}", "<", ">", ":", ",", "=", "+",
    "-", "*", "/", "%", "!",
];

/// The tokens of `text`, each with its line and column, from 1, and the end.
pub fn tokens(text: &str) -> Vec<(Token, usize, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line, mut start_of_line) = (0, 1, 0);
    let in_word = |char: &char| char.is_alphanumeric() || *char == '_';
    while at < chars.len() {
        let column = at - start_of_line + 1;
        let starts_with = |sign: &str| sign.chars().enumerate().all(|(n, char)| chars.get(at + n) == Some(&char));
        if chars[at].is_whitespace() {
            if chars[at] == '\n' {
                line += 1;
                start_of_line = at + 1;
            }
            at += 1;
        } else if starts_with("//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if chars[at].is_ascii_digit() {
            let start = at;
            let hexadecimal = starts_with("0x");
            while at < chars.len() {
                let exponent_sign =
                    matches!(chars[at], '+' | '-') && !hexadecimal && matches!(chars[at - 1], 'e' | 'E');
                if !(chars[at].is_ascii_alphanumeric() || chars[at] == '.' || (exponent_sign && at > start)) {
                    break;
                }
                at += 1;
            }
            tokens.push((Token::Number(chars[start..at].iter().collect()), line, column));
        } else if in_word(&chars[at]) {
            let raw = starts_with("r#") && chars.get(at + 2).is_some_and(in_word);
            at += if raw { 2 } else { 0 };
            let start = at;
            while at < chars.len() && in_word(&chars[at]) {
                at += 1;
            }
            tokens.push((Token::Word { word: chars[start..at].iter().collect(), raw }, line, column));
        } else if let Some(sign) = SIGNS.iter().find(|sign| starts_with(sign)) {
            at += sign.len();
            tokens.push((Token::Sign(sign), line, column));
        } else {
            tokens.push((Token::Unknown(chars[at]), line, column));
            at += 1;
        }
    }
    let last = chars.len() - start_of_line.min(chars.len()) + 1;
    tokens.push((Token::End, line, last));
    tokens
}
