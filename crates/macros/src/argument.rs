//! The arguments of a function, each with a name of its own.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, GenericArgument, Pat, PathArguments, Signature, Type, TypeImplTrait, TypeParamBound,
};

use crate::options::Options;

/// One argument that is not `self`.
pub(crate) struct Argument {
    /// Its name, or one made up where the pattern has none.
    pub(crate) name: Ident,
    /// Its type as it is declared.
    pub(crate) declared: Type,
    /// Its type inside: `T` for `impl Into<T>`, the declared one otherwise.
    pub(crate) ty: Type,
    /// Whether it is an `impl Into<T>`.
    pub(crate) into: bool,
    /// Whether it is left out of the key.
    pub(crate) skipped: bool,
}

impl Argument {
    /// How callers pass it: `name: Type`.
    pub(crate) fn declaration(&self) -> TokenStream {
        let (name, ty) = (&self.name, &self.declared);
        quote!(#name: #ty)
    }

    /// Turns an `impl Into<T>` into its `T`.
    pub(crate) fn conversion(&self) -> Option<TokenStream> {
        let (name, ty) = (&self.name, &self.ty);
        self.into.then(|| quote!(let #name: #ty = ::core::convert::Into::into(#name);))
    }
}

/// The arguments of a signature.
pub(crate) fn read(signature: &Signature, options: &Options) -> syn::Result<Vec<Argument>> {
    let mut arguments = Vec::new();
    for (position, input) in signature.inputs.iter().enumerate() {
        let FnArg::Typed(typed) = input else { continue };
        let name = name(&typed.pat, position);
        let skipped = options.skips(&name.to_string());
        let into = into_type(&typed.ty)?;
        arguments.push(Argument {
            name,
            declared: (*typed.ty).clone(),
            into: into.is_some(),
            ty: into.unwrap_or_else(|| (*typed.ty).clone()),
            skipped,
        });
    }
    Ok(arguments)
}

fn name(pattern: &Pat, position: usize) -> Ident {
    match pattern {
        Pat::Ident(pattern) if pattern.subpat.is_none() => pattern.ident.clone(),
        // A struct or tuple pattern, or `_`.
        _ => format_ident!("__argument_{position}", span = Span::mixed_site()),
    }
}

/// The `T` of an `impl Into<T>`; any other `impl` is refused.
fn into_type(ty: &Type) -> syn::Result<Option<Type>> {
    let Type::ImplTrait(bounds) = ty else { return Ok(None) };
    into_bound(bounds).map(Some).ok_or_else(|| {
        Error::new_spanned(
            ty,
            "a cached function may take `impl Into<T>`, which is converted for the key, and no other `impl`: \
             its callers pass different types, whose values cannot be compared",
        )
    })
}

fn into_bound(bounds: &TypeImplTrait) -> Option<Type> {
    let mut bounds = bounds.bounds.iter();
    let (Some(TypeParamBound::Trait(bound)), None) = (bounds.next(), bounds.next()) else { return None };
    let last = bound.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match (last.ident == "Into", arguments.args.first()) {
        (true, Some(GenericArgument::Type(ty))) => Some(ty.clone()),
        _ => None,
    }
}
