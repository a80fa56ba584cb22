//! How the body of a function uses its parameters, as far as its text shows it. It tells what a parameter that is declared
//! wrongly is meant to be.

use crate::ast::{Block, ExprKind, Over, Statement};
use crate::signature::ParameterKind;
use proc_macro2::Ident;

/// The names that loops go over, that values are pushed of, and that are indexed.
#[derive(Default)]
pub struct Uses {
    tiles: Vec<(String, ParameterKind)>,
    indices: Vec<(String, usize)>,
    assigned: Vec<String>,
    looped: Vec<String>,
    leading: bool,
}

impl Uses {
    /// The uses in `body`.
    pub fn of(body: &Block) -> Self {
        let mut uses = Uses::default();
        for statement in &body.statements {
            if let Statement::Loop(outer) = statement {
                uses.loop_over(&outer.head.over, ParameterKind::Query);
                outer.body.visit_statements(&mut |statement| match statement {
                    Statement::Loop(inner) => {
                        uses.loop_over(&inner.head.over, ParameterKind::Key);
                        if let Over::Tiles(name) = &inner.head.over {
                            uses.looped.push(name.to_string());
                        }
                    }
                    Statement::Push(push) => {
                        if push.arguments.len() == push.count()
                            && let Some(value) = push.arguments.last()
                            && let ExprKind::Name(name) | ExprKind::Index(name, _) = &value.inner().kind
                        {
                            uses.tiles.push((name.to_string(), ParameterKind::Value));
                        }
                    }
                    _ => {}
                });
            }
        }
        body.visit_statements(&mut |statement| {
            if let Statement::Assignment(assignment) = statement
                && let ExprKind::Name(name) = &assignment.target.inner().kind
            {
                uses.assigned.push(name.to_string());
            }
        });
        body.visit(&mut |expr| {
            if let ExprKind::Index(name, index) = &expr.kind {
                uses.indices.push((name.to_string(), index.len()));
            }
            uses.leading |= matches!(expr.kind, ExprKind::Leading(..));
        });
        uses
    }

    fn loop_over(&mut self, over: &Over, kind: ParameterKind) {
        if let Over::Tiles(name) | Over::Other(_, Some(name)) = over {
            self.tiles.push((name.to_string(), kind));
        }
    }

    /// Whether `name` is used as queries, keys or values; or is called so, where no loop tells.
    pub fn tiles(&self, name: &Ident) -> Option<ParameterKind> {
        let name = name.to_string();
        let used = self.tiles.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        used.or_else(|| match name.to_lowercase().as_str() {
            "q" | "query" | "queries" => Some(ParameterKind::Query),
            "k" | "key" | "keys" => Some(ParameterKind::Key),
            "v" | "value" | "values" => Some(ParameterKind::Value),
            _ => None,
        })
    }

    /// How many indices `name` has where it is indexed first.
    pub fn rank(&self, name: &Ident) -> Option<usize> {
        let name = name.to_string();
        self.indices.iter().find(|(known, _)| *known == name).map(|(_, rank)| *rank)
    }

    /// Whether a loop over keys goes over `name`.
    pub fn is_looped(&self, name: &Ident) -> bool {
        self.looped.contains(&name.to_string())
    }

    /// What loops over keys go over, in order.
    pub fn looped(&self) -> &[String] {
        &self.looped
    }

    /// Whether the first elements of some rows are taken.
    pub fn takes_leading(&self) -> bool {
        self.leading
    }

    /// Whether `name` is assigned to.
    pub fn is_assigned(&self, name: &Ident) -> bool {
        self.assigned.contains(&name.to_string())
    }
}
