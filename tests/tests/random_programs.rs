//! Random attentions against the reference. The same ones in every run; `PROPTEST_CASES=1000` tries more.

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use purview::interpret::Reference;
use purview::ir::parse::parse;
use purview::ir::{Element, Kept};
use purview::{AnyAttention, Device, DeviceModel, Error, Target, Tensor};
use purview_cli::golden::{Errors, relative_error};
use purview_cli::ptx;
use purview_compiler::passes;
use purview_tests::compare::{compare, tolerance};
use purview_tests::devices;
use purview_tests::generate::Case;
use purview_tests::generate_whole::{Kind, WholeCase};
use std::cell::Cell;

/// So many cases, or as many as the environment says, with a runner that draws the same ones each time.
fn runner(cases: u32) -> (u32, TestRunner) {
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    (cases, TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)))
}

fn check(device: &Device, cases: u32) {
    let (cases, mut runner) = runner(cases);
    let (refused, zero, largest) = (Cell::new(0), Cell::new(0), Cell::new(0.0f64));
    let limit = tolerance(Element::F32);
    let result = runner.run(&Case::any(), |case| {
        let attention = case.attention(device).expect("the captured tensors");
        let [q, k, v] = case.operands(device).expect("the operands");
        match compare(&attention, device, &q, &[(&k, &v)]) {
            // Ranges are found by interval arithmetic, which may see an overflow where there is none.
            Err(Error::Range(_)) => {
                refused.set(refused.get() + 1);
                Ok(())
            }
            Err(error) => Err(TestCaseError::fail(error.to_string())),
            Ok(errors) => {
                largest.set(largest.get().max(errors.out));
                let reference = attention.reference(&q, &[(&k, &v)]).expect("a reference");
                zero.set(zero.get() + u32::from(reference.out.data.iter().all(|x| *x == 0.0)));
                if errors.within(&limit) { Ok(()) } else { Err(TestCaseError::fail(errors.to_string())) }
            }
        }
    });
    if let Err(error) = result {
        panic!("{}: {error}", device.name());
    }
    let (refused, zero, largest) = (refused.get(), zero.get(), largest.get());
    let name = device.name();
    println!("{cases} on {name}, {refused} refused, {zero} see no key at all, largest error {largest:.1e}");
    assert!(refused * 10 < cases, "{refused} of {cases} launches were refused");
    assert!(zero * 4 < cases, "{zero} of {cases} attentions see no key at all");
}

#[test]
fn random_programs_on_the_cpu() {
    check(&devices::cpu(), 120);
}

#[test]
fn random_programs_on_wgpu() {
    if let Some(device) = devices::wgpu("random_programs_on_wgpu") {
        check(&device, 40);
    }
}

/// What a check of a whole attention says of it: that it is right, or that it was refused.
enum Outcome {
    Right { error: f64, zero: bool },
    Refused,
}

/// Runs `check` on random whole attentions of `kind`, and panics where one fails, or where too many say nothing.
fn check_whole(what: &str, cases: u32, kind: Kind, check: impl Fn(&WholeCase) -> Result<Outcome, String>) {
    let (cases, mut runner) = runner(cases);
    let (refused, zero, largest) = (Cell::new(0), Cell::new(0), Cell::new(0.0f64));
    let result = runner.run(&WholeCase::any(kind), |case| match check(&case) {
        Err(error) => Err(TestCaseError::fail(error)),
        Ok(Outcome::Refused) => {
            refused.set(refused.get() + 1);
            Ok(())
        }
        Ok(Outcome::Right { error, zero: is_zero }) => {
            largest.set(largest.get().max(error));
            zero.set(zero.get() + u32::from(is_zero));
            Ok(())
        }
    });
    if let Err(error) = result {
        panic!("{what}: {error}");
    }
    let (refused, zero, largest) = (refused.get(), zero.get(), largest.get());
    println!("{cases} whole attentions {what}, {refused} refused, {zero} give zeros, largest error {largest:.1e}");
    assert!(refused * 10 < cases, "{refused} of {cases} launches were refused");
    assert!(zero * 3 <= cases, "{zero} of {cases} attentions give zeros");
}

/// The largest errors, relative to the largest magnitude, or to 1 where all are less: what is a difference may be next to nothing, and is
/// as exact as what it is a difference of.
fn errors_of(outputs: &[impl AsRef<[f32]>], lse: Option<&[f32]>, want: &Reference) -> Errors {
    let with_one = |got: &[f32], want: &[f64]| relative_error(&[got, &[1.0]].concat(), &[want, &[1.0]].concat());
    let wanted: Vec<_> = want.outputs().collect();
    assert_eq!(outputs.len(), wanted.len());
    let out = outputs.iter().zip(wanted).map(|(out, want)| with_one(out.as_ref(), &want.data)).fold(0.0, f64::max);
    Errors { out, lse: lse.map(|lse| with_one(lse, &want.lse.data)) }
}

/// Whether all outputs are zeros, which say little.
fn is_zero(want: &Reference) -> bool {
    want.outputs().flat_map(|output| &output.data).all(|x| *x == 0.0)
}

fn expect(errors: &Errors, limit: &Errors, what: &str) -> Result<(), String> {
    if errors.within(limit) { Ok(()) } else { Err(format!("{what}: {errors}")) }
}

