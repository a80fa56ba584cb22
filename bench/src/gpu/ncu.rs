//! ncu: what a kernel keeps busy, as NVIDIA's profiler counts it.

use super::children::{Children, End};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What is asked for, in words. Where there are several counters, the first that the GPU has: their names differ by generation.
const COUNTERS: [(&str, &[&str]); 14] = [
    ("time", &[TIME]),
    (
        "tensor pipe busy",
        &[
            "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
            "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
            "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
        ],
    ),
    (
        "issue slots busy",
        &["sm__inst_issued.avg.pct_of_peak_sustained_active", "smsp__issue_active.avg.pct_of_peak_sustained_active"],
    ),
    ("fma pipe busy", &["sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_active"]),
    ("special functions busy", &["sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active"]),
    ("shared loads that meet in a bank", &["l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum"]),
    ("shared stores that meet in a bank", &["l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum"]),
    ("passes through shared memory", &["l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"]),
    ("memory busy", &["dram__throughput.avg.pct_of_peak_sustained_elapsed"]),
    ("warps active", &["sm__warps_active.avg.pct_of_peak_sustained_active"]),
    ("registers of a thread", &["launch__registers_per_thread"]),
    ("shared memory of a block", &["launch__shared_mem_per_block"]),
    ("blocks of a multiprocessor that registers allow", &["launch__occupancy_limit_registers"]),
    ("blocks of a multiprocessor that shared memory allows", &["launch__occupancy_limit_shared_mem"]),
];
/// The counter of a kernel's time.
const TIME: &str = "gpu__time_duration.sum";

/// The profiler, and which counters this GPU has.
pub struct Ncu<'a> {
    program: PathBuf,
    children: &'a Children,
    deadline: Instant,
    /// What is counted, in words, and the counter.
    counted: Vec<(&'static str, &'static str)>,
}

