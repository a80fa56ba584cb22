//! Programs that are shared, and programs with the schedule that they are run by.

use crate::ir::Program;
use crate::ir::parse::{ParseError, parse_scheduled};
use crate::ir::verify::{VerifyError, verify_scheduled};
use crate::schedule::Schedule;
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
    /// [`VerifyError`] for a schedule with a size of zero, and for a softmax that is not to base 2, as kernels compute it.
    pub fn new(program: Compiled, schedule: Schedule) -> Result<Self, VerifyError> {
        verify_scheduled(&program, schedule)?;
        Ok(Scheduled { program, schedule })
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
        let (program, schedule) = parse_scheduled(text)?;
        Ok(Scheduled::new(Compiled::new(program), schedule)?)
    }
}
