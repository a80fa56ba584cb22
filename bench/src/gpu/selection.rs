//! What the steps of a run work on: everything, or what `--cases` names.

use super::Step;
use crate::cases::{CASES, Case};
use purview_examples::GALLERY;

/// A variant, and the arguments of `purview run` with which it is looked at.
pub type Launch = (&'static str, &'static str);

/// What is measured on a CPU: small enough for two cores.
const ON_CPU: [&str; 10] = [
    "causal-1024x64",
    "full-1024x64",
    "window256-1024x64",
    "documents-1024x64",
    "alibi-1024x64",
    "softcap-1024x64",
    "prefix-1024x64",
    "gqa-1024x64",
    "decode-4096x128",
    "full-64x64",
];

/// What runs under compute-sanitizer. Small, since it takes a hundred times as long.
const SANITIZED: [Launch; 4] = [
    ("causal", "--dtype f16 --q 200 --kv 333 --heads 4 --kv-heads 2 --dim 64"),
    ("document_causal", "--dtype bf16 --q 257 --heads 2 --dim 128"),
    ("full", "--dtype f32 --q 150 --heads 2 --dim 40"),
    ("causal", "--dtype bf16 --q 1 --kv 1000 --heads 8 --kv-heads 2 --dim 128"),
];

/// What ncu looks at.
const PROFILED: [Launch; 2] = [
    ("causal", "--dtype bf16 --q 8192 --heads 32 --dim 128"),
    ("document_causal", "--dtype bf16 --q 8192 --heads 32 --dim 128"),
];

/// What each step works on.
#[derive(Debug)]
pub struct Selection {
    /// The steps to take, in their order.
    pub steps: Vec<Step>,
    /// Golden cases, by name.
    pub golden: Vec<String>,
    /// Variants of the gallery, by name.
    pub gallery: Vec<String>,
    /// What runs under compute-sanitizer.
    pub sanitized: Vec<Launch>,
    /// What is measured.
    pub measured: Vec<&'static Case>,
    /// What ncu looks at.
    pub profiled: Vec<Launch>,
}

impl Selection {
    /// What `steps` and `cases` name, each everything where it is empty. A step of which no case is named is left out. `golden` has
    /// the names of all golden cases.
    ///
    /// # Errors
    /// A message with what there is, where a name is nothing to any step that is taken, or a step that was named would have nothing
    /// to do.
    pub fn new(steps: &[Step], cases: &[String], golden: &[String], on_gpu: bool) -> Result<Selection, String> {
        let named = |step: &Step| steps.is_empty() || steps.contains(step);
        let wants = |name: &str| cases.is_empty() || cases.iter().any(|case| case == name);
        let mut selection = Selection {
            steps: Step::ALL.into_iter().filter(named).collect(),
            golden: golden.iter().filter(|name| wants(name)).cloned().collect(),
            gallery: GALLERY.iter().map(|variant| variant.name.to_string()).filter(|name| wants(name)).collect(),
            sanitized: SANITIZED.into_iter().filter(|(variant, _)| wants(variant)).collect(),
            measured: measured(cases, on_gpu),
            profiled: PROFILED.into_iter().filter(|(variant, _)| wants(variant)).collect(),
        };
        let has = |steps: &[Step]| {
            let has =
                steps.iter().filter_map(|step| Some(format!("{} has {}", step.name(), names(*step, golden, on_gpu)?)));
            has.collect::<Vec<_>>().join("; ")
        };
        for name in cases {
            if !selection.steps.iter().any(|step| is_of(*step, name, golden, on_gpu)) {
                let taken = selection.steps.iter().map(|step| step.name()).collect::<Vec<_>>().join(", ");
                let there = has(&selection.steps);
                let there = if there.is_empty() { "they have no cases".into() } else { there };
                return Err(format!("--cases names `{name}`, which is nothing to the steps {taken}: {there}"));
            }
        }
        if let Some(step) = steps.iter().find(|step| selection.is_empty(**step)) {
            let there = has(&[*step]);
            return Err(format!("--steps names `{}`, and --cases nothing of it: {there}", step.name()));
        }
        let chosen = std::mem::take(&mut selection.steps);
        selection.steps = chosen.into_iter().filter(|step| !selection.is_empty(*step)).collect();
        Ok(selection)
    }

    /// Whether there is nothing for `step`.
    fn is_empty(&self, step: Step) -> bool {
        match step {
            Step::Device => false,
            Step::Correct => self.golden.is_empty() && self.gallery.is_empty(),
            Step::Sanitize => self.sanitized.is_empty(),
            Step::Times => self.measured.is_empty(),
            Step::Profile => self.profiled.is_empty(),
        }
    }
}

/// The cases to measure of those that `cases` names; where it is empty, those that such a device gets.
fn measured(cases: &[String], on_gpu: bool) -> Vec<&'static Case> {
    let names = |name: &str| cases.iter().any(|case| case == name);
    let is_chosen =
        |case: &Case| names(case.name) || is_usual(case, on_gpu) && (cases.is_empty() || names(case.family()));
    let mut measured: Vec<&Case> = CASES.iter().filter(|case| is_chosen(case)).collect();
    if !on_gpu {
        // In the order of that list; what else was named comes after it.
        measured.sort_by_key(|case| ON_CPU.iter().position(|name| *name == case.name).unwrap_or(ON_CPU.len()));
    }
    measured
}

