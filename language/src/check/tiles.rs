//! Checks tiles: that each is taken by the variable of the loop over its parameter.

use crate::ast::{ExprKind, Expression};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::signature::ParameterKind;
use proc_macro2::Ident;

/// The kinds of tiles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OperandTile {
    Queries,
    Keys,
    Values,
}

impl OperandTile {
    pub fn of(binding: Binding) -> Option<OperandTile> {
        match binding {
            Binding::Query => Some(OperandTile::Queries),
            Binding::Key(_) => Some(OperandTile::Keys),
            Binding::Value(_) => Some(OperandTile::Values),
            _ => None,
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            OperandTile::Queries => "a tile of queries",
            OperandTile::Keys => "a tile of keys",
            OperandTile::Values => "a tile of values",
        }
    }
}

impl Checker<'_> {
    /// Checks `dot(a, b)`.
    pub fn dot(&mut self, arguments: &[Expression]) {
        let is_query = |expr: &Expression| match &expr.inner().kind {
            ExprKind::Index(name, _) | ExprKind::Name(name) => self.scopes.find(name) == Some(Binding::Query),
            _ => false,
        };
        let [a, b] = arguments else { return };
        let swapped = !is_query(a) && is_query(b);
        let (query, key) = if swapped { (b, a) } else { (a, b) };
        self.tile(query, OperandTile::Queries);
        self.tile(key, OperandTile::Keys);
    }

    /// Checks that `expr` is a tile of the kind `wanted` in the current loops; the place of its parameter.
    pub fn tile(&self, expr: &Expression, wanted: OperandTile) -> Option<usize> {
        let text = self.tile_text(wanted);
        let help = format!("write `{text}`");
        let (name, index) = match &expr.inner().kind {
            ExprKind::Index(name, index) => (name, index),
            ExprKind::Reported => return None,
            _ => {
                let tiles = match &expr.inner().kind {
                    ExprKind::Name(name) => self.scopes.find(name).and_then(OperandTile::of).map(|_| name),
                    _ => None,
                };
                let found = tiles.map_or("a value".to_string(), |name| format!("all of `{name}`"));
                let help = match (wanted, &expr.inner().kind) {
                    (OperandTile::Values, ExprKind::Binary(..)) => {
                        format!("{help}: values are pushed as they are, and a factor of all is one of the output")
                    }
                    _ => help,
                };
                self.errors.push(expr.source, format!("expected {}, found {found}", wanted.description()), help);
                return None;
            }
        };
        let binding = match self.scopes.find(name) {
            Some(Binding::Reported) => return None,
            Some(binding) => binding,
            None => {
                let kind = match wanted {
                    OperandTile::Queries => ParameterKind::Query,
                    OperandTile::Keys => ParameterKind::Key,
                    OperandTile::Values => ParameterKind::Value,
                };
                self.unknown_tiles(name, kind);
                return None;
            }
        };
        let found = OperandTile::of(binding);
        if found != Some(wanted) {
            let found = found.map_or("an element of another tensor", OperandTile::description);
            self.errors.push(name.span(), format!("expected {}, found {found}", wanted.description()), help);
            return None;
        }
        let [index] = &index[..] else {
            let extra = index.get(1).map_or(expr.source, |extra| extra.source);
            self.errors.push(extra, format!("{} has one index", wanted.description()), help);
            return None;
        };
        let ExprKind::Name(variable) = &index.inner().kind else {
            if !index.is_reported() {
                self.errors.push(index.source, "a tile is taken by the variable of its loop", help);
            }
            return None;
        };
        let tiled = match self.scopes.find(variable) {
            Some(tiled) => tiled,
            None => {
                self.unknown_variable(variable, wanted);
                return None;
            }
        };
        let (place, fits) = match (binding, tiled) {
            (Binding::Query, tiled) => (0, tiled == Binding::QueryTile),
            (Binding::Key(key), Binding::KeyTile(tiled)) => (key, key == tiled),
            (Binding::Value(value), Binding::KeyTile(_)) => (value, true),
            (Binding::Key(place) | Binding::Value(place), _) => (place, tiled == Binding::Reported),
            _ => (0, false),
        };
        if fits {
            return Some(place);
        }
        let tiles_of = match tiled {
            Binding::QueryTile => format!("a tile of `{}`", self.query_name()),
            Binding::KeyTile(key) => format!("a tile of `{}`", self.key_name(key)),
            other => other.description().to_string(),
        };
        let message = format!("expected a tile of `{name}`, and `{variable}` is {tiles_of}");
        // The variables of the two loops, one for the other: a mask then means them so, too.
        let crossed = match wanted {
            OperandTile::Queries => matches!(tiled, Binding::KeyTile(_)),
            OperandTile::Keys | OperandTile::Values => tiled == Binding::QueryTile,
        };
        let help = match (&self.query_variable, &self.current) {
            (Some(query), Some(current)) if crossed => {
                format!(
                    "{help}; if `{query}` and `{}` are so everywhere, swap them in the two `for` lines",
                    current.variable
                )
            }
            _ => help,
        };
        self.errors.push(variable.span(), message, help);
        None
    }

    /// `dot(q[i], k[j])` with the names of this loop.
    pub fn dot_text(&self) -> String {
        format!("dot({}, {})", self.tile_text(OperandTile::Queries), self.tile_text(OperandTile::Keys))
    }

    /// A tile of the current loops, as it is written.
    pub fn tile_text(&self, tile: OperandTile) -> String {
        let query = self.query_variable.as_ref().map_or("i".to_string(), Ident::to_string);
        let (key, variable) = match &self.current {
            Some(current) => (current.key, current.variable.to_string()),
            None => (0, "j".to_string()),
        };
        match tile {
            OperandTile::Queries => format!("{}[{query}]", self.query_name()),
            OperandTile::Keys => format!("{}[{variable}]", self.key_name(key)),
            OperandTile::Values => {
                let place = self.pairs.get(key).copied().flatten().unwrap_or(key);
                format!("{}[{variable}]", self.value_name(place))
            }
        }
    }

    /// What to write for a value of `name`, which stands for tiles.
    pub fn tile_help(&self, binding: Binding) -> String {
        match binding {
            Binding::Value(_) => format!("push them: `o.push(score, {})`", self.tile_text(OperandTile::Values)),
            _ => format!("take the product of queries and keys: `{}`", self.dot_text()),
        }
    }
}
