//! The tags of stored results.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Path, Token};

use super::literal;
use crate::expand::local;

/// The most tags of one entry.
const TAGS_MAX: usize = 64;
/// The longest tag, in bytes.
const TAG_BYTES_MAX: usize = 1024;

/// The source of the tags.
pub(crate) enum Tags {
    /// One by one, from expressions over the arguments.
    List(Punctuated<Expr, Token![,]>),
    /// All at once, from an expression over the arguments.
    Arguments(Expr),
    /// From the value: a path, or a closure.
    Value(Expr),
}

impl Tags {
    pub(super) fn read(value: Expr) -> syn::Result<Self> {
        if let Some(text) = literal::text(&value) {
            let message = "`tags` is a list of text over the arguments, such as `tags = [\"users\", format!(\"user:{id}\")]`, \
                           or a function of the result, such as `tags = tags_of`";
            return Err(Error::new(text.span(), message));
        }
        match value {
            Expr::Array(list) => {
                check(&list.elems)?;
                Ok(Self::List(list.elems))
            }
            Expr::Path(_) | Expr::Closure(_) => Ok(Self::Value(value)),
            other => Ok(Self::Arguments(other)),
        }
    }

    /// Code that makes the tags before the function runs, which may consume its arguments.
    pub(crate) fn setup(&self, root: &Path) -> Option<TokenStream> {
        let tags = match self {
            Self::List(list) => {
                let none = quote!(#root::__private::EntryOptions::new());
                let one_more =
                    |tags, tag: &Expr| quote_spanned!(tag.span()=> #root::__private::tag(#tags, &#tag));
                list.iter().fold(none, one_more)
            }
            Self::Arguments(tags) => quote_spanned!(tags.span()=> #root::__private::tags(#tags)),
            Self::Value(_) => return None,
        };
        Some(quote!(let __larder_tags = #tags;))
    }

    /// The entry options of a `value`, after the function has run.
    pub(crate) fn options(&self, root: &Path) -> TokenStream {
        let value = local("value");
        let (made, span) = match self {
            Self::List(_) | Self::Arguments(_) => return quote!(__larder_tags),
            // Called by path, so that a `String` coerces to `&str`.
            Self::Value(path @ Expr::Path(_)) => (quote_spanned!(path.span()=> #path(&#value)), path.span()),
            Self::Value(closure) => {
                let span = closure.span();
                (quote_spanned!(span=> #root::__private::of_value(&#value, #closure)), span)
            }
        };
        quote_spanned!(span=> #root::__private::tags(#made))
    }
}

/// Checks the parts of a list that are known at compile time.
fn check(list: &Punctuated<Expr, Token![,]>) -> syn::Result<()> {
    if let Some(extra) = list.iter().nth(TAGS_MAX) {
        return Err(Error::new(extra.span(), "an entry has at most 64 tags"));
    }
    for text in list.iter().filter_map(literal::text) {
        if text.value().len() > TAG_BYTES_MAX {
            return Err(Error::new(text.span(), "a tag has at most 1024 bytes"));
        }
    }
    Ok(())
}
