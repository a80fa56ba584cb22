//! C++ kernels with names and parameters in one order.
//!
//! CubeCL's C++ compilers number values in an order that differs from run to run, that of hash sets, and so is the order of what a Metal kernel
//! takes besides its buffers. Neither means anything: values are numbered anew in the order in which they appear, and those parameters, which
//! Metal binds by their attributes, are sorted.

use std::collections::HashMap;

/// `text`, in C++, the same whenever it means the same.
pub(super) fn canonical(text: &str) -> String {
    renumber(&sort_builtins(text))
}

/// What a Metal kernel's parameters for its position are marked with.
const BUILTINS: [&str; 2] = ["[[thread", "[[simdgroup"];

/// `text` with the parameters for the position at the end of a Metal kernel's signature sorted.
fn sort_builtins(text: &str) -> String {
    let sorted = text.split_inclusive('\n').map(|line| {
        let Some((start, end)) = line.find('(').zip(line.rfind(") {")) else { return line.to_string() };
        if !line.contains("[[kernel]]") {
            return line.to_string();
        }
        // The first parenthesis belongs to the attributes before the kernel.
        let start =
            line[..end].rfind("void ").and_then(|name| line[name..].find('(').map(|at| name + at)).unwrap_or(start);
        let parameters: Vec<&str> = line[start + 1..end].split(", ").collect();
        let is_builtin = |parameter: &&&str| BUILTINS.iter().any(|builtin| parameter.contains(builtin));
        let mut builtins: Vec<&str> = parameters.iter().filter(is_builtin).copied().collect();
        builtins.sort_unstable();
        let others = parameters.iter().filter(|parameter| !is_builtin(parameter)).copied();
        let parameters: Vec<&str> = others.chain(builtins).collect();
        format!("{}({}{}", &line[..start], parameters.join(", "), &line[end..])
    });
    sorted.collect()
}

/// `text` with its values, `v12` or `info_v12`, numbered from 0 in the order in which they appear.
fn renumber(text: &str) -> String {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(at) = rest.find('v') {
        let (head, tail) = rest.split_at(at);
        before = head.chars().next_back().unwrap_or(before);
        let digits = tail[1..].bytes().take_while(u8::is_ascii_digit).count();
        out.push_str(head);
        out.push('v');
        if digits > 0 && !before.is_ascii_alphanumeric() {
            let next = numbers.len();
            out.push_str(&numbers.entry(&tail[1..=digits]).or_insert(next).to_string());
            rest = &tail[1 + digits..];
        } else {
            rest = &tail[1..];
        }
        before = 'v';
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_as_they_appear() {
        assert_eq!(
            renumber("v12_store = v7; vv3 = &info_v12.v + v7[v1];"),
            "v0_store = v1; vv3 = &info_v0.v + v1[v2];"
        );
        assert_eq!(renumber("v"), "v");
    }

    #[test]
    fn positions_are_sorted_and_buffers_are_not() {
        let of = |positions: &str| {
            format!(
                "[[threads(64)]] [[kernel]] void f(float* v3 [[buffer(0)]], float* v1 [[buffer(1)]], {positions}) {{\n"
            )
        };
        let (a, b) = ("uint3 const grid_v5 [[threadgroup_position_in_grid]]", "uint const unit_v6 [[thread_index]]");
        let text = canonical(&of(&format!("{b}, {a}")));
        assert_eq!(text, canonical(&of(&format!("{a}, {b}"))));
        assert!(text.contains("float* v0 [[buffer(0)]], float* v1 [[buffer(1)]], uint const unit_v2"), "{text}");
    }
}
