//! Kernels made wrong on purpose, to see that it is noticed.

/// PTX without one of its lines, the first of which is 1. An empty one is in its place, so that the others keep their numbers.
pub fn without_line(text: &str, line: usize) -> String {
    let kept = |(at, text): (usize, &str)| if at + 1 == line { "\n".to_owned() } else { format!("{text}\n") };
    text.lines().enumerate().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::without_line;

    #[test]
    fn one_line_is_empty() {
        assert_eq!(without_line("a\nb\nc\n", 2), "a\n\nc\n");
        assert_eq!(without_line("a\nb\n", 3), "a\nb\n");
    }
}
