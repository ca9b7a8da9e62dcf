//! The key: the arguments, owned, or what the user says.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, GenericArgument, Path, PathArguments, Type, TypeReference};

use crate::answer::borrowed;
use crate::argument::Argument;

/// How a call becomes a key.
pub(crate) struct Key {
    /// An expression over the names of the arguments.
    pub(crate) expression: TokenStream,
    /// Its type; `None` where the user wrote the expression.
    pub(crate) ty: Option<TokenStream>,
}

/// Standard tuples are `Hash` up to this length.
const PARTS_MAX: usize = 12;

impl Key {
    /// The key that the user wrote.
    pub(crate) fn written(expression: &Expr) -> Self {
        Self { expression: expression.to_token_stream(), ty: None }
    }

    /// The arguments that are not skipped: one by itself, several as a tuple.
    pub(crate) fn of(arguments: &[&Argument], root: &Path) -> syn::Result<Self> {
        if let Some(extra) = arguments.get(PARTS_MAX) {
            let message = "a key has at most 12 arguments: say what it is made of with `key = \"..\"`";
            return Err(Error::new(extra.name.span(), message));
        }
        let mut parts = Vec::new();
        for argument in arguments {
            let name = &argument.name;
            parts.push(Part::of(&argument.ty, quote!(&#name), root)?);
        }
        let types = parts.iter().map(|part| &part.ty);
        let values = parts.iter().map(|part| &part.value);
        Ok(match parts.as_slice() {
            [one] => Self { expression: one.value.clone(), ty: Some(one.ty.clone()) },
            _ => Self { expression: quote!((#(#values),*)), ty: Some(quote!((#(#types),*))) },
        })
    }
}

/// One argument as it stands in a key.
struct Part {
    ty: TokenStream,
    value: TokenStream,
}

impl Part {
    /// The owned form of a type. `place` is an expression that refers to the argument.
    fn of(ty: &Type, place: TokenStream, root: &Path) -> syn::Result<Self> {
        if is_plain(ty) {
            let owned = quote_spanned!(ty.span()=> ::core::clone::Clone::clone(#place));
            return Ok(Self { ty: ty.to_token_stream(), value: owned });
        }
        match ty {
            Type::Paren(ty) => Self::of(&ty.elem, place, root),
            Type::Group(ty) => Self::of(&ty.elem, place, root),
            Type::Reference(ty) => Self::of_reference(ty, place, root),
            Type::Slice(ty) => Self::each(&ty.elem, quote!((#place).iter()), root),
            Type::Array(ty) => Self::each(&ty.elem, quote!((#place).iter()), root),
            Type::Tuple(ty) => Self::tuple(ty.elems.iter(), &place, root),
            _ if is_float(ty) => {
                let total = quote_spanned!(ty.span()=> #root::__private::Total<#ty>);
                Ok(Self { value: quote!(<#total>::of(*#place)), ty: total })
            }
            Type::Path(_) => Self::of_container(ty, place, root),
            _ => Err(unfit(ty)),
        }
    }

    fn of_reference(ty: &TypeReference, place: TokenStream, root: &Path) -> syn::Result<Self> {
        if ty.mutability.is_some() {
            let message = "a `&mut` argument cannot be part of a key: leave it out with `skip(..)`";
            return Err(Error::new(ty.span(), message));
        }
        let inner = &*ty.elem;
        if let Type::TraitObject(_) = inner {
            return Err(unfit(inner));
        }
        let is_plain_slice = matches!(inner, Type::Slice(slice) if is_plain(&slice.elem));
        if is_plain(inner) || is_plain_slice {
            let owned = quote_spanned!(inner.span()=> <#inner as ::std::borrow::ToOwned>);
            return Ok(Self { ty: quote!(#owned::Owned), value: quote!(#owned::to_owned(*#place)) });
        }
        Self::of(inner, quote!((*#place)), root)
    }

    /// `Option`, `Vec`, `Box` and `Cow` of what is not plain itself.
    fn of_container(ty: &Type, place: TokenStream, root: &Path) -> syn::Result<Self> {
        let (Some(name), Some(inner)) = container(ty) else { return Err(unfit(ty)) };
        match name.as_str() {
            "Option" => {
                let part = Self::of(inner, quote!(part), root)?;
                let (ty, value) = (part.ty, part.value);
                Ok(Self {
                    ty: quote!(::core::option::Option<#ty>),
                    value: quote!((#place).as_ref().map(|part| #value)),
                })
            }
            "Vec" => Self::each(inner, quote!((#place).iter()), root),
            "Box" => Self::of(inner, quote!((&**#place)), root),
            "Cow" => {
                let owned = quote_spanned!(ty.span()=> <#inner as ::std::borrow::ToOwned>);
                Ok(Self { ty: quote!(#owned::Owned), value: quote!(#owned::to_owned(&**#place)) })
            }
            _ => Err(unfit(ty)),
        }
    }

    fn each(item: &Type, items: TokenStream, root: &Path) -> syn::Result<Self> {
        let part = Self::of(item, quote!(part), root)?;
        let (ty, value) = (part.ty, part.value);
        Ok(Self {
            ty: quote!(::std::vec::Vec<#ty>),
            value: quote!(#items.map(|part| #value).collect::<::std::vec::Vec<_>>()),
        })
    }

    fn tuple<'a>(
        items: impl Iterator<Item = &'a Type>,
        place: &TokenStream,
        root: &Path,
    ) -> syn::Result<Self> {
        let mut parts = Vec::new();
        for (position, item) in items.enumerate() {
            let position = syn::Index::from(position);
            parts.push(Self::of(item, quote!((&(#place).#position)), root)?);
        }
        let (types, values) = (parts.iter().map(|part| &part.ty), parts.iter().map(|part| &part.value));
        Ok(Self { ty: quote!((#(#types,)*)), value: quote!((#(#values,)*)) })
    }
}

/// Whether a value of the type is a key as it is: it neither borrows, nor is a float.
fn is_plain(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => tuple.elems.iter().all(is_plain),
        Type::Array(array) => is_plain(&array.elem),
        Type::Slice(_) | Type::Reference(_) | Type::TraitObject(_) | Type::Ptr(_) => false,
        Type::Paren(inner) => is_plain(&inner.elem),
        Type::Group(inner) => is_plain(&inner.elem),
        Type::Path(_) => match container(ty) {
            (Some(name), Some(inner)) if ["Option", "Vec", "Box"].contains(&name.as_str()) => {
                is_plain(inner) || is_boxed_slice(&name, inner)
            }
            _ => !is_float(ty) && borrowed(ty).is_none(),
        },
        _ => true,
    }
}

fn is_boxed_slice(container: &str, inner: &Type) -> bool {
    container == "Box" && matches!(inner, Type::Slice(slice) if is_plain(&slice.elem))
}

fn is_float(ty: &Type) -> bool {
    match ty {
        Type::Path(ty) => ty.path.segments.last().is_some_and(|last| last.ident == "f64" || last.ident == "f32"),
        _ => false,
    }
}

/// The name of a generic type with one type inside, and that type.
fn container(ty: &Type) -> (Option<String>, Option<&Type>) {
    let Type::Path(ty) = ty else { return (None, None) };
    let Some(last) = ty.path.segments.last() else { return (None, None) };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return (None, None) };
    let inner = arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    (Some(last.ident.to_string()), inner)
}

fn unfit(ty: &Type) -> Error {
    Error::new(
        ty.span(),
        "no owned form of this type is known that could be part of a key: leave the argument out with \
         `skip(..)`, or say what the key is made of with `key = \"..\"`",
    )
}
