//! Instructions that threads run together: exchanges within a warp, and barriers.

use super::decode::{Decoded, Decoder};
use super::decode_memory::update;
use super::instruction::{Operation, Register, Shuffle, Vote};
use super::opcode::Opcode;
use super::operand::Operand;
use super::types::Type;

impl<'a> Decoder<'a> {
    pub(super) fn together(&mut self, opcode: &mut Opcode, operands: &[Operand<'a>]) -> Decoded {
        match (opcode.name(), operands) {
            ("shfl", [to, from, lane, clamp, members]) if opcode.take("sync") => {
                let how = opcode.take_map(|word| match word {
                    "up" => Some(Shuffle::Up),
                    "down" => Some(Shuffle::Down),
                    "bfly" => Some(Shuffle::Butterfly),
                    "idx" => Some(Shuffle::Index),
                    _ => None,
                });
                let how = how.ok_or("`.up`, `.down`, `.bfly` or `.idx` is expected")?;
                let each = opcode.take_type()?;
                if each != Type::B32 {
                    return Err("`shfl` is of `.b32`".to_owned());
                }
                let (to, valid) = match to {
                    Operand::Pair(to, valid) => (self.target(&Operand::Word(to), each)?, self.predicate_to(valid)?),
                    to => (self.target(to, each)?, None),
                };
                let mut source = |operand| self.source(operand, Type::B32);
                let (from, lane, clamp, members) = (source(from)?, source(lane)?, source(clamp)?, source(members)?);
                Ok(Operation::Shuffle { how, from, lane, clamp, members, to, valid })
            }
            ("vote", [to, from, members]) if opcode.take("sync") => {
                let how = opcode.take_map(|word| match word {
                    "all" => Some(Vote::All),
                    "any" => Some(Vote::Any),
                    "uni" => Some(Vote::Uniform),
                    "ballot" => Some(Vote::Ballot),
                    _ => None,
                });
                let how = how.ok_or("`.all`, `.any`, `.uni` or `.ballot` is expected")?;
                let each = opcode.take_type()?;
                let to = match (how, each) {
                    (Vote::Ballot, Type::B32) => Ok(self.target(to, each)?),
                    (Vote::All | Vote::Any | Vote::Uniform, Type::Pred) => Err(self.guard(to)?.predicate),
                    _ => return Err("`vote` gives a `.pred`, and as `.ballot` a `.b32`".to_owned()),
                };
                Ok(Operation::Vote { how, from: self.guard(from)?, members: self.source(members, Type::B32)?, to })
            }
            ("redux", [to, from, members]) if opcode.take("sync") => {
                let update = opcode.take_map(update).ok_or("an operation such as `.add` is expected")?;
                let each = opcode.take_type()?;
                if !matches!(each, Type::U32 | Type::S32 | Type::B32) {
                    return Err("`redux` is of 32-bit integers".to_owned());
                }
                let (from, members) = (self.source(from, each)?, self.source(members, Type::B32)?);
                Ok(Operation::Reduce { update, signed: each.is_signed(), from, members, to: self.target(to, each)? })
            }
            ("activemask", [to]) => {
                let each = opcode.take_type()?;
                Ok(Operation::ActiveMask { to: self.target(to, each)? })
            }
            ("bar", [members]) if opcode.take("warp") && opcode.take("sync") => {
                Ok(Operation::WarpBarrier { members: self.source(members, Type::B32)? })
            }
            ("bar" | "barrier", [id, threads @ ..]) if threads.len() < 2 => {
                opcode.take("cta");
                if !opcode.take("sync") {
                    return Err("a barrier with `.sync` is expected".to_owned());
                }
                opcode.take("aligned");
                let id: Register = self.source(id, Type::B32)?;
                let threads = threads.first().map(|threads| self.source(threads, Type::B32)).transpose()?;
                Ok(Operation::Barrier { id, threads })
            }
            ("membar" | "fence", []) => {
                let known = |word| {
                    matches!(word, "cta" | "cluster" | "gl" | "gpu" | "sys" | "sc" | "acq_rel" | "proxy" | "async")
                        .then_some(())
                };
                while opcode.take_map(known).is_some() {}
                Ok(Operation::Fence)
            }
            ("nanosleep", [_]) => {
                opcode.take_type()?;
                Ok(Operation::Fence)
            }
            (name, _) => Err(format!("`{name}` does not take these operands")),
        }
    }
}
