//! Fuzzes the readers of traces: each form, plain and compressed.
#![no_main]

use larder_simulate::trace::{TraceOptions, read};
use libfuzzer_sys::fuzz_target;

const FORMS: [&str; 6] = ["t.lis", "t.csv", "t.trace", "t.lis.zst", "t.csv.zst", "t.trace.zst"];
/// Requests after which a trace is cut.
const MAX: usize = 10_000;

fuzz_target!(|input: (u8, Option<String>, Option<String>, Vec<u8>)| {
    let (form, key, size, bytes) = input;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(FORMS[usize::from(form) % FORMS.len()]);
    std::fs::write(&path, bytes).expect("a file");
    let options = TraceOptions { format: None, key, size, requests_max: MAX };
    match read(&path, &options) {
        Ok(workload) => {
            assert!(workload.requests.len() <= MAX, "it is cut");
            assert!(workload.share > 0.0 && workload.share <= 1.0, "{}", workload.share);
            assert!(workload.requests.iter().all(|key| *key < workload.distinct));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.chars().any(|c| c.is_control()), "{said:?}");
        }
    }
});
