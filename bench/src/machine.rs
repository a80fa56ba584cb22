//! What the machine can do at best, by two kernels on the same device in the same process: multiply-adds in registers alone, and
//! a sum over more memory than the last-level cache holds.

use crate::device::is_gpu;
use crate::turns;
use cubecl::prelude::*;
use cubecl::server::Handle;
use purview::ir::Element;
use purview::{Device, Error};

/// Bytes that the sum reads where the device does not say how large its last-level cache is.
const DEFAULT_READ: usize = 256 << 20;
/// The most that it reads.
const MOST_READ: usize = 1 << 30;
/// How long a run of the peak's kernel takes, in milliseconds.
const PEAK_MILLISECONDS: f64 = 4.0;
/// The rounds of the run by which that is found: a millisecond or so, that is far more than a launch.
const TRIAL_ROUNDS: usize = 400_000;
/// How many runs make a measurement, the best of which counts: whatever else the machine does, it only makes one slower.
const RUNS: usize = 5;
/// Independent sums of a unit: loads in flight, not additions, must be what it waits for.
const SUMS: usize = 8;

/// The device's two limits, ready to be measured again and again.
pub struct Machine {
    device: Device,
    grid: Grid,
    chains: usize,
    rounds: usize,
    results: Handle,
    memory: Handle,
    /// f32s in `memory`.
    length: usize,
}

/// How a device is filled.
#[derive(Clone, Copy)]
struct Grid {
    cubes: u32,
    units: u32,
    /// f32s in a vector.
    lanes: usize,
}

impl Grid {
    fn of(device: &Device) -> Grid {
        let hardware = &device.client().properties().hardware;
        let lanes = (hardware.load_width as usize / 32).clamp(1, 16);
        match hardware.num_cpu_cores {
            // CubeCL's CPU runtime spreads units over cores, not cubes.
            Some(cores) => Grid { cubes: 1, units: cores, lanes },
            None => Grid { cubes: 1024, units: 256.min(hardware.max_units_per_cube), lanes: lanes.min(4) },
        }
    }

    /// The launch's units, of all cubes.
    fn units(self) -> usize {
        self.cubes as usize * self.units as usize
    }

    /// Multiply-adds in registers alone; `results` has a vector for every unit.
    fn run_chains(self, device: &Device, results: &Handle, rounds: usize, count: usize) -> Result<(), Error> {
        // SAFETY: the buffer is as large as that.
        unsafe {
            chains::launch_unchecked(
                device.client(),
                CubeCount::Static(self.cubes, 1, 1),
                CubeDim::new_1d(self.units),
                self.lanes,
                BufferArg::from_raw_parts(results.clone(), self.units() * self.lanes),
                rounds,
                0.999,
                count,
            );
        }
        device.sync()
    }

    /// Memory for a vector of every unit.
    fn results(self, device: &Device) -> Handle {
        device.client().empty(self.units() * self.lanes * size_of::<f32>())
    }
}

/// Runs a kernel of a microsecond, so that what starts with the first kernel of a process has started.
///
/// # Errors
/// [`Error::Execution`] where it fails.
pub fn warm_up(device: &Device) -> Result<(), Error> {
    let grid = Grid::of(device);
    grid.run_chains(device, &grid.results(device), 1, 1)
}

/// Whether the peak is a limit of what computes with numbers of `element`: a GPU multiplies those of 16 bits by matrix units, whose
/// peak no kernel here measures.
pub fn has_peak_of(device: &Device, element: Element) -> bool {
    element == Element::F32 || !is_gpu(device)
}

