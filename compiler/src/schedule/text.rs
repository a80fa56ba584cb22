//! Schedules as text, `cpu(lanes: 16, vectors: 4, keys: 64, rows: 6)`, and from it: by one list of the fields of each.

use super::{CpuSchedule, CubeSchedule, FewQueries, MmaSchedule, Planes, Products, Schedule};
use crate::ir::tokens::{Cursor, ParseError, Token};
use std::fmt::{self, Display, Formatter};

/// What a schedule has in a field.
trait Field: Display + Sized {
    /// From its text.
    fn parse(cursor: &mut Cursor) -> Result<Self, ParseError>;

    /// Whether a size in it is zero.
    fn has_zero(&self) -> bool;
}

impl Field for usize {
    fn parse(cursor: &mut Cursor) -> Result<Self, ParseError> {
        cursor.size()
    }

    fn has_zero(&self) -> bool {
        *self == 0
    }
}

impl Field for bool {
    fn parse(cursor: &mut Cursor) -> Result<Self, ParseError> {
        Ok(cursor.one_of(&["false", "true"])? == 1)
    }

    fn has_zero(&self) -> bool {
        false
    }
}

impl Display for Products {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Products::Units => f.write_str("units"),
            Products::Matrices { m, n, k, plane } => write!(f, "matrices({m}, {n}, {k}) by {plane}"),
        }
    }
}

impl Field for Products {
    fn parse(cursor: &mut Cursor) -> Result<Self, ParseError> {
        if cursor.one_of(&["units", "matrices"])? == 0 {
            return Ok(Products::Units);
        }
        cursor.sign("(")?;
        let m = cursor.size()?;
        cursor.sign(",")?;
        let n = cursor.size()?;
        cursor.sign(",")?;
        let k = cursor.size()?;
        cursor.words(&[")", "by"])?;
        Ok(Products::Matrices { m, n, k, plane: cursor.size()? })
    }

    fn has_zero(&self) -> bool {
        match self {
            Products::Units => false,
            Products::Matrices { m, n, k, plane } => [m, n, k, plane].contains(&&0),
        }
    }
}

impl Display for Planes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Planes::Unused => f.write_str("unused"),
            Planes::Reduce => f.write_str("reduce"),
            Planes::Share(size) => write!(f, "share({size})"),
        }
    }
}

impl Field for Planes {
    fn parse(cursor: &mut Cursor) -> Result<Self, ParseError> {
        Ok(match cursor.one_of(&["unused", "reduce", "share"])? {
            0 => Planes::Unused,
            1 => Planes::Reduce,
            _ => {
                cursor.sign("(")?;
                let size = cursor.size()?;
                cursor.sign(")")?;
                Planes::Share(size)
            }
        })
    }

    fn has_zero(&self) -> bool {
        *self == Planes::Share(0)
    }
}

impl Display for FewQueries {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let FewQueries { pack_gqa, split_kv, along_head_dim } = *self;
        let mut words = Vec::new();
        words.extend(pack_gqa.then(|| "pack_gqa".to_string()));
        words.extend(split_kv.then(|| "split_kv".to_string()));
        words.extend((along_head_dim > 0).then(|| format!("along_head_dim({along_head_dim})")));
        f.write_str(&words.join(" "))
    }
}

impl Field for FewQueries {
    fn parse(cursor: &mut Cursor) -> Result<Self, ParseError> {
        let pack_gqa = cursor.skip_word("pack_gqa");
        let split_kv = cursor.skip_word("split_kv");
        let mut along_head_dim = 0;
        if cursor.skip_word("along_head_dim") {
            cursor.sign("(")?;
            along_head_dim = cursor.size()?;
            cursor.sign(")")?;
        }
        Ok(FewQueries { pack_gqa, split_kv, along_head_dim })
    }

    fn has_zero(&self) -> bool {
        false
    }
}

/// Goes past a field's name, and past the sign before it.
fn field<F: Field>(cursor: &mut Cursor, before: &str, name: &str) -> Result<F, ParseError> {
    cursor.words(&[before, name, ":"])?;
    F::parse(cursor)
}

fn is_default<F: Default + PartialEq>(field: &F) -> bool {
    *field == F::default()
}

/// What is done with all fields of a schedule's type, of which this is the list. Those after the semicolon are not said where they are as by
/// default.
macro_rules! fields {
    ($Type:ident, $first:ident $(, $field:ident)* $(; $optional:ident)?) => {
        impl $Type {
            fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
                let $Type { $first $(, $field)* $(, $optional)? } = self;
                write!(f, concat!("(", stringify!($first), ": {}"), $first)?;
                $(write!(f, concat!(", ", stringify!($field), ": {}"), $field)?;)*
                $(if !is_default($optional) {
                    write!(f, concat!(", ", stringify!($optional), ": {}"), $optional)?;
                })?
                f.write_str(")")
            }

            fn parse(cursor: &mut Cursor) -> Result<Self, ParseError> {
                let parsed = $Type {
                    $first: field(cursor, "(", stringify!($first))?,
                    $($field: field(cursor, ",", stringify!($field))?,)*
                    $($optional: match cursor.peek() {
                        Token::Sign(",") => field(cursor, ",", stringify!($optional))?,
                        _ => Default::default(),
                    },)?
                };
                cursor.sign(")")?;
                Ok(parsed)
            }

            fn has_zero(&self) -> bool {
                self.$first.has_zero() $(|| self.$field.has_zero())*
            }
        }
    };
}

fields!(CpuSchedule, lanes, vectors, keys, rows; few);
fields!(CubeSchedule, unit_rows, unit_columns, rows, keys, chunk, planes, products);
fields!(MmaSchedule, warps, fragments, keys, pack_gqa; split_columns);

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Schedule::Cpu(cpu) => cpu.print(f),
            Schedule::Cube(cube) => cube.print(f),
            Schedule::Mma(mma) => mma.print(f),
        }
    }
}

impl Schedule {
    /// The schedule at `cursor`, which goes past it.
    pub fn parse(cursor: &mut Cursor) -> Result<Schedule, ParseError> {
        Ok(match cursor.one_of(&["cpu", "cube", "mma"])? {
            0 => Schedule::Cpu(CpuSchedule::parse(cursor)?),
            1 => Schedule::Cube(CubeSchedule::parse(cursor)?),
            _ => Schedule::Mma(MmaSchedule::parse(cursor)?),
        })
    }

    /// Whether one of its sizes is zero.
    pub fn has_zero(&self) -> bool {
        match self {
            Schedule::Cpu(cpu) => cpu.has_zero(),
            Schedule::Cube(cube) => cube.has_zero(),
            Schedule::Mma(mma) => mma.has_zero(),
        }
    }
}
