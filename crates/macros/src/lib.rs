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

/// Caches the results of a function in memory.
///
/// Arguments must implement `Hash + Eq + Clone`, and the result `Clone`. Neither needs serde. [The page on
/// attributes](https://github.com/larder-rs/larder/blob/main/docs/attributes.md) describes the options and
/// the companions of the function.
#[proc_macro_attribute]
pub fn mcache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::Memory, options, item)
}

/// Caches the results of a function on disk, with memory in front.
///
/// Arguments must implement `Hash + Eq + Clone`, and the result `Clone`. Both must also implement
/// `Serialize` and `DeserializeOwned`. Options and companions are those of [`mcache`](macro@mcache). The
/// options of the builder `larder::bcache` are accepted too.
#[proc_macro_attribute]
pub fn bcache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::Disk, options, item)
}

/// Caches the results of a function in files, one a result.
///
/// Arguments must implement `Hash + Eq + Clone`, and the result `Clone`. Both must also implement
/// `Serialize` and `DeserializeOwned`. Options and companions are those of [`mcache`](macro@mcache). The
/// options of the builder `larder::fcache` are accepted too.
#[proc_macro_attribute]
pub fn fcache(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Tier::File, options, item)
}

/// Caches the results of a function in the tier that a selector chooses for each result.
///
/// Arguments must implement `Hash + Eq + Clone`, and the result `Clone`. Both must also implement
/// `Serialize` and `DeserializeOwned`. Options and companions are those of [`mcache`](macro@mcache). The
/// options of the builder `larder::ucache` are accepted too.
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
