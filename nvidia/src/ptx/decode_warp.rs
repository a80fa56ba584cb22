//! Instructions that threads run together: exchanges within a warp, and barriers.

use super::decode::{Decoded, Decoder};
use super::decode_memory::update;
use super::instruction::{PtxOperation, Register, Shuffle, Vote};
use super::opcode::Opcode;
use super::operand::ParsedOperand;
use super::types::PtxType;

impl<'a> Decoder<'a> {
    pub(super) fn together(&mut self, opcode: &mut Opcode, operands: &[ParsedOperand<'a>]) -> Decoded {
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
                if each != PtxType::B32 {
                    return Err("`shfl` is of `.b32`".to_owned());
                }
                let (to, valid) = match to {
                    ParsedOperand::Pair(to, valid) => {
                        (self.target(&ParsedOperand::Word(to), each)?, self.predicate_to(valid)?)
                    }
                    to => (self.target(to, each)?, None),
                };
                let mut source = |operand| self.source(operand, PtxType::B32);
                let (from, lane, clamp, members) = (source(from)?, source(lane)?, source(clamp)?, source(members)?);
                Ok(PtxOperation::Shuffle { how, from, lane, clamp, members, to, valid })
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
                    (Vote::Ballot, PtxType::B32) => Ok(self.target(to, each)?),
                    (Vote::All | Vote::Any | Vote::Uniform, PtxType::Pred) => Err(self.guard(to)?.predicate),
                    _ => return Err("`vote` gives a `.pred`, and as `.ballot` a `.b32`".to_owned()),
                };
                Ok(PtxOperation::Vote {
                    how,
                    from: self.guard(from)?,
                    members: self.source(members, PtxType::B32)?,
                    to,
                })
            }
            ("redux", [to, from, members]) if opcode.take("sync") => {
                let update = opcode.take_map(update).ok_or("an operation such as `.add` is expected")?;
                let each = opcode.take_type()?;
                if !matches!(each, PtxType::U32 | PtxType::S32 | PtxType::B32) {
                    return Err("`redux` is of 32-bit integers".to_owned());
                }
                let (from, members) = (self.source(from, each)?, self.source(members, PtxType::B32)?);
                Ok(PtxOperation::Reduce { update, signed: each.is_signed(), from, members, to: self.target(to, each)? })
            }
            ("activemask", [to]) => {
                let each = opcode.take_type()?;
                Ok(PtxOperation::ActiveMask { to: self.target(to, each)? })
            }
            ("bar", [members]) if opcode.take("warp") && opcode.take("sync") => {
                Ok(PtxOperation::WarpBarrier { members: self.source(members, PtxType::B32)? })
            }
            ("bar" | "barrier", [id, threads @ ..]) if threads.len() < 2 => {
                opcode.take("cta");
                if !opcode.take("sync") {
                    return Err("a barrier with `.sync` is expected".to_owned());
                }
                opcode.take("aligned");
                let id: Register = self.source(id, PtxType::B32)?;
                let threads = threads.first().map(|threads| self.source(threads, PtxType::B32)).transpose()?;
                Ok(PtxOperation::Barrier { id, threads })
            }
            ("membar" | "fence", []) => {
                let known = |word| {
                    matches!(word, "cta" | "cluster" | "gl" | "gpu" | "sys" | "sc" | "acq_rel" | "proxy" | "async")
                        .then_some(())
                };
                while opcode.take_map(known).is_some() {}
                Ok(PtxOperation::Fence)
            }
            ("nanosleep", [_]) => {
                opcode.take_type()?;
                Ok(PtxOperation::Fence)
            }
            (name, _) => Err(format!("`{name}` does not take these operands")),
        }
    }
}
