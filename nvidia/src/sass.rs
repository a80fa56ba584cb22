//! The machine code of a kernel as `nvdisasm` prints it, and as `cuobjdump -sass` does, read into instructions.
//!
//! ```text
//! .text.causal:                                                   Function : causal
//! .L_x_2:
//!         /*0270*/               @P0 BRA `(.L_x_1) ;              /*0270*/    @P0 BRA 0x590 ;    /* 0x0000031000000947 */
//! ```
//!
//! [`MachineFunction::loops`] finds the loops, [`crate::instruction_counts`] says what is in them. `nvdisasm` is what [`crate::toolchain`]
//! runs: it has labels, so that a reader sees where a branch goes, and `cuobjdump` needs it too.

use std::collections::HashMap;
use thiserror::Error;

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SassError {
    /// There is no instruction in it.
    #[error(
        "there is no machine code in the {lines} lines of the disassembly, expected lines such as `/*0000*/ EXIT ;`"
    )]
    Empty {
        /// The length of the text.
        lines: usize,
    },
    /// A branch to a place that is not in the text.
    #[error("the instruction at {address:#x} of `{function}`, `{text}`, goes to a place that is not in it")]
    Target {
        /// The function.
        function: String,
        /// The instruction's address, in bytes from the function's beginning.
        address: u64,
        /// The instruction.
        text: String,
    },
    /// A branch to an address in a register.
    #[error(
        "the instruction at {address:#x} of `{function}`, `{text}`, goes to a computed address, which is not followed"
    )]
    Computed {
        /// The function.
        function: String,
        /// The instruction's address, in bytes from the function's beginning.
        address: u64,
        /// The instruction.
        text: String,
    },
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineInstruction {
    /// Where it is, in bytes from the function's beginning.
    pub address: u64,
    /// The predicate under which it is executed, `P0` or `!UP1`; `None` where it always is.
    pub guard: Option<String>,
    /// The operation with all its modifiers: `HMMA.16816.F32`.
    pub opcode: String,
    /// The rest, as text.
    pub operands: String,
    /// Where it goes, if it names a place: an address as above.
    pub target: Option<u64>,
}

impl MachineInstruction {
    /// The operation without modifiers: `HMMA`.
    pub fn operation(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }

    /// Whether `modifier` is one of the operation's: `X4` of `LDSM.X4`.
    pub fn has(&self, modifier: &str) -> bool {
        self.opcode.split('.').skip(1).any(|one| one == modifier)
    }

    /// As it is printed, without its address.
    pub fn text(&self) -> String {
        let guard = self.guard.as_ref().map(|guard| format!("@{guard} ")).unwrap_or_default();
        format!("{guard}{} {}", self.opcode, self.operands).trim_end().into()
    }
}

/// A kernel, and the functions that are placed behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineFunction {
    /// Its name.
    pub name: String,
    /// Its instructions, by address.
    pub instructions: Vec<MachineInstruction>,
}

/// The functions of a disassembly.
///
/// # Errors
/// [`SassError`], where there is no instruction, or a branch goes nowhere.
pub fn parse(text: &str) -> Result<Vec<MachineFunction>, SassError> {
    let mut functions: Vec<MachineFunction> = Vec::new();
    // Labels are unique in a file; those of an instruction come before it.
    let mut labels: HashMap<&str, (usize, u64)> = HashMap::new();
    let mut waiting: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("Function :") {
            functions.push(MachineFunction { name: name.trim().into(), instructions: Vec::new() });
        } else if let Some(label) = line.strip_suffix(':').filter(|label| !label.contains([' ', '/'])) {
            if let Some(name) = label.strip_prefix(".text.") {
                functions.push(MachineFunction { name: name.into(), instructions: Vec::new() });
            }
            waiting.push(label);
        } else if let (count, Some(function), Some(instruction)) =
            (functions.len(), functions.last_mut(), instruction(line))
        {
            labels.extend(waiting.drain(..).map(|label| (label, (count, instruction.address))));
            function.instructions.push(instruction);
        }
    }
    for (before, function) in functions.iter_mut().enumerate() {
        let MachineFunction { name, instructions } = function;
        let end = instructions.last().map_or(0, |last| last.address);
        for instruction in instructions {
            let Some(place) = place(instruction) else { continue };
            let address = match place {
                TextPlace::Label(label) => match labels.get(label) {
                    Some((count, address)) if *count == before + 1 => Some(*address),
                    // A function that is not placed behind this one: the call comes back.
                    Some(_) if instruction.operation() == "CALL" => continue,
                    _ => None,
                },
                TextPlace::Address(address) => Some(address).filter(|address| *address <= end),
            };
            let missing =
                || SassError::Target { function: name.clone(), address: instruction.address, text: instruction.text() };
            instruction.target = Some(address.ok_or_else(missing)?);
        }
    }
    functions.retain(|function| !function.instructions.is_empty());
    if functions.is_empty() {
        return Err(SassError::Empty { lines: text.lines().count() });
    }
    Ok(functions)
}

