//! The reference's gradients: against PyTorch's numbers, and against differences of the reference itself, for the gallery and for random
//! attentions.

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use purview::eval::HostTensor;
use purview::interpret::{Inputs, InterpretError, Reference, interpret};
use purview::interpret_backward::{ReferenceGradients, interpret_backward};
use purview::prelude::*;
use purview::spec::{ScalarValue, Spec};
use purview::{AnyAttention, Arguments, DType};
use purview_cli::golden;
use purview_compiler::expr::Type;
use purview_examples::GALLERY;
use purview_tests::attentions;
use purview_tests::compare::{Failures, GOLDEN};
use purview_tests::devices;
use purview_tests::generate::Case;
use purview_tests::generate_whole::{Kind, WholeCase};
use purview_tests::numbers::Numbers;
use std::cell::Cell;
use std::path::Path;

/// What remains of an error is that gradients are stored in f32, and for one case squared norms, which it takes.
#[test]
fn every_golden_gradient() {
    let variants = purview_examples::golden();
    let mut failures = Failures::default();
    let mut with_gradients = 0;
    for case in golden::load(Path::new(GOLDEN)).unwrap() {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        match case.run_reference_gradients(variant) {
            Ok(errors) => {
                let limit = if case.name == "point_distance" { 1e-6 } else { 2e-7 };
                with_gradients += usize::from(!errors.is_empty());
                for (name, error) in errors {
                    println!("{:20} {name:10} {error:8.1e}", case.name);
                    failures.expect(&format!("{} {name} {error:.1e}", case.name), error <= limit);
                }
            }
            Err(error) => failures.expect(&format!("{}: {error}", case.name), false),
        }
    }
    // The others are a model's, which was not trained.
    assert_eq!(with_gradients, 34);
    failures.report();
}

/// An attention with numbers that are near no kink, and the gradients of what it gives.
#[derive(Clone)]
struct Problem {
    spec: Spec,
    operands: Vec<HostTensor>,
    tensors: Vec<HostTensor>,
    scalars: Vec<ScalarValue>,
    scale: f64,
    query_offset: i64,
    d_outputs: Vec<HostTensor>,
    d_lse: Option<HostTensor>,
}

/// What a sum is of, and of which magnitude its terms are.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    magnitude: f64,
}

impl Sum {
    fn of_products<'a>(pairs: impl Iterator<Item = (&'a f64, &'a f64)>) -> Sum {
        pairs.fold(Sum::default(), |sum, (a, b)| Sum {
            value: sum.value + a * b,
            magnitude: sum.magnitude + (a * b).abs(),
        })
    }
}

fn host(tensor: &Tensor) -> HostTensor {
    let data = match tensor.dtype() {
        DType::I32 => tensor.to_vec::<i32>().unwrap().into_iter().map(f64::from).collect(),
        DType::U8 | DType::U32 => tensor.to_vec::<u8>().unwrap().into_iter().map(f64::from).collect(),
        _ => tensor.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect(),
    };
    HostTensor { shape: tensor.shape().to_vec(), data }
}

fn floats(numbers: &mut Numbers, shape: &[usize]) -> HostTensor {
    let data = numbers.floats(shape.iter().product()).into_iter().map(f64::from).collect();
    HostTensor { shape: shape.to_vec(), data }
}

impl Problem {
    /// `attention` at `shape`, whose captured floats and float scalars are moved a little, off round numbers.
    fn new(attention: &AnyAttention, shape: &Shape, query_offset: i64) -> Problem {
        let mut numbers = Numbers::new(23);
        let mut off_grid = |value: f64| {
            let by = f64::from(numbers.floats(1)[0]) / 64.0;
            value + by + 1.0f64.copysign(by) / 256.0
        };
        let spec = Spec::clone(attention.spec());
        let mut tensors: Vec<HostTensor> = attention.tensors().iter().map(host).collect();
        for (param, tensor) in spec.tensors.iter().zip(&mut tensors) {
            if param.ty.ty() == Type::Float {
                tensor.data.iter_mut().for_each(|element| *element = off_grid(*element));
            }
        }
        let scalars = attention.scalars().iter().map(|scalar| match scalar {
            ScalarValue::F32(value) => ScalarValue::F32(off_grid(f64::from(*value)) as f32),
            other => *other,
        });
        let scalars = scalars.collect();
        let shapes = shape.operand_shapes(&spec).unwrap();
        let operands = shapes.iter().map(|shape| floats(&mut numbers, shape)).collect();
        let mut problem =
            Problem { spec, operands, tensors, scalars, scale: 0.37, query_offset, d_outputs: Vec::new(), d_lse: None };
        let reference = problem.reference().unwrap();
        problem.d_outputs = reference.outputs().map(|output| floats(&mut numbers, &output.shape)).collect();
        if problem.spec.has_lse() {
            let mut d_lse = floats(&mut numbers, &reference.lse.shape);
            // Where there is none, nothing is made of its gradient.
            let empty = reference.lse.data.iter().map(|lse| *lse == f64::NEG_INFINITY);
            d_lse.data.iter_mut().zip(empty).filter(|(_, empty)| *empty).for_each(|(d, _)| *d = f64::NAN);
            problem.d_lse = Some(d_lse);
        }
        problem
    }

