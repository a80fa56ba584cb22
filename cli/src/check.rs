//! `check`: golden cases, and the variants of the gallery.

use crate::arguments::{CheckFlags, PTX, device};
use crate::check_gallery::{self, GalleryCase};
use crate::describe::{extend, shape_json, shape_text};
use crate::golden::{self, Errors, GoldenCase};
use crate::run::{errors_json, limits};
use crate::traffic::counts_json;
use crate::{FAILURE, Failure, Gallery, SUCCESS, print_json, progress};
use purview::{Device, Variant};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::ir::Element;
use purview_nvidia::ptx::Counts;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// The beginning of the names of the cases that are a real model's.
const MINILM: &str = "minilm_";

pub(crate) fn check(gallery: &Gallery, flags: &CheckFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let items = items(gallery, flags)?;
    let place = CheckedOn::of(flags)?;
    let width = items.iter().map(|item| item.title(flags.dtype).len()).max().unwrap_or(0);
    let (mut cases, mut variants) = (Vec::new(), Vec::new());
    let (mut golden, mut minilm, mut of_gallery) = (Total::default(), Total::default(), Total::default());
    let bar = progress(Some(items.len()));
    in_order(
        items.len(),
        place.workers(),
        |at| items[at].run(&place, flags.dtype),
        |at, result| {
            let item = &items[at];
            let limits = item.limits(flags.dtype);
            let passed = result.as_ref().is_ok_and(|(errors, _)| errors.within(&limits));
            let (total, values) = match item {
                CheckedItem::Golden { case, .. } if case.name.starts_with(MINILM) => (&mut minilm, &mut cases),
                CheckedItem::Golden { .. } => (&mut golden, &mut cases),
                CheckedItem::Variant(_) => (&mut of_gallery, &mut variants),
            };
            total.add(passed);
            let value = item.json(flags.dtype, &result, &limits, passed);
            if flags.lines {
                writeln!(out, "{value}")?;
                out.flush()?;
            } else if json {
                values.push(value);
            } else {
                let title = item.title(flags.dtype);
                let verdict = if passed { "pass" } else { "FAIL" };
                bar.suspend(|| match &result {
                    Ok((errors, _)) => writeln!(out, "{title:width$}  {errors}  {verdict}"),
                    Err(error) => writeln!(out, "{title:width$}  {verdict}: {error}"),
                })?;
            }
            bar.inc(1);
            Ok(())
        },
    )?;
    drop(bar);
    let passed = golden.all() && minilm.all() && of_gallery.all();
    if json || flags.lines {
        let mut value = json!({
            "device": place.name(),
            "dtype": flags.dtype.name(),
            "golden_passed": golden.passed,
            "golden_total": golden.total,
            "minilm_passed": minilm.passed,
            "minilm_total": minilm.total,
            "passed": passed,
        });
        if json {
            extend(&mut value, json!({ "cases": cases }));
        }
        if flags.gallery {
            extend(&mut value, json!({ "variants_passed": of_gallery.passed, "variants_total": of_gallery.total }));
            if json {
                extend(&mut value, json!({ "variants": variants }));
            }
        }
        if json { print_json(out, &value)? } else { writeln!(out, "{value}")? }
    } else {
        let counted = [(golden, "golden cases"), (minilm, "MiniLM cases"), (of_gallery, "variants at a shape")];
        let counted = counted.iter().filter(|(total, _)| total.total > 0);
        let counted: Vec<String> =
            counted.map(|(total, what)| format!("{} of {} {what}", total.passed, total.total)).collect();
        writeln!(out, "{} on {} in {}", counted.join(", "), place.name(), flags.dtype.name())?;
    }
    Ok(if passed { SUCCESS } else { FAILURE })
}

/// What is checked.
enum CheckedItem<'a> {
    Golden {
        case: GoldenCase,
        /// The one that must give its results, if that is known.
        variant: Option<&'a Variant>,
    },
    Variant(GalleryCase<'a>),
}

/// What `flags` choose.
fn items<'a>(gallery: &'a Gallery, flags: &CheckFlags) -> Result<Vec<CheckedItem<'a>>, Failure> {
    let mut items = Vec::new();
    if let Some(directory) = &flags.golden {
        let cases = golden::load(directory)?;
        if cases.is_empty() {
            return Err(Failure::Usage(format!("there is no case in {}", directory.display())));
        }
        items.extend(cases.into_iter().map(|case| {
            let variant = gallery.golden.iter().find(|(name, _)| *name == case.name).map(|(_, variant)| variant);
            CheckedItem::Golden { case, variant }
        }));
    }
    if flags.gallery {
        items.extend(check_gallery::cases(gallery).map(CheckedItem::Variant));
    }
    for name in &flags.cases {
        if items.iter().all(|item| item.name() != name) {
            let mut names: Vec<&str> = items.iter().map(CheckedItem::name).collect();
            names.dedup();
            let names = names.join(", ");
            return Err(Failure::Usage(format!("--cases names `{name}`, expected some of {names}")));
        }
    }
    items.retain(|item| flags.cases.is_empty() || flags.cases.iter().any(|name| item.name() == name));
    Ok(items)
}

