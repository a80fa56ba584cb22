//! Where lanes that a branch has sent two ways meet again: at the first instruction that all ways lead to, its immediate
//! post-dominator. NVIDIA's assembler puts the reconvergence there too.
//!
//! The algorithm is that of Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001), from the kernel's end backwards.

use super::instruction::{PtxInstruction, PtxOperation};

/// For each instruction where those that come from it meet; as many as there are instructions for the kernel's end, or nowhere.
pub(super) fn meets(instructions: &[PtxInstruction]) -> Vec<u32> {
    let following: Vec<Vec<u32>> = instructions
        .iter()
        .enumerate()
        .map(|(at, instruction)| following(instruction, at, instructions.len()))
        .collect();
    post_dominators(&following)
}

/// What may come after an instruction.
fn following(instruction: &PtxInstruction, at: usize, end: usize) -> Vec<u32> {
    let mut following = match &instruction.operation {
        PtxOperation::Branch { target } => vec![*target],
        PtxOperation::BranchIndexed { targets, .. } => targets.clone(),
        PtxOperation::Return | PtxOperation::Trap => vec![end as u32],
        _ => return vec![at as u32 + 1],
    };
    if instruction.guard.is_some() {
        following.push(at as u32 + 1);
    }
    following
}

/// The immediate post-dominator of each of `following.len()` nodes, of which the one after the last is the end.
fn post_dominators(following: &[Vec<u32>]) -> Vec<u32> {
    let end = following.len();
    let mut before = vec![Vec::new(); end + 1];
    for (node, next) in following.iter().enumerate() {
        next.iter().for_each(|&next| before[next as usize].push(node));
    }
    // A node's number is greater than those of all that can only come after it.
    let mut number = vec![None; end + 1];
    let mut order = Vec::new();
    let mut seen = vec![false; end + 1];
    let mut path = vec![(end, 0)];
    seen[end] = true;
    while let Some((node, tried)) = path.last_mut() {
        match before[*node].get(*tried) {
            Some(&next) => {
                *tried += 1;
                if !seen[next] {
                    seen[next] = true;
                    path.push((next, 0));
                }
            }
            None => {
                order.push(*node);
                path.pop();
            }
        }
    }
    order.reverse();
    for (place, &node) in order.iter().enumerate() {
        number[node] = Some(place);
    }

    let mut found: Vec<Option<usize>> = vec![None; end + 1];
    found[end] = Some(end);
    let mut changed = true;
    while changed {
        changed = false;
        for &node in order.iter().skip(1) {
            let known = following[node].iter().map(|&next| next as usize).filter(|&next| found[next].is_some());
            let meet = known.reduce(|mut a, mut b| {
                while a != b {
                    let later = if number[a] > number[b] { &mut a } else { &mut b };
                    *later = found[*later].unwrap_or(end);
                }
                a
            });
            if meet != found[node] {
                found[node] = meet;
                changed = true;
            }
        }
    }
    found.truncate(end);
    found.into_iter().map(|meet| meet.unwrap_or(end) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::post_dominators;

    #[test]
    fn both_sides_of_a_condition_meet_after_it() {
        // 0 to 1 or 2; both to 3; 3 to the end.
        assert_eq!(post_dominators(&[vec![1, 2], vec![3], vec![3], vec![4]]), [3, 3, 3, 4]);
    }

    /// A loop whose last part stands before its body, as compilers put it: to go by the order of the text would miss it.
    #[test]
    fn a_loop_may_end_before_it_begins() {
        // 0 enters at 2; 1 goes on to 2 or leaves to 4; 2 goes to 1 at once or by 3.
        assert_eq!(post_dominators(&[vec![2], vec![2, 4], vec![1, 3], vec![1], vec![5]]), [2, 4, 1, 1, 5]);
    }

    #[test]
    fn a_loop_without_end_meets_nowhere() {
        assert_eq!(post_dominators(&[vec![1, 2], vec![1], vec![3]]), [2, 3, 3]);
    }
}
