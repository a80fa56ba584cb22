//! Instructions that read or write memory.

use super::decode::{Decoded, Decoder};
use super::decode_compute::space;
use super::instruction::{Atomic, CopyAsync, Fragment, FragmentElement, MatrixProduct, PtxOperation, Transfer, Update};
use super::opcode::Opcode;
use super::operand::{ParsedOperand, number};
use super::types::{PtxType, Space};

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
    pub(super) fn memory(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
        match opcode.name() {
            "cp" => self.copy(opcode, operands),
            "atom" | "red" => self.atomic(opcode, operands),
            _ => self.transfer(opcode, operands),
        }
    }

    /// `ld` and `st` (PTX ISA, "Data Movement and Conversion Instructions: ld, ld.global.nc, st").
    fn transfer(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
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
        if each == PtxType::Pred || count * each.bits() as usize > 128 {
            return Err("an access is of 16 bytes at most".to_owned());
        }
        // The registers may be wider than what is moved.
        let register = if each.bits() < 32 { PtxType::B16 } else { each };
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
        Ok(if load { PtxOperation::Load(transfer) } else { PtxOperation::Store(transfer) })
    }

    /// `cp.async` and what waits for it (PTX ISA, "Data Movement and Conversion Instructions: Asynchronous copy").
    fn copy(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
        if !opcode.take("async") {
            return Err("`cp` is known as `cp.async` only".to_owned());
        }
        if opcode.take("commit_group") && operands.is_empty() {
            return Ok(PtxOperation::CommitCopies);
        }
        if opcode.take("wait_all") && operands.is_empty() {
            return Ok(PtxOperation::WaitAllCopies);
        }
        if opcode.take("wait_group") {
            let [ParsedOperand::Word(count)] = operands else {
                return Err("a number of groups is expected".to_owned());
            };
            let count = number(count).ok_or_else(|| format!("expected a number of groups, found `{count}`"))?;
            return Ok(PtxOperation::WaitCopies(count as u32));
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
        let [to, from, ParsedOperand::Word(length), rest @ ..] = operands else {
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
            [one] => match self.source(one, PtxType::B32) {
                Ok(register) => copy.source_length = Some(register),
                Err(_) => copy.ignore_source = Some(self.guard(one)?),
            },
            _ => return Err("`cp.async` takes four operands at most".to_owned()),
        }
        Ok(PtxOperation::CopyAsync(copy))
    }

    /// `atom` and `red` (PTX ISA, "Parallel Synchronization and Communication Instructions").
    fn atomic(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
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
            Update::Add => matches!(each, PtxType::U32 | PtxType::S32 | PtxType::U64 | PtxType::F32 | PtxType::F64),
            Update::Min | Update::Max => matches!(each, PtxType::U32 | PtxType::S32 | PtxType::U64 | PtxType::S64),
            Update::Increment | Update::Decrement => each == PtxType::U32,
            _ => matches!(each, PtxType::B32 | PtxType::B64),
        };
        if !known {
            return Err(format!("`{}` of this operation is not known on this type", opcode.name()));
        }
        let (to, rest) = match (opcode.name(), operands) {
            ("atom", [to, rest @ ..]) if *to != ParsedOperand::Word("_") => (Some(self.target(to, each)?), rest),
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
        Ok(PtxOperation::Atomic(Atomic {
            address,
            update,
            each,
            operand: self.source(operand, each)?,
            replacement,
            to,
        }))
    }

    /// `ldmatrix`, `stmatrix`, `mma` and `wmma` (PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions").
    pub(super) fn matrix(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
        match opcode.name() {
            "mma" => self.product(opcode, operands, false),
            "wmma" if opcode.take("mma") => self.product(opcode, operands, true),
            "wmma" => self.fragment(opcode, operands),
            _ => self.matrices(opcode, operands),
        }
    }

    fn matrices(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
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
            [address, from] => (self.sources_of(from, PtxType::B32)?, address),
            _ => return Err("an address and registers are expected".to_owned()),
        };
        let count = count.ok_or("`.x1`, `.x2` or `.x4` is expected")?;
        if needed.contains(&false) || each != PtxType::B16 || registers.len() != count {
            return Err(format!("`.sync.aligned.m8n8` of `.b16` into {count} registers is expected"));
        }
        let address = self.address(address, space)?;
        Ok(if load {
            PtxOperation::LoadMatrices { address, transposed, registers }
        } else {
            PtxOperation::StoreMatrices { address, transposed, registers }
        })
    }

    fn fragment(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
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
            (Some("a" | "b"), PtxType::F16) => (FragmentElement::F16, 8),
            (Some("a" | "b"), PtxType::Bf16) => (FragmentElement::Bf16, 4),
            (Some("c" | "d"), PtxType::F32) => (FragmentElement::F32, 8),
            _ => return Err("fragments of `.f16` and `.bf16`, accumulated in `.f32`, are known".to_owned()),
        };
        let (registers, address, stride) = match operands {
            [to, address, stride @ ..] if load => (self.fragment_to(to)?, address, stride),
            [address, from, stride @ ..] => (self.sources_of(from, PtxType::B32)?, address, stride),
            _ => return Err("an address and registers are expected".to_owned()),
        };
        if needed.contains(&false) || registers.len() != count {
            return Err(format!("`.sync.aligned.m16n16k16` of {count} registers is expected"));
        }
        let stride = stride.first().map(|stride| self.source(stride, PtxType::B32)).transpose()?;
        let address = self.address(address, space)?;
        let fragment = Fragment { address, element, rows: 16, columns: 16, column_major, stride, registers };
        Ok(if load { PtxOperation::LoadFragment(fragment) } else { PtxOperation::StoreFragment(fragment) })
    }

    fn product(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>], opaque: bool) -> Decoded {
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
        while let Some(each) = opcode.take_map(PtxType::named) {
            types.push(each);
        }
        let element = match (types.as_slice(), opaque) {
            ([PtxType::F32, PtxType::F16, PtxType::F16, PtxType::F32], false)
            | ([PtxType::F32, PtxType::F32], true) => FragmentElement::F16,
            ([PtxType::F32, PtxType::Bf16, PtxType::Bf16, PtxType::F32], _) => FragmentElement::Bf16,
            _ => return Err("products of `.f16` or `.bf16`, accumulated in `.f32`, are known".to_owned()),
        };
        let [to, a, b, c] = operands else { return Err("four fragments are expected".to_owned()) };
        let product = MatrixProduct {
            element,
            shape,
            opaque,
            to: self.fragment_to(to)?,
            a: self.sources_of(a, PtxType::B32)?,
            b: self.sources_of(b, PtxType::B32)?,
            c: self.sources_of(c, PtxType::B32)?,
        };
        let lengths = [product.to.len(), product.a.len(), product.b.len(), product.c.len()];
        let expected = match (opaque, element, shape) {
            (true, FragmentElement::F16, _) => [8, 8, 8, 8],
            (true, ..) => [8, 4, 4, 8],
            (false, _, (_, _, 16)) => [4, 4, 2, 4],
            (false, ..) => [4, 2, 1, 4],
        };
        if lengths != expected {
            return Err(format!("fragments of {expected:?} registers are expected, {lengths:?} are given"));
        }
        Ok(PtxOperation::Product(product))
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