impl Machine {
    /// Prepares and compiles both kernels.
    ///
    /// # Errors
    /// [`Error::Execution`] where they fail.
    pub fn new(device: &Device) -> Result<Machine, Error> {
        let client = device.client();
        let hardware = &client.properties().hardware;
        let grid = Grid::of(device);
        // A chain waits for its own latency, 4 cycles, while 2 to 4 pipes take one vector a cycle each: 16 chains fill them,
        // and leave room for both factors in 32 registers. Of 16 registers no more than 12 can be chains.
        let chains = match hardware.vector_register_count {
            Some(registers) if registers < 32 => 12,
            _ => 16,
        };
        let read =
            hardware.last_level_cache_size.map_or(DEFAULT_READ, |cache| 4 * cache).clamp(DEFAULT_READ, MOST_READ);
        let step = grid.units() * grid.lanes * SUMS;
        let length = (read / size_of::<f32>()).next_multiple_of(step);
        let results = grid.results(device);
        // Written, since memory that nobody wrote is one page of zeros, which stays in the cache.
        let memory = client.create_from_slice(&vec![1u8; length * size_of::<f32>()]);
        let mut machine =
            Machine { device: device.clone(), grid, chains, rounds: TRIAL_ROUNDS, results, memory, length };
        machine.fma_peak()?; // compiles it
        let milliseconds = best(|| machine.run_chains())?;
        machine.rounds = (machine.rounds as f64 * PEAK_MILLISECONDS / milliseconds).max(1.0) as usize;
        machine.read_bandwidth()?;
        Ok(machine)
    }

    /// The best of some runs of f32 multiply-adds, in GFLOP/s; a multiply-add counts as two.
    ///
    /// # Errors
    /// [`Error::Execution`] where the kernel fails.
    pub fn fma_peak(&self) -> Result<f64, Error> {
        let milliseconds = best(|| self.run_chains())?;
        let flops = 2.0 * (self.grid.units() * self.grid.lanes * self.chains) as f64 * self.rounds as f64;
        Ok(flops / milliseconds / 1e6)
    }

    /// The best rate at which memory was read in some runs, in GB/s.
    ///
    /// # Errors
    /// [`Error::Execution`] where the kernel fails.
    pub fn read_bandwidth(&self) -> Result<f64, Error> {
        let milliseconds = best(|| self.run_sums())?;
        Ok((self.length * size_of::<f32>()) as f64 / milliseconds / 1e6)
    }

    fn run_chains(&self) -> Result<(), Error> {
        self.grid.run_chains(&self.device, &self.results, self.rounds, self.chains)
    }

    fn run_sums(&self) -> Result<(), Error> {
        let Grid { cubes, units, lanes } = self.grid;
        let all_units = self.grid.units();
        // SAFETY: the results have a vector for every unit, and the memory `share` vectors.
        unsafe {
            sums::launch_unchecked(
                self.device.client(),
                CubeCount::Static(cubes, 1, 1),
                CubeDim::new_1d(units),
                lanes,
                BufferArg::from_raw_parts(self.memory.clone(), self.length),
                BufferArg::from_raw_parts(self.results.clone(), all_units * lanes),
                self.length / lanes / all_units,
                SUMS,
            );
        }
        self.device.sync()
    }
}

/// The milliseconds of the fastest run.
fn best(mut run: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    (0..RUNS).try_fold(f64::INFINITY, |best, _| Ok(turns::time(1, &mut run)?.min(best)))
}

/// Chains of multiply-adds that depend on nothing but themselves: `x = x · factor + (1 - factor)`, which stays near 1.
#[cube(launch_unchecked)]
fn chains<N: Size>(results: &mut [Vector<f32, N>], rounds: usize, factor: f32, #[comptime] count: usize) {
    let factors = Vector::<f32, N>::new(factor);
    let terms = Vector::<f32, N>::new(1.0 - factor);
    let mut values = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for chain in 0..count {
        values[chain] = Vector::<f32, N>::new(f32::cast_from(chain) + factor);
    }
    for _ in 0..rounds {
        #[unroll]
        for chain in 0..count {
            values[chain] = fma(values[chain], factors, terms);
        }
    }
    let mut total = Vector::<f32, N>::new(0.0);
    #[unroll]
    for chain in 0..count {
        total += values[chain];
    }
    results[ABSOLUTE_POS] = total;
}

/// Each unit adds up its own part of the memory.
#[cube(launch_unchecked)]
fn sums<N: Size>(memory: &[Vector<f32, N>], results: &mut [Vector<f32, N>], share: usize, #[comptime] count: usize) {
    let mut values = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for sum in 0..count {
        values[sum] = Vector::<f32, N>::new(0.0);
    }
    let first = ABSOLUTE_POS * share;
    for step in 0..share / count {
        #[unroll]
        for sum in 0..count {
            values[sum] += memory[first + step * count + sum];
        }
    }
    let mut total = Vector::<f32, N>::new(0.0);
    #[unroll]
    for sum in 0..count {
        total += values[sum];
    }
    results[ABSOLUTE_POS] = total;
}
