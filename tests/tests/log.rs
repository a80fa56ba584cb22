//! What is logged when a program is compiled: once, with the place where it is written; and at launches. A process has one logger, so
//! this file is a test of its own.

use log::{Level, LevelFilter, Log, Metadata, Record};
use purview::prelude::*;
use std::sync::Mutex;

/// A mask that only the compiler sees to be always false.
#[attention]
fn nothing(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j + 1 < i && i < j), v[j]);
        }
        o
    }
}

/// A remainder, which gives no ranges.
#[attention]
fn every_other(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), (i - j) % 2 == 0), v[j]);
        }
        o
    }
}

/// Each query sees itself and what is before it.
#[attention]
fn causal(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

struct Kept(Mutex<Vec<(Level, String)>>);

impl Log for Kept {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        if ["purview::cache", "purview::prove"].contains(&record.target()) {
            self.0.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

static LOG: Kept = Kept(Mutex::new(Vec::new()));

#[test]
fn notes_are_logged_once() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let device = Device::cpu().unwrap();
    let tensor = |length| Tensor::from_slice(&device, [1, 1, length, 8], &vec![0.5f32; length * 8]).unwrap();
    for length in [3, 5] {
        let x = tensor(length);
        let out = nothing().run(&device, &x, &x, &x).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(out, vec![0.0; length * 8]);
        every_other().run(&device, &x, &x, &x).unwrap();
    }
    causal().with_query_offset(0).run(&device, &tensor(3), &tensor(5), &tensor(5)).unwrap();
    let logged = LOG.0.lock().unwrap();
    let [(Level::Warn, never), (Level::Debug, open), (Level::Info, aligned)] = &logged[..] else {
        panic!("{logged:?}")
    };
    assert_eq!(
        *aligned,
        format!(
            "{}:38:54: note: the queries are aligned to the first keys: the first is at position 0, and the last 2 keys are after \
             all of them; with_query_offset(kv_len - q_len), which is the default, aligns them to the last",
            file!()
        )
    );
    assert_eq!(*never, format!("{}:14:20: warning: this mask is always false: no query sees a key of `k`", file!()));
    assert_eq!(
        *open,
        format!(
            "{}:26:60: note: `(i - j) % 2 == 0` gives no ranges, because of its remainder: tiles are decided one by one",
            file!()
        )
    );
}
