//! Checks tiles: that each is taken by the variable of the loop over its parameter.

use crate::ast::{ExprKind, Expression};
use crate::check::checker::Checker;
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::names;
use crate::signature::{ParameterKind, Scalar};
use crate::tree::{CheckedLeading, MAX_DOTS};
use proc_macro2::{Ident, Span};

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
            Binding::Query(_) => Some(OperandTile::Queries),
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
    /// Checks `dot(a, b)`; its place among the products of the loop.
    pub fn dot(&mut self, token: Span, arguments: &[Expression]) -> usize {
        let is_query = |expr: &Expression| match &expr.inner().kind {
            ExprKind::Index(name, _) | ExprKind::Name(name) => {
                matches!(self.scopes.find(name), Some(Binding::Query(_)))
            }
            _ => false,
        };
        let [a, b] = arguments else { return 0 };
        let swapped = !is_query(a) && is_query(b);
        let (query, key) = if swapped { (b, a) } else { (a, b) };
        let (query, key) = (self.tile(query, OperandTile::Queries), self.tile(key, OperandTile::Keys));
        if query.is_none() || key.is_none() {
            self.needs.doubt();
        }
        if let Some(query) = query {
            self.needs.queries[query] = Presence::Found;
        }
        if let (Some(key), Some(current)) = (key, &self.current) {
            self.needs.keys[key] = Presence::Found;
            self.join_keys(current.key, key);
        }
        let (Some(query), Some(key)) = (query, key) else { return 0 };
        let dot = (self.operand(ParameterKind::Query, query), self.operand(ParameterKind::Key, key));
        let Some(current) = &mut self.current else { return 0 };
        let known = current.dots.iter().position(|known| *known == dot);
        known.unwrap_or_else(|| {
            current.dots.push(dot);
            if current.dots.len() == MAX_DOTS + 1 {
                let message = format!("a loop over keys has at most {MAX_DOTS} products of queries and keys");
                let help =
                    "remove some: products of one score can be one, of queries and keys that are put side by side";
                self.errors.push(token, message, help);
            }
            current.dots.len() - 1
        })
    }

    /// Checks the values of a push; the parameter's kind and place, and how much of its rows.
    pub fn values(&mut self, expr: &Expression) -> Option<(ParameterKind, usize, Option<CheckedLeading>)> {
        let ExprKind::Leading(tile, end) = &expr.inner().kind else {
            return self.tile(expr, OperandTile::Values).map(|place| (ParameterKind::Value, place, None));
        };
        let is_key = match &tile.inner().kind {
            ExprKind::Index(name, _) => matches!(self.scopes.find(name), Some(Binding::Key(_))),
            _ => false,
        };
        let (wanted, kind) =
            if is_key { (OperandTile::Keys, ParameterKind::Key) } else { (OperandTile::Values, ParameterKind::Value) };
        let place = self.tile(tile, wanted);
        let leading = self.leading(end);
        Some((kind, place?, Some(leading?)))
    }

    /// How many elements `end` says are taken of a row.
    fn leading(&self, end: &Expression) -> Option<CheckedLeading> {
        let (message, help) = match &end.inner().kind {
            ExprKind::Int(number) if *number > 0 => return usize::try_from(*number).ok().map(CheckedLeading::Literal),
            ExprKind::Reported => return None,
            ExprKind::Constant(path) => return Some(CheckedLeading::Constant(path.clone())),
            ExprKind::Name(name) if self.scopes.find(name).is_none() && names::is_constant(&name.to_string()) => {
                return Some(CheckedLeading::Constant(name.clone().into()));
            }
            ExprKind::Int(_) => ("at least one element of each row is taken".to_string(), "write `..64`".to_string()),
            ExprKind::Name(name) if self.scopes.depth_of(name) == Some(1) => {
                let parameter = self.signature.parameters.iter().find(|parameter| parameter.name == *name);
                match parameter.map(|parameter| (parameter.kind, parameter.comptime)) {
                    Some((ParameterKind::Scalar(Scalar::U32), true)) => {
                        return Some(CheckedLeading::Scalar(name.clone()));
                    }
                    Some((ParameterKind::Reported, _)) => return None,
                    _ => (
                        format!("how many elements are taken is in the kernel, and `{name}` is not a comptime `u32`"),
                        format!("declare it `#[comptime] {name}: u32`"),
                    ),
                }
            }
            _ => (
                "how many elements are taken is a number, a constant, or a comptime `u32`".to_string(),
                "write `..64`, or add a parameter, such as `#[comptime] rank: u32`, and write `..rank`".to_string(),
            ),
        };
        self.errors.push(end.source, message, help);
        None
    }

    /// Checks that `expr` is a tile of the kind `wanted` in the current loops; the place of its parameter.
    pub fn tile(&self, expr: &Expression, wanted: OperandTile) -> Option<usize> {
        let text = self.tile_text(wanted);
        let help = format!("write `{text}`");
        let (name, index) = match &expr.inner().kind {
            ExprKind::Index(name, index) => (name, index),
            ExprKind::Reported => return None,
            ExprKind::Leading(tile, _) => {
                let message = format!("expected {}, found a part of one", wanted.description());
                let help = format!("write `{tile}`: a product is of whole rows");
                self.errors.push(expr.source, message, help);
                return None;
            }
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
        let help = match (binding, &self.query_variable) {
            (Binding::Query(_), Some(variable)) if wanted == OperandTile::Queries => {
                format!("write `{name}[{variable}]`")
            }
            _ => help,
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
            (Binding::Query(query), tiled) => (query, tiled == Binding::QueryTile),
            // Keys without a loop of their own may be of the set of any.
            (Binding::Key(key), Binding::KeyTile(tiled)) => (key, key == tiled || !self.uses.is_looped(name)),
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
            // Values may be the first elements of the keys.
            OperandTile::Values if self.needs.values.is_empty() => format!("{}[{variable}][..64]", self.key_name(key)),
            OperandTile::Values => {
                let place = self.pairs.get(key).copied().flatten().unwrap_or(key);
                format!("{}[{variable}]", self.value_name(place.min(self.needs.values.len() - 1)))
            }
        }
    }

    /// What to write for a value of `name`, which stands for tiles.
    pub fn tile_help(&self, name: &Ident, binding: Binding) -> String {
        let query = self.query_variable.as_ref().map_or("i".to_string(), Ident::to_string);
        let key = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
        match binding {
            Binding::Value(_) => {
                format!("push them: `{}.push(score, {})`", self.accumulator_name(), self.tile_text(OperandTile::Values))
            }
            Binding::Query(place) => {
                let dot = format!("dot({name}[{query}], {})", self.tile_text(OperandTile::Keys));
                let or = if place == 0 { "" } else { ", or make the output of it, in the last line" };
                format!("take the product of queries and keys: `{dot}`{or}")
            }
            _ => {
                let dot = format!("dot({}, {name}[{key}])", self.tile_text(OperandTile::Queries));
                format!("take the product of queries and keys: `{dot}`")
            }
        }
    }
}
