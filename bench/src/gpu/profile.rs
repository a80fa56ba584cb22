//! ncu: what a kernel keeps busy, as NVIDIA's profiler counts it.

use super::child::{self, Flow, Log};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// What is asked for, in words. Where there are several counters, the first that the GPU has: their names differ by generation.
const COUNTERS: [(&str, &[&str]); 13] = [
    ("time", &["gpu__time_duration.sum"]),
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
    (
        "blocks of a multiprocessor, at most",
        &["launch__occupancy_limit_registers", "launch__occupancy_limit_shared_mem"],
    ),
];

/// The row of the longest kernel that `command` runs.
///
/// # Errors
/// A message where ncu can't look here, or sees no kernel.
pub fn profile_of(ncu: &Path, command: Command, tag: &str, deadline: Instant, log: &Log) -> Result<Value, String> {
    let tag = format!("ncu {tag}");
    let known = known_counters(ncu, &tag, deadline, log)?;
    let asked: Vec<(&str, &str)> = COUNTERS
        .iter()
        .filter_map(|(title, counters)| {
            let has = |counter: &&&str| {
                counter.starts_with("launch__")
                    || known.iter().any(|known| **counter == *known || counter.split('.').next() == Some(known))
            };
            counters.iter().find(has).map(|counter| (*title, *counter))
        })
        .collect();
    let counters: Vec<&str> = asked.iter().map(|(_, counter)| *counter).collect();
    let mut profiled = Command::new(ncu);
    // The clocks are left as they are: the times beside these were measured so.
    profiled.args(["--csv", "--clock-control", "none", "--metrics", &counters.join(",")]);
    profiled.arg(command.get_program()).args(command.get_args());
    let mut printed = String::new();
    let ended = child::run(&mut profiled, &tag, deadline, log, |line| {
        printed += line;
        printed.push('\n');
        Flow::Continue
    })?;
    let kernels = kernels_of(&printed);
    let Some((kernel, values)) = kernels.into_iter().max_by(|a, b| duration(&a.1).total_cmp(&duration(&b.1))) else {
        let errors: Vec<&str> = printed.lines().filter(|line| line.contains("==ERROR==")).collect();
        return Err(format!("{} {}", ended.reason(), errors.join(" ")).trim().to_string());
    };
    let metrics: Map<String, Value> = asked
        .iter()
        .filter_map(|(title, counter)| {
            let (value, unit) = values.get(*counter)?;
            Some(((*title).to_string(), json!(format!("{value} {unit}").trim())))
        })
        .collect();
    Ok(json!({ "kernel": kernel, "metrics": metrics }))
}

/// The names of the counters of this GPU, without what is after the dot.
fn known_counters(ncu: &Path, tag: &str, deadline: Instant, log: &Log) -> Result<Vec<String>, String> {
    let mut known = Vec::new();
    let ended = child::run(Command::new(ncu).arg("--query-metrics"), tag, deadline, log, |line| {
        if let Some(name) = line.split_whitespace().next().filter(|name| name.contains("__")) {
            known.push(name.to_string());
        }
        Flow::Continue
    })?;
    if known.is_empty() { Err(format!("it lists no counters: {}", ended.reason())) } else { Ok(known) }
}

/// The value and the unit of each counter.
type Values = BTreeMap<String, (String, String)>;

/// The kernels of ncu's table of comma-separated values, each with its counters.
fn kernels_of(printed: &str) -> Vec<(String, Values)> {
    let mut lines = printed.lines().skip_while(|line| !line.starts_with("\"ID\""));
    let Some(head) = lines.next().map(cells) else { return Vec::new() };
    let place = |name: &str| head.iter().position(|cell| cell == name);
    let places = [place("ID"), place("Kernel Name"), place("Metric Name"), place("Metric Unit"), place("Metric Value")];
    let [Some(id), Some(kernel), Some(name), Some(unit), Some(value)] = places else { return Vec::new() };
    let mut kernels: Vec<(String, String, Values)> = Vec::new();
    for line in lines.map(cells).filter(|line| line.len() == head.len()) {
        if kernels.last().is_none_or(|last| last.0 != line[id]) {
            kernels.push((line[id].clone(), line[kernel].clone(), Values::new()));
        }
        if let Some((_, _, values)) = kernels.last_mut() {
            values.insert(line[name].clone(), (line[value].clone(), line[unit].clone()));
        }
    }
    kernels.into_iter().map(|(_, kernel, values)| (kernel, values)).collect()
}

/// A kernel's time in nanoseconds.
fn duration(values: &Values) -> f64 {
    let Some((value, unit)) = values.get("gpu__time_duration.sum") else { return 0.0 };
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

    #[test]
    fn the_table_of_ncu_is_read() {
        let printed = "==PROF== Connected to process 7\ncausal on cuda\n\
            \"ID\",\"Process ID\",\"Kernel Name\",\"Section Name\",\"Metric Name\",\"Metric Unit\",\"Metric Value\"\n\
            \"0\",\"7\",\"fill\",\"Command line profiler metrics\",\"gpu__time_duration.sum\",\"us\",\"2.50\"\n\
            \"1\",\"7\",\"causal, \"\"twice\"\"\",\"Command line profiler metrics\",\"gpu__time_duration.sum\",\"ms\",\"1.25\"\n\
            \"1\",\"7\",\"causal, \"\"twice\"\"\",\"Command line profiler metrics\",\"launch__registers_per_thread\",\"register/thread\",\"168\"\n";
        let kernels = kernels_of(printed);
        assert_eq!(kernels.len(), 2);
        assert_eq!((kernels[0].0.as_str(), duration(&kernels[0].1)), ("fill", 2500.0));
        assert_eq!((kernels[1].0.as_str(), duration(&kernels[1].1)), ("causal, \"twice\"", 1.25e6));
        assert_eq!(kernels[1].1["launch__registers_per_thread"].0, "168");
        assert!(kernels_of("==ERROR== no such device\n").is_empty());
    }
}
