//! Programs that are shared, and programs with the schedule that they are run by.

use crate::ir::forward::Form;
use crate::ir::parse::parse_at;
use crate::ir::tokens::{Cursor, ParseError};
use crate::ir::verify::{VerifyError, verify};
use crate::ir::{Accumulator, Axis, Base, Program, Reduction, forward};
use crate::schedule::{MAX_HEAD_DIM, Schedule};
use std::fmt::{self, Display, Formatter};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// A program that is shared, as compile-time data of kernels. Its hash is computed once: a launch hashes every compile-time argument.
#[derive(Clone, Debug)]
pub struct Compiled {
    program: Arc<Program>,
    hash: u64,
}

impl Compiled {
    /// Wraps `program`.
    pub fn new(program: Program) -> Self {
        let mut hasher = DefaultHasher::new();
        program.hash(&mut hasher);
        Compiled { hash: hasher.finish(), program: Arc::new(program) }
    }
}

impl Deref for Compiled {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program) || (self.hash == other.hash && self.program == other.program)
    }
}

impl Eq for Compiled {}

impl Hash for Compiled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// A program with the schedule that it is run by. The program itself knows none, and is shared by all schedules that ask for it.
///
/// Its text is the program's, with one more line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    program: Compiled,
    schedule: Schedule,
}

impl Scheduled {
    /// `program` with `schedule`.
    ///
    /// # Errors
    /// [`VerifyError`] for a program that breaks an [invariant](crate::ir::verify), for a schedule with a size of zero, and for a program of another form than schedules [run](forward::check), with a
    /// head dim above [`MAX_HEAD_DIM`], or with a softmax that is not to base 2, as kernels compute it.
    pub fn new(program: Compiled, schedule: Schedule) -> Result<Self, VerifyError> {
        let name = schedule.name();
        let refused = |message: String| Err(VerifyError(message));
        if schedule.has_zero() {
            return refused(format!("the schedule `{name}` has a size of zero"));
        }
        verify(&program)?;
        if let Err(error) = forward::check(&program) {
            return refused(format!("the schedule `{name}` runs other programs: {error}"));
        }
        let is_derived = program.rows != Axis::Queries || !program.numbers.is_empty() || program.has_partial_dots();
        if is_derived && !matches!(schedule, Schedule::Cpu(_)) {
            return refused(format!(
                "the schedule `{name}` runs programs with rows of queries, without numbers of rows, and with products of whole rows"
            ));
        }
        let most = schedule.form();
        if Form::of(&program) > most {
            return refused(format!("the schedule `{schedule}` runs programs of {most}"));
        }
        let to_base_e = |one: &Accumulator| matches!(one.reduction, Reduction::Softmax { base: Base::E, .. });
        if program.accumulators.iter().any(to_base_e) {
            return refused(format!("a softmax to base e, and the schedule `{name}` computes it to base 2"));
        }
        match program.operands.iter().map(|operand| operand.dim).find(|dim| *dim > MAX_HEAD_DIM) {
            Some(dim) => refused(format!("a head dim of {dim}, and the schedule `{name}` runs up to {MAX_HEAD_DIM}")),
            None => Ok(Scheduled { program, schedule }),
        }
    }

    /// The program.
    pub fn program(&self) -> &Compiled {
        &self.program
    }

    /// The schedule.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// The program [without skipping](Program::without_skipping), with the same schedule.
    pub fn without_skipping(&self) -> Scheduled {
        Scheduled { program: Compiled::new(self.program.without_skipping()), schedule: self.schedule }
    }
}

impl Deref for Scheduled {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl Display for Scheduled {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(f, "{}  schedule {}", *self.program, self.schedule)
    }
}

/// Why a text is not a program with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is no such text.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The program can't be run by the schedule.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl FromStr for Scheduled {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(text);
        let program = parse_at(&mut cursor)?;
        cursor.word("schedule")?;
        let schedule = Schedule::parse(&mut cursor)?;
        cursor.end()?;
        Ok(Scheduled::new(Compiled::new(program), schedule)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Scheduled};

    const PROGRAM: &str = "\
attention @window(w: u32) -> f32[B, H, S, 8]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  for i in tiles(S)
    o = softmax base 2
    q = load q[i] * (scale())
    for j in tiles(T0) to i1 + 1
        full to i0 + 1
      s = dot q, k[j]
      s = mask s where j <= i on partial
      o = push s, v[j]
    store o
  schedule cpu(lanes: 4, vectors: 1, keys: 8, rows: 2)