impl<'a> Ncu<'a> {
    /// Asks `program` once for the counters of this GPU. It ends at `deadline`, and so does whatever it looks at.
    ///
    /// # Errors
    /// A message where it lists none.
    pub fn open(program: PathBuf, children: &'a Children, deadline: Instant) -> Result<Ncu<'a>, String> {
        let mut known: Vec<String> = Vec::new();
        let mut query = Command::new(&program);
        let ended = children.run(query.arg("--query-metrics"), "ncu", deadline, |line| {
            known.extend(line.split_whitespace().next().filter(|name| name.contains("__")).map(String::from));
            ControlFlow::Continue(())
        })?;
        if known.is_empty() {
            return Err(format!("ncu lists no counters: {}", ended.reason()));
        }
        Ok(Ncu { program, children, deadline, counted: counted(&known) })
    }

    /// The row of the longest kernel that `command`, which the log calls `tag`, runs.
    ///
    /// # Errors
    /// A message where ncu can't look here, or sees no kernel.
    pub fn profile(&self, command: &Command, tag: &str) -> Result<Value, String> {
        let counters: Vec<&str> = self.counted.iter().map(|(_, counter)| *counter).collect();
        let mut profiled = Command::new(&self.program);
        // The clocks are left as they are: the times beside these were measured so.
        profiled.args(["--csv", "--clock-control", "none", "--metrics", &counters.join(",")]);
        profiled.arg(command.get_program()).args(command.get_args());
        let mut printed = String::new();
        let ended = self.children.run(&mut profiled, &format!("ncu {tag}"), self.deadline, |line| {
            printed += line;
            printed.push('\n');
            ControlFlow::Continue(())
        })?;
        let longest = kernels_of(&printed).into_iter().max_by(|a, b| nanoseconds(a).total_cmp(&nanoseconds(b)));
        match longest {
            Some(kernel) if ended.succeeded() => Ok(kernel.row(&self.counted)),
            _ => {
                let errors = printed.lines().filter(|line| line.contains("==ERROR=="));
                let reason = std::iter::once(match ended.end {
                    End::Exited(status) if status.success() => "ncu saw no kernel".into(),
                    _ => ended.reason(),
                });
                Err(reason.chain(errors.map(String::from)).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// Which of the counters there are, where ncu lists the names in `known`, without what is after the dot.
fn counted(known: &[String]) -> Vec<(&'static str, &'static str)> {
    // It lists what the hardware counts, and not what it knows of a launch.
    let has = |counter: &str| {
        counter.starts_with("launch__")
            || known.iter().any(|known| counter.split('.').next() == known.split('.').next())
    };
    let all = COUNTERS.iter();
    all.filter_map(|(title, counters)| Some((*title, *counters.iter().find(|counter| has(counter))?))).collect()
}

/// A kernel in ncu's table.
#[derive(Debug, Default)]
struct Kernel {
    name: String,
    /// The value and the unit of each counter.
    values: BTreeMap<String, (String, String)>,
}

impl Kernel {
    fn row(&self, counted: &[(&str, &str)]) -> Value {
        let metrics = counted.iter().filter_map(|(title, counter)| {
            let (value, unit) = self.values.get(*counter)?;
            Some(json!({ "what": title, "value": value, "unit": unit, "counter": counter }))
        });
        json!({ "kernel": self.name, "metrics": metrics.collect::<Vec<_>>() })
    }
}

/// The kernels of ncu's table of comma-separated values, in which each counter of a kernel has a line.
fn kernels_of(printed: &str) -> Vec<Kernel> {
    let mut lines = printed.lines().skip_while(|line| !line.starts_with("\"ID\""));
    let Some(head) = lines.next().map(cells) else { return Vec::new() };
    let place = |name: &str| head.iter().position(|cell| cell == name);
    let places = ["Process ID", "ID", "Kernel Name", "Metric Name", "Metric Unit", "Metric Value"].map(place);
    let [Some(process), Some(id), Some(kernel), Some(name), Some(unit), Some(value)] = places else {
        return Vec::new();
    };
    // Launches of different processes may have the same number.
    let mut kernels: BTreeMap<[String; 2], Kernel> = BTreeMap::new();
    // What has other columns was printed by the program.
    for line in lines.map(cells).filter(|line| line.len() == head.len()) {
        let of_launch = kernels.entry([line[process].clone(), line[id].clone()]).or_default();
        of_launch.name.clone_from(&line[kernel]);
        of_launch.values.insert(line[name].clone(), (line[value].clone(), line[unit].clone()));
    }
    kernels.into_values().collect()
}

/// A kernel's time, 0 where it is not known.
fn nanoseconds(kernel: &Kernel) -> f64 {
    let Some((value, unit)) = kernel.values.get(TIME) else { return 0.0 };
    let value: f64 = value.replace(',', "").parse().unwrap_or(0.0);
    match unit.as_str() {
        "ns" | "nsecond" => value,
        "us" | "usecond" => value * 1e3,
        "ms" | "msecond" => value * 1e6,
        _ => value * 1e9,
    }
}

/// The cells of a line in which each is in quotes, two of which stand for one.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                if let Some(cell) = cells.last_mut() {
                    cell.push('"');
                }
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            character => {
                if let Some(cell) = cells.last_mut() {
                    cell.push(character);
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ncu's table, with lines before it that are not of it, of kernels of two processes.
    const PRINTED: &str = r#"==PROF== Connected to process 7
causal on cuda
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","7","fill","Command line profiler metrics","gpu__time_duration.sum","us","2.50"
"1","7","causal, ""twice""","Command line profiler metrics","gpu__time_duration.sum","ms","1.25"
"1","8","fill","Command line profiler metrics","gpu__time_duration.sum","us","1,250"
"1","7","causal, ""twice""","Command line profiler metrics","launch__registers_per_thread","register/thread","168"
"1","7","causal, ""twice""","Command line profiler metrics","launch__occupancy_limit_registers","block","3"
"1","7","causal, ""twice""","Command line profiler metrics","launch__occupancy_limit_shared_mem","block","2"
==PROF== Disconnected from process 7
"#;

    #[test]
    fn the_table_of_ncu_is_read() {
        let kernels = kernels_of(PRINTED);
        let found: Vec<(&str, f64)> =
            kernels.iter().map(|kernel| (kernel.name.as_str(), nanoseconds(kernel))).collect();
        assert_eq!(found, [("fill", 2500.0), ("causal, \"twice\"", 1.25e6), ("fill", 1.25e6)]);
        assert!(kernels_of("==ERROR== no such device\n").is_empty());
    }

    #[test]
    fn a_row_has_the_counters_that_the_gpu_has() {
        let known = ["gpu__time_duration", "sm__pipe_tensor_cycles_active", "sm__inst_executed_pipe_tensor.avg"];
        let counted = counted(&known.map(String::from));
        let of_hardware: Vec<&str> =
            counted.iter().map(|(_, name)| *name).filter(|name| !name.starts_with("launch__")).collect();
        assert_eq!(of_hardware, [TIME, "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"]);
        let row = kernels_of(PRINTED)[1].row(&counted);
        let metric =
            |what, value, unit, counter| json!({ "what": what, "value": value, "unit": unit, "counter": counter });
        let expected = [
            metric("time", "1.25", "ms", TIME),
            metric("registers of a thread", "168", "register/thread", "launch__registers_per_thread"),
            metric(
                "blocks of a multiprocessor that registers allow",
                "3",
                "block",
                "launch__occupancy_limit_registers",
            ),
            metric(
                "blocks of a multiprocessor that shared memory allows",
                "2",
                "block",
                "launch__occupancy_limit_shared_mem",
            ),
        ];
        assert_eq!(row, json!({ "kernel": "causal, \"twice\"", "metrics": expected }));
    }
}
