//! What is said of a function: every mistake is collected, and none can be forgotten.

use crate::source::Source;
use std::cell::RefCell;
use std::fmt;

/// A mistake in a function, or a warning of something that is right and likely not meant.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The smallest tokens that are at fault.
    pub source: Source,
    /// What is wrong, on one line.
    pub message: String,
    /// What to write instead; nothing where only Rust's own parser knows what it expected, and for warnings.
    pub help: Option<String>,
}

/// The message, and `help: …` on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "\nhelp: {help}"))
    }
}

/// Collects the mistakes in one function, so that several are reported at once.
///
/// # Panics
/// When it is dropped before [`Diagnostics::finish`] was asked.
pub struct Diagnostics {
    /// `None` once `finish` was asked.
    errors: RefCell<Option<Vec<Diagnostic>>>,
}

impl Diagnostics {
    pub fn new() -> Self {
        Diagnostics { errors: RefCell::new(Some(Vec::new())) }
    }

    /// Adds an error on the tokens of `source`. `help` says what to write instead.
    pub fn push(&self, source: impl Into<Source>, message: impl fmt::Display, help: impl fmt::Display) {
        self.add(Diagnostic { source: source.into(), message: message.to_string(), help: Some(help.to_string()) });
    }

    /// Adds what syn found.
    pub fn push_error(&self, error: syn::Error) {
        for error in error {
            // The tokens are the only place where syn tells the end of an error.
            let source = Source::of(&error.to_compile_error());
            self.add(Diagnostic { source, message: error.to_string(), help: None });
        }
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.errors.borrow().as_ref().map_or(0, Vec::len)
    }

    fn add(&self, error: Diagnostic) {
        self.errors.borrow_mut().as_mut().expect("errors come before `finish`").push(error);
    }

    /// The errors in the order of the source.
    pub fn finish(self) -> Vec<Diagnostic> {
        let mut errors = self.errors.take().expect("`finish` takes the errors");
        errors.sort_by_key(|error| error.source.place());
        errors
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        if self.errors.borrow().is_some() && !std::thread::panicking() {
            panic!("errors were collected and never looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::Span;

    #[test]
    #[should_panic(expected = "never looked at")]
    fn unchecked_errors_panic() {
        drop(Diagnostics::new());
    }

    #[test]
    fn errors_are_all_kept() {
        let errors = Diagnostics::new();
        errors.push(Span::call_site(), "first", "this");
        errors.push(Span::call_site(), "second", "that");
        let texts: Vec<String> = errors.finish().iter().map(Diagnostic::to_string).collect();
        assert_eq!(texts, ["first\nhelp: this", "second\nhelp: that"]);
    }
}
