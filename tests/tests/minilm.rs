//! The sentence encoder of `examples/examples/minilm.rs` against the float32 activations of sentence-transformers' own, on the CPU.

use std::path::Path;

use purview::prelude::*;
use purview_examples::minilm::{MiniLm, weights_dir};
use safetensors::SafeTensors;

struct Golden {
    sentences: Vec<String>,
    /// `[4, 40]`, padded with 0
    input_ids: Vec<i32>,
    lens: Vec<i32>,
    /// `[4, 40, 384]`
    last_hidden: Vec<f32>,
    /// `[4, 384]`
    embedding: Vec<f32>,
}

fn golden() -> Golden {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"));
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("minilm.json")).unwrap()).unwrap();
    let file = std::fs::read(dir.join("minilm_sentences.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let words = |name: &str| tensors.tensor(name).unwrap().data().as_chunks().0.to_vec();
    let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect();
    let integers = |name: &str| words(name).into_iter().map(i32::from_le_bytes).collect();
    Golden {
        sentences: serde_json::from_value(manifest["sentences"].clone()).unwrap(),
        input_ids: integers("input_ids"),
        lens: integers("lens"),
        last_hidden: floats("last_hidden"),
        embedding: floats("embedding"),
    }
}

fn model() -> MiniLm {
    MiniLm::load(&weights_dir()).unwrap_or_else(|error| panic!("{error}"))
}

fn largest_difference<'a>(got: impl IntoIterator<Item = &'a f32>, want: &[f32]) -> f32 {
    let got: Vec<f32> = got.into_iter().copied().collect();
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|x| x.is_finite()));
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn tokens_are_those_of_the_reference() {
    let golden = golden();
    let tokens = model().tokenize(&golden.sentences.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert_eq!(tokens.lens, golden.lens);
    assert_eq!(tokens.ids.dim(), (4, 40));
    assert!(tokens.ids.iter().zip(&golden.input_ids).all(|(&got, &want)| got as i32 == want));
}

#[test]
fn embeddings_are_those_of_the_reference() {
    let golden = golden();
    let device = Device::cpu().unwrap();
    let (model, sentences) = (model(), golden.sentences.iter().map(String::as_str).collect::<Vec<_>>());

    let hidden = model.hidden_states(&device, &model.tokenize(&sentences).unwrap()).unwrap();
    for (sentence, &len) in golden.lens.iter().enumerate() {
        let own = sentence * 40..sentence * 40 + len as usize;
        let got = own.clone().flat_map(|token| hidden.row(token).to_slice().unwrap());
        let error = largest_difference(got, &golden.last_hidden[own.start * 384..own.end * 384]);
        assert!(error < 1e-4, "sentence {sentence}: its tokens' last hidden states are off by {error:e}");
    }

    let error = largest_difference(&model.encode(&device, &sentences).unwrap(), &golden.embedding);
    assert!(error < 1e-4, "embeddings are off by {error:e}");
}

/// A batch's padding must not leak into a sentence: encoded alone, where nothing is padded, it is the same.
#[test]
fn a_sentence_is_encoded_alike_alone_and_in_a_batch() {
    let golden = golden();
    let device = Device::cpu().unwrap();
    let model = model();
    let together = model.encode(&device, &golden.sentences.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    for (sentence, together) in golden.sentences.iter().zip(together.rows()) {
        let alone = model.encode(&device, &[sentence.as_str()]).unwrap();
        let error = largest_difference(&alone, &together.to_vec());
        assert!(error < 1e-5, "\"{sentence}\" alone and in a batch differ by {error:e}");
    }
}