    fn with_inputs<T>(&self, compute: impl FnOnce(&Inputs) -> T) -> T {
        compute(&Inputs {
            operands: &self.operands,
            scalars: &self.scalars,
            tensors: &self.tensors,
            scale: self.scale,
            query_offset: self.query_offset,
            key_offsets: &vec![0; self.spec.sets()],
        })
    }

    fn reference(&self) -> Result<Reference, InterpretError> {
        self.with_inputs(|inputs| interpret(&self.spec, inputs))
    }

    fn gradients(&self) -> Result<ReferenceGradients, InterpretError> {
        self.with_inputs(|inputs| interpret_backward(&self.spec, inputs, &self.d_outputs, self.d_lse.as_ref()))
    }

    /// What the gradients are of.
    fn loss(&self) -> Sum {
        let reference = self.reference().unwrap();
        let of_lse = self.d_lse.iter().flat_map(|d_lse| d_lse.data.iter().zip(&reference.lse.data));
        let of_lse = of_lse.filter(|(_, lse)| **lse != f64::NEG_INFINITY);
        let of_outputs = self.d_outputs.iter().zip(reference.outputs());
        Sum::of_products(of_outputs.flat_map(|(d, output)| d.data.iter().zip(&output.data)).chain(of_lse))
    }

    /// Compares the gradients with differences, each along one direction of what it is by. Gives how many were compared, and how many
    /// were not since differences by different steps say different things: there is a kink.
    fn check(&self) -> Result<(u32, u32), String> {
        let gradients = self.gradients().map_err(|error| error.to_string())?;
        let loss = self.loss();
        let mut numbers = Numbers::new(29);
        let mut counts = (0, 0);
        let mut expect = |what: &str, found: Sum, quotient: &dyn Fn(f64) -> f64, step: f64| {
            let (far, near) = (quotient(step), quotient(step / 2.0));
            let unit = found.magnitude + loss.magnitude + 1e-3;
            // Of steps that differ by a factor of two, errors of smooth functions differ by one of four.
            let expected = near + (near - far) / 3.0;
            if !found.value.is_finite() {
                return Err(format!("{what}: the derivative is {}, differences are {near}", found.value));
            }
            let is_smooth = (far - near).abs() <= 1e-6 * unit;
            if !is_smooth {
                counts.1 += 1;
                return Ok(());
            }
            counts.0 += 1;
            if (found.value - expected).abs() <= 1e-6 * unit {
                return Ok(());
            }
            Err(format!("{what}: the derivative is {}, differences are {far} and {near}", found.value))
        };

        let step = 1.0 / f64::from(1 << 17);
        let along = |direction: &HostTensor, select: &dyn Fn(&mut Problem) -> &mut HostTensor, step: f64| {
            let moved = |step: f64| {
                let mut moved = self.clone();
                let tensor = select(&mut moved);
                tensor.data.iter_mut().zip(&direction.data).for_each(|(element, by)| *element += step * by);
                moved.loss().value
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        };
        for (place, gradient) in gradients.operands.iter().enumerate() {
            let name = &self.spec.operands[place].name;
            if gradient.shape != self.operands[place].shape {
                return Err(format!("the gradient by `{name}` has shape {:?}", gradient.shape));
            }
            let direction = floats(&mut numbers, &gradient.shape);
            let found = Sum::of_products(gradient.data.iter().zip(&direction.data));
            let quotient = |step| along(&direction, &|problem| &mut problem.operands[place], step);
            expect(name, found, &quotient, step)?;
        }
        for (place, gradient) in gradients.tensors.iter().enumerate() {
            let param = &self.spec.tensors[place];
            if gradient.is_some() != (param.ty.ty() == Type::Float) {
                return Err(format!("`{}` should have a gradient if it holds floats", param.name));
            }
            let Some(gradient) = gradient else { continue };
            let direction = floats(&mut numbers, &gradient.shape);
            let found = Sum::of_products(gradient.data.iter().zip(&direction.data));
            let quotient = |step| along(&direction, &|problem| &mut problem.tensors[place], step);
            expect(&param.name, found, &quotient, step)?;
        }
        for (place, gradient) in gradients.scalars.iter().enumerate() {
            let param = &self.spec.scalars[place];
            if gradient.is_some() != (param.ty.ty() == Type::Float && !param.comptime) {
                return Err(format!("`{}` should have a gradient if it is a float", param.name));
            }
            let (Some(gradient), ScalarValue::F32(value)) = (gradient, self.scalars[place]) else { continue };
            let moved = |value: f32| {
                let mut moved = self.clone();
                moved.scalars[place] = ScalarValue::F32(value);
                moved.loss().value
            };
            // The scalar is an f32, so steps are what is between two of these.
            let quotient = |step: f64| {
                let (above, below) = (value + step as f32, value - step as f32);
                (moved(above) - moved(below)) / (f64::from(above) - f64::from(below))
            };
            let found = Sum { value: *gradient, magnitude: gradient.abs() };
            expect(&param.name, found, &quotient, f64::from(value.abs()) / f64::from(1 << 12))?;
        }
        let moved = |scale: f64| Problem { scale, ..self.clone() }.loss().value;
        let quotient = |step: f64| (moved(self.scale + step) - moved(self.scale - step)) / (2.0 * step);
        let found = Sum { value: gradients.scale, magnitude: gradients.scale.abs() };
        expect("scale()", found, &quotient, step)?;
        Ok(counts)
    }
}

/// Checks an attention at a small shape, without a kink.
fn expect_smooth(failures: &mut Failures, attention: &AnyAttention, shape: &Shape) {
    let name = attention.spec().name.clone();
    let offset = shape.keys.last().map_or(0, |keys| *keys as i64) - shape.queries as i64;
    match Problem::new(attention, shape, offset).check() {
        Ok((compared, kinks)) => {
            println!("{name:20} {compared} compared");
            failures.expect(&format!("{name} has {kinks} kinks"), kinks == 0);
        }
        Err(error) => failures.expect(&format!("{name}: {error}"), false),
    }
}

#[test]
fn differences_of_the_gallery() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    for shape in [Shape::new(2, 4, 12, 6).with_queries(9).with_kv_heads(2), Shape::new(1, 2, 13, 8)] {
        for variant in GALLERY {
            let attention = (variant.make)(&Arguments::new(device.clone(), shape.clone())).unwrap();
            expect_smooth(&mut failures, &attention, &shape);
        }
    }
    failures.report();
}

