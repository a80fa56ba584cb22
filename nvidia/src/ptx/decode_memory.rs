//! Instructions that read or write memory.

use super::decode::{Decoded, Decoder};
use super::decode_compute::space;
use super::instruction::{Atomic, CopyAsync, Element, Fragment, Operation, Product, Transfer, Update};
use super::opcode::Opcode;
use super::operand::{Operand, number};
use super::types::{Space, Type};

/// What says how long something is to be cached, which changes no result.
fn is_cache_hint(word: &str) -> Option<()> {
    matches!(
        word,
        "ca" | "cg"
            | "cs"
            | "lu"
            | "cv"
            | "nc"
            | "wb"
            | "wt"
            | "L1::evict_normal"
            | "L1::evict_unchanged"
            | "L1::evict_first"
            | "L1::evict_last"
            | "L1::no_allocate"
            | "L2::64B"
            | "L2::128B"
            | "L2::256B"
    )
    .then_some(())
}

/// The threads that an ordered access is ordered with.
fn is_scope(word: &str) -> Option<()> {
    matches!(word, "cta" | "cluster" | "gpu" | "sys").then_some(())
}

impl<'a> Decoder<'a> {
    pub(super) fn memory(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        match opcode.name() {
            "cp" => self.copy(opcode, operands),
            "atom" | "red" => self.atomic(opcode, operands),
            _ => self.transfer(opcode, operands),
        }
    }

    /// `ld` and `st` (PTX ISA, "Data Movement and Conversion Instructions: ld, ld.global.nc, st").
    fn transfer(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        opcode.take("weak");
        let ordered = |word| matches!(word, "volatile" | "relaxed" | "acquire" | "release").then_some(());
        let strong = opcode.take_map(ordered).is_some();
        if strong {
            opcode.take_map(is_scope);
        }
        let space = opcode.take_map(space).unwrap_or(Space::Generic);
        while opcode.take_map(is_cache_hint).is_some() {}
        let count = opcode.take_map(|word| match word {
            "v2" => Some(2),
            "v4" => Some(4),
            "v8" => Some(8),
            _ => None,
        });
        let each = opcode.take_type()?;
        let count = count.unwrap_or(1);
        if each == Type::Pred || count * each.bits() as usize > 128 {
            return Err("an access is of 16 bytes at most".to_owned());
        }
        // The registers may be wider than what is moved.
        let register = if each.bits() < 32 { Type::B16 } else { each };
        let (address, registers, load) = match (opcode.name(), operands) {
            ("ld" | "ldu", [to, address]) => (address, self.targets_of(to, register)?, true),
            ("st", [address, from]) => {
                let from = self.sources_of(from, each)?;
                (address, from.into_iter().map(Some).collect(), false)
            }
            (name, _) => return Err(format!("`{name}` takes an address and a register or a vector of them")),
        };
        if registers.len() != count {
            return Err(format!("{count} registers are expected, {} are given", registers.len()));
        }
        let transfer = Transfer { address: self.address(address, space)?, each, registers, strong };
        Ok(if load { Operation::Load(transfer) } else { Operation::Store(transfer) })
    }

    /// `cp.async` and what waits for it (PTX ISA, "Data Movement and Conversion Instructions: Asynchronous copy").
    fn copy(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        if !opcode.take("async") {
            return Err("`cp` is known as `cp.async` only".to_owned());
        }
        if opcode.take("commit_group") && operands.is_empty() {
            return Ok(Operation::CommitCopies);
        }
        if opcode.take("wait_all") && operands.is_empty() {
            return Ok(Operation::WaitAllCopies);
        }
        if opcode.take("wait_group") {
            let [Operand::Word(count)] = operands else { return Err("a number of groups is expected".to_owned()) };
            let count = number(count).ok_or_else(|| format!("expected a number of groups, found `{count}`"))?;
            return Ok(Operation::WaitCopies(count as u32));
        }
        let past_first_level = match (opcode.take("ca"), opcode.take("cg")) {
            (true, false) => false,
            (false, true) => true,
            _ => return Err("`cp.async` with `.ca`, `.cg` or of groups is known".to_owned()),
        };
        if opcode.take_map(space) != Some(Space::Shared) || opcode.take_map(space) != Some(Space::Global) {
            return Err("`cp.async` is from global to shared memory".to_owned());
        }
        while opcode.take_map(is_cache_hint).is_some() {}
        let [to, from, Operand::Word(length), rest @ ..] = operands else {
            return Err("`cp.async` takes two addresses and a size".to_owned());
        };
        let length = match (number(length), past_first_level) {
            (Some(length @ (4 | 8)), false) => length as u32,
            (Some(16), _) => 16,
            _ => return Err("`cp.async.ca` is of 4, 8 or 16 bytes, `cp.async.cg` of 16".to_owned()),
        };
        let mut copy = CopyAsync {
            to: self.address(to, Space::Shared)?,
            from: self.address(from, Space::Global)?,
            length,
            source_length: None,
            ignore_source: None,
        };
        match rest {
            [] => {}
            [one] => match self.source(one, Type::B32) {
                Ok(register) => copy.source_length = Some(register),
                Err(_) => copy.ignore_source = Some(self.guard(one)?),
            },
            _ => return Err("`cp.async` takes four operands at most".to_owned()),
        }
        Ok(Operation::CopyAsync(copy))
    }