impl CheckedItem<'_> {
    fn name(&self) -> &str {
        match self {
            CheckedItem::Golden { case, .. } => &case.name,
            CheckedItem::Variant(case) => case.variant.name,
        }
    }

    /// What a line of text begins with.
    fn title(&self, element: Element) -> String {
        match self {
            CheckedItem::Golden { case, .. } => case.name.clone(),
            CheckedItem::Variant(case) => format!("{} {}", case.variant.name, shape_text(&case.shape(element))),
        }
    }

    fn limits(&self, element: Element) -> Errors {
        match self {
            CheckedItem::Golden { case, .. } => case.tolerance(element),
            CheckedItem::Variant(_) => limits(element),
        }
    }

    fn run(&self, place: &CheckedOn, element: Element) -> Outcome {
        match self {
            CheckedItem::Golden { variant: None, .. } => Err("no variant is known for it".into()),
            CheckedItem::Golden { case, variant: Some(variant) } => place.run(case, variant, element),
            CheckedItem::Variant(case) => match place {
                CheckedOn::Device(device) => {
                    case.run(device, element).map(|errors| (errors, None)).map_err(|error| error.to_string())
                }
                #[cfg(feature = "emit")]
                CheckedOn::Ptx(model) => case
                    .run_ptx(model, element)
                    .map(|(errors, counts)| (errors, Some(counts)))
                    .map_err(|error| error.to_string()),
                #[cfg(not(feature = "emit"))]
                CheckedOn::Ptx(_) => Err(NEEDS_EMIT.into()),
            },
        }
    }

    fn json(&self, element: Element, result: &Outcome, limits: &Errors, passed: bool) -> Value {
        let variant = match self {
            CheckedItem::Golden { variant, .. } => variant.map(|variant| variant.name),
            CheckedItem::Variant(case) => Some(case.variant.name),
        };
        let mut value = json!({ "name": self.name(), "variant": variant, "passed": passed });
        if let CheckedItem::Variant(case) = self {
            extend(&mut value, json!({ "shape": shape_json(&case.shape(element)) }));
        }
        match result {
            Ok((errors, counts)) => {
                extend(&mut value, errors_json(errors, limits));
                if let Some(counts) = counts {
                    extend(&mut value, counts_json(counts));
                }
            }
            Err(error) => extend(&mut value, json!({ "error": error })),
        }
        value
    }
}

/// Why there is no PTX.
#[cfg(not(feature = "emit"))]
const NEEDS_EMIT: &str = "turn on purview-cli's feature `emit`";

/// Errors, and what the launch cost where that is counted; or why there are none.
type Outcome = Result<(Errors, Option<Counts>), String>;

/// Where cases are run.
enum CheckedOn {
    Device(Device),
    /// As PTX for such a device, on the CPU.
    Ptx(DeviceModel),
}

impl CheckedOn {
    fn of(flags: &CheckFlags) -> Result<CheckedOn, Failure> {
        if flags.device.as_deref() == Some(PTX) {
            let sm = flags.sm.unwrap_or(80);
            let model = DeviceModel::nvidia_sm(sm);
            return model.map(CheckedOn::Ptx).ok_or_else(|| Failure::Usage(format!("there is no model of sm_{sm}")));
        }
        if flags.sm.is_some() {
            return Err(Failure::Usage(format!("--sm is for the device {PTX}")));
        }
        Ok(CheckedOn::Device(device(flags.device.as_deref())?))
    }

    fn name(&self) -> String {
        match self {
            CheckedOn::Device(device) => device.name().to_string(),
            CheckedOn::Ptx(model) => format!("{PTX} for {}", model.name),
        }
    }

    /// How many cases are run at the same time. A device has its own ways to use the machine.
    fn workers(&self) -> usize {
        match self {
            CheckedOn::Device(_) => 1,
            CheckedOn::Ptx(_) => thread::available_parallelism().map_or(1, usize::from),
        }
    }

    fn run(&self, case: &GoldenCase, variant: &Variant, element: Element) -> Outcome {
        match self {
            CheckedOn::Device(device) => {
                let errors = case.run(variant, device, element).map_err(|error| error.to_string())?;
                Ok((errors, None))
            }
            #[cfg(feature = "emit")]
            CheckedOn::Ptx(model) => {
                let (errors, counts) = case.run_ptx(variant, model, element).map_err(|error| error.to_string())?;
                Ok((errors, Some(counts)))
            }
            #[cfg(not(feature = "emit"))]
            CheckedOn::Ptx(_) => Err(NEEDS_EMIT.into()),
        }
    }
}

/// Calls `each` with the results of `run` of `0..count`, in order, which are computed by so many `workers`. Ends at `each`'s first
/// error.
fn in_order<T: Send>(
    count: usize,
    workers: usize,
    run: impl Fn(usize) -> T + Sync,
    mut each: impl FnMut(usize, T) -> io::Result<()>,
) -> io::Result<()> {
    if workers < 2 {
        return (0..count).try_for_each(|at| each(at, run(at)));
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..workers {
            let (sender, next, run) = (sender.clone(), &next, &run);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more where `each` failed.
                    if at >= count || sender.send((at, run(at))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (at, result) in receiver {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                each(due, result)?;
                due += 1;
            }
        }
        Ok(())
    })
}

#[derive(Default)]
struct Total {
    passed: usize,
    total: usize,
}

impl Total {
    fn add(&mut self, passed: bool) {
        self.total += 1;
        self.passed += usize::from(passed);
    }

    fn all(&self) -> bool {
        self.passed == self.total
    }
}