#[test]
fn differences_of_every_accumulator_and_two_sets() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    let shape = Shape::new(2, 4, 11, 5).with_kv_heads(2).with_v_dim(7);
    let tensor = |shape: &[usize], data: &[f32]| Tensor::from_slice(&device, shape, data).unwrap();
    let slope = tensor(&[4], &[0.5, -1.0, 2.0, 0.0]);
    let document: Vec<i32> = (0..22).map(|at| at / 5 % 3).collect();
    let document = Tensor::from_slice(&device, [2, 11], &document).unwrap();
    let keep: Vec<bool> = (0..22).map(|at| at % 4 != 1).collect();
    let keep = Tensor::from_slice(&device, [2, 11], &keep).unwrap();
    let bias = tensor(&[2, 2, 11, 11], &Numbers::new(31).eighths(2 * 2 * 11 * 11));
    let table = tensor(&[8], &[0.5, -1.0, 2.0, 0.0, 0.25, 1.0, -0.5, 0.75]);
    for attention in [
        AnyAttention::from(attentions::full()),
        attentions::window(4).into(),
        attentions::window_by_head().into(),
        attentions::sink(&slope).into(),
        attentions::sum().into(),
        attentions::mean().into(),
        attentions::captured(&slope, &document, &keep, &bias).into(),
        attentions::levels(&table, &table).into(),
    ] {
        expect_smooth(&mut failures, &attention, &shape);
    }
    let two_sets = Shape { keys: vec![7, 11], ..shape };
    expect_smooth(&mut failures, &attentions::memory().into(), &two_sets);
    failures.report();
}

/// Checks so many random problems, or as many as the environment says: the same ones each time.
fn check_random<S: proptest::strategy::Strategy<Value = C>, C>(
    cases: u32,
    any: S,
    mut problem: impl FnMut(&C) -> Problem,
) where
    C: std::fmt::Debug,
{
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (compared, kinks) = (Cell::new(0), Cell::new(0));
    let problem = std::cell::RefCell::new(&mut problem);
    let result = runner.run(&any, |case| {
        let (of_case, kinks_of_case) = (problem.borrow_mut())(&case).check().map_err(TestCaseError::fail)?;
        compared.set(compared.get() + of_case);
        kinks.set(kinks.get() + kinks_of_case);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (compared, kinks) = (compared.get(), kinks.get());
    println!("{compared} gradients of {cases} attentions compared, {kinks} at kinks");
    assert!(kinks * 20 < compared, "{kinks} of {compared} gradients are at kinks");
}

/// The shape with fewer queries and keys.
fn small(shape: &Shape) -> Shape {
    let keys = shape.keys.iter().map(|keys| (*keys).min(9)).collect();
    Shape { queries: shape.queries.min(7), keys, ..shape.clone() }
}

#[test]
fn differences_of_random_programs() {
    let device = devices::cpu();
    check_random(150, Case::any(), |case| {
        Problem::new(&case.attention(&device).unwrap(), &small(&case.shape), case.query_offset % 10)
    });
}

#[test]
fn differences_of_random_whole_attentions() {
    let device = devices::cpu();
    check_random(100, WholeCase::any(Kind::Any), |case| {
        let shape = small(&case.shape);
        let offset = shape.keys[0] as i64 - shape.queries as i64;
        Problem::new(&case.attention(&device).unwrap(), &shape, offset)
    });
}
