//! The names of registers, and the rows they have in a warp's register file.

use std::collections::HashMap;

use super::instruction::Register;
use super::module::{RegisterFile, Special};
use super::types::PtxType;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Register(Register),
    Predicate(u32),
}

/// The registers declared so far, by scope.
pub(super) struct Registers {
    pub file: RegisterFile,
    scopes: Vec<HashMap<String, DeclaredRegisters>>,
    constants: HashMap<(u64, bool), Register>,
    special: HashMap<(String, bool), Register>,
    rows: u32,
}

#[derive(Clone, Copy)]
struct DeclaredRegisters {
    first: u32,
    /// How many were declared with a number at the end of the name.
    count: Option<usize>,
    each: PtxType,
}

impl Default for Registers {
    fn default() -> Self {
        let file = RegisterFile { predicates: vec!["true".to_owned()], ..RegisterFile::default() };
        Registers { file, scopes: Vec::new(), constants: HashMap::new(), special: HashMap::new(), rows: 0 }
    }
}

impl Registers {
    pub fn open_scope(&mut self) {
        self.scopes.push(HashMap::new());
    }

    pub fn close_scope(&mut self) {
        self.scopes.pop();
    }

    /// A single register.
    pub fn declare(&mut self, name: String, each: PtxType) {
        let first = self.allocate(&name, each);
        self.insert(name, DeclaredRegisters { first, count: None, each });
    }

    /// Registers whose names end in 0, 1, … `count - 1`.
    pub fn declare_many(&mut self, prefix: &str, each: PtxType, count: usize) {
        let first = if each == PtxType::Pred { self.file.predicates.len() as u32 } else { self.rows };
        for index in 0..count {
            self.allocate(&format!("{prefix}{index}"), each);
        }
        self.insert(prefix.to_owned(), DeclaredRegisters { first, count: Some(count), each });
    }

    fn insert(&mut self, name: String, declaration: DeclaredRegisters) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, declaration);
        }
    }

    /// A predicate's index, or the first row of another register.
    fn allocate(&mut self, name: &str, each: PtxType) -> u32 {
        if each == PtxType::Pred {
            self.file.predicates.push(name.to_owned());
            return self.file.predicates.len() as u32 - 1;
        }
        let first = self.rows;
        let rows = if each.bits() == 64 { 2 } else { 1 };
        self.rows += rows;
        self.file.names.extend((0..rows).map(|_| name.to_owned()));
        first
    }

    /// What a name stands for, in the innermost scope that declares it.
    pub fn find(&self, name: &str) -> Option<Named> {
        let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, number) = name.split_at(digits);
        self.scopes.iter().rev().find_map(|scope| {
            if let Some(one) = scope.get(name).filter(|one| one.count.is_none()) {
                return Some(one.at(0));
            }
            let many = scope.get(prefix)?;
            let index: usize = number.parse().ok()?;
            (index < many.count?).then(|| many.at(index))
        })
    }

    /// A register that holds a value in all lanes.
    pub fn constant(&mut self, value: u64, wide: bool) -> Register {
        if let Some(&register) = self.constants.get(&(value, wide)) {
            return register;
        }
        let row = self.allocate("", if wide { PtxType::B64 } else { PtxType::B32 });
        self.file.constants.push((row, value as u32));
        if wide {
            self.file.constants.push((row + 1, (value >> 32) as u32));
        }
        let register = Register { row, wide };
        self.constants.insert((value, wide), register);
        register
    }

    /// A register that holds what differs from thread to thread, or from launch to launch.
    pub fn special(&mut self, name: &str, wide: bool) -> Option<Register> {
        if let Some(&register) = self.special.get(&(name.to_owned(), wide)) {
            return Some(register);
        }
        let special = special(name)?;
        let row = self.allocate("", if wide { PtxType::B64 } else { PtxType::B32 });
        self.file.special.push((row, special));
        if wide {
            self.file.constants.push((row + 1, 0));
        }
        let register = Register { row, wide };
        self.special.insert((name.to_owned(), wide), register);
        Some(register)
    }
}

impl DeclaredRegisters {
    fn at(&self, index: usize) -> Named {
        let wide = self.each.bits() == 64;
        let step = if wide { 2 } else { 1 };
        let at = self.first + step * index as u32;
        if self.each == PtxType::Pred { Named::Predicate(at) } else { Named::Register(Register { row: at, wide }) }
    }
}

/// The name under which the start of dynamic shared memory is looked up; no register can have it.
pub(super) const DYNAMIC_SHARED: &str = "dynamic shared";

fn special(name: &str) -> Option<Special> {
    let side = |rest: &str| ["x", "y", "z"].iter().position(|&side| side == rest);
    Some(match name {
        DYNAMIC_SHARED => Special::DynamicSharedStart,
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%lanemask_lt" => Special::LanesBelow,
        "%lanemask_le" => Special::LanesUpTo,
        "%lanemask_eq" => Special::LaneBit,
        "%lanemask_ge" => Special::LanesFrom,
        "%lanemask_gt" => Special::LanesAbove,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        _ => match name.split_once('.')? {
            ("%tid", rest) => Special::Thread(side(rest)?),
            ("%ntid", rest) => Special::Threads(side(rest)?),
            ("%ctaid", rest) => Special::Block(side(rest)?),
            ("%nctaid", rest) => Special::Blocks(side(rest)?),
            _ => return None,
        },
    })
}
