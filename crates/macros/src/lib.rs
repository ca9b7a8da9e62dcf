//! The attributes of Larder: `#[mcache]`, `#[bcache]`, `#[fcache]`, `#[ucache]`.
//!
//! Use them through `larder`, which re-exports them beside the builder functions of the same names;
//! `docs/attributes.md` lists every option. This crate does not depend on the cache: it parses a function and
//! generates calls of `larder::__private`.

mod answer;
mod argument;
mod batch;
mod companions;
mod expand;
mod function;
mod key;
mod options;
mod version;

use proc_macro::TokenStream;

use crate::options::Tier;

/// Gives a function a cache in memory.
///
/// Arguments are `Hash + Eq`, and the result is `Clone`; neither needs serde. See [the page on
/// attributes](https://github.com/larder-rs/larder/blob/main/docs/attributes.md) for the options, and for the
/// companions of the function.
#[proc_macro_attribute]
pub fn mcache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::Memory, options, item)
}

/// Gives a function a cache on disk, with a small memory tier in front.
///
/// Arguments and result are serde types. Options and companions as for
/// [`mcache`](macro@mcache), and those of the builder `larder::bcache`.
#[proc_macro_attribute]
pub fn bcache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::Disk, options, item)
}

/// Gives a function a cache that stores each result in its own file.
///
/// Arguments and result are serde types. Options and companions as for
/// [`mcache`](macro@mcache), and those of the builder `larder::fcache`.
#[proc_macro_attribute]
pub fn fcache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::File, options, item)
}

/// Gives a function a cache whose selector places each result.
///
/// Arguments and result are serde types. Options and companions as for
/// [`mcache`](macro@mcache), and those of the builder `larder::ucache`.
#[proc_macro_attribute]
pub fn ucache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::Universal, options, item)
}

fn attribute(tier: Tier, options: TokenStream, item: TokenStream) -> TokenStream {
    match expand::attribute(tier, options.into(), item.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}
