//! Options that are read and checked, and that this version of larder cannot keep.
//!
//! This is the only place that refuses them. Who builds what one of them needs
//! takes it out of here, and has its value in `Options`.

use proc_macro2::{Ident, TokenStream};
use syn::Error;

/// What is said about tags and batches: the names, and their values as
/// they would stand in the expansion.
#[derive(Default)]
pub(crate) struct Later(pub(crate) Vec<(Ident, TokenStream)>);

impl Later {
    /// An option that would change what is stored is never ignored.
    pub(crate) fn refuse(&self) -> syn::Result<()> {
        match self.0.first() {
            Some((name, _)) => Err(Error::new(
                name.span(),
                format!("`{name}` is not supported yet by this version of larder"),
            )),
            None => Ok(()),
        }
    }
}