    /// `atom` and `red` (PTX ISA, "Parallel Synchronization and Communication Instructions").
    fn atomic(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        opcode.take_map(|word| matches!(word, "relaxed" | "acquire" | "release" | "acq_rel").then_some(()));
        opcode.take_map(is_scope);
        let space = opcode.take_map(space).unwrap_or(Space::Generic);
        let update = opcode
            .take_map(|word| match word {
                "exch" => Some(Update::Exchange),
                "cas" => Some(Update::CompareExchange),
                "inc" => Some(Update::Increment),
                "dec" => Some(Update::Decrement),
                word => self::update(word),
            })
            .ok_or("an operation such as `.add` is expected")?;
        let each = opcode.take_type()?;
        let known = match update {
            Update::Add => matches!(each, Type::U32 | Type::S32 | Type::U64 | Type::F32 | Type::F64),
            Update::Min | Update::Max => matches!(each, Type::U32 | Type::S32 | Type::U64 | Type::S64),
            Update::Increment | Update::Decrement => each == Type::U32,
            _ => matches!(each, Type::B32 | Type::B64),
        };
        if !known {
            return Err(format!("`{}` of this operation is not known on this type", opcode.name()));
        }
        let (to, rest) = match (opcode.name(), operands) {
            ("atom", [to, rest @ ..]) if *to != Operand::Word("_") => (Some(self.target(to, each)?), rest),
            ("atom", [_, rest @ ..]) => (None, rest),
            (_, rest) => (None, rest),
        };
        let (address, operand, replacement) = match (rest, update) {
            ([address, operand, replacement], Update::CompareExchange) => (address, operand, Some(replacement)),
            ([address, operand], _) if update != Update::CompareExchange => (address, operand, None),
            _ => return Err("an address and the operation's operands are expected".to_owned()),
        };
        let replacement = replacement.map(|operand| self.source(operand, each)).transpose()?;
        let address = self.address(address, space)?;
        Ok(Operation::Atomic(Atomic { address, update, each, operand: self.source(operand, each)?, replacement, to }))
    }

    /// `ldmatrix`, `stmatrix`, `mma` and `wmma` (PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions").
    pub(super) fn matrix(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        match opcode.name() {
            "mma" => self.product(opcode, operands, false),
            "wmma" if opcode.take("mma") => self.product(opcode, operands, true),
            "wmma" => self.fragment(opcode, operands),
            _ => self.matrices(opcode, operands),
        }
    }

    fn matrices(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        let load = opcode.name() == "ldmatrix";
        let needed = ["sync", "aligned", "m8n8"].map(|word| opcode.take(word));
        let count = opcode.take_map(|word| match word {
            "x1" => Some(1),
            "x2" => Some(2),
            "x4" => Some(4),
            _ => None,
        });
        let transposed = opcode.take("trans");
        let space = opcode.take_map(space).unwrap_or(Space::Generic);
        let each = opcode.take_type()?;
        let (registers, address) = match operands {
            [to, address] if load => (self.fragment_to(to)?, address),
            [address, from] => (self.sources_of(from, Type::B32)?, address),
            _ => return Err("an address and registers are expected".to_owned()),
        };
        let count = count.ok_or("`.x1`, `.x2` or `.x4` is expected")?;
        if needed.contains(&false) || each != Type::B16 || registers.len() != count {
            return Err(format!("`.sync.aligned.m8n8` of `.b16` into {count} registers is expected"));
        }
        let address = self.address(address, space)?;
        Ok(if load {
            Operation::LoadMatrices { address, transposed, registers }
        } else {
            Operation::StoreMatrices { address, transposed, registers }
        })
    }