/// A launch as users have it against the reference; the kernel that counts its tiles likewise, and what it counts against the report, which
/// is verified.
fn run_and_count(device: &Device, case: &WholeCase) -> Result<Outcome, String> {
    let text = |error: Error| error.to_string();
    let attention = case.attention(device).map_err(text)?;
    texts_read_back(&attention, case)?;
    let operands = case.operands(device, Element::F32).map_err(text)?;
    let operands: Vec<&Tensor> = operands.iter().collect();
    let floats = |outputs: &[Tensor]| outputs.iter().map(Tensor::to_vec).collect::<Result<Vec<Vec<f32>>, Error>>();
    let (outputs, lse) = match attention.run_outputs_with_lse_if_any(device, &operands) {
        // Ranges are found by interval arithmetic, which may see an overflow where there is none.
        Err(Error::Range(_)) => return Ok(Outcome::Refused),
        result => result.map_err(text)?,
    };
    let want = attention.reference_operands(&operands).map_err(text)?;
    let lse = lse.map(|lse| lse.to_vec::<f32>()).transpose().map_err(text)?;
    let limit = tolerance(Element::F32);
    let errors = errors_of(&floats(&outputs).map_err(text)?, lse.as_deref(), &want);
    expect(&errors, &limit, "a launch")?;

    let (outputs, counted) = attention.run_outputs_counting(device, &operands).map_err(text)?;
    let counting = errors_of(&floats(&outputs).map_err(text)?, None, &want);
    expect(&counting, &limit, "a launch that counts tiles")?;
    let report = attention.report_verified(&case.shape).map_err(text)?;
    if report.needed_tiles.is_none_or(|needed| needed > report.tiles.visited) {
        return Err(format!("{:?} tiles are needed\n{report}", report.needed_tiles));
    }
    // The report is of the schedule that the launch has only where one was asked for.
    if case.has_schedule() {
        let counts: Vec<_> = counted.iter().map(|counted| (counted.visited, counted.full)).collect();
        let reported: Vec<_> = report.loops.iter().map(|one| (one.tiles.visited, one.tiles.full)).collect();
        if counts != reported {
            return Err(format!("the kernel counts {counts:?} tiles, visited and full\n{report}"));
        }
    }
    Ok(Outcome::Right { error: errors.out, zero: is_zero(&want) })
}

/// The text of the program after every stage says all of it.
fn texts_read_back(attention: &AnyAttention, case: &WholeCase) -> Result<(), String> {
    let dims = case.shape.operand_dims(&case.spec).map_err(|error| error.to_string())?;
    for (stage, program) in
        passes::stages(&case.spec, attention.scalars(), &dims, Kept::default()).map_err(|error| error.to_string())?
    {
        let text = program.to_string();
        if parse(&text).as_ref() != Ok(&program) {
            return Err(format!("after {stage} the program does not read back: {:?}\n{text}", parse(&text)));
        }
    }
    let scheduled = attention.program(&case.shape).map_err(|error| error.to_string())?;
    let text = scheduled.to_string();
    if text.parse().as_ref() != Ok(&scheduled) {
        return Err(format!("with a schedule the program does not read back\n{text}"));
    }
    Ok(())
}

#[test]
fn random_whole_attentions_on_the_cpu() {
    let device = devices::cpu();
    check_whole("on the cpu", 60, Kind::Any, |case| run_and_count(&device, case));
}

#[test]
fn random_whole_attentions_on_wgpu() {
    if let Some(device) = devices::wgpu("random_whole_attentions_on_wgpu") {
        check_whole("on wgpu", 12, Kind::Any, |case| run_and_count(&device, case));
    }
}

/// Runs the kernel's PTX for operands of `element`, and gives the name of its schedule.
fn run_ptx(case: &WholeCase, element: Element, limit: &Errors) -> Result<(Outcome, &'static str), String> {
    let (device, model) = (devices::cpu(), DeviceModel::ampere());
    let text = |error: Error| error.to_string();
    let attention = case.attention(&device).map_err(text)?;
    let operands = case.operands(&device, element).map_err(text)?;
    let operands: Vec<&Tensor> = operands.iter().collect();
    let shape = case.shape.clone().with_element(element);
    let schedule = attention.schedule_for(Target::Ptx, &model, &shape).map_err(text)?.name();
    let launch = match attention.ptx_launch_operands(&model, &operands) {
        Err(Error::Range(_)) => return Ok((Outcome::Refused, schedule)),
        result => result.map_err(text)?,
    };
    let results = ptx::run(&launch).map_err(|error| error.to_string())?;
    let want = attention.reference_operands(&operands).map_err(text)?;
    let outputs: Vec<&[f32]> = results.outputs().collect();
    let errors = errors_of(&outputs, results.lse.as_deref(), &want);
    expect(&errors, limit, "PTX")?;
    Ok((Outcome::Right { error: errors.out, zero: is_zero(&want) }, schedule))
}

/// As products of matrices. Weights and outputs are rounded to the type of the operands, and an output is a sum of up to three.
#[test]
fn random_whole_attentions_by_matrices_as_ptx() {
    let (all, of_matrices) = (Cell::new(0), Cell::new(0));
    for (element, out, cases) in [(Element::F16, 6e-3, 8), (Element::Bf16, 3e-2, 4)] {
        let limit = Errors { out, lse: Some(1e-4) };
        check_whole(&format!("in {} as PTX", element.name()), cases, Kind::Tiled, |case| {
            let (outcome, schedule) = run_ptx(case, element, &limit)?;
            all.set(all.get() + 1);
            of_matrices.set(of_matrices.get() + u32::from(schedule == "mma"));
            Ok(outcome)
        });
    }
    let (all, of_matrices) = (all.get(), of_matrices.get());
    println!("{of_matrices} of {all} by `mma`");
    assert!(of_matrices * 3 >= all, "{of_matrices} of {all} attentions run by `mma`");
}

/// As any number of products, by units.
#[test]
fn random_whole_attentions_as_ptx() {
    check_whole("as PTX", 6, Kind::Any, |case| {
        let case = case.without_schedule();
        Ok(run_ptx(&case, Element::F32, &tolerance(Element::F32))?.0)
    });
}
