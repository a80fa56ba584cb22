//! Instructions that make a value of values.

use half::{bf16, f16};

use super::decode::{Decoded, Decoder};
use super::instruction::{Guard, Logic, PtxOperation, Register};
use super::lanes::{LaneFunction, Test, narrow};
use super::opcode::Opcode;
use super::operand::ParsedOperand;
use super::rounding::Rounding;
use super::types::{PtxType, Space};
use super::{compare, convert, float, integer};

/// What `set` and `setp` have in common: the comparison, and what its result is combined with.
struct Comparison {
    test: Test,
    from: [Register; 2],
    combine: Option<(Logic, Guard)>,
}

impl<'a> Decoder<'a> {
    /// Arithmetic and logic.
    pub(super) fn compute(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
        let name = opcode.name();
        let each = opcode.take_type().map_err(|_| format!("`{name}` is not known"))?;
        if each == PtxType::Pred {
            return self.logic(opcode, operands);
        }
        // The operand types of a `mad.wide` and of what counts bits are not the result's.
        let twice = opcode.take_map(|word| (word == "wide").then_some("wide")).is_some();
        let function = if name == "lop3" && each == PtxType::B32 {
            Some(integer::any_logic())
        } else if each.is_float() {
            float::function(opcode, each)
        } else if twice {
            integer::function(&mut Opcode::new(&format!("{name}.wide")), each)
        } else {
            integer::function(opcode, each)
        };
        let function = function.ok_or_else(|| format!("`{name}` is not known on this type or with these modifiers"))?;
        let arity = match name {
            "mad" | "fma" | "sad" | "prmt" | "bfe" | "shf" => 3,
            "bfi" | "lop3" => 4,
            "abs" | "neg" | "not" | "cnot" | "bfind" | "brev" | "clz" | "popc" | "rcp" | "sqrt" | "rsqrt" | "sin"
            | "cos" | "lg2" | "ex2" | "tanh" => 1,
            _ => 2,
        };
        let Some((to, sources)) = operands.split_first().filter(|(_, sources)| sources.len() == arity) else {
            return Err(format!("`{name}` takes a register to write and {arity} operands"));
        };
        let result = match (name, each) {
            ("clz" | "popc" | "bfind", _) => PtxType::U32,
            _ if twice => widened(each),
            _ => each,
        };
        let unused = self.registers.constant(0, false);
        let mut from = [unused; 4];
        for (index, source) in sources.iter().enumerate() {
            let of = match (name, index) {
                ("shl" | "shr", 1) | ("bfe", 1 | 2) | ("bfi", 2 | 3) => PtxType::B32,
                ("mad", 2) => result,
                _ => each,
            };
            from[index] = self.source(source, of)?;
        }
        Ok(PtxOperation::Compute { function, from, to: self.target(to, result)? })
    }

    /// Logic on predicates.
    fn logic(&mut self, opcode: &Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
        let (logic, negated) = match opcode.name() {
            "and" => (Logic::And, false),
            "or" => (Logic::Or, false),
            "xor" => (Logic::Xor, false),
            "not" => (Logic::And, true),
            "mov" => (Logic::And, false),
            name => return Err(format!("`{name}` is not known on predicates")),
        };
        let (to, a, b) = match (opcode.name(), operands) {
            ("not" | "mov", [to, a]) => (to, a, a),
            ("and" | "or" | "xor", [to, a, b]) => (to, a, b),
            _ => return Err("a predicate and its operands are expected".to_owned()),
        };
        let from = [self.guard(a)?, self.guard(b)?];
        let to = self.guard(to)?.predicate;
        Ok(PtxOperation::Combine { logic, from, negated, to })
    }

