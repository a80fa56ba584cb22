//! From statements to instructions: names are looked up, and opcodes understood.

use std::collections::HashMap;

use super::instruction::{ALWAYS, Address, Guard, PtxInstruction, PtxOperation, Register};
use super::opcode::Opcode;
use super::operand::{ParsedOperand, number};
use super::registers::{DYNAMIC_SHARED, Named, Registers};
use super::types::{CONSTANT_WINDOW, LOCAL_WINDOW, PARAM_WINDOW, PtxType, SHARED_WINDOW, Space};

/// A statement of the kernel, before anything in it is looked up.
pub(super) struct PtxStatement<'a> {
    pub line: usize,
    /// The predicate, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub operands: Vec<ParsedOperand<'a>>,
}

/// What the module has said so far.
#[derive(Default)]
pub(super) struct Decoder<'a> {
    pub registers: Registers,
    /// The addresses of variables and parameters; none for dynamic shared memory, which starts where static memory ends.
    symbols: HashMap<&'a str, Option<u64>>,
    /// Bytes of static shared memory.
    pub shared: usize,
    /// Bytes of a thread's frame.
    pub local: usize,
    pub constant: Vec<u8>,
    pub instructions: Vec<PtxInstruction>,
    pub opcodes: Vec<String>,
    opcode_indices: HashMap<&'a str, u32>,
    scopes: Vec<Scope<'a>>,
    /// The lists of labels of indexed branches.
    tables: HashMap<&'a str, Vec<&'a str>>,
}

/// The labels of a block of braces, and the branches in it whose label has not been seen.
#[derive(Default)]
struct Scope<'a> {
    labels: HashMap<&'a str, u32>,
    branches: Vec<Pending<'a>>,
}

struct Pending<'a> {
    instruction: usize,
    label: &'a str,
    line: usize,
}

/// What a decoded instruction is, or why there is none.
pub(super) type Decoded = Result<PtxOperation, String>;

impl<'a> Decoder<'a> {
    pub fn open_scope(&mut self) {
        self.registers.open_scope();
        self.scopes.push(Scope::default());
    }

    /// Gives the branches of a scope their targets; what it does not have may be outside.
    pub fn close_scope(&mut self) -> Result<(), (usize, String)> {
        self.registers.close_scope();
        let Some(scope) = self.scopes.pop() else { return Ok(()) };
        for pending in scope.branches {
            if let PtxOperation::BranchIndexed { targets, .. } = &mut self.instructions[pending.instruction].operation {
                let labels = self.tables.get(pending.label).cloned().unwrap_or_default();
                if labels.is_empty() {
                    return Err((pending.line, format!("no `.branchtargets` named `{}`", pending.label)));
                }
                for label in labels {
                    let target = scope.labels.get(label);
                    targets.push(*target.ok_or_else(|| (pending.line, format!("no label `{label}` here")))?);
                }
                continue;
            }
            let found = scope.labels.get(pending.label);
            match (found, self.scopes.last_mut(), &mut self.instructions[pending.instruction].operation) {
                (Some(&found), _, PtxOperation::Branch { target }) => *target = found,
                (None, Some(outer), _) => outer.branches.push(pending),
                _ => return Err((pending.line, format!("no label `{}` here", pending.label))),
            }
        }
        Ok(())
    }

    /// The end of the kernel returns.
    pub fn finish(&mut self) -> Result<(), (usize, String)> {
        let line = self.instructions.last().map_or(1, |last| last.line);
        let opcode = self.opcode("ret");
        self.instructions.push(PtxInstruction { line, opcode, guard: None, operation: PtxOperation::Return });
        Ok(())
    }

    /// A parameter at an offset.
    pub fn parameter(&mut self, name: &'a str, offset: usize) {
        self.symbols.insert(name, Some(PARAM_WINDOW + offset as u64));
    }

    /// An array of a space, laid out after what is there; one without a length is dynamic shared memory.
    pub fn variable(&mut self, name: &'a str, space: Space, length: Option<usize>, alignment: usize, content: &[u8]) {
        let address = match (space, length) {
            (Space::Local, length) => {
                let start = self.local.next_multiple_of(alignment.max(1));
                self.local = start + length.unwrap_or(0);
                Some(LOCAL_WINDOW + start as u64)
            }
            (Space::Constant, _) => {
                let start = self.constant.len().next_multiple_of(alignment.max(1));
                self.constant.resize(start, 0);
                self.constant.extend_from_slice(content);
                Some(CONSTANT_WINDOW + start as u64)
            }
            (_, Some(length)) => {
                let start = self.shared.next_multiple_of(alignment.max(1));
                self.shared = start + length;
                Some(SHARED_WINDOW + start as u64)
            }
            (_, None) => None,
        };
        self.symbols.insert(name, address);
    }

