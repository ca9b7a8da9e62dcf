//! The return type of a function, and the part of it that is stored.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Error, GenericArgument, Lifetime, Path, PathArguments, ReturnType, Signature, TraitBound, Type,
    TypeImplTrait, TypeParamBound, TypeReference, parse_quote_spanned,
};

use crate::options::{Options, Tags, Tier};

/// The return type of a function.
pub(crate) struct Answer {
    /// The whole type.
    pub(crate) ty: Type,
    pub(crate) form: Form,
    /// Whether it is a `Vec` with one value for each key.
    pub(crate) batch: bool,
}

pub(crate) enum Form {
    /// A value. Of a `Result` only `Ok` is stored; with `skip_none`, of an `Option` only `Some`.
    Value { result: bool, skip_none: bool },
    /// An iterator, `impl` or boxed, over owned items.
    Iterator { item: Type, boxed: bool },
    /// An `impl Stream` over owned items.
    Stream { item: Type },
}

impl Answer {
    pub(crate) fn read(tier: Tier, signature: &Signature, options: &Options) -> syn::Result<Self> {
        let ty = match &signature.output {
            ReturnType::Default => parse_quote_spanned!(signature.ident.span()=> ()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        let form = form(&ty, options)?;
        check(&form, &ty, signature, options)?;
        check_decoded(&form, &ty, tier)?;
        Ok(Self { ty, form, batch: options.batch.is_some() })
    }

    /// The stored type.
    pub(crate) fn value(&self, root: &Path) -> TokenStream {
        self.of_inner(root, self.inner(root))
    }

    /// The stored type, given the type inside.
    pub(crate) fn of_inner(&self, root: &Path, value: TokenStream) -> TokenStream {
        match self.form {
            Form::Value { .. } => value,
            Form::Iterator { .. } | Form::Stream { .. } => quote!(#root::__private::Record<#value>),
        }
    }

    /// The type inside `Result`, `Option`, iterator or stream.
    pub(crate) fn inner(&self, root: &Path) -> TokenStream {
        let ty = &self.ty;
        let (result, skip_none) = match &self.form {
            Form::Value { result, skip_none } => (*result, *skip_none),
            Form::Iterator { item, .. } | Form::Stream { item } => {
                return item.to_token_stream();
            }
        };
        let mut value = ty.to_token_stream();
        if result {
            value = quote_spanned!(ty.span()=> <#value as #root::__private::Fallible>::Value);
        }
        if self.batch {
            value = quote_spanned!(ty.span()=> <#value as #root::__private::Many>::Item);
        }
        if skip_none {
            value = quote_spanned!(ty.span()=> <#value as #root::__private::Maybe>::Value);
        }
        value
    }
}

fn form(ty: &Type, options: &Options) -> syn::Result<Form> {
    if let Some((kind, item)) = sequence(ty)? {
        return Ok(match kind {
            Sequence::Iterator { boxed } => Form::Iterator { item, boxed },
            Sequence::Stream => Form::Stream { item },
        });
    }
    if let Some(unnamed) = unnamed(ty) {
        let message = "a cached value has to have a name: write the type in place of `impl` or `dyn` \
                       (an `impl Iterator` or `impl Stream` is understood where it is the whole result; in place of `impl Future` write `async fn`)";
        return Err(Error::new_spanned(unnamed, message));
    }
    let result = options.result.is_some() || named(ty).is_some_and(|name| name == "Result");
    Ok(Form::Value { result, skip_none: options.skip_none.is_some() })
}

/// Returns an error for types that cannot be stored, and for options without a meaning for this type.
fn check(form: &Form, ty: &Type, signature: &Signature, options: &Options) -> syn::Result<()> {
    let stored = match form {
        Form::Value { result, .. } => {
            check_value(*result, options)?;
            check_batch(ty, options)?;
            check_skip_none(ty, options)?;
            ty
        }
        Form::Iterator { item, .. } | Form::Stream { item } => {
            check_sequence(signature, options)?;
            item
        }
    };
    match borrowed(stored) {
        Some(span) => Err(Error::new(
            span,
            "a cached value outlives its call, so it cannot borrow: return an owned one (`String`, `Arc<T>`)",
        )),
        None => Ok(()),
    }
}

/// Returns an error for a `&'static` reference in a value that a tier decodes. The compiler would report that
/// the implementation of `Deserialize` is not general enough, and not name the type.
fn check_decoded(form: &Form, ty: &Type, tier: Tier) -> syn::Result<()> {
    let stored = match form {
        Form::Value { result: true, .. } => first_argument(ty).unwrap_or(ty),
        Form::Value { .. } => ty,
        Form::Iterator { item, .. } | Form::Stream { item } => item,
    };
    let mut references = References(None);
    references.visit_type(stored);
    match references.0.filter(|_| tier != Tier::Memory) {
        Some(reference) => Err(Error::new_spanned(
            reference,
            "a value that is read back from disk or from Redis cannot be a reference: return an owned one \
             (`String`, `Arc<str>`), or use #[mcache]",
        )),
        None => Ok(()),
    }
}

fn check_value(result: bool, options: &Options) -> syn::Result<()> {
    if let (Some(path), false) = (&options.share_err, result) {
        return Err(Error::new(path.span(), "`share_err` is for functions that return a `Result`"));
    }
    if let Some(bytes) = &options.record_bytes {
        return Err(Error::new(
            bytes.span(),
            "`record_bytes` is for functions that return an iterator or a stream",
        ));
    }
    Ok(())
}

/// Checks that a batch function returns a `Vec`, by the name of the type, unless an alias hides it.
fn check_batch(ty: &Type, options: &Options) -> syn::Result<()> {
    let is = |ty: &Type, name: &str| named(ty).is_some_and(|named| named == name);
    let answers = if is(ty, "Result") { first_argument(ty) } else { Some(ty) };
    let is_seen = options.batch.is_some() && options.result.is_none();
    match answers.filter(|answers| is_seen && !is(answers, "Vec")) {
        Some(answers) => Err(Error::new_spanned(
            answers,
            "with `batch` the function returns a result for each key, in their order: write `Vec<..>` here",
        )),
        None => Ok(()),
    }
}

/// Checks that `skip_none` has an `Option`, by the name of the type, unless an alias hides it.
fn check_skip_none(ty: &Type, options: &Options) -> syn::Result<()> {
    if options.skip_none.is_none() || options.result.is_some() {
        return Ok(());
    }
    let layers = [named(ty).is_some_and(|name| name == "Result"), options.batch.is_some()];
    let mut inside = layers.into_iter().filter(|is_there| *is_there);
    let value = inside.try_fold(ty, |ty, _| first_argument(ty));
    match value.filter(|value| named(value).is_none_or(|name| name != "Option")) {
        Some(value) => Err(Error::new_spanned(
            value,
            "with `skip_none` the function returns an `Option`, whose `None` is not stored: \
             write `Option<..>` here, or leave `skip_none` out",
        )),
        None => Ok(()),
    }
}

fn check_sequence(signature: &Signature, options: &Options) -> syn::Result<()> {
    let given = [
        options.skip_none.as_ref().map(|flag| ("skip_none", flag.span())),
        options.result.as_ref().map(|flag| ("result", flag.span())),
        options.share_err.as_ref().map(|value| ("share_err", value.span())),
        options.exclude.as_ref().map(|value| ("exclude", value.span())),
        options.batch.as_ref().map(|batch| ("batch", batch.word.span())),
    ];
    if let Some((name, span)) = given.into_iter().flatten().next() {
        return Err(Error::new(
            span,
            format!("`{name}` is not for functions that return an iterator or a stream"),
        ));
    }
    if let Some(Tags::Value(value)) = &options.tags {
        let message = "the tags of an iterator or a stream are a list over the arguments: there is no value yet when it begins";
        return Err(Error::new_spanned(value, message));
    }
    match signature.asyncness {
        Some(token) => Err(Error::new(
            token.span(),
            "an `async fn` that returns an iterator or a stream is not understood: \
             return an `impl Stream` from a plain `fn`, or a `Vec`",
        )),
        None => Ok(()),
    }
}

enum Sequence {
    Iterator { boxed: bool },
    Stream,
}

/// The item of `impl Iterator<Item = T>`, `Box<dyn Iterator<Item = T>>`, `impl Stream<Item = T>`.
fn sequence(ty: &Type) -> syn::Result<Option<(Sequence, Type)>> {
    let (bounds, boxed) = match ty {
        Type::ImplTrait(ty) => (&ty.bounds, false),
        _ => match boxed(ty) {
            Some(Type::TraitObject(ty)) => (&ty.bounds, true),
            _ => return Ok(None),
        },
    };
    for bound in bounds {
        let TypeParamBound::Trait(bound) = bound else { continue };
        let Some(last) = bound.path.segments.last() else { continue };
        let sequence = match (last.ident.to_string().as_str(), boxed) {
            ("Iterator", boxed) => Sequence::Iterator { boxed },
            ("Stream", false) => Sequence::Stream,
            _ => continue,
        };
        return match item(bound) {
            Some(item) => Ok(Some((sequence, item))),
            None => Err(Error::new(bound.span(), "say what the items are: `Item = T`")),
        };
    }
    Ok(None)
}

fn item(bound: &TraitBound) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = &bound.path.segments.last()?.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(named) if named.ident == "Item" => Some(named.ty.clone()),
        _ => None,
    })
}

fn boxed(ty: &Type) -> Option<&Type> {
    named(ty).filter(|name| *name == "Box").and_then(|_| first_argument(ty))
}

/// The last segment of a path.
fn named(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(ty) => ty.path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}

fn first_argument(ty: &Type) -> Option<&Type> {
    let Type::Path(ty) = ty else { return None };
    let PathArguments::AngleBracketed(arguments) = &ty.path.segments.last()?.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Finds an `impl` or `dyn` type that is not boxed.
fn unnamed(ty: &Type) -> Option<TokenStream> {
    if let Type::TraitObject(_) = ty {
        return Some(ty.to_token_stream());
    }
    let mut unnamed = Unnamed(None);
    unnamed.visit_type(ty);
    unnamed.0.map(ToTokens::to_token_stream)
}

struct Unnamed<'ast>(Option<&'ast TypeImplTrait>);

impl<'ast> Visit<'ast> for Unnamed<'ast> {
    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.0.get_or_insert(ty);
    }
}

/// Finds a lifetime shorter than `'static` in a type.
pub(crate) fn borrowed(ty: &Type) -> Option<Span> {
    let mut borrows = Borrows(None);
    borrows.visit_type(ty);
    borrows.0
}

struct Borrows(Option<Span>);

impl<'ast> Visit<'ast> for Borrows {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.0.get_or_insert(lifetime.span());
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if reference.lifetime.is_none() {
            self.0.get_or_insert(reference.span());
        }
        visit::visit_type_reference(self, reference);
    }
}

/// Finds the first reference in a type.
struct References<'ast>(Option<&'ast TypeReference>);

impl<'ast> Visit<'ast> for References<'ast> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.0.get_or_insert(reference);
    }
}
