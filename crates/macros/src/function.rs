//! A function with an attribute, parsed and checked.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Error, FnArg, GenericParam, Item, ItemFn, Macro, Path, Receiver, Signature, Type, parse_quote};

use crate::answer::{Answer, Form};
use crate::argument::{self, Argument};
use crate::batch;
use crate::key::Key;
use crate::options::{Options, Tier};

/// The parsed function and its options.
pub(crate) struct Function {
    pub(crate) tier: Tier,
    pub(crate) options: Options,
    /// The path of the crate `larder`.
    pub(crate) root: Path,
    pub(crate) item: ItemFn,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) answer: Answer,
    pub(crate) key: Key,
    /// Whether the function stands in an `impl` block.
    pub(crate) is_method: bool,
}

impl Function {
    pub(crate) fn read(tier: Tier, options: Options, item: ItemFn) -> syn::Result<Self> {
        check_signature(&item.sig)?;
        let arguments = argument::read(&item.sig, &options)?;
        check_skipped(&options, &item.sig, &arguments)?;
        let answer = Answer::read(tier, &item.sig, &options)?;
        batch::check(&item.sig, &options, &arguments)?;
        let root = options.krate.clone().unwrap_or_else(|| parse_quote!(::larder));
        let key = match &options.key {
            Some(expression) => Key::written(expression),
            None => {
                let parts: Vec<_> = arguments.iter().filter(|argument| !argument.skipped).collect();
                Key::of(&parts, tier, &root)?
            }
        };
        let is_method = options.method.is_some() || item.sig.receiver().is_some() || names_self_type(&item);
        Ok(Self { tier, options, root, item, arguments, answer, key, is_method })
    }

    /// The name of a companion: `purge`, or `report_purge` in an `impl` block.
    pub(crate) fn companion(&self, name: &str) -> Ident {
        let function = &self.item.sig.ident;
        match self.is_method {
            true => format_ident!("{function}_{name}", span = function.span()),
            false => Ident::new(name, function.span()),
        }
    }

    /// The name of a function that only the generated code calls.
    pub(crate) fn hidden(&self, name: &str) -> Ident {
        match self.is_method {
            true => format_ident!("__{}_{name}", self.item.sig.ident, span = Span::mixed_site()),
            false => format_ident!("__{name}", span = Span::mixed_site()),
        }
    }

    /// The type that the companions belong to.
    pub(crate) fn owner(&self) -> Ident {
        match self.is_method {
            true => Ident::new("Self", Span::call_site()),
            false => self.item.sig.ident.clone(),
        }
    }

    /// The path of the crate with another span, so that the compiler reports type errors at that span.
    pub(crate) fn root_at(&self, span: Span) -> TokenStream {
        let respanned = self.root.to_token_stream().into_iter().map(|mut token| {
            token.set_span(span);
            token
        });
        respanned.collect()
    }

    pub(crate) fn is_async(&self) -> bool {
        self.item.sig.asyncness.is_some()
    }

    /// Whether the function is async: an `async fn`, or one that returns a stream.
    pub(crate) fn is_for_tasks(&self) -> bool {
        self.is_async() || matches!(self.answer.form, Form::Stream { .. })
    }

    /// The arguments that companions take: those of the key.
    pub(crate) fn key_arguments(&self) -> Vec<&Argument> {
        let is_used = |argument: &&Argument| match &self.options.key {
            Some(expression) => mentions(expression.to_token_stream(), &argument.name.to_string()),
            None => !argument.skipped,
        };
        self.arguments.iter().filter(is_used).collect()
    }

