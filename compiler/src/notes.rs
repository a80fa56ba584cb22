//! What the user should know of an attention: masks that say nothing or everything, conditions that ranges do not decide, queries
//! that see no key. Each with the place where it is written.

use crate::analysis::affine::Affine;
use crate::analysis::bounds::undecided;
use crate::analysis::clauses::{MAX_CLAUSES, clauses};
use crate::analysis::simplify::simplify;
use crate::analysis::tile::kind;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::ir::{Program, Range, TileKind, TileLoop, TileOp};
use crate::launch::Launch;
use crate::lower::{Parts, Replacements};
use crate::pruned::Constants;
use crate::shortened::shortened;
use crate::spec::{Accumulator, KeyLoop, Location, Push, ScalarType, ScalarValue, Spec, TensorType};
use crate::typing::Parameters;
use crate::visible_pairs::MaskedRows;
use log::Level;
use std::fmt;

/// Something the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters: a warning is of something that is hardly meant.
    pub level: Level,
    /// The place that it is about.
    pub location: Location,
    /// What there is to know.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = if self.level == Level::Warn { "warning" } else { "note" };
        write!(f, "{}: {kind}: {}", self.location, self.message)
    }
}

/// What can be said of `program`, compiled from `spec` with `scalars`, whatever it is launched with.
pub fn of_program(spec: &Spec, scalars: &[ScalarValue], program: &Program) -> Vec<Note> {
    // A program was lowered from it.
    let Ok(replacements) = Replacements::new(spec, scalars, program.head_dim()) else { return Vec::new() };
    let spec = &spec.pruned(&Constants::new(spec, scalars, program.head_dim()));
    let mut notes: Vec<Note> = Vec::new();
    for LoweredPush { of, push, key_loop, own_mask } in pushed(spec, program) {
        let accumulator = &spec.accumulators[push.accumulator].kind;
        let softmax = matches!(accumulator, Accumulator::Softmax { .. });
        if let Some(choice) = find(&push.score, &gives_no_weight).filter(|_| softmax) {
            let is_located = |expr: &Expr| spec.origins.iter().any(|origin| origin.expr == *expr);
            let message = "a score that this makes so small gives its key no weight, but does not hide it, and every tile is visited: \
                           write `mask(score, condition)`";
            let location = spec.locate(find(choice, &is_located).unwrap_or(choice)).clone();
            notes.push(Note { level: Level::Warn, location, message: message.into() });
        }
        let Some(predicate) = Parts::of(&push.score).hide_by_score(accumulator).visible else { continue };
        let warning = |message: &str| {
            let location = spec.locate(mask(&push.score)).clone();
            Note { level: Level::Warn, location, message: message.to_string() }
        };
        let key = spec.set_name(of.set);
        if own_mask.is_none() || key_loop.full.contains(&Range::ALL) {
            notes.push(warning("this mask is always true: it hides nothing"));
        } else if key_loop.visit.is_empty() || own_mask == Some(&Expr::Bool(false)) {
            notes.push(warning(&format!("this mask is always false: no query sees a key of `{key}`")));
        } else {
            let open = Open { spec, program, replacements: &replacements };
            for note in open.notes(&predicate) {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }
    notes
}

/// A push, and what became of it.
struct LoweredPush<'a> {
    of: &'a KeyLoop,
    push: &'a Push,
    key_loop: &'a TileLoop,
    /// The predicate of its mask in the program.
    own_mask: Option<&'a Expr>,
}

/// The pushes of `spec`, which is [pruned](Spec::pruned), and from which `program` was lowered.
fn pushed<'a>(spec: &'a Spec, program: &'a Program) -> Vec<LoweredPush<'a>> {
    let mut found = Vec::new();
    for (of, key_loop) in spec.loops.iter().zip(&program.loops) {
        let pushes = key_loop.body.iter().filter_map(|op| match op {
            TileOp::Push { weights, .. } => Some(*weights),
            _ => None,
        });
        for (push, weights) in of.pushes.iter().zip(pushes) {
            let own_mask = key_loop.body.iter().find_map(|op| match op {
                TileOp::Mask { tile, visible, .. } if *tile == weights => Some(visible),
                _ => None,
            });
            found.push(LoweredPush { of, push, key_loop, own_mask });
        }
    }
    found
}

/// What can be said of a launch of `program`, in which the queries of `masked` see no key.
pub fn of_launch(spec: &Spec, program: &Program, launch: &Launch, masked: Option<&MaskedRows>) -> Vec<Note> {
    let mut notes = Vec::new();
    let spec = &spec.pruned(&Constants::new(spec, launch.scalars, program.head_dim()));
    let last_set = spec.last_set();
    let (Some((_, last)), Some(keys)) = (spec.pushes().last(), launch.keys.get(last_set)) else { return notes };
    let mut note =
        |location: &Location, message| notes.push(Note { level: Level::Info, location: location.clone(), message });
    let location = |expr| spec.locate(mask(expr));

    let says_nothing = program.loops.iter().all(|key_loop| key_loop.visit.is_empty());
    if let Some(masked) = masked
        && masked.count > 0
        && !says_nothing
    {
        let everywhere = masked.positions.iter().map(|range| (range.end() - range.start() + 1) as u64).sum::<u64>()
            * (launch.batch * launch.heads) as u64;
        let mut message = format!("the queries at {} see no key, and their output is zero", masked.text());
        if masked.count < everywhere {
            message += "; in some heads or batches only";
        }
        if launch.query_offset < keys.offset && launch.queries > keys.length {
            message += &format!(
                ": there are more queries ({}) than keys ({}), and the first ones are before the first key",
                launch.queries, keys.length
            );
        }
        note(location(&last.score), message);
    }

    let mut places: Vec<&Location> = Vec::new();
    for LoweredPush { of, push, own_mask, .. } in pushed(spec, program) {
        if of.set == last_set
            && launch.query_offset == keys.offset
            && keys.length > launch.queries
            && launch.queries > 0
            && own_mask.is_some_and(|visible| is_causal(visible, program.parameters()))
        {
            let place = find(&push.score, &|expr| compares_positions(expr)).unwrap_or(mask(&push.score));
            let location = spec.locate(place);
            if places.contains(&location) {
                continue;
            }
            places.push(location);
            note(
                location,
                format!(
                    "the queries are aligned to the first keys: the first is at position {}, and the last {} keys are after all \
                     of them; with_query_offset(kv_len - q_len), which is the default, aligns them to the last",
                    launch.query_offset,
                    keys.length - launch.queries
                ),
            );
        }
    }
    notes
}

/// Whether some alternative of a mask hides the keys after the query.
fn is_causal(visible: &Expr, parameters: Parameters) -> bool {
    let after = |form: &Affine| {
        form.terms.len() == 2
            && form.coefficient(&Expr::Key) == 1
            && form.coefficient(&Expr::Query) == -1
            && form.constant.abs() <= 1
    };
    clauses(visible, parameters).iter().any(|clause| clause.at_most_zero.iter().any(after))
}

fn compares_positions(expr: &Expr) -> bool {
    let Expr::Binary(op, a, b) = expr else { return false };
    let positions = |expr: &Expr| matches!(expr, Expr::Query | Expr::Key | Expr::Int(_));
    let either = |leaf| a.mentions(&leaf) || b.mentions(&leaf);
    op.is_comparison() && !a.any(&mut |a| matches!(a, Expr::Unary(..))) && either(Expr::Query) && either(Expr::Key) && {
        let form = Affine::of(a).zip(Affine::of(b)).and_then(|(a, b)| a.plus(&b, -1));
        form.is_some_and(|form| form.terms.len() == 2 && form.terms.iter().all(|(atom, _)| positions(atom)))
    }
}

/// Whether positions decide that a number, a score or a part of one, is below what any weight of a softmax is made of.
fn gives_no_weight(expr: &Expr) -> bool {
    let Expr::Select(condition, then, otherwise) = expr else { return false };
    let tiny = |branch: &Expr| constant(branch).is_some_and(|number| number <= -1e4);
    (condition.mentions(&Expr::Query) || condition.mentions(&Expr::Key)) && tiny(then) != tiny(otherwise)
}

/// The number that `expr` is, if it is one as it stands.
fn constant(expr: &Expr) -> Option<f32> {
    match expr {
        Expr::Float(number) => Some(number.value()),
        Expr::Unary(UnaryOp::Neg, negated) => constant(negated).map(|number| -number),
        _ => None,
    }
}

/// Whether a number is one of several, by the positions.
fn chooses(expr: &Expr) -> bool {
    let choice = matches!(
        expr,
        Expr::Select(..) | Expr::Unary(UnaryOp::Abs, _) | Expr::Binary(BinaryOp::Min | BinaryOp::Max, ..)
    );
    choice && !expr.is_uniform()
}

/// The first mask in a push, or all of it.
fn mask(push: &Expr) -> &Expr {
    find(push, &|expr| matches!(expr, Expr::Mask(..))).unwrap_or(push)
}

/// The first sub-expression that satisfies `test`.
fn find<'e>(expr: &'e Expr, test: &impl Fn(&Expr) -> bool) -> Option<&'e Expr> {
    if test(expr) { Some(expr) } else { expr.children().into_iter().find_map(|child| find(child, test)) }
}

