//! Names that nothing is known by: what each is likely meant for.

use crate::ast::{ExprKind, Expression};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::names::{self, Position};
use crate::signature::{Kind, ParameterKind};
use crate::types::ValueType;
use proc_macro2::Ident;

/// What stands where an unknown name does.
#[derive(Clone, Copy)]
enum WantedName<'a> {
    /// One value, of this type where that is known.
    Value(ValueType),
    /// An argument of this function of the user's.
    Argument(&'a str),
    /// A captured tensor with so many indices, and elements of this type where that is known.
    Tensor(usize, ValueType),
}

impl Checker<'_> {
    /// Reports that nothing is known by `name`, which stands for a value of type `ty`.
    pub fn unknown_value(&self, name: &Ident, ty: ValueType) {
        self.unknown(name, WantedName::Value(ty));
    }

    /// As [`Checker::unknown_value`], of an argument of the user's `function`.
    pub fn unknown_argument(&self, name: &Ident, function: &str) {
        self.unknown(name, WantedName::Argument(function));
    }

    /// As [`Checker::unknown_value`], of a tensor with so many indices and elements of type `ty`.
    pub fn unknown_tensor(&self, name: &Ident, rank: usize, ty: ValueType) {
        self.unknown(name, WantedName::Tensor(rank, ty));
    }

    /// Reports that nothing is known by `name`, which stands for all the tiles of `kind`.
    pub fn unknown_tiles(&self, name: &Ident, kind: ParameterKind) {
        let known = self.signature.of_kind(kind).map(|parameter| parameter.name.to_string()).collect::<Vec<_>>();
        // A parameter that is missing is reported with the signature.
        let Some(first) = known.first() else { return };
        let nearest = names::nearest(&name.to_string(), known.iter().map(String::as_str)).unwrap_or(first);
        self.errors.push(name.span(), cannot_find(name), format!("write `{nearest}`"));
    }

    /// Reports that nothing is known by `name`, which stands for the accumulator.
    pub fn unknown_accumulator(&self, name: &Ident) {
        let known = self.accumulators.iter().map(|accumulator| accumulator.name.to_string()).collect::<Vec<_>>();
        let nearest = names::nearest(&name.to_string(), known.iter().map(String::as_str));
        let accumulator = nearest.or(known.first().map(String::as_str)).unwrap_or("o");
        let article = if known.len() > 1 { "an" } else { "the" };
        self.errors.push(name.span(), cannot_find(name), format!("write `{accumulator}`, {article} accumulator"));
    }

    /// Reports that nothing is known by `name`, which stands for the variable of the loop of `tile`.
    pub fn unknown_variable(&self, name: &Ident, tile: OperandTile) {
        let help = |head: &str| format!("move this into `{head} {{ … }}`");
        if !self.report_misplaced(name, help) {
            self.errors.push(name.span(), cannot_find(name), format!("write `{}`", self.tile_text(tile)));
        }
    }

    /// Reports that `name` is the variable of a loop it does not stand in, if it is; `help` is given the loop's head.
    fn report_misplaced(&self, name: &Ident, help: impl FnOnce(&str) -> String) -> bool {
        let text = name.to_string();
        let Some((_, head)) = self.loops.iter().find(|(variable, _)| *variable == text) else { return false };
        let message = format!("`{text}` is known only inside its loop, `{head}`");
        self.errors.push(name.span(), message, help(head));
        true
    }

    fn unknown(&self, name: &Ident, wanted: WantedName) {
        let help = |head: &str| match self.is_after_key_loops() {
            true => format!(
                "the output has one row for each query: use `{name}` in a score, or in the weight of `push_weighted`"
            ),
            false => format!("move this into `{head} {{ … }}`"),
        };
        if self.report_misplaced(name, help) {
            return;
        }
        let text = name.to_string();
        if let Some(builtin) = names::find(&text) {
            let message = format!("`{text}` is a function of the language, not a value");
            self.errors.push(name.span(), message, format!("call it: `{}`", builtin.usage));
            return;
        }
        let help = self.meant(&text, wanted).unwrap_or_else(|| self.parameter_help(&text, wanted));
        self.errors.push(name.span(), cannot_find(name), help);
    }

    /// What `name` is meant for, if something that there is.
    fn meant(&self, name: &str, wanted: WantedName) -> Option<String> {
        if matches!(name, "True" | "False") {
            return Some(format!("write `{}`", name.to_lowercase()));
        }
        if matches!(name, "inf" | "INFINITY" | "NEG_INFINITY" | "neg_inf" | "NEG_INF") {
            return Some("to hide a key, push `mask(s, visible)`".to_string());
        }
        let fits = |binding: Binding| match (wanted, binding) {
            (WantedName::Tensor(..), binding) => matches!(binding, Binding::Tensor(..)),
            (_, Binding::Query(_) | Binding::Key(_) | Binding::Value(_) | Binding::Accumulator(_)) => false,
            _ => true,
        };
        let known = self.scopes.all().filter(|(_, binding)| fits(*binding)).map(|(name, _)| name);
        if let Some(nearest) = names::nearest(name, known) {
            return Some(format!("write `{nearest}`"));
        }
        if matches!(wanted, WantedName::Tensor(..)) {
            return None;
        }
        if let Some(place) = names::place(name) {
            return Some(format!("write `{place}`"));
        }
        let variable = match names::position(name)? {
            Position::Query => self.query_variable.as_ref(),
            Position::Key => self.current.as_ref().map(|current| &current.variable),
        };
        variable.map(|variable| format!("write `{variable}`"))
    }

    /// That `name` may be added as a parameter.
    fn parameter_help(&self, name: &str, wanted: WantedName) -> String {
        let is_attention = self.signature.kind == Kind::Attention;
        if let (false, WantedName::Value(_) | WantedName::Argument(_)) = (is_attention, wanted) {
            if names::position(name).is_some() {
                return format!("add a parameter `{name}: Pos`");
            }
            if matches!(name, "s" | "score") {
                return format!("add a parameter `{name}: Score`");
            }
        }
        let is_constant = names::is_constant(name);
        let mut parameter = if is_constant { names::parameter_name(name) } else { name.to_string() };
        if self.scopes.all().any(|(known, _)| known == parameter) {
            parameter += "_value";
        }
        let add = match wanted {
            WantedName::Value(ValueType::Float) => format!("add a parameter, such as `{parameter}: f32`"),
            WantedName::Value(ValueType::Bool) => format!("add a parameter, such as `{parameter}: bool`"),
            WantedName::Value(_) => format!("add a parameter, such as `{parameter}: u32`"),
            WantedName::Tensor(rank, ty) => {
                let element = match ty {
                    ValueType::Int => "i32",
                    ValueType::Bool => "bool",
                    _ => "f32",
                };
                format!("add a parameter, such as `{parameter}: Tensor<{element}, {rank}>`")
            }
            WantedName::Argument(function) => {
                format!("add a parameter `{parameter}`, of the type that `{function}` takes here")
            }
        };
        if !is_constant {
            return add;
        }
        let caller = match is_attention {
            true => format!("call `{}` with a tensor of `{name}`", self.signature.name),
            false => "have the attention take it too, and pass it here".to_string(),
        };
        format!("a constant that is an array is not visible here: {add}, write `{parameter}` here, and {caller}")
    }

    /// Whether `expr` is a name that is not known, or an element of a tensor that is not. A name in capitals is a constant of Rust,
    /// which rustc knows or reports.
    pub fn is_unknown(&self, expr: &Expression) -> bool {
        match &expr.inner().kind {
            ExprKind::Name(name) => self.scopes.find(name).is_none() && !names::is_constant(&name.to_string()),
            ExprKind::Index(name, _) => self.scopes.find(name).is_none(),
            _ => false,
        }
    }
}

fn cannot_find(name: &Ident) -> String {
    format!("cannot find `{name}` in this function")
}
