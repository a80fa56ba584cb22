//! Values exchanged between the lanes of a warp (PTX ISA, "shfl.sync", "vote.sync", "redux.sync").

use super::clocks::lanes_of;
use super::fault::{Problem, Trouble};
use super::instruction::{Guard, Register, Shuffle, Update, Vote};
use super::lanes::LANES;
use super::warp::Warp;

/// That a mask of members, in every lane that takes part, is the lanes that take part.
pub(super) fn members(warp: &Warp, mask: Register, lanes: u32) -> Result<(), Box<Trouble>> {
    warp.check(mask, lanes)?;
    match lanes_of(lanes).find(|&lane| warp.narrow(mask)[lane] != lanes) {
        None => Ok(()),
        Some(lane) => Err(Problem::Members { expected: warp.narrow(mask)[lane], active: lanes }.of(lane)),
    }
}

/// A value that has to be the same in all lanes.
pub(super) fn uniform(warp: &Warp, register: Register, lanes: u32) -> Result<u64, Box<Trouble>> {
    warp.check(register, lanes)?;
    let value = warp.lane(register, lanes.trailing_zeros() as usize);
    match lanes_of(lanes).find(|&lane| warp.lane(register, lane) != value) {
        None => Ok(value),
        Some(lane) => {
            let other = warp.lane(register, lane);
            let reason = format!("an operand must be the same in all threads, and is {value} and {other}");
            Err(Problem::Operand { reason }.of(lane))
        }
    }
}

/// `shfl.sync` of the registers: what is given, which lane, the clamp and segment mask, and the members.
pub(super) fn shuffle(
    warp: &mut Warp,
    how: Shuffle,
    [from, lane_of, clamp, mask]: [Register; 4],
    to: Register,
    valid: Option<u32>,
    lanes: u32,
) -> Result<(), Box<Trouble>> {
    members(warp, mask, lanes)?;
    for source in [from, lane_of, clamp] {
        warp.check(source, lanes)?;
    }
    let (values, by, clamps) = (warp.narrow(from), warp.narrow(lane_of), warp.narrow(clamp));
    let mut result = [0; LANES];
    let mut inside = 0;
    for lane in lanes_of(lanes) {
        let (own, by) = (lane as u32, by[lane] & 31);
        let (limit, segment) = (clamps[lane] & 31, clamps[lane] >> 8 & 31);
        let (first, last) = (own & segment, (own & segment) | (limit & !segment));
        let (source, valid) = match how {
            // For `up` the clamp is the least lane, so that nothing is read from below it.
            Shuffle::Up => (own.wrapping_sub(by), own as i32 - by as i32 >= last as i32),
            Shuffle::Down => (own + by, own + by <= last),
            Shuffle::Butterfly => (own ^ by, own ^ by <= last),
            Shuffle::Index => (first | by & !segment, first | by & !segment <= last),
        };
        let source = if valid { source } else { own };
        if lanes >> source & 1 == 0 {
            return Err(Problem::ShuffleFromOutside { lane: source }.of(lane));
        }
        result[lane] = values[source as usize];
        inside |= (valid as u32) << lane;
    }
    warp.set_narrow(to, &result, lanes);
    if let Some(predicate) = valid {
        warp.set_predicate(predicate, inside, lanes);
    }
    Ok(())
}

/// `vote.sync`; a ballot goes to a register, the others to a predicate.
pub(super) fn vote(
    warp: &mut Warp,
    how: Vote,
    from: Guard,
    mask: Register,
    to: Result<Register, u32>,
    lanes: u32,
) -> Result<(), Box<Trouble>> {
    members(warp, mask, lanes)?;
    let ballot = warp.predicate(from, lanes)? & lanes;
    let holds = match how {
        Vote::All => ballot == lanes,
        Vote::Any => ballot != 0,
        Vote::Uniform => ballot == lanes || ballot == 0,
        Vote::Ballot => true,
    };
    match to {
        Ok(register) => warp.set_narrow(register, &[ballot; LANES], lanes),
        Err(predicate) => warp.set_predicate(predicate, if holds { !0 } else { 0 }, lanes),
    }
    Ok(())
}

/// `redux.sync`.
pub(super) fn reduce(
    warp: &mut Warp,
    update: Update,
    signed: bool,
    from: Register,
    mask: Register,
    to: Register,
    lanes: u32,
) -> Result<(), Box<Trouble>> {
    members(warp, mask, lanes)?;
    warp.check(from, lanes)?;
    let values = warp.narrow(from);
    let result = lanes_of(lanes).map(|lane| values[lane]).reduce(|a, b| match (update, signed) {
        (Update::Min, true) => (a as i32).min(b as i32) as u32,
        (Update::Max, true) => (a as i32).max(b as i32) as u32,
        (Update::Min, false) => a.min(b),
        (Update::Max, false) => a.max(b),
        (Update::And, _) => a & b,
        (Update::Or, _) => a | b,
        (Update::Xor, _) => a ^ b,
        _ => a.wrapping_add(b),
    });
    warp.set_narrow(to, &[result.unwrap_or_default(); LANES], lanes);
    Ok(())
}