/// The instruction of a line `/*0270*/  @P0 BRA 0x590 ;  /* 0x… */`, without where it goes.
fn instruction(line: &str) -> Option<MachineInstruction> {
    // A line with only the second half of an instruction's bits has `0x` there, and one of data a directive behind.
    let (address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let text = rest.split_once(';')?.0.trim();
    let (guard, text) = match text.strip_prefix('@') {
        Some(guarded) => guarded.split_once(' ')?,
        None => ("", text),
    };
    let (opcode, operands) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if !opcode.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    // Predicates that are always true.
    let guard = Some(guard).filter(|guard| !["", "PT", "UPT"].contains(guard));
    Some(MachineInstruction {
        address,
        guard: guard.map(Into::into),
        opcode: opcode.into(),
        operands: operands.trim().into(),
        target: None,
    })
}

enum TextPlace<'a> {
    Label(&'a str),
    Address(u64),
}

/// The place that a branch, a call or the beginning of a region with a barrier names.
fn place(instruction: &MachineInstruction) -> Option<TextPlace<'_>> {
    if !["BRA", "JMP", "CALL", "BSSY"].contains(&instruction.operation()) {
        return None;
    }
    let last = instruction.operands.split(',').next_back()?.split_whitespace().next_back()?;
    if let Some(label) = last.strip_prefix("`(") {
        return Some(TextPlace::Label(label.trim_end_matches(')')));
    }
    u64::from_str_radix(last.strip_prefix("0x")?, 16).ok().map(TextPlace::Address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_disassemblers_are_read_alike() {
        let labels = "
\t.section\t.text.k,\"ax\",@progbits
k:
.text.k:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/              @!P0 BRA P1, `(.L_x_0) ;
        /*0020*/              @UPT EXIT ;
";
        let addresses = "
\t\tFunction : k
\t.headerflags\t@\"EF_CUDA_SM80\"
        /*0000*/                   MOV R1, c[0x0][0x28] ;         /* 0x00000a00ff017624 */
                                                                  /* 0x000fe400078e00ff */
        /*0010*/              @!P0 BRA P1, 0x10 ;                 /* 0x0000000000087919 */
                                                                  /* 0x000e220000002100 */
        /*0020*/              @UPT EXIT ;                         /* 0x0000000000087919 */
";
        let functions = parse(labels).unwrap();
        let texts: Vec<String> = functions[0].instructions.iter().map(MachineInstruction::text).collect();
        assert_eq!(texts, ["MOV R1, c[0x0][0x28]", "@!P0 BRA P1, `(.L_x_0)", "EXIT"]);
        let strip = |mut functions: Vec<MachineFunction>| {
            functions[0].instructions[1].operands.clear();
            functions
        };
        assert_eq!(functions[0].instructions[1].target, Some(0x10));
        assert_eq!(strip(functions), strip(parse(addresses).unwrap()));
    }

    #[test]
    fn what_is_no_machine_code_is_an_error() {
        let data = ".text.k:\n        /*0000*/ \t.byte\t0xff, 0xff\n";
        assert_eq!(parse(data), Err(SassError::Empty { lines: 2 }));
        let error = parse(".text.k:\n/*0000*/ BRA `(.L_x_7) ;").unwrap_err().to_string();
        assert_eq!(error, "the instruction at 0x0 of `k`, `BRA `(.L_x_7)`, goes to a place that is not in it");
        assert!(matches!(parse("Function : k\n/*0000*/ BRA 0x10 ;"), Err(SassError::Target { .. })));
    }
}