";

    /// Checks that the text with the first of each pair replaced by the second is refused with `message`.
    #[track_caller]
    fn refused(changes: &[(&str, &str)], message: &str) {
        let text = changes.iter().fold(PROGRAM.to_string(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        let refused = text.parse::<Scheduled>().map(|scheduled| scheduled.to_string());
        assert_eq!(refused.map_err(|error| error.to_string()), Err(message.to_string()));
    }

    #[test]
    fn a_program_that_is_run_reads_back() {
        assert_eq!(PROGRAM.parse::<Scheduled>().unwrap().to_string(), PROGRAM);
    }

    /// [`PROGRAM`] with a second accumulator, of another head dim, and outputs of both.
    const SEVERAL: [(&str, &str); 5] = [
        ("-> f32[B, H, S, 8]", "-> f32[B, H, S, 8], f32[B, H, S, 4], f32[B, H, S, 8]"),
        ("    q = load", "    p = mean\n    q = load"),
        ("\n      s = mask", "\n      t = map exp(s)\n      s = mask"),
        ("    store o", "      p = push t, k[j]\n    store o\n    store p\n    store o * 2.0"),
        ("rows: 2", "rows: 1"),
    ];

    #[test]
    fn several_outputs_are_run_by_cpu_and_by_units_of_cubes() {
        let text = SEVERAL.iter().fold(PROGRAM.to_string(), |text, (from, to)| text.replace(from, to));
        assert_eq!(text.parse::<Scheduled>().unwrap().to_string(), text);
        let cpu = "cpu(lanes: 4, vectors: 1, keys: 8, rows: 1)";
        let cube = "cube(unit_rows: 2, unit_columns: 4, rows: 4, keys: 8, chunk: 8, planes: unused, products: units)";
        let text = text.replace(cpu, cube);
        assert_eq!(text.parse::<Scheduled>().unwrap().to_string(), text);
        let mma = "mma(warps: 4, fragments: 1, keys: 64, pack_gqa: false)";
        // Also of one accumulator: tensor cores keep one output.
        let twice = [
            ("-> f32[B, H, S, 8]", "-> f32[B, H, S, 8], f32[B, H, S, 8]"),
            ("    store o", "    store o\n    store o * 2.0"),
            ("cpu(lanes: 4, vectors: 1, keys: 8, rows: 2)", mma),
        ];
        refused(&twice, &format!("the schedule `{mma}` runs programs of {}", Form::Tiled));
    }

    #[test]
    fn what_no_schedule_runs_is_refused() {
        refused(&[("rows: 2", "rows: 0")], "the schedule `cpu` has a size of zero");
        refused(&[("base 2", "base e")], "a softmax to base e, and the schedule `cpu` computes it to base 2");
        refused(&[(", 4]", ", 577]")], "a head dim of 577, and the schedule `cpu` runs up to 576");
        refused(&[("where j <= i", "where j")], "in loop 0: a mask is of type integer, expected bool: `j`");
        let other = |changes: &[(&str, &str)], what: &str| {
            refused(changes, &format!("the schedule `cpu` runs other programs: {what}"));
        };
        let heads = &[("q: f32[B, H", "q: f32[B, G")];
        other(heads, "queries have the query heads, and `q` has others");
        other(
            &[("k: f32[B, G", "k: f32[B, H")],
            "keys and values have heads of their own, and `k` has the query heads",
        );
        other(&[("k: f32", "k: f16")], "all operands hold f32, and `k` holds f16");
        let unused = [
            ("    q = load", "    p = sum\n    q = load"),
            ("    store", "      p = push t, v[j]\n    store"),
            ("\n      s = mask", "\n      t = map 1.0\n      s = mask"),
        ];
        other(&unused, "the outputs are of all accumulators, and not of `p`");
        let array = "f32[B, H, S, 8]";
        let nine = [
            (format!("-> {array}"), format!("-> {}", [array].repeat(9).join(", "))),
            ("    store o\n".to_string(), "    store o\n".repeat(9)),
        ];
        let nine: Vec<_> = nine.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        other(&nine, "there are at most 8 outputs, and here are 9");
        other(&[("-> f32[B, H", "-> f32[B, G")], "an output has the heads of the rows, in f32");
        let stored = [("store o", "store o + q"), ("S, 8]", "S, 4]"), ("T0, 8]", "T0, 4]")];
        other(&stored, "what an output is of is not scaled, and `q` is");
        let late = [
            ("\n      o = push", "\n      t = dot q, k[j]\n      t = map t + 1.0\n      o = push"),
            ("push s, v[j]", "push s * t, v[j]"),
        ];
        other(&late, "loop 0: a body is dots, then maps, masks and pushes, and here `dot, mask, dot, map, push`");
        let schedule = "mma(warps: 4, fragments: 1, keys: 64, pack_gqa: false)";
        let of_two = [
            ("cpu(lanes: 4, vectors: 1, keys: 8, rows: 2)", schedule),
            ("s = dot q, k[j]\n", "s = dot q, k[j]\n      t = dot q, k[j]\n"),
            ("    store", "      o = push t, v[j]\n    store"),
        ];
        refused(&of_two, &format!("the schedule `{schedule}` runs programs of {}", Form::Tiled));
    }
}
