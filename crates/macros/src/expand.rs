//! Expands an attribute and a function into the generated code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, ItemFn, Signature};

use crate::answer::Form;
use crate::batch;
use crate::companions;
use crate::function::Function;
use crate::options::{Options, Tier};

/// A local variable of the generated code. The options of the user cannot name it, so an argument of the same
/// name keeps its meaning there.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The function with its cache and its companions. On an error, the error and the original function, so that
/// its callers still compile.
pub(crate) fn attribute(tier: Tier, options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let parsed: ItemFn = syn::parse2(item.clone()).map_err(|error| {
        Error::new(error.span(), format!("#[{}] belongs above a function with a body", tier.name()))
    })?;
    let expanded = Options::read(tier, options)
        .and_then(|options| Function::read(tier, options, parsed))
        .map(|function| expanded(&function));
    Ok(expanded.unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#item #error)
    }))
}

fn expanded(function: &Function) -> TokenStream {
    let cached = cached(function);
    let companions = companions::all(function);
    match function.is_method {
        true => quote!(#cached #companions),
        false => {
            let (vis, name) = (&function.item.vis, &function.item.sig.ident);
            let doc = format!("The companions of the cached function [`{name}`](fn@{name}).");
            let root = &function.root;
            quote! {
                #cached
                #root::__add_the_option_method_in_an_impl_block! { #[doc = #doc] #vis #name }
                #[allow(dead_code, unreachable_pub)]
                impl #name { #companions }
            }
        }
    }
}

/// The public function, which reads the cache first.
fn cached(function: &Function) -> TokenStream {
    let attributes = &function.item.attrs;
    let attributes = attributes.iter().filter(|attribute| !attribute.path().is_ident("expect"));
    let vis = &function.item.vis;
    let signature = outer_signature(function);
    let conversions = function.arguments.iter().filter_map(|argument| argument.conversion());
    let key = function.key_expression();
    let answer = answer(function);
    // The body of the user moves into the loader: here no `mut` parameter changes, and the key reads those
    // with an underscore.
    quote! {
        #(#attributes)*
        #[allow(unused_mut, clippy::used_underscore_binding)]
        #vis #signature {
            #(#conversions)*
            let __larder_key = #key;
            #answer
        }
    }
}