    /// The stored type, as an associated type of the required trait.
    pub(crate) fn stored(&self) -> TokenStream {
        let (root, inner, span) = (&self.root, self.answer.inner(&self.root), self.answer.ty.span());
        let kept = self.tier.of_values();
        self.answer.of_inner(root, quote_spanned!(span=> <#inner as #root::__private::#kept>::Value))
    }

    /// The argument with the keys of a batch.
    pub(crate) fn batch(&self) -> Option<&Argument> {
        self.arguments.iter().find(|argument| argument.items.is_some())
    }

    /// The key of a call, or the keys of a batch.
    pub(crate) fn key_expression(&self) -> TokenStream {
        let key = &self.key.expression;
        match self.batch() {
            Some(Argument { name, .. }) => {
                quote!(#name.iter().map(|#name| #key).collect::<::std::vec::Vec<_>>())
            }
            None => key.clone(),
        }
    }

    /// The receiver of companions, if the key names `self`.
    pub(crate) fn key_receiver(&self) -> Option<&Receiver> {
        let expression = self.options.key.as_ref()?;
        self.item.sig.receiver().filter(|_| mentions(expression.to_token_stream(), "self"))
    }
}

fn check_signature(signature: &Signature) -> syn::Result<()> {
    if let Some(parameter) =
        signature.generics.params.iter().find(|p| !matches!(p, GenericParam::Lifetime(_)))
    {
        return Err(Error::new_spanned(
            parameter,
            "a generic function cannot be cached: it is many functions, and its cache holds one type of key \
             and one of value; write a function for each type, or cache what it calls",
        ));
    }
    if let Some(token) = &signature.constness {
        return Err(Error::new(token.span(), "a `const fn` cannot be cached: it may run in the compiler"));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new(
            abi.span(),
            "a function for other languages cannot be cached: cache what it calls",
        ));
    }
    if !matches!(signature.safety, syn::Safety::Default) {
        return Err(Error::new(
            signature.fn_token.span(),
            "an `unsafe fn` cannot be cached: cache a safe one around it",
        ));
    }
    match &signature.variadic {
        Some(variadic) => Err(Error::new(variadic.span(), "a variadic function cannot be cached")),
        None => Ok(()),
    }
}

/// Checks that `skip` names existing arguments.
fn check_skipped(options: &Options, signature: &Signature, arguments: &[Argument]) -> syn::Result<()> {
    for skipped in &options.skip {
        let is_self = skipped == "self" && signature.receiver().is_some();
        if !is_self && !arguments.iter().any(|argument| argument.name == *skipped) {
            return Err(Error::new(skipped.span(), format!("the function has no argument `{skipped}`")));
        }
        if options.key.as_ref().is_some_and(|key| mentions(key.to_token_stream(), &skipped.to_string())) {
            return Err(Error::new(
                skipped.span(),
                format!("`{skipped}` is skipped and part of `key`: one of the two"),
            ));
        }
    }
    check_self(options, signature, arguments)?;
    check_key(options, signature, arguments)
}

/// Checks that `self` is in the key or skipped by name, since the macro cannot see whether a result depends
/// on it.
fn check_self(options: &Options, signature: &Signature, arguments: &[Argument]) -> syn::Result<()> {
    let Some(FnArg::Receiver(receiver)) = signature.inputs.first() else { return Ok(()) };
    let message = match &options.key {
        _ if options.skips("self") => return Ok(()),
        Some(key) if mentions(key.to_token_stream(), "self") => return Ok(()),
        Some(_) => "`key` does not name `self`: where the result does not depend on it, add `skip(self)`; \
             where it does, put what it depends on into `key`, such as `self.id`"
            .to_owned(),
        None => format!(
            "does the result depend on `self`? If it does not, write `skip(self)` among the options; \
             if it does, write `key = \"{}\"`, with what it depends on in place of `self.id`",
            key_with_self(arguments)
        ),
    };
    Err(Error::new_spanned(receiver, message))
}

/// A suggested key of these arguments and a field of `self`, for an error message.
fn key_with_self(arguments: &[Argument]) -> String {
    let part = |argument: &Argument| match &argument.declared {
        Type::Reference(_) => format!("{}.to_owned()", argument.name),
        Type::Path(path)
            if path.path.get_ident().is_some_and(|name| name.to_string().starts_with(char::is_lowercase)) =>
        {
            argument.name.to_string()
        }
        _ => format!("{}.clone()", argument.name),
    };
    let parts: Vec<_> = arguments.iter().filter(|argument| !argument.skipped).map(part).collect();
    match parts.as_slice() {
        [] => "self.id".to_owned(),
        parts => format!("(self.id, {})", parts.join(", ")),
    }
}

/// Checks that the key names an argument: a constant key would be one entry for all calls.
fn check_key(options: &Options, signature: &Signature, arguments: &[Argument]) -> syn::Result<()> {
    let Some(key) = &options.key else { return Ok(()) };
    let tokens = || key.to_token_stream();
    let names_argument = arguments.iter().any(|argument| mentions(tokens(), &argument.name.to_string()));
    if names_argument || signature.inputs.is_empty() || mentions(tokens(), "self") {
        return match arguments.iter().find(|argument| argument.items.is_some()) {
            Some(Argument { name, .. }) if !mentions(tokens(), &name.to_string()) => Err(Error::new_spanned(
                key,
                format!("`key` does not name `{name}`, which stands for one key of the batch here"),
            )),
            _ => Ok(()),
        };
    }
    let message =
        "`key` names no argument, so all calls would share one entry; to mean that, skip every argument";
    Err(Error::new_spanned(key, message))
}

/// Whether a name occurs in the tokens, other than as a field or a method.
fn mentions(tokens: TokenStream, name: &str) -> bool {
    let mut after_dot = false;
    for token in tokens {
        match &token {
            TokenTree::Ident(ident) if ident == name && !after_dot => return true,
            TokenTree::Group(group) if mentions(group.stream(), name) => return true,
            // As in `format!("user:{id}")`.
            TokenTree::Literal(text) if captures(&text.to_string(), name) => return true,
            _ => {}
        }
        // The second dot of a range follows a dot and is not a field access.
        after_dot = !after_dot && matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
    }
    false
}

/// Whether a format string names a variable.
fn captures(text: &str, name: &str) -> bool {
    text.starts_with('"')
        && [format!("{{{name}}}"), format!("{{{name}:")].iter().any(|part| text.contains(part))
}

/// Whether the function names `Self`, so that it must be in an `impl` block. Items within its body have their
/// own `Self`.
fn names_self_type(item: &ItemFn) -> bool {
    let mut search = SelfType(mentions(item.sig.to_token_stream(), "Self"));
    search.visit_block(&item.block);
    search.0
}

struct SelfType(bool);

impl<'ast> Visit<'ast> for SelfType {
    fn visit_item(&mut self, _: &'ast Item) {}

    fn visit_ident(&mut self, ident: &'ast Ident) {
        self.0 |= ident == "Self";
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.0 |= mentions(call.tokens.clone(), "Self");
        visit::visit_macro(self, call);
    }
}
