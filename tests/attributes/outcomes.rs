//! What is stored of a `Result` and an `Option`, and who gets what.