/// Whether such a device gets the case where nobody chooses, or names its family.
fn is_usual(case: &Case, on_gpu: bool) -> bool {
    if on_gpu { case.for_gpus } else { ON_CPU.contains(&case.name) }
}

/// Whether `name` may be said of `step`.
fn is_of(step: Step, name: &str, golden: &[String], on_gpu: bool) -> bool {
    let is_launch = |launches: &[Launch]| launches.iter().any(|(variant, _)| *variant == name);
    match step {
        Step::Device => false,
        Step::Correct => golden.iter().any(|case| case == name) || GALLERY.iter().any(|variant| variant.name == name),
        Step::Sanitize => is_launch(&SANITIZED),
        Step::Times => !measured(&[name.to_string()], on_gpu).is_empty(),
        Step::Profile => is_launch(&PROFILED),
    }
}

/// The names that may be said of `step`, in words.
fn names(step: Step, golden: &[String], on_gpu: bool) -> Option<String> {
    let launches = |launches: &[Launch]| launches.iter().map(|(variant, _)| *variant).collect::<Vec<_>>();
    let mut names = match step {
        Step::Device => return None,
        Step::Correct => {
            let gallery = GALLERY.iter().map(|variant| variant.name);
            golden.iter().map(String::as_str).chain(gallery).collect()
        }
        Step::Sanitize => launches(&SANITIZED),
        Step::Times => CASES.iter().filter(|case| is_usual(case, on_gpu)).map(Case::family).collect(),
        Step::Profile => launches(&PROFILED),
    };
    names.sort_unstable();
    names.dedup();
    let more = if step == Step::Times { ", and the cases that `purview bench torch --list` lists" } else { "" };
    Some(names.join(", ") + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [&str; 2] = ["causal", "minilm_layer0"];

    fn select(steps: &[Step], cases: &[&str], on_gpu: bool) -> Result<Selection, String> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        Selection::new(steps, &texts(cases), &texts(&GOLDEN), on_gpu)
    }

    #[test]
    fn nothing_said_is_everything() {
        for on_gpu in [false, true] {
            let all = select(&[], &[], on_gpu).unwrap();
            assert_eq!(all.steps, Step::ALL);
            assert_eq!((all.golden.len(), all.gallery.len()), (GOLDEN.len(), GALLERY.len()));
            assert_eq!((all.sanitized.len(), all.profiled.len()), (SANITIZED.len(), PROFILED.len()));
            assert!(all.measured.iter().all(|case| case.for_gpus == on_gpu));
        }
        let on_cpu = select(&[], &[], false).unwrap();
        assert_eq!(on_cpu.measured.iter().map(|case| case.name).collect::<Vec<_>>(), ON_CPU);
    }

    #[test]
    fn names_choose_in_every_step_that_has_them() {
        let causal = select(&[], &["causal"], true).unwrap();
        assert_eq!(causal.steps, Step::ALL);
        assert_eq!(
            (&causal.golden[..], &causal.gallery[..]),
            (&["causal".to_string()][..], &["causal".to_string()][..])
        );
        assert_eq!((causal.sanitized.len(), causal.profiled.len()), (2, 1));
        assert!(causal.measured.iter().all(|case| case.family() == "causal" && case.for_gpus));
        // A case of another kind of device, by its whole name alone.
        let large = select(&[], &["causal-32x8192x128"], false).unwrap();
        assert_eq!(large.steps, [Step::Device, Step::Times]);
        assert_eq!(large.measured.len(), 1);
    }

    #[test]
    fn a_choice_of_nothing_names_what_there_is() {
        let error = select(&[Step::Profile], &["minilm_layer0"], true).unwrap_err();
        let expected =
            "--cases names `minilm_layer0`, which is nothing to the steps profile: profile has causal, document_causal";
        assert_eq!(error, expected);
        let error = select(&[Step::Device], &["causal"], true).unwrap_err();
        assert_eq!(error, "--cases names `causal`, which is nothing to the steps device: they have no cases");
        let error = select(&[Step::Correct, Step::Sanitize], &["minilm_layer0"], true).unwrap_err();
        assert_eq!(
            error,
            "--steps names `sanitize`, and --cases nothing of it: sanitize has causal, document_causal, full"
        );
        // A family that only a GPU gets.
        let error = select(&[], &["causal", "window1024"], false).unwrap_err();
        let expected = "--cases names `window1024`, which is nothing to the steps device, correct, sanitize, times, profile: \
                        correct has ";
        assert!(error.starts_with(expected), "{error}");
        let expected = "times has alibi, causal, decode, documents, full, gqa, prefix, softcap, window256, and the cases that `purview \
                        bench torch --list` lists; profile has causal, document_causal";
        assert!(error.ends_with(expected), "{error}");
        assert!(select(&[], &["window1024"], true).is_ok());
    }
}