/// A mask whose tiles ranges do not decide.
struct Open<'a> {
    spec: &'a Spec,
    program: &'a Program,
    replacements: &'a Replacements,
}

impl Open<'_> {
    fn notes(&self, predicate: &Expr) -> Vec<Note> {
        let mut conditions = Vec::new();
        self.collect(predicate, &mut conditions);
        conditions.into_iter().map(|condition| self.note(condition)).collect()
    }

    /// The condition as it is in the program.
    fn lowered(&self, condition: &Expr) -> Expr {
        simplify(&self.replacements.apply(condition), self.program.parameters())
    }

    /// The smallest conditions that ranges do not decide.
    fn collect<'e>(&self, condition: &'e Expr, into: &mut Vec<&'e Expr>) {
        if undecided(&self.lowered(condition), self.program.parameters()).is_empty() {
            return;
        }
        let before = into.len();
        if matches!(
            condition,
            Expr::Unary(UnaryOp::Not, _) | Expr::Binary(BinaryOp::And | BinaryOp::Or, ..) | Expr::Select(..)
        ) {
            condition.children().into_iter().for_each(|part| self.collect(part, into));
        }
        if into.len() == before {
            into.push(condition);
        }
    }

    fn note(&self, condition: &Expr) -> Note {
        let (place, why) = self.why(condition);
        let parameters = self.program.parameters();
        let TileKind { some, all } = kind(&self.lowered(condition), parameters);
        let by_extremes = |expr: &Expr| expr.any(&mut |expr| matches!(expr, Expr::Extreme { .. }));
        let how: String = match (some, all) {
            (Expr::Bool(true), Expr::Bool(false)) => {
                "no tile is skipped for it, and it is tested element by element".into()
            }
            (some, all) if by_extremes(&some) || by_extremes(&all) => {
                "tiles are decided one by one, by the extremes of what they read".into()
            }
            (Expr::Bool(true), _) => "no tile is skipped for it, and which are full is decided one by one".into(),
            _ => "tiles are decided one by one".into(),
        };
        let text = condition.display(self.spec.parameters()).to_string();
        // Not every operation's place is known.
        let known =
            [place, condition].into_iter().map(|expr| self.spec.locate(expr)).find(|at| **at != self.spec.source);
        let location = known.unwrap_or(&self.spec.source).clone();
        Note {
            level: Level::Debug,
            location,
            message: format!("`{}` gives no ranges, because {why}: {how}", shortened(&text)),
        }
    }

    /// Whether a condition was not taken apart.
    fn stays_whole(&self, condition: &Expr) -> bool {
        let lowered = self.lowered(condition);
        clauses(&lowered, self.program.parameters()).iter().any(|clause| clause.others.contains(&lowered))
    }

    /// Why a condition is not decided, and what is to blame.
    fn why<'e>(&self, condition: &'e Expr) -> (&'e Expr, String) {
        let tensors = &self.spec.tensors;
        let varies = |expr: &Expr| !expr.is_uniform();
        let of_floats = |expr: &Expr| matches!(expr, Expr::Binary(op, a, _) if op.is_comparison() && self.spec.parameters().assume_type(a) == Type::Float);
        let load = |test: &dyn Fn(&Expr, usize) -> bool| {
            find(condition, &|expr| matches!(expr, Expr::Load { tensor, .. } if test(expr, *tensor)))
        };
        let name = |expr: &Expr| {
            if let Expr::Load { tensor, .. } = expr { tensors[*tensor].name.clone() } else { String::new() }
        };
        let may_be_negative = |divisor: &Expr| {
            divisor.any(&mut |expr| match expr {
                Expr::Scalar(scalar) => {
                    let param = &self.spec.scalars[*scalar];
                    param.ty == ScalarType::I32 && !param.comptime
                }
                expr => matches!(expr, Expr::Load { .. }),
            })
        };
        let at_both = |expr: &Expr, _| {
            expr.children().into_iter().any(|index| index.mentions(&Expr::Query))
                && expr.children().into_iter().any(|index| index.mentions(&Expr::Key))
        };
        if let Some(of_floats) = find(condition, &of_floats) {
            (of_floats, "it compares floats".into())
        } else if let Some(load) = load(&at_both) {
            (load, format!("`{}` is read at an index that depends on both positions", name(load)))
        } else if let Some(load) = load(&|expr, tensor| varies(expr) && tensors[tensor].ty == TensorType::Bool) {
            (load, format!("`{}` holds truth values", name(load)))
        } else if let Some(load) = load(&|expr, tensor| varies(expr) && !tensors[tensor].order.is_sorted()) {
            (load, format!("`{}` is not declared `#[sorted]`", name(load)))
        } else if let Some(rem) =
            find(condition, &|expr| matches!(expr, Expr::Binary(BinaryOp::Rem, ..)) && varies(expr))
        {
            (rem, "of its remainder".into())
        } else if let Some(quotient) = find(
            condition,
            &|expr| matches!(expr, Expr::Binary(BinaryOp::Div, a, b) if varies(a) && may_be_negative(b)),
        ) {
            (quotient, "it divides by what may be negative (take a `u32`)".into())
        } else if matches!(condition, Expr::Binary(BinaryOp::And | BinaryOp::Or, ..) | Expr::Select(..)) {
            (condition, format!("it has more than {MAX_CLAUSES} alternatives"))
        } else if let Some(choice) = find(condition, &chooses).filter(|_| self.stays_whole(condition)) {
            let why = format!(
                "of the choices in it, which have more than {MAX_CLAUSES} cases (write those that occur as conditions of their own, \
                 with `||` between them)"
            );
            (choice, why)
        } else {
            (condition, "it is not linear in the positions".into())
        }
    }
}
