//! Stores of native keys and values.
