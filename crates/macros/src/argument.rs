//! Reads the arguments of a function, and gives each a unique name.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, GenericArgument, Pat, PathArguments, Signature, Type, TypeImplTrait, TypeParamBound,
};

use crate::options::{Batch, Options};

/// One argument that is not `self`.
pub(crate) struct Argument {
    /// The name of the argument, or a generated name if its pattern is not a plain name.
    pub(crate) name: Ident,
    /// The declared type.
    pub(crate) declared: Type,
    /// The type in the body: `T` for `impl Into<T>`, otherwise the declared type.
    pub(crate) ty: Type,
    /// Whether the declared type is `impl Into<T>`.
    pub(crate) into: bool,
    /// Whether `skip` leaves the argument out of the key.
    pub(crate) skipped: bool,
    /// The list type, if this argument holds the keys of a batch.
    pub(crate) items: Option<Items>,
}

/// The list type of an argument that holds the keys of a batch.
pub(crate) struct Items {
    /// The type of one item, which is one key.
    pub(crate) item: Type,
    /// Whether the argument is an owned `Vec`. It is a reference otherwise.
    pub(crate) owned: bool,
}

impl Argument {
    /// Returns the declaration `name: Type`.
    pub(crate) fn declaration(&self) -> TokenStream {
        let (name, ty) = (&self.name, &self.declared);
        quote!(#name: #ty)
    }

    /// Returns a statement that converts an `impl Into<T>` to `T`. `None` for other types.
    pub(crate) fn conversion(&self) -> Option<TokenStream> {
        let (name, ty) = (&self.name, &self.ty);
        self.into.then(|| quote!(let #name: #ty = ::core::convert::Into::into(#name);))
    }
}

/// Reads the arguments of a signature, without `self`.
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
            items: None,
        });
    }
    if let Some(batch) = &options.batch {
        let with_keys = with_keys(batch, &mut arguments)?;
        with_keys.items = items(&with_keys.declared);
    }
    Ok(arguments)
}

/// Returns the argument that holds the keys of a batch: the one that the `batch` option names, or
/// the only list among the arguments that are not skipped.
fn with_keys<'a>(batch: &Batch, arguments: &'a mut [Argument]) -> syn::Result<&'a mut Argument> {
    let Some(name) = &batch.argument else { return only_slice(batch, arguments) };
    let Some(argument) = arguments.iter_mut().find(|argument| argument.name == *name) else {
        return Err(Error::new(name.span(), format!("the function has no argument `{name}`")));
    };
    if argument.skipped {
        let message = format!("`{name}` has the keys of the batch, so it cannot be skipped");
        return Err(Error::new(name.span(), message));
    }
    match items(&argument.declared) {
        Some(_) => Ok(argument),
        None => Err(Error::new_spanned(
            &argument.declared,
            "the keys of a batch are a slice or a `Vec`, such as `&[u64]`",
        )),
    }
}

fn only_slice<'a>(batch: &Batch, arguments: &'a mut [Argument]) -> syn::Result<&'a mut Argument> {
    let is_slice = |argument: &&mut Argument| !argument.skipped && items(&argument.declared).is_some();
    let mut slices: Vec<_> = arguments.iter_mut().filter(is_slice).collect();
    match (slices.pop(), slices.pop()) {
        (Some(slice), None) => Ok(slice),
        (Some(second), Some(first)) => {
            let (first, second) = (&first.name, &second.name);
            let message = format!(
                "`{first}` and `{second}` may both have the keys of the batch: say which, with `batch = {first}`"
            );
            Err(Error::new(batch.word.span(), message))
        }
        (None, _) => {
            let message =
                "`batch` is for functions with a slice of keys among their arguments, such as `ids: &[u64]`";
            Err(Error::new(batch.word.span(), message))
        }
    }
}

/// Returns the item type of `&[T]`, `&Vec<T>` or `Vec<T>`. `None` for any other type.
fn items(ty: &Type) -> Option<Items> {
    match ty {
        Type::Reference(ty) if ty.mutability.is_none() => match &*ty.elem {
            Type::Slice(slice) => Some(Items { item: (*slice.elem).clone(), owned: false }),
            list => vec_item(list).map(|item| Items { item, owned: false }),
        },
        list => vec_item(list).map(|item| Items { item, owned: true }),
    }
}

fn vec_item(ty: &Type) -> Option<Type> {
    let Type::Path(ty) = ty else { return None };
    let last = ty.path.segments.last().filter(|last| last.ident == "Vec")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(item) => Some(item.clone()),
        _ => None,
    }
}

fn name(pattern: &Pat, position: usize) -> Ident {
    match pattern {
        Pat::Ident(pattern) if pattern.subpat.is_none() => pattern.ident.clone(),
        // A struct or tuple pattern, or `_`.
        _ => format_ident!("__argument_{position}", span = Span::mixed_site()),
    }
}

/// Returns the `T` of an `impl Into<T>`, and `None` for a type that is not an `impl`. Fails for any
/// other `impl`.
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