    /// Moves, conversions, comparisons and selections.
    pub(super) fn value(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
        match (opcode.name(), operands) {
            ("mov", [to, from]) => self.move_value(opcode, to, from),
            ("cvta", [to, from]) => {
                opcode.take("to");
                let space = opcode.take_map(space);
                let each = opcode.take_type()?;
                // Addresses of a space are their generic addresses here.
                space.ok_or("a space is expected")?;
                Ok(PtxOperation::Move { from: self.source(from, each)?, to: self.target(to, each)? })
            }
            ("cvt", [to, from @ ..]) => self.convert(opcode, to, from),
            ("setp", [to, sources @ ..]) => {
                let Comparison { test, from, combine } = self.comparison(opcode, sources)?;
                let (to, complement) = match to {
                    ParsedOperand::Pair(to, complement) => (self.predicate_to(to)?, self.predicate_to(complement)?),
                    ParsedOperand::Word(to) => (self.predicate_to(to)?, None),
                    _ => return Err("expected a predicate to write".to_owned()),
                };
                Ok(PtxOperation::Test { test, from, combine, to, complement })
            }
            ("set", [to, sources @ ..]) => {
                let result = opcode.take_type()?;
                let one = match result {
                    PtxType::F32 => 1.0f32.to_bits(),
                    PtxType::U32 | PtxType::S32 => !0,
                    _ => return Err("`set` gives an `.f32`, `.u32` or `.s32`".to_owned()),
                };
                let Comparison { test, from, combine } = self.comparison(opcode, sources)?;
                Ok(PtxOperation::SetValue { test, from, combine, one, to: self.target(to, result)? })
            }
            ("testp", [to, from]) => {
                let each = opcode.take_type()?;
                let test = opcode.take_map(|word| compare::kind(word, each)).ok_or("`testp` of an unknown kind")?;
                let from = self.source(from, each)?;
                let to = Some(self.guard(to)?.predicate);
                Ok(PtxOperation::Test { test, from: [from, from], combine: None, to, complement: None })
            }
            ("selp", [to, a, b, by]) => {
                let each = opcode.take_type()?;
                let from = [self.source(a, each)?, self.source(b, each)?];
                Ok(PtxOperation::Select { from, by: self.guard(by)?, to: self.target(to, each)? })
            }
            (name, _) => Err(format!("`{name}` does not take these operands")),
        }
    }

    fn move_value(&mut self, opcode: &mut Opcode, to: &ParsedOperand<'a>, from: &ParsedOperand<'a>) -> Decoded {
        let each = opcode.take_type()?;
        if each == PtxType::Pred {
            return self.logic(opcode, &[to.clone(), from.clone()]);
        }
        for operand in [to, from] {
            // Parts of at least eight bits each.
            if matches!(operand, ParsedOperand::Vector(parts) if parts.is_empty() || each.bits() as usize / parts.len() < 8)
            {
                return Err("a vector of this many parts does not fill a register".to_owned());
            }
        }
        let part = |count: usize| match each.bits() / count as u32 {
            64 => PtxType::B64,
            32 => PtxType::B32,
            16 => PtxType::B16,
            _ => PtxType::B8,
        };
        if let ParsedOperand::Vector(parts) = from {
            let bits = each.bits() / parts.len() as u32;
            let from = self.sources_of(from, part(parts.len()))?;
            return Ok(PtxOperation::Pack { from, bits, to: self.target(to, each)? });
        }
        if let ParsedOperand::Vector(parts) = to {
            let bits = each.bits() / parts.len() as u32;
            let to = self.targets_of(to, part(parts.len()))?;
            return Ok(PtxOperation::Unpack { from: self.source(from, each)?, bits, to });
        }
        Ok(PtxOperation::Move { from: self.source(from, each)?, to: self.target(to, each)? })
    }