    pub fn label(&mut self, name: &'a str) -> Result<(), String> {
        let here = self.instructions.len() as u32;
        let again = self.scopes.last_mut().and_then(|scope| scope.labels.insert(name, here)).is_some();
        if again { Err(format!("a second label `{name}`")) } else { Ok(()) }
    }

    pub fn targets(&mut self, name: &'a str, labels: Vec<&'a str>) {
        self.tables.insert(name, labels);
    }

    pub fn instruction(&mut self, statement: PtxStatement<'a>) -> Result<(), String> {
        let guard = match statement.guard {
            Some((name, negated)) => Some(Guard { predicate: self.predicate_named(name)?, negated }),
            None => None,
        };
        let mut opcode = Opcode::new(statement.opcode);
        let operands = &statement.operands;
        let operation = match opcode.name() {
            "bra" | "brx" | "ret" | "exit" | "trap" => self.control(&mut opcode, operands, statement.line),
            "mov" | "cvta" | "cvt" | "setp" | "set" | "selp" | "testp" => self.value(&mut opcode, operands),
            "ld" | "ldu" | "st" | "cp" | "atom" | "red" => self.memory(&mut opcode, operands),
            "ldmatrix" | "stmatrix" | "mma" | "wmma" => self.matrix(&mut opcode, operands),
            "shfl" | "vote" | "redux" | "activemask" | "bar" | "barrier" | "membar" | "fence" | "nanosleep" => {
                self.together(&mut opcode, operands)
            }
            _ => self.compute(&mut opcode, operands),
        }?;
        opcode.finish()?;
        let opcode = self.opcode(statement.opcode);
        self.instructions.push(PtxInstruction { line: statement.line, opcode, guard, operation });
        Ok(())
    }

    fn opcode(&mut self, text: &'a str) -> u32 {
        *self.opcode_indices.entry(text).or_insert_with(|| {
            self.opcodes.push(text.to_owned());
            self.opcodes.len() as u32 - 1
        })
    }

