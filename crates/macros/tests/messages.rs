//! What somebody who writes an attribute wrongly gets to read.
//!
//! Compiles each file of `messages/`, and compares what the compiler says with
//! the text beside it. `TRYBUILD=overwrite` writes that text anew.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/messages/*.rs");
}
