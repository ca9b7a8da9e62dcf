//! The options of an attribute, parsed and checked.

mod literal;
mod parse;
mod suggest;
mod tags;

use proc_macro2::{Ident, Span, TokenStream};
use syn::{Expr, Path};

pub(crate) use self::tags::Tags;

/// The four attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Memory,
    Disk,
    File,
    Universal,
}

impl Tier {
    /// The name of the attribute and of its builder function.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "mcache",
            Self::Disk => "bcache",
            Self::File => "fcache",
            Self::Universal => "ucache",
        }
    }

    /// The trait for parts of a key.
    pub(crate) fn of_parts(self) -> Ident {
        Ident::new(if self == Self::Memory { "Part" } else { "EncodedPart" }, Span::call_site())
    }

    /// The trait for stored values.
    pub(crate) fn of_values(self) -> Ident {
        Ident::new(if self == Self::Memory { "Kept" } else { "EncodedValue" }, Span::call_site())
    }
}

/// The schema version of the entries.
pub(crate) enum Version {
    /// The hash of the function's tokens.
    Auto,
    /// The version that the user set.
    Number(Expr),
}

/// The eviction policy.
pub(crate) enum Policy {
    /// A variant of `larder::Policy`.
    Named(Ident),
    /// An expression of the user.
    Is(Expr),
}

/// Marks a batch function, which takes many keys.
pub(crate) struct Batch {
    /// The word `batch`.
    pub(crate) word: Ident,
    /// The argument with the keys, if the user named it.
    pub(crate) argument: Option<Ident>,
}

/// All options of an attribute.
#[derive(Default)]
pub(crate) struct Options {
    /// The path of the crate `larder`, if it is not `::larder`.
    pub(crate) krate: Option<Path>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) key: Option<Expr>,
    pub(crate) exclude: Option<Expr>,
    pub(crate) share_err: Option<Expr>,
    pub(crate) name: Option<Expr>,
    pub(crate) version: Option<Version>,
    pub(crate) ttl_fn: Option<Expr>,
    pub(crate) on_event: Option<Expr>,
    pub(crate) record_bytes: Option<Expr>,
    pub(crate) skip_none: Option<Ident>,
    pub(crate) result: Option<Ident>,
    pub(crate) method: Option<Ident>,
    /// Calls on the builder, in the order they were written.
    pub(crate) builder: Vec<(Ident, TokenStream)>,
    pub(crate) policy: Option<Policy>,
    pub(crate) tags: Option<Tags>,
    pub(crate) batch: Option<Batch>,
}

impl Options {
    /// The options between the parentheses of an attribute.
    pub(crate) fn read(tier: Tier, tokens: TokenStream) -> syn::Result<Self> {
        parse::options(tier, tokens)
    }

    /// Whether the argument of this name is skipped.
    pub(crate) fn skips(&self, name: &str) -> bool {
        self.skip.iter().any(|skipped| skipped == name)
    }
}
