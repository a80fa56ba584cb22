//! What happened before what: which accesses of a block's threads a barrier has ordered.
//!
//! Each thread has an epoch, which grows at every barrier it takes part in. A barrier of the block lets each warp know of all the epochs
//! of the others until now; `bar.warp.sync` lets the lanes that take part know of each other. An access is ordered before another
//! thread's if that thread knows of its epoch. (The vector clocks of FastTrack, Flanagan and Freund 2009, by warp and by lane, as
//! barriers of the block are for whole warps.)

use super::lanes::LANES;

/// Who makes an access, and when. Of several lanes any one may have made it: the parts of `wmma` are spread over the warp in a way
/// that PTX does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub warp: u32,
    pub lanes: u32,
    pub epoch: u32,
}

pub(super) struct Clocks {
    warps: usize,
    /// For each thread.
    epochs: Vec<u32>,
    /// `[w * warps + v]`: the epoch until which warp w knows of warp v.
    between_warps: Vec<u32>,
    /// `[(w * 32 + l) * 32 + m]`: the epoch until which lane l of warp w knows of lane m.
    between_lanes: Vec<u32>,
    /// For each warp: an epoch until which all its lanes know of each other.
    known_to_all: Vec<u32>,
}

impl Clocks {
    /// Epochs start at 1, and nothing is known.
    pub fn new(warps: usize) -> Self {
        Clocks {
            warps,
            epochs: vec![1; warps * LANES],
            between_warps: vec![0; warps * warps],
            between_lanes: vec![0; warps * LANES * LANES],
            known_to_all: vec![0; warps],
        }
    }

    /// The present of one lane.
    #[inline]
    pub fn now(&self, warp: usize, lane: usize) -> Stamp {
        Stamp { warp: warp as u32, lanes: 1 << lane, epoch: self.epochs[warp * LANES + lane] }
    }

    /// The present of a whole warp.
    pub fn now_of_warp(&self, warp: usize) -> Stamp {
        let epoch = self.epochs[warp * LANES..][..LANES].iter().copied().max().unwrap_or_default();
        Stamp { warp: warp as u32, lanes: !0, epoch }
    }

    /// A barrier of whole warps.
    pub fn join_warps(&mut self, warps: &[usize]) {
        let latest: Vec<u32> = warps.iter().map(|&warp| self.now_of_warp(warp).epoch).collect();
        let mut known = vec![0; self.warps];
        for &warp in warps {
            for (known, &its) in known.iter_mut().zip(&self.between_warps[warp * self.warps..][..self.warps]) {
                *known = its.max(*known);
            }
        }
        for (&warp, &latest) in warps.iter().zip(&latest) {
            known[warp] = latest;
        }
        for (&warp, &latest) in warps.iter().zip(&latest) {
            self.between_warps[warp * self.warps..][..self.warps].copy_from_slice(&known);
            self.between_lanes[warp * LANES * LANES..][..LANES * LANES].fill(latest);
            self.epochs[warp * LANES..][..LANES].fill(latest + 1);
            self.known_to_all[warp] = latest;
        }
    }

    /// A barrier of some lanes of a warp.
    pub fn join_lanes(&mut self, warp: usize, members: u32) {
        let lanes = || (0..LANES).filter(|lane| members >> lane & 1 == 1);
        let mut known = [0; LANES];
        for lane in lanes() {
            for (known, &its) in known.iter_mut().zip(&self.between_lanes[(warp * LANES + lane) * LANES..][..LANES]) {
                *known = its.max(*known);
            }
        }
        for lane in lanes() {
            known[lane] = self.epochs[warp * LANES + lane];
        }
        for lane in lanes() {
            self.between_lanes[(warp * LANES + lane) * LANES..][..LANES].copy_from_slice(&known);
            self.epochs[warp * LANES + lane] += 1;
        }
        let of_warp = &self.between_lanes[warp * LANES * LANES..][..LANES * LANES];
        self.known_to_all[warp] = of_warp.iter().copied().min().unwrap_or_default();
    }

    /// Whether all that `earlier` may be is ordered before all that `now` may be.
    #[inline]
    pub fn ordered(&self, earlier: Stamp, now: Stamp) -> bool {
        if earlier.warp != now.warp {
            return earlier.epoch <= self.between_warps[now.warp as usize * self.warps + earlier.warp as usize];
        }
        if earlier.epoch <= self.known_to_all[now.warp as usize] {
            return true;
        }
        // One and the same thread is in order with itself.
        (earlier.lanes == now.lanes && now.lanes.is_power_of_two())
            || lanes_of(now.lanes).all(|lane| {
                let known = &self.between_lanes[(now.warp as usize * LANES + lane) * LANES..][..LANES];
                lanes_of(earlier.lanes).all(|other| other == lane || earlier.epoch <= known[other])
            })
    }

    /// Whether a warp's lanes know of every warp's accesses until an epoch.
    pub fn knows_all_until(&self, warp: usize, epoch: u32) -> bool {
        self.known_to_all[warp] >= epoch
            && (0..self.warps).all(|other| other == warp || self.between_warps[warp * self.warps + other] >= epoch)
    }
}

/// The lanes of a mask.
#[inline]
pub(super) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}
