//! An opcode such as `ld.global.nc.v4.b32`, taken apart while it is understood.

use super::types::PtxType;

/// The parts of an opcode. Whoever knows a modifier takes it; one that nobody took is unknown.
pub(super) struct Opcode<'a> {
    name: &'a str,
    modifiers: Vec<&'a str>,
}

impl<'a> Opcode<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut parts = text.split('.');
        Opcode { name: parts.next().unwrap_or_default(), modifiers: parts.collect() }
    }

    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it has a modifier; it is then taken.
    pub fn take(&mut self, modifier: &str) -> bool {
        self.take_map(|word| (word == modifier).then_some(())).is_some()
    }

    /// The first modifier of a kind; it is then taken.
    pub fn take_map<T>(&mut self, kind: impl Fn(&'a str) -> Option<T>) -> Option<T> {
        let (index, found) = self.modifiers.iter().enumerate().find_map(|(index, word)| Some((index, kind(word)?)))?;
        self.modifiers.remove(index);
        Some(found)
    }

    /// The first type among the modifiers.
    pub fn take_type(&mut self) -> Result<PtxType, String> {
        self.take_map(PtxType::named).ok_or_else(|| format!("`{}` has no type here", self.name))
    }

    /// That nothing is left.
    pub fn finish(&self) -> Result<(), String> {
        match self.modifiers.first() {
            None => Ok(()),
            Some(word) => Err(format!("`.{word}` is not known on `{}`", self.name)),
        }
    }
}