    fn convert(&mut self, opcode: &mut Opcode, to: &ParsedOperand<'a>, from: &[ParsedOperand<'a>]) -> Decoded {
        let integral = opcode.take_map(Rounding::integral);
        let rounding = opcode.take_map(Rounding::named);
        let flush = opcode.take("ftz");
        let saturate = opcode.take("sat");
        let relu = opcode.take("relu");
        let (into, of) = (opcode.take_type()?, opcode.take_type()?);
        if let PtxType::F16x2 | PtxType::Bf16x2 = into {
            let [high, low] = from else { return Err("a packed `cvt` takes two operands".to_owned()) };
            if of != PtxType::F32 || rounding != Some(Rounding::Nearest) || integral.is_some() || flush || saturate {
                return Err("a packed `cvt` is understood as `.rn` from `.f32`, perhaps with `.relu`".to_owned());
            }
            let unused = self.registers.constant(0, false);
            let from = [self.source(high, of)?, self.source(low, of)?, unused, unused];
            return Ok(PtxOperation::Compute { function: pack(into, relu), from, to: self.target(to, into)? });
        }
        let [from] = from else { return Err("`cvt` takes one operand".to_owned()) };
        if of == PtxType::F16x2 || of == PtxType::Bf16x2 {
            return Err("`cvt` from a pair is not known".to_owned());
        }
        if relu && !matches!(into, PtxType::F16 | PtxType::Bf16) || rounding.is_some() && !into.is_float() {
            return Err("this modifier is not for this type".to_owned());
        }
        if of.is_float() && !into.is_float() && integral.is_none() {
            return Err("`cvt` from a float to an integer needs a rounding such as `.rzi`".to_owned());
        }
        let conversion = convert::Conversion {
            from: of,
            to: into,
            rounding: integral.or(rounding).unwrap_or(Rounding::Nearest),
            integral: integral.is_some(),
            flush,
            saturate,
            relu,
        };
        let (from, to): (Register, Register) = (self.source(from, of)?, self.target(to, into)?);
        Ok(match conversion.function() {
            Some(function) => PtxOperation::Compute { function, from: [from; 4], to },
            None => PtxOperation::Convert { conversion, from, to },
        })
    }

    /// The comparison of `set` and `setp`, and what its result is combined with.
    fn comparison(&mut self, opcode: &mut Opcode, sources: &[ParsedOperand<'a>]) -> Result<Comparison, String> {
        let logic = opcode.take_map(|word| match word {
            "and" => Some(Logic::And),
            "or" => Some(Logic::Or),
            "xor" => Some(Logic::Xor),
            _ => None,
        });
        let flush = opcode.take("ftz");
        let each = opcode.take_type()?;
        let test = opcode
            .take_map(|word| compare::test(word, each, flush))
            .ok_or_else(|| format!("`{}` has no comparison that this type knows", opcode.name()))?;
        let (a, b, combine) = match (sources, logic) {
            ([a, b], None) => (a, b, None),
            ([a, b, with], Some(logic)) => (a, b, Some((logic, self.guard(with)?))),
            _ => return Err("a comparison takes two operands, and a predicate if it combines".to_owned()),
        };
        Ok(Comparison { test, from: [self.source(a, each)?, self.source(b, each)?], combine })
    }
}

/// The state space a modifier names.
pub(super) fn space(word: &str) -> Option<Space> {
    Some(match word {
        "param" => Space::Param,
        "global" => Space::Global,
        "const" => Space::Constant,
        "shared" | "shared::cta" => Space::Shared,
        "local" => Space::Local,
        _ => return None,
    })
}

/// The integer type of twice the width.
fn widened(each: PtxType) -> PtxType {
    match each {
        PtxType::U16 => PtxType::U32,
        PtxType::S16 => PtxType::S32,
        PtxType::S32 => PtxType::S64,
        _ => PtxType::U64,
    }
}

/// Two f32 as a pair of 16 bits, the first one above.
fn pack(into: PtxType, relu: bool) -> LaneFunction {
    macro_rules! of {
        ($type:ty, $through:expr) => {
            narrow!(|a: f32, b: f32| {
                let [a, b] = [a, b].map(|value| super::lanes::LaneType::bits(<$type>::from_f32($through(value))));
                (a << 16 | b) as u32
            })
        };
    }
    match (into, relu) {
        (PtxType::F16x2, false) => of!(f16, std::convert::identity),
        (PtxType::F16x2, true) => of!(f16, positive),
        (_, false) => of!(bf16, std::convert::identity),
        (_, true) => of!(bf16, positive),
    }
}

/// What is not above zero as zero, but what is no number.
fn positive(value: f32) -> f32 {
    if value <= 0.0 { 0.0 } else { value }
}
