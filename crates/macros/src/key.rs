//! The key: the owned arguments, or the expression that the user wrote.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, GenericArgument, Path, PathArguments, Type, TypeReference};

use crate::answer::borrowed;
use crate::argument::Argument;
use crate::options::Tier;

/// How a call makes its key.
pub(crate) struct Key {
    /// An expression over the names of the arguments. In a batch the argument with the keys stands for a
    /// reference to one item.
    pub(crate) expression: TokenStream,
    /// Its type; `None` if the user wrote the expression.
    pub(crate) ty: Option<TokenStream>,
    /// Its type by way of the required traits, so that the compiler reports an unmet bound once.
    pub(crate) checked: Option<TokenStream>,
    /// The types of the borrowed arguments in it, each of which is checked separately.
    pub(crate) parts: Vec<Type>,
}

/// Standard tuples are `Hash` up to this length.
const PARTS_MAX: usize = 12;

impl Key {
    /// The key that the user wrote.
    pub(crate) fn written(expression: &Expr) -> Self {
        Self { expression: expression.to_token_stream(), ty: None, checked: None, parts: Vec::new() }
    }

    /// The key of the arguments that are not skipped: a single one as it is, several as a tuple.
    pub(crate) fn of(arguments: &[&Argument], tier: Tier, root: &Path) -> syn::Result<Self> {
        if let Some(extra) = arguments.get(PARTS_MAX) {
            let message = "a key has at most 12 arguments: say what it is made of with `key = \"..\"`";
            return Err(Error::new(extra.name.span(), message));
        }
        let mut words = Words { root, tier, parts: Vec::new() };
        let mut parts = Vec::new();
        for argument in arguments {
            let name = &argument.name;
            parts.push(match &argument.items {
                Some(items) => Part::of(&items.item, name.to_token_stream(), &mut words)?,
                None => Part::of(&argument.ty, quote!(&#name), &mut words)?,
            });
        }
        let Part { ty, checked, value } = Part::together(parts);
        Ok(Self { expression: value, ty: Some(ty), checked: Some(checked), parts: words.parts })
    }
}

/// The state collected while the arguments are visited.
struct Words<'a> {
    root: &'a Path,
    tier: Tier,
    parts: Vec<Type>,
}

impl Words<'_> {
    /// A type as a part of a key.
    fn part(&self, ty: &Type) -> TokenStream {
        let (root, part) = (self.root, self.tier.of_parts());
        quote_spanned!(ty.span()=> <#ty as #root::__private::#part>)
    }
}

/// One argument as part of a key.
struct Part {
    ty: TokenStream,
    checked: TokenStream,
    value: TokenStream,
}

impl Part {
    /// The owned form of a type. `place` is an expression that refers to the argument.
    fn of(ty: &Type, place: TokenStream, words: &mut Words<'_>) -> syn::Result<Self> {
        if is_plain(ty) {
            words.parts.push(ty.clone());
            let part = words.part(ty);
            return Ok(Self {
                ty: ty.to_token_stream(),
                checked: quote!(#part::Owned),
                value: quote!(#part::owned(#place)),
            });
        }
        match ty {
            Type::Paren(ty) => Self::of(&ty.elem, place, words),
            Type::Group(ty) => Self::of(&ty.elem, place, words),
            Type::Reference(ty) => Self::of_reference(ty, place, words),
            Type::Slice(ty) => Self::each(&ty.elem, quote!((#place).iter()), words),
            Type::Array(ty) => Self::each(&ty.elem, quote!((#place).iter()), words),
            Type::Tuple(ty) => Self::tuple(ty.elems.iter(), &place, words),
            _ if is_float(ty) => {
                let root = words.root;
                let total = quote_spanned!(ty.span()=> #root::__private::Total<#ty>);
                Ok(Self { value: quote!(<#total>::of(*#place)), checked: total.clone(), ty: total })
            }
            Type::Path(_) => Self::of_container(ty, place, words),
            _ => Err(unfit(ty)),
        }
    }

    /// The owned form of a reference to `ty`.
    fn owned(ty: &Type, place: TokenStream, words: &mut Words<'_>) -> Self {
        words.parts.push(ty.clone());
        let part = words.part(ty);
        let owned = quote_spanned!(ty.span()=> <#ty as ::std::borrow::ToOwned>);
        Self { ty: quote!(#owned::Owned), checked: quote!(#part::Owned), value: quote!(#part::owned(#place)) }
    }

    fn of_reference(ty: &TypeReference, place: TokenStream, words: &mut Words<'_>) -> syn::Result<Self> {
        if ty.mutability.is_some() {
            let message = "a `&mut` argument cannot be part of a key: leave it out with `skip(..)`";
            return Err(Error::new_spanned(ty, message));
        }
        let inner = &*ty.elem;
        if let Type::TraitObject(_) = inner {
            return Err(unfit(inner));
        }
        let is_plain_slice = matches!(inner, Type::Slice(slice) if is_plain(&slice.elem));
        if is_plain(inner) || is_plain_slice {
            return Ok(Self::owned(inner, quote!(*#place), words));
        }
        Self::of(inner, quote!((*#place)), words)
    }

    /// The owned form of `Option`, `Vec`, `Box` and `Cow` of a type that is not plain.
    fn of_container(ty: &Type, place: TokenStream, words: &mut Words<'_>) -> syn::Result<Self> {
        let (Some(name), Some(inner)) = container(ty) else { return Err(unfit(ty)) };
        match name.as_str() {
            "Option" => {
                let part = Self::of(inner, quote!(part), words)?;
                let Self { ty, checked, value } = part;
                Ok(Self {
                    ty: quote!(::core::option::Option<#ty>),
                    checked: quote!(::core::option::Option<#checked>),
                    value: quote!((#place).as_ref().map(|part| #value)),
                })
            }
            "Vec" => Self::each(inner, quote!((#place).iter()), words),
            "Box" => Self::of(inner, quote!((&**#place)), words),
            "Cow" => Ok(Self::owned(inner, quote!((&**#place)), words)),
            _ => Err(unfit(ty)),
        }
    }

    fn each(item: &Type, items: TokenStream, words: &mut Words<'_>) -> syn::Result<Self> {
        let part = Self::of(item, quote!(part), words)?;
        let Self { ty, checked, value } = part;
        Ok(Self {
            ty: quote!(::std::vec::Vec<#ty>),
            checked: quote!(::std::vec::Vec<#checked>),
            value: quote!(#items.map(|part| #value).collect::<::std::vec::Vec<_>>()),
        })
    }

    fn tuple<'a>(
        items: impl Iterator<Item = &'a Type>,
        place: &TokenStream,
        words: &mut Words<'_>,
    ) -> syn::Result<Self> {
        let mut parts = Vec::new();
        for (position, item) in items.enumerate() {
            let position = syn::Index::from(position);
            parts.push(Self::of(item, quote!((&(#place).#position)), words)?);
        }
        Ok(Self::all(&parts))
    }

    /// Joins parts: a single one as it is, several as a tuple.
    fn together(mut parts: Vec<Self>) -> Self {
        match (parts.pop(), parts.is_empty()) {
            (Some(one), true) => one,
            (last, _) => {
                parts.extend(last);
                Self::all(&parts)
            }
        }
    }

    fn all(parts: &[Self]) -> Self {
        let types = parts.iter().map(|part| &part.ty);
        let checked = parts.iter().map(|part| &part.checked);
        let values = parts.iter().map(|part| &part.value);
        Self { ty: quote!((#(#types,)*)), checked: quote!((#(#checked,)*)), value: quote!((#(#values,)*)) }
    }
}

/// Whether a value of the type is a key as it is: it does not borrow and is not a float.
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
        Type::Path(ty) => {
            ty.path.segments.last().is_some_and(|last| last.ident == "f64" || last.ident == "f32")
        }
        _ => false,
    }
}

/// The name and the type argument of a generic type with one argument.
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
    Error::new_spanned(
        ty,
        "no owned form of this type is known that could be part of a key: leave the argument out with \
         `skip(..)`, or say what the key is made of with `key = \"..\"`",
    )
}
