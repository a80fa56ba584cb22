//! The tokens of the text of programs, expressions and schedules.

use super::print::RESERVED;
use thiserror::Error;

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
const SIGNS: &[&str] = &[
    "->", "<=", ">=", "==", "!=", "&&", "||", "#", "@", "(", ")", "[", "]", "{", "}", "<", ">", ":", ",", "=", "+",
    "-", "*", "/", "%", "!", "..",
];

/// The tokens of `text`, each with its line and column, from 1, and the end.
fn tokens(text: &str) -> Vec<(Token, usize, usize)> {
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

/// Why a text is not a program, or not an expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}:{column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What could stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// A place in a text, from which it is read token by token.
pub struct Cursor {
    tokens: Vec<(Token, usize, usize)>,
    at: usize,
}

impl Cursor {
    /// At the beginning of `text`.
    pub fn new(text: &str) -> Cursor {
        Cursor { tokens: tokens(text), at: 0 }
    }

    /// Its place, for [`Cursor::back_to`].
    pub fn place(&self) -> usize {
        self.at
    }

    /// Goes back to a place where it was.
    pub fn back_to(&mut self, place: usize) {
        self.at = place;
    }

    /// The token that it is at.
    pub fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    /// An error that says what was expected here.
    pub fn fail<T>(&self, expected: impl Into<String>) -> Result<T, ParseError> {
        let (found, line, column) = &self.tokens[self.at];
        Err(ParseError { line: *line, column: *column, expected: expected.into(), found: found.text() })
    }

    /// Goes to the next token.
    pub fn step(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// Checks that the text ends here.
    pub fn end(&self) -> Result<(), ParseError> {
        if *self.peek() == Token::End { Ok(()) } else { self.fail("the end") }
    }

    /// Whether it is at such a word.
    pub fn at_word(&self, expected: &str) -> bool {
        matches!(self.peek(), Token::Word { word, raw: false } if word == expected)
    }

    /// Goes past such a word, if it is at one.
    pub fn skip_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.step();
        }
        found
    }

    /// Goes past such a sign, if it is at one.
    pub fn skip_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.step();
        }
        found
    }

    /// Goes past such a word.
    pub fn word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.skip_word(word) { Ok(()) } else { self.fail(format!("`{word}`")) }
    }

    /// Goes past such a sign.
    pub fn sign(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.skip_sign(sign) { Ok(()) } else { self.fail(format!("`{sign}`")) }
    }

    /// Goes past such words and signs.
    pub fn words(&mut self, words: &[&str]) -> Result<(), ParseError> {
        words.iter().try_for_each(|word| if SIGNS.contains(word) { self.sign(word) } else { self.word(word) })
    }

    /// One of `words`, by its place.
    pub fn one_of(&mut self, words: &[&str]) -> Result<usize, ParseError> {
        match words.iter().position(|word| self.skip_word(word)) {
            Some(place) => Ok(place),
            None => self.fail(words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")),
        }
    }

    /// Goes past a name, which it gives.
    pub fn name(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Word { word, raw } if raw || !RESERVED.contains(&word.as_str()) => {
                self.step();
                Ok(word)
            }
            _ => self.fail("a name"),
        }
    }

    /// Goes past an integer, which it gives.
    pub fn size(&mut self) -> Result<usize, ParseError> {
        if let Token::Number(number) = self.peek()
            && let Ok(size) = number.parse()
        {
            self.step();
            return Ok(size);
        }
        self.fail("an integer")
    }
}
