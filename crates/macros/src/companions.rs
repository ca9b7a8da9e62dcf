//! The companions of a cached function: `purge`, `get`, `stats`, …

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::Expr;
use syn::spanned::Spanned;

use crate::argument::{Argument, Items};
use crate::expand::local;
use crate::function::Function;
use crate::options::{Policy, Tier, Version};
use crate::version;

/// All companions, and the hidden functions that they share.
pub(crate) fn all(function: &Function) -> TokenStream {
    let hidden = [checked(function), lazy_cache(function), cache(function)];
    let by_key = [purge(function), contains(function), get(function)];
    let whole = [clear, flush, set_ttl, stats, whole_cache].map(|companion| companion(function));
    let invalidate_tag = function.options.tags.is_some().then(|| invalidate_tag(function));
    let uncached = uncached(function);
    quote!(#(#hidden)* #(#by_key)* #(#whole)* #invalidate_tag #uncached)
}

/// Names every stored type in a signature. The compiler checks signatures first, so it reports unmet bounds
/// there.
fn checked(function: &Function) -> TokenStream {
    let name = function.hidden("checked");
    let (part, value) = match function.tier {
        Tier::Memory => (quote!(MemoryPart), quote!(MemoryValue)),
        _ => (quote!(TieredPart), quote!(TieredValue)),
    };
    let parts = function.key.parts.iter();
    let parts = parts.map(|ty| {
        let root = function.root_at(ty.span());
        quote_spanned!(ty.span()=> _: #root::__private::#part<#ty>)
    });
    let span = function.answer.ty.span();
    let (root, stored) = (function.root_at(span), function.answer.inner(&function.root));
    let stored = quote_spanned!(span=> #root::__private::#value<#stored>);
    quote! {
        #[doc(hidden)]
        #[allow(clippy::too_many_arguments, clippy::type_complexity)]
        fn #name(#(#parts,)* _: #stored) {}
    }
}

/// The static that holds the cache.
fn lazy_cache(function: &Function) -> TokenStream {
    let (root, name) = (&function.root, function.hidden("lazy_cache"));
    quote! {
        #[doc(hidden)]
        #[inline]
        fn #name() -> &'static #root::__private::LazyCache {
            static CACHE: #root::__private::LazyCache = #root::__private::LazyCache::new();
            &CACHE
        }
    }
}

/// The function that opens the cache at its first use. Generic over the key, whose type is inferred from the
/// key expressions.
fn cache(function: &Function) -> TokenStream {
    let root = &function.root;
    let (name, lazy_cache) = (function.hidden("cache"), function.hidden("lazy_cache"));
    let value = function.stored();
    let (given, suffix) = names(function);
    let builder = quote::format_ident!("{}", function.tier.name());
    let bound = key_bounds(function);
    // Each event owns a copy of its key.
    let clone = function.options.on_event.as_ref().map(|_| quote!(+ ::core::clone::Clone));
    let (text, options) = (local("name"), options(function));
    let handle = quote!(#root::__private::Handle<__LarderKey, #value>);
    let (open, opened) = match function.is_for_tasks() {
        true => (quote!(tasks::open), quote!(#root::__private::tasks::Opening<__LarderKey, #value>)),
        false => (quote!(open), quote!(::core::option::Option<&'static #handle>)),
    };
    quote! {
        #[doc(hidden)]
        #[inline]
        #[allow(clippy::type_complexity)]
        fn #name<__LarderKey: #bound #clone>() -> #opened {
            #root::__private::#open(
                Self::#lazy_cache(),
                #root::__private::Owner::of::<Self>(#given, #suffix),
                |#text| #root::__private::#builder::<__LarderKey, #value>(#text)#options.build(),
            )
        }
    }
}

/// The name that the user set, and the suffix to the name of the type.
fn names(function: &Function) -> (TokenStream, String) {
    let given = match &function.options.name {
        Some(name) => quote_spanned!(name.span()=> ::core::option::Option::Some(#name)),
        None => quote!(::core::option::Option::None),
    };
    let suffix = if function.is_method { format!("::{}", function.item.sig.ident) } else { String::new() };
    (given, suffix)
}

/// The calls on the builder.
fn options(function: &Function) -> TokenStream {
    let version = match &function.options.version {
        Some(Version::Auto) => {
            let version = version::of(&function.item.sig, &function.item.block);
            Some(quote!(.version(#version)))
        }
        Some(Version::Number(number)) => Some(quote_spanned!(number.span()=> .version(#number))),
        None => None,
    };
    let calls = function.options.builder.iter().map(|(name, value)| match name == "weigher" {
        true => weigher(function, value),
        false => quote!(.#name(#value)),
    });
    let ttl_by = function.options.ttl_fn.as_ref().map(|ttl| ttl_by(function, ttl));
    let on_event = function.options.on_event.as_ref().map(|listener| on_event(function, listener));
    let root = &function.root;
    let policy = function.options.policy.as_ref().map(|policy| match policy {
        Policy::Named(variant) => quote_spanned!(variant.span()=> .policy(#root::Policy::#variant)),
        Policy::Is(policy) => quote_spanned!(policy.span()=> .policy(#policy)),
    });
    quote!(#version #(#calls)* #policy #ttl_by #on_event)
}

/// The weigher; its key type as in [`on_event`].
fn weigher(function: &Function, weigher: &TokenStream) -> TokenStream {
    let (root, span, stored) = (&function.root, weigher.span(), function.stored());
    let key = function.key.checked.clone().unwrap_or_else(|| quote!(__LarderKey));
    let weigher = match syn::parse2(weigher.clone()) {
        // Called by path, so that a `String` coerces to `&str`.
        Ok(Expr::Path(path)) => {
            let (of, value) = (local("key"), local("value"));
            quote_spanned!(span=> |#of: &#key, #value: &#stored| #path(#of, #value))
        }
        _ => weigher.clone(),
    };
    quote_spanned!(span=> .weigher(#root::__private::weigher::<#key, __LarderKey, #stored>(#weigher)))
}

/// The listener for events. The type of a user-written key has no name, so such a listener must accept any
/// key type.
fn on_event(function: &Function, listener: &Expr) -> TokenStream {
    let root = &function.root;
    match &function.key.checked {
        Some(key) => quote_spanned! {listener.span()=>
            .on_event(#root::__private::listener::<#key, __LarderKey>(#listener))
        },
        None => quote_spanned!(listener.span()=> .on_event(#listener)),
    }
}

/// The function that returns the time to live of a value, from `ttl_fn`.
fn ttl_by(function: &Function, ttl: &Expr) -> TokenStream {
    let (root, stored) = (&function.root, function.stored());
    match ttl {
        // Called by path, so that a `String` coerces to `&str`.
        Expr::Path(path) => {
            let value = local("value");
            quote_spanned! {ttl.span()=>
                .ttl_by(|_, #value: &#stored| ::core::option::Option::Some(#path(#value)))
            }
        }
        closure => quote_spanned! {ttl.span()=> .ttl_by(#root::__private::by_value(#closure)) },
    }
}

/// The handle, with the key type of the key expression that follows.
pub(crate) fn handle(function: &Function, key: Option<TokenStream>) -> TokenStream {
    let (owner, name) = (function.owner(), function.hidden("cache"));
    let key = key.map(|key| quote!(::<#key>));
    let wait = function.is_for_tasks().then(|| quote!(.await));
    quote!(#owner::#name #key() #wait)
}

/// The future that opens the handle.
pub(crate) fn opening(function: &Function) -> TokenStream {
    let (owner, name) = (function.owner(), function.hidden("cache"));
    quote!(#owner::#name())
}

/// The handle without a key expression to infer its type from.
fn handle_alone(function: &Function) -> TokenStream {
    if let Some(key) = &function.key.checked {
        return handle(function, Some(key.clone()));
    }
    let (root, handle) = (&function.root, handle(function, None));
    let arguments = function.key_arguments();
    let names = arguments.iter().map(|argument| &argument.name);
    let types = arguments.iter().map(|argument| match &argument.items {
        Some(Items { item, .. }) => quote!(&#item),
        None => argument.ty.to_token_stream(),
    });
    let key = &function.key.expression;
    quote!(#root::__private::keyed_by(#handle, |(#(#names,)*): (#(#types,)*)| #key))
}

/// A companion that takes the arguments of the key.
struct ByKey {
    name: &'static str,
    doc: &'static str,
    answer: TokenStream,
    /// A method of the handle.
    call: TokenStream,
}

impl ByKey {
    fn written(self, function: &Function) -> TokenStream {
        let (vis, root) = (&function.item.vis, &function.root);
        let Self { doc, answer, call, .. } = self;
        let name = function.companion(self.name);
        let lifetimes = &function.item.sig.generics;
        let inputs = inputs(function);
        let arguments = function.key_arguments();
        let conversions = arguments.iter().filter_map(|argument: &&Argument| argument.conversion());
        let key = function.key_expression();
        let handle = handle(function, None);
        let (asyncness, wait, verbs) = shell(function);
        let lints = lints();
        // The parameters are those that the user chose for the function.
        quote! {
            #[doc = #doc]
            #[allow(clippy::ptr_arg, clippy::too_many_arguments, clippy::type_complexity)]
            #lints
            #vis #asyncness fn #name #lifetimes (#inputs) -> #answer {
                #(#conversions)*
                let __larder_key = #key;
                #root::__private::#verbs::#call(#handle, __larder_key)#wait
            }
        }
    }
}

/// The receiver and the arguments of companions that make a key.
fn inputs(function: &Function) -> TokenStream {
    let receiver = function.key_receiver().map(ToTokens::to_token_stream);
    let arguments = function.key_arguments();
    let arguments = arguments.iter().map(|argument| argument.declaration());
    let inputs = receiver.into_iter().chain(arguments);
    quote!(#(#inputs),*)
}

/// The parts that differ between synchronous and async companions.
fn shell(function: &Function) -> (TokenStream, TokenStream, TokenStream) {
    match function.is_for_tasks() {
        true => (quote!(async), quote!(.await), quote!(tasks)),
        false => (quote!(), quote!(), quote!(threads)),
    }
}

fn purge(function: &Function) -> TokenStream {
    if function.batch().is_some() {
        let doc = "Removes the entries of these keys. Returns how many there were.";
        return ByKey { name: "purge", doc, answer: quote!(u64), call: quote!(purge_many) }.written(function);
    }
    let doc = "Removes the entry of these arguments. Returns whether there was one.";
    ByKey { name: "purge", doc, answer: quote!(bool), call: quote!(purge) }.written(function)
}

fn contains(function: &Function) -> TokenStream {
    if function.batch().is_some() {
        let doc = "Returns for each of these keys whether it has an entry.";
        let answer = quote!(::std::vec::Vec<bool>);
        return ByKey { name: "contains", doc, answer, call: quote!(contains_many) }.written(function);
    }
    let doc = "Returns whether these arguments have an entry.";
    ByKey { name: "contains", doc, answer: quote!(bool), call: quote!(contains) }.written(function)
}

fn get(function: &Function) -> TokenStream {
    let value = function.answer.value(&function.root);
    let answer = quote!(::core::option::Option<#value>);
    if function.batch().is_some() {
        let doc = "Returns the stored value of each of these keys. Never runs the function.";
        let answer = quote!(::std::vec::Vec<#answer>);
        return ByKey { name: "get", doc, answer, call: quote!(get_many) }.written(function);
    }
    let doc = "Returns the stored value for these arguments. Never runs the function.";
    ByKey { name: "get", doc, answer, call: quote!(get) }.written(function)
}

/// The companion `invalidate_tag`, for functions with tags.
fn invalidate_tag(function: &Function) -> TokenStream {
    let (vis, root) = (&function.item.vis, &function.root);
    let name = function.companion("invalidate_tag");
    let receiver = function.key_receiver().map(|receiver| quote!(#receiver,));
    let handle = handle_alone(function);
    let (asyncness, wait, verbs) = shell(function);
    let (lifetimes, lints, explained) = (lifetimes(function), lints(), explained(function));
    quote! {
        /// Expires every result with this tag.
        #lints
        #vis #asyncness fn #name #lifetimes (
            #receiver tag: impl ::core::convert::Into<#root::Tag>
        ) -> #root::Result<()> {
            #root::__private::#verbs::invalidate_tag(#handle, ::core::convert::Into::into(tag))#wait #explained
        }
    }
}

/// The lifetimes of companions whose signature or body names one of the function.
fn lifetimes(function: &Function) -> TokenStream {
    let generics = &function.item.sig.generics;
    match function.options.key {
        Some(_) => quote!(#generics),
        None => quote!(),
    }
}

/// Each companion declares all lifetimes of the function, even those that it does not use. The stricter groups
/// of lints ask for documentation and forms that a companion takes from the function.
fn lints() -> TokenStream {
    quote!(#[allow(
        clippy::extra_unused_lifetimes,
        clippy::needless_lifetimes,
        clippy::pedantic,
        clippy::nursery,
        reason = "those of the function, whichever are named"
    )])
}

/// Maps an error: if the cache could not be opened, it gives the reason.
fn explained(function: &Function) -> TokenStream {
    let (root, lazy_cache) = (&function.root, function.hidden("lazy_cache"));
    quote!(.map_err(|error| {
        Self::#lazy_cache().why(#root::__private::Owner::of::<Self>(::core::option::Option::None, ""), error)
    }))
}

/// A companion that uses the whole cache.
fn over_all(function: &Function, name: &str, doc: &str, answer: &TokenStream) -> TokenStream {
    let (vis, root) = (&function.item.vis, &function.root);
    let call = syn::Ident::new(name, function.item.sig.ident.span());
    let name = function.companion(name);
    let receiver = function.key_receiver();
    let handle = handle_alone(function);
    let (asyncness, wait, verbs) = shell(function);
    let (lifetimes, lints, explained) = (lifetimes(function), lints(), explained(function));
    quote! {
        #[doc = #doc]
        #[allow(clippy::type_complexity, reason = "it is the type of the function")]
        #lints
        #vis #asyncness fn #name #lifetimes (#receiver) -> #answer {
            #root::__private::#verbs::#call(#handle)#wait #explained
        }
    }
}

fn clear(function: &Function) -> TokenStream {
    let root = &function.root;
    over_all(function, "clear", "Removes all entries.", &quote!(#root::Result<()>))
}

fn flush(function: &Function) -> TokenStream {
    let root = &function.root;
    let doc = "Writes buffered entries to the operating system, so that they survive the end of the process.";
    over_all(function, "flush", doc, &quote!(#root::Result<()>))
}

/// Written out, since it takes the time as its argument.
fn set_ttl(function: &Function) -> TokenStream {
    let (vis, root) = (&function.item.vis, &function.root);
    let name = function.companion("set_ttl");
    let receiver = function.key_receiver().map(|receiver| quote!(#receiver,));
    let handle = handle_alone(function);
    let asyncness = function.is_for_tasks().then(|| quote!(async));
    let (lifetimes, lints) = (lifetimes(function), lints());
    quote! {
        /// Sets the time to live of what is stored from here on; `None` for none.
        #lints
        #vis #asyncness fn #name #lifetimes (#receiver ttl: ::core::option::Option<::core::time::Duration>) {
            #root::__private::threads::set_ttl(#handle, ttl)
        }
    }
}

/// The companion that returns the cache. The key type of a user-written key has no name.
fn whole_cache(function: &Function) -> TokenStream {
    let root = &function.root;
    let cache = match function.is_for_tasks() {
        true => quote!(AsyncCache),
        false => quote!(Cache),
    };
    let value = function.answer.value(root);
    let key = match &function.key.ty {
        Some(ty) => ty.clone(),
        None => {
            let bounds = key_bounds(function);
            quote!(impl #bounds)
        }
    };
    let doc = "Returns the cache of this function, or the error of opening it.";
    over_all(function, "cache", doc, &quote!(#root::Result<#root::#cache<#key, #value>>))
}

/// The bounds of the builder on a key.
fn key_bounds(function: &Function) -> TokenStream {
    let root = &function.root;
    match function.tier {
        Tier::Memory => quote!(#root::__private::Keyed),
        _ => quote!(#root::__private::Encoded),
    }
}

/// Needs no key, and does not open the cache.
fn stats(function: &Function) -> TokenStream {
    let (vis, root) = (&function.item.vis, &function.root);
    let (name, lazy_cache) = (function.companion("stats"), function.hidden("lazy_cache"));
    let lints = lints();
    quote! {
        /// Statistics of the cache; all zero before its first use.
        #lints
        #vis fn #name() -> #root::Stats {
            Self::#lazy_cache().stats(#root::__private::Owner::of::<Self>(::core::option::Option::None, ""))
        }
    }
}

/// The companion `uncached`: the function as the user wrote it.
fn uncached(function: &Function) -> TokenStream {
    let item = &function.item;
    let (vis, body) = (&item.vis, &item.block);
    let lints = item.attrs.iter().filter(|attribute| is_lint(attribute));
    let mut signature = item.sig.clone();
    signature.ident = function.companion("uncached");
    let doc = "Runs the function, without a look-up and without storing its result.";
    // Those of a signature and its documentation: the body is the user's.
    quote! {
        #[doc = #doc]
        #[allow(
            clippy::missing_const_for_fn,
            clippy::missing_errors_doc,
            clippy::missing_panics_doc,
            clippy::must_use_candidate,
            clippy::needless_pass_by_value
        )]
        #(#lints)*
        #vis #signature #body
    }
}

fn is_lint(attribute: &syn::Attribute) -> bool {
    ["allow", "warn", "deny", "forbid", "expect"].iter().any(|lint| attribute.path().is_ident(lint))
}