    fn control(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>], line: usize) -> Decoded {
        opcode.take("uni");
        let instruction = self.instructions.len();
        let mut pending = |label| {
            if let Some(scope) = self.scopes.last_mut() {
                scope.branches.push(Pending { instruction, label, line });
            }
        };
        match (opcode.name(), operands) {
            ("bra", [ParsedOperand::Word(label)]) => {
                pending(label);
                Ok(PtxOperation::Branch { target: 0 })
            }
            ("brx", [index, ParsedOperand::Word(table)]) if opcode.take("idx") => {
                pending(table);
                Ok(PtxOperation::BranchIndexed { index: self.source(index, PtxType::U32)?, targets: Vec::new() })
            }
            ("ret" | "exit", []) => Ok(PtxOperation::Return),
            ("trap", []) => Ok(PtxOperation::Trap),
            (name, _) => Err(format!("`{name}` does not take these operands")),
        }
    }

    /// A value to read: a register, a number, or the address of a variable.
    pub fn source(&mut self, operand: &ParsedOperand<'a>, each: PtxType) -> Result<Register, String> {
        let wide = each.bits() == 64;
        match operand {
            ParsedOperand::Word("WARP_SZ") => Ok(self.registers.constant(32, wide)),
            ParsedOperand::Word(name) if name.starts_with('%') => match self.registers.find(name) {
                Some(Named::Register(register)) if wide && !register.wide => {
                    Err(format!("`{name}` has 32 bits at most where 64 are expected"))
                }
                Some(Named::Register(register)) => Ok(register),
                Some(Named::Predicate(_)) => Err(format!("`{name}` is a predicate where a value is expected")),
                None => self.registers.special(name, wide).ok_or_else(|| format!("`{name}` is not known")),
            },
            ParsedOperand::Word(name) => match (number(name), self.registers.find(name)) {
                (Some(value), _) => Ok(self.literal(name, value, each)),
                (None, Some(Named::Register(register))) => Ok(register),
                _ => self.symbol(name, 0, wide),
            },
            ParsedOperand::Sum(name, offset) => self.symbol(name, *offset, wide),
            ParsedOperand::Negative(name) => {
                let value = number(name).ok_or_else(|| format!("expected a number after `-`, found `{name}`"))?;
                Ok(self.literal("", value.wrapping_neg(), each))
            }
            _ => Err("expected a register or a number".to_owned()),
        }
    }

    /// A literal as its type has it: a float's may be given as the bits of the other size.
    fn literal(&mut self, text: &str, value: u64, each: PtxType) -> Register {
        let single = text.len() == 10 && matches!(text.get(..2), Some("0f" | "0F"));
        let double = text.len() == 18 && matches!(text.get(..2), Some("0d" | "0D"));
        let value = match each {
            PtxType::F64 if single => (f32::from_bits(value as u32) as f64).to_bits(),
            PtxType::F32 if double => (f64::from_bits(value) as f32).to_bits() as u64,
            _ if each.bits() >= 64 => value,
            _ => value & ((1 << each.bits()) - 1),
        };
        self.registers.constant(value, each.bits() == 64)
    }

    fn symbol(&mut self, name: &str, offset: i64, wide: bool) -> Result<Register, String> {
        let unknown = || format!("`{name}` is not known");
        match (self.symbols.get(name), offset) {
            (Some(Some(address)), _) => Ok(self.registers.constant(address.wrapping_add_signed(offset), wide)),
            (Some(None), 0) => self.registers.special(DYNAMIC_SHARED, wide).ok_or_else(unknown),
            (Some(None), _) => Err(format!("an offset from `{name}` is understood in brackets only")),
            (None, _) => Err(unknown()),
        }
    }

    /// `[base + offset]`.
    pub fn address(&mut self, operand: &ParsedOperand<'a>, space: Space) -> Result<Address, String> {
        let ParsedOperand::Address { base, offset } = operand else {
            return Err("expected an address in brackets".to_owned());
        };
        let base = match self.registers.find(base) {
            Some(Named::Register(register)) => register,
            Some(Named::Predicate(_)) => return Err(format!("`{base}` is a predicate where an address is expected")),
            None if number(base).is_some() => self.source(&ParsedOperand::Word(base), PtxType::B64)?,
            None => self.symbol(base, 0, true)?,
        };
        if !base.wide && space == Space::Global {
            return Err("a global address has 64 bits".to_owned());
        }
        Ok(Address { space, base, offset: *offset })
    }

    /// A register to write, wide enough for a type.
    pub fn target(&mut self, operand: &ParsedOperand<'a>, each: PtxType) -> Result<Register, String> {
        let ParsedOperand::Word(name) = operand else { return Err("expected a register to write".to_owned()) };
        match self.registers.find(name) {
            Some(Named::Register(register)) if each.bits() == 64 && !register.wide => {
                Err(format!("`{name}` has 32 bits at most where 64 are written"))
            }
            Some(Named::Register(register)) => Ok(register),
            _ => Err(format!("`{name}` is not a register that can be written here")),
        }
    }

    /// The registers of a vector, or a single one. `_` is nothing.
    pub fn targets_of(&mut self, operand: &ParsedOperand<'a>, each: PtxType) -> Result<Vec<Option<Register>>, String> {
        let mut one = |part: &ParsedOperand<'a>| match part {
            ParsedOperand::Word("_") => Ok(None),
            part => self.target(part, each).map(Some),
        };
        match operand {
            ParsedOperand::Vector(parts) => parts.iter().map(one).collect(),
            part => Ok(vec![one(part)?]),
        }
    }

    /// The registers of a vector that are all written.
    pub fn fragment_to(&mut self, operand: &ParsedOperand<'a>) -> Result<Vec<Register>, String> {
        let registers = self.targets_of(operand, PtxType::B32)?;
        registers.into_iter().map(|register| register.ok_or_else(|| "`_` cannot stand here".to_owned())).collect()
    }

    /// The values of a vector, or a single one.
    pub fn sources_of(&mut self, operand: &ParsedOperand<'a>, each: PtxType) -> Result<Vec<Register>, String> {
        match operand {
            ParsedOperand::Vector(parts) => parts.iter().map(|part| self.source(part, each)).collect(),
            part => Ok(vec![self.source(part, each)?]),
        }
    }

    fn predicate_named(&mut self, name: &str) -> Result<u32, String> {
        match self.registers.find(name) {
            Some(Named::Predicate(predicate)) => Ok(predicate),
            _ => Err(format!("`{name}` is not a predicate")),
        }
    }

    /// A predicate to read, perhaps negated, or a constant.
    pub fn guard(&mut self, operand: &ParsedOperand<'a>) -> Result<Guard, String> {
        match operand {
            ParsedOperand::Not(name) => Ok(Guard { predicate: self.predicate_named(name)?, negated: true }),
            ParsedOperand::Word(text) => match number(text) {
                Some(value) => Ok(Guard { negated: value == 0, ..ALWAYS }),
                None => Ok(Guard { predicate: self.predicate_named(text)?, negated: false }),
            },
            ParsedOperand::Negative(_) => Ok(ALWAYS),
            _ => Err("expected a predicate".to_owned()),
        }
    }

    /// A predicate to write; `_` is nothing.
    pub fn predicate_to(&mut self, name: &str) -> Result<Option<u32>, String> {
        if name == "_" { Ok(None) } else { self.predicate_named(name).map(Some) }
    }
}