/// The signature with a plain name for each argument.
fn outer_signature(function: &Function) -> TokenStream {
    let Signature { asyncness, fn_token, ident, generics, output, .. } = &function.item.sig;
    let (parameters, _, clause) = generics.split_for_impl();
    let receiver = function.item.sig.receiver().map(ToTokens::to_token_stream);
    let arguments = function.arguments.iter().map(|argument| argument.declaration());
    let inputs = receiver.into_iter().chain(arguments);
    quote!(#asyncness #fn_token #ident #parameters (#(#inputs),*) #output #clause)
}

/// The body of the cached function, after the key is made.
fn answer(function: &Function) -> TokenStream {
    let root = &function.root;
    let handle = companions::handle(function, None);
    let span = function.answer.ty.span();
    match &function.answer.form {
        Form::Value { .. } => {
            let (check, value) = (no_hidden_result(function), value(function, handle));
            quote!(#check #value)
        }
        Form::Iterator { boxed, .. } => {
            let (limit, body) = (limit(function), begun(function));
            let replayed =
                quote_spanned!(span=> #root::__private::replayed(#handle, __larder_key, #limit, || #body));
            if *boxed { quote!(::std::boxed::Box::new(#replayed)) } else { replayed }
        }
        Form::Stream { .. } => {
            let (limit, open, body) = (limit(function), companions::opening(function), begun(function));
            quote_spanned! {span=>
                #root::__private::tasks::replayed(#open, __larder_key, #limit, move || #body)
            }
        }
    }
}

/// The answer of a function that returns a value.
fn value(function: &Function, handle: TokenStream) -> TokenStream {
    if let Some((keys, items)) = function.batch().and_then(|keys| Some((keys, keys.items.as_ref()?))) {
        return batch::answer(function, keys, items);
    }
    let options = &function.options;
    let is_plain = matches!(function.answer.form, Form::Value { result: false, skip_none: false });
    if options.tags.is_some() {
        let (load, join) = (tagged(function), join(function));
        return call(function, "call_tagged", &[handle, quote!(__larder_key), load, join]);
    }
    if is_plain && options.exclude.is_none() {
        return call(function, "call", &[handle, quote!(__larder_key), body(function)]);
    }
    let (arms, join) = (arms(function), join(function));
    let answer = local("answer");
    let sort = quote!(|#answer| match #answer { #arms });
    call(function, "call_sorted", &[handle, quote!(__larder_key), body(function), sort, join])
}

/// The call of a function that returns an iterator or a stream, and the options of its record.
fn begun(function: &Function) -> TokenStream {
    let setup = function.options.tags.as_ref().and_then(|tags| tags.setup(&function.root));
    let (options, items) = (options(function), invoked(function));
    quote!({ #setup (#options, #items) })
}

/// The options of a stored `value`.
pub(crate) fn options(function: &Function) -> TokenStream {
    let root = &function.root;
    match &function.options.tags {
        Some(tags) => tags.options(root),
        None => quote!(#root::__private::EntryOptions::new()),
    }
}

/// A call of the runtime, synchronous or async.
pub(crate) fn call(function: &Function, name: &str, arguments: &[TokenStream]) -> TokenStream {
    let root = &function.root;
    let span = function.answer.ty.span();
    let name = syn::Ident::new(name, span);
    match function.is_async() {
        true => quote_spanned!(span=> #root::__private::tasks::#name(#(#arguments),*).await),
        false => quote_spanned!(span=> #root::__private::#name(#(#arguments),*)),
    }
}

/// The call of the original function: a closure, or a future that is not polled on a hit.
fn body(function: &Function) -> TokenStream {
    let call = invoked(function);
    if function.is_async() { call } else { quote!(|| #call) }
}

/// The call of the original function and the sorting of its answer, with tags.
fn tagged(function: &Function) -> TokenStream {
    let setup = function.options.tags.as_ref().and_then(|tags| tags.setup(&function.root));
    let (call, arms) = (invoked(function), arms(function));
    match function.is_async() {
        true => quote!(async { #setup match #call.await { #arms } }),
        false => quote!(|| { #setup match #call { #arms } }),
    }
}

/// The call of the original function, with its arguments.
fn invoked(function: &Function) -> TokenStream {
    invocation(function, function.arguments.iter().map(|argument| argument.name.to_token_stream()))
}

/// The call of the original function, with the given arguments.
pub(crate) fn invocation(function: &Function, arguments: impl Iterator<Item = TokenStream>) -> TokenStream {
    let uncached = function.companion("uncached");
    match function.item.sig.receiver() {
        Some(receiver) => {
            let token = &receiver.self_token;
            quote!(#token.#uncached(#(#arguments),*))
        }
        None => {
            let owner = function.owner();
            quote!(#owner::#uncached(#(#arguments),*))
        }
    }
}

fn limit(function: &Function) -> TokenStream {
    let root = &function.root;
    match &function.options.record_bytes {
        Some(bytes) => bytes.to_token_stream(),
        None => quote!(#root::__private::RECORD_BYTES),
    }
}

/// A compile-time check for an alias of `Result`, whose errors would be stored.
fn no_hidden_result(function: &Function) -> Option<TokenStream> {
    let Form::Value { result: false, .. } = function.answer.form else { return None };
    let (root, ty) = (&function.root, &function.answer.ty);
    let message = "this function returns a `Result` by another name: add the option `result` to its attribute, \
                   so that failures are not stored";
    let check = quote_spanned! {ty.span()=> {
        use #root::__private::NoResult as _;
        ::core::assert!(!#root::__private::Probe::<#ty>::IS_RESULT, #message);
    }};
    // `cargo check` evaluates an unnamed constant too. In an `impl` block it cannot name `Self` or type
    // parameters.
    Some(match function.is_method {
        true => quote!(const #check),
        false => quote!(const _: () = #check;),
    })
}

/// The value inside the answer, both as a pattern and as an expression.
fn wrapped(function: &Function) -> TokenStream {
    let value = local("value");
    let Form::Value { result, skip_none } = function.answer.form else { return quote!(#value) };
    let inner = if skip_none { quote!(::core::option::Option::Some(#value)) } else { quote!(#value) };
    if result { quote!(::core::result::Result::Ok(#inner)) } else { inner }
}

/// The pattern of a skipped answer: `None`, or `Ok(None)`.
fn nothing(function: &Function) -> Option<TokenStream> {
    match function.answer.form {
        Form::Value { skip_none: true, result: true } => {
            Some(quote!(::core::result::Result::Ok(::core::option::Option::None)))
        }
        Form::Value { skip_none: true, result: false } => Some(quote!(::core::option::Option::None)),
        _ => None,
    }
}

/// The predicate that excludes a `value`, if there is one.
pub(crate) fn excludes(function: &Function) -> Option<TokenStream> {
    let (root, value) = (&function.root, local("value"));
    function.options.exclude.as_ref().map(|exclude| match exclude {
        // Called by path, so that a `String` coerces to `&str`.
        Expr::Path(path) => quote_spanned!(exclude.span()=> #path(&#value)),
        closure => quote_spanned!(exclude.span()=> #root::__private::excludes(&#value, #closure)),
    })
}

/// The match arms that sort an answer into stored and passed on.
fn arms(function: &Function) -> TokenStream {
    let root = &function.root;
    let (value, error) = (local("value"), local("error"));
    let passed = |passed: TokenStream| quote!(::core::result::Result::Err(#root::__private::Passed::#passed));
    let wrapped = wrapped(function);
    let excluded = excludes(function).map(|excludes| {
        let passed = passed(quote!(Value(#value)));
        quote!(#wrapped if #excludes => #passed,)
    });
    let stored = match &function.options.tags {
        Some(tags) => {
            let (options, made) = (local("options"), tags.options(root));
            quote!({
                let #options = #made;
                #root::__private::WithOptions(#value, #options)
            })
        }
        None => quote!(#value),
    };
    let nothing = nothing(function).map(|nothing| {
        let passed = passed(quote!(Nothing(())));
        quote!(#nothing => #passed,)
    });
    let failed = matches!(function.answer.form, Form::Value { result: true, .. }).then(|| {
        let shared = match function.options.share_err {
            Some(_) => quote!(::std::sync::Arc::new(#error)),
            None => quote!(#error),
        };
        let passed = passed(quote!(Failed(#shared)));
        quote!(::core::result::Result::Err(#error) => #passed,)
    });
    quote! {
        #excluded
        #wrapped => ::core::result::Result::Ok(#stored),
        #nothing
        #failed
    }
}

/// The match arms that turn a stored or passed value back into an answer.
fn join(function: &Function) -> TokenStream {
    let root = &function.root;
    let (outcome, value, error, never) = (local("outcome"), local("value"), local("error"), local("never"));
    let wrapped = wrapped(function);
    let (nothing_here, nothing) = match nothing(function) {
        Some(nothing) => (quote!(()), nothing),
        None => (quote!(#never), quote!(#root::__private::never(#never))),
    };
    let failed = match (&function.answer.form, &function.options.share_err) {
        (Form::Value { result: true, .. }, Some(share)) => {
            let converted = quote_spanned!(share.span()=> #root::__private::shared(#error, #share));
            quote!(::core::result::Result::Err(#converted))
        }
        (Form::Value { result: true, .. }, None) => quote!(::core::result::Result::Err(#error)),
        _ => quote!(#root::__private::never(#error)),
    };
    quote!(|#outcome| match #outcome {
        ::core::result::Result::Ok(#value) => #wrapped,
        ::core::result::Result::Err(#root::__private::Passed::Value(#value)) => #wrapped,
        ::core::result::Result::Err(#root::__private::Passed::Nothing(#nothing_here)) => #nothing,
        ::core::result::Result::Err(#root::__private::Passed::Failed(#error)) => #failed,
    })
}
