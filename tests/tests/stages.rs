//! The tile program of every variant of the gallery as a person reads it: as lowered, what each pass changes, and what is
//! emitted. `INSTA_UPDATE=always cargo test -p purview-tests --test stages` writes the snapshots anew; read their diff.

use purview::{AnyAttention, Arguments, Device, Shape, ir};
use purview_examples::GALLERY;
use purview_tests::devices;
use similar::{ChangeTag, TextDiff};
use std::collections::BTreeSet;
use std::fmt::Write;

const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");

fn shape() -> Shape {
    Shape::new(2, 4, 256, 64).with_kv_heads(2)
}

fn attentions(device: &Device) -> Vec<AnyAttention> {
    let arguments = Arguments::new(device.clone(), shape());
    GALLERY.iter().map(|variant| (variant.make)(&arguments).unwrap()).collect()
}

/// The lines that are in one of two texts.
fn changed_lines(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut text = String::new();
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Equal => {}
            ChangeTag::Delete => write!(text, "- {change}").unwrap(),
            ChangeTag::Insert => write!(text, "+ {change}").unwrap(),
        }
    }
    if text.is_empty() { "unchanged\n".into() } else { text }
}

#[test]
fn every_stage_of_every_variant() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(SNAPSHOTS);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let device = devices::cpu();
    settings.bind(|| {
        for attention in attentions(&device) {
            let stages = attention.stages(&shape()).unwrap();
            let (first, last) = (stages.first().unwrap(), stages.last().unwrap());
            let mut text = format!("after {}\n\n{}", first.0, first.1);
            for [(_, before), (stage, after)] in stages.array_windows() {
                write!(text, "\n{stage}\n\n{}", changed_lines(before, after)).unwrap();
            }
            write!(text, "\nafter {}\n\n{}", last.0, last.1).unwrap();
            insta::assert_snapshot!(attention.spec().name.clone(), text);
        }
    });
}

#[test]
fn snapshots_are_of_variants_that_exist() {
    let files = std::fs::read_dir(SNAPSHOTS).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let snapshots: BTreeSet<String> = files.filter_map(|file| Some(file.strip_suffix(".snap")?.to_string())).collect();
    assert_eq!(snapshots, GALLERY.iter().map(|variant| variant.name.to_string()).collect());
}

#[test]
fn every_stage_reads_back_to_itself() {
    for attention in attentions(&devices::cpu()) {
        let stages = attention.stages(&shape()).unwrap();
        let (last, others) = stages.split_last().unwrap();
        for (stage, text) in others {
            let read = ir::parse::parse(text).map(|program| program.to_string());
            assert_eq!(read.as_ref(), Ok(text), "{stage} of {}\n{text}", attention.spec().name);
        }
        let program = attention.program(&shape()).unwrap();
        assert_eq!(last.1.parse().as_ref(), Ok(&program), "{}", last.1);
    }
}