    fn fragment(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        let load = opcode.take("load");
        if !load && !opcode.take("store") {
            return Err("`wmma.load`, `wmma.store` and `wmma.mma` are known".to_owned());
        }
        let part = opcode.take_map(|word| matches!(word, "a" | "b" | "c" | "d").then_some(word));
        let needed = ["sync", "aligned", "m16n16k16"].map(|word| opcode.take(word));
        let column_major = match (opcode.take("row"), opcode.take("col")) {
            (true, false) => false,
            (false, true) => true,
            _ => return Err("`.row` or `.col` is expected".to_owned()),
        };
        let space = opcode.take_map(space).unwrap_or(Space::Generic);
        let (element, count) = match (part, opcode.take_type()?) {
            (Some("a" | "b"), Type::F16) => (Element::F16, 8),
            (Some("a" | "b"), Type::Bf16) => (Element::Bf16, 4),
            (Some("c" | "d"), Type::F32) => (Element::F32, 8),
            _ => return Err("fragments of `.f16` and `.bf16`, accumulated in `.f32`, are known".to_owned()),
        };
        let (registers, address, stride) = match operands {
            [to, address, stride @ ..] if load => (self.fragment_to(to)?, address, stride),
            [address, from, stride @ ..] => (self.sources_of(from, Type::B32)?, address, stride),
            _ => return Err("an address and registers are expected".to_owned()),
        };
        if needed.contains(&false) || registers.len() != count {
            return Err(format!("`.sync.aligned.m16n16k16` of {count} registers is expected"));
        }
        let stride = stride.first().map(|stride| self.source(stride, Type::B32)).transpose()?;
        let address = self.address(address, space)?;
        let fragment = Fragment { address, element, rows: 16, columns: 16, column_major, stride, registers };
        Ok(if load { Operation::LoadFragment(fragment) } else { Operation::StoreFragment(fragment) })
    }

    fn product(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>], opaque: bool) -> Decoded {
        let needed = ["sync", "aligned"].map(|word| opcode.take(word));
        let shape = opcode.take_map(|word| match (word, opaque) {
            ("m16n8k16", false) => Some((16, 8, 16)),
            ("m16n8k8", false) => Some((16, 8, 8)),
            ("m16n16k16", true) => Some((16, 16, 16)),
            _ => None,
        });
        let shape = shape.ok_or("this shape is not known: `mma` has m16n8k16 and m16n8k8, `wmma` m16n16k16")?;
        // The layouts are in the fragments already; `mma` has but one.
        let row_or_column = |word| matches!(word, "row" | "col").then_some(word);
        let layouts = [opcode.take_map(row_or_column), opcode.take_map(row_or_column)];
        if needed.contains(&false) || layouts.contains(&None) || !opaque && layouts != [Some("row"), Some("col")] {
            return Err("`.sync.aligned` and the layouts of A and B are expected".to_owned());
        }
        let mut types = Vec::new();
        while let Some(each) = opcode.take_map(Type::named) {
            types.push(each);
        }
        let element = match (types.as_slice(), opaque) {
            ([Type::F32, Type::F16, Type::F16, Type::F32], false) | ([Type::F32, Type::F32], true) => Element::F16,
            ([Type::F32, Type::Bf16, Type::Bf16, Type::F32], _) => Element::Bf16,
            _ => return Err("products of `.f16` or `.bf16`, accumulated in `.f32`, are known".to_owned()),
        };
        let [to, a, b, c] = operands else { return Err("four fragments are expected".to_owned()) };
        let product = Product {
            element,
            shape,
            opaque,
            to: self.fragment_to(to)?,
            a: self.sources_of(a, Type::B32)?,
            b: self.sources_of(b, Type::B32)?,
            c: self.sources_of(c, Type::B32)?,
        };
        let lengths = [product.to.len(), product.a.len(), product.b.len(), product.c.len()];
        let expected = match (opaque, element, shape) {
            (true, Element::F16, _) => [8, 8, 8, 8],
            (true, ..) => [8, 4, 4, 8],
            (false, _, (_, _, 16)) => [4, 4, 2, 4],
            (false, ..) => [4, 2, 1, 4],
        };
        if lengths != expected {
            return Err(format!("fragments of {expected:?} registers are expected, {lengths:?} are given"));
        }
        Ok(Operation::Product(product))
    }
}

/// Operations that `atom` and `redux` share.
pub(super) fn update(word: &str) -> Option<Update> {
    Some(match word {
        "add" => Update::Add,
        "min" => Update::Min,
        "max" => Update::Max,
        "and" => Update::And,
        "or" => Update::Or,
        "xor" => Update::Xor,
        _ => return None,
    })
}
