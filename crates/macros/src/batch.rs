//! Batch functions: one entry for each key, and one call for the missing keys.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ReceiverKind, Signature, Type};

use crate::answer::Form;
use crate::argument::{Argument, Items};
use crate::companions;
use crate::expand::{self, local};
use crate::function::Function;
use crate::options::Options;

/// Checks that the arguments of a batch function can be used again, since the function may be called a second
/// time.
pub(crate) fn check(signature: &Signature, options: &Options, arguments: &[Argument]) -> syn::Result<()> {
    if options.batch.is_none() {
        return Ok(());
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first()
        && !is_shared(&receiver.kind)
    {
        let message = "a batch may call the function more than once, so it takes `&self`";
        return Err(Error::new_spanned(receiver, message));
    }
    let exclusive = arguments.iter().find(|argument| is_exclusive(argument));
    match (exclusive, signature.asyncness) {
        (Some(argument), Some(_)) => Err(Error::new_spanned(
            &argument.declared,
            "the batch of an `async fn` may be called more than once, so it cannot take a `&mut`",
        )),
        _ => Ok(()),
    }
}

fn is_shared(receiver: &ReceiverKind) -> bool {
    match receiver {
        ReceiverKind::Reference(_, _, exclusive) => exclusive.is_none(),
        ReceiverKind::Typed(_, ty) => matches!(&**ty, Type::Reference(ty) if ty.mutability.is_none()),
        _ => false,
    }
}

fn is_exclusive(argument: &Argument) -> bool {
    matches!(&argument.declared, Type::Reference(ty) if ty.mutability.is_some())
}

/// The body of the cached function, after the keys are made.
pub(crate) fn answer(function: &Function, keys: &Argument, items: &Items) -> TokenStream {
    let root = &function.root;
    let name = &keys.name;
    let handle = companions::handle(function, None);
    let load = load(function, keys, items);
    let (inner, value) = (inner(function), local("value"));
    let (answers, error) = (local("answers"), local("error"));
    let input = quote!(#root::__private::BatchInput { keys: __larder_key, items: &#name[..] });
    let call = expand::call(function, "call_batch", &[handle, input, load, quote!(|#value| #inner)]);
    let failed = match (has_errors(function), &function.options.share_err) {
        (true, Some(share)) => {
            let converted = quote_spanned!(share.span()=> #root::__private::shared(#error, #share));
            quote!(::core::result::Result::Err(#converted))
        }
        (true, None) => quote!(::core::result::Result::Err(#error)),
        (false, _) => quote!(#root::__private::never(#error)),
    };
    let joined = in_result(function, &quote!(#answers));
    quote!(match #call {
        ::core::result::Result::Ok(#answers) => #joined,
        ::core::result::Result::Err(#error) => #failed,
    })
}

/// The call of the function for some of the items, and the sorting of its answers.
fn load(function: &Function, keys: &Argument, items: &Items) -> TokenStream {
    let root = &function.root;
    let name = &keys.name;
    let arguments = function.arguments.iter().map(|argument| passed(argument, items));
    let invocation = expand::invocation(function, arguments);
    let setup = function.options.tags.as_ref().and_then(|tags| tags.setup(root));
    let arms = arms(function);
    let (answers, answer, error) = (local("answers"), local("answer"), local("error"));
    // Only expressions of the options, such as `tags`, read the key by its name: often nothing does.
    let sorted = quote! {
        #root::__private::each(#answers, &__larder_items, |#[allow(unused_variables)] #name, #answer| {
            #setup
            match #answer { #arms }
        })
    };
    let wait = function.is_async().then(|| quote!(.await));
    let opened = match (has_errors(function), &function.options.share_err) {
        (true, share) => {
            let shared = if share.is_some() { quote!(::std::sync::Arc::new(#error)) } else { quote!(#error) };
            quote!(match #invocation #wait {
                ::core::result::Result::Ok(#answers) => ::core::result::Result::Ok(#sorted),
                ::core::result::Result::Err(#error) => ::core::result::Result::Err(#shared),
            })
        }
        (false, _) => quote!({
            let #answers = #invocation #wait;
            ::core::result::Result::Ok(#sorted)
        }),
    };
    if !function.is_async() {
        return quote!(|__larder_items| #opened);
    }
    let owned = function.arguments.iter().filter(|argument| argument.items.is_none() && !is_lent(argument));
    let owned = owned.map(|Argument { name, .. }| quote!(let #name = ::core::clone::Clone::clone(&#name);));
    quote!(|__larder_items| {
        #(#owned)*
        async move { #opened }
    })
}

fn is_lent(argument: &Argument) -> bool {
    matches!(&argument.ty, Type::Reference(_))
}

/// An argument of a function that may be called repeatedly.
fn passed(argument: &Argument, items: &Items) -> TokenStream {
    let name = &argument.name;
    match &argument.items {
        Some(_) if items.owned => quote!(::core::clone::Clone::clone(&__larder_items)),
        Some(_) => quote!(&__larder_items),
        None if is_exclusive(argument) => quote!(&mut *#name),
        None if is_lent(argument) => quote!(#name),
        None => quote_spanned!(argument.ty.span()=> ::core::clone::Clone::clone(&#name)),
    }
}

/// The match arms that sort the answer for one key into stored and passed on.
fn arms(function: &Function) -> TokenStream {
    let root = &function.root;
    let inner = inner(function);
    let excluded = expand::excludes(function)
        .map(|excludes| quote!(#inner if #excludes => ::core::result::Result::Err(#inner),));
    let (value, options, made) = (local("value"), local("options"), expand::options(function));
    let nothing = skips_none(function).then(
        || quote!(::core::option::Option::None => ::core::result::Result::Err(::core::option::Option::None),),
    );
    quote! {
        #excluded
        #inner => {
            let #options = #made;
            ::core::result::Result::Ok(#root::__private::WithOptions(#value, #options))
        }
        #nothing
    }
}

/// The value in the answer for one key, both as a pattern and as an expression.
fn inner(function: &Function) -> TokenStream {
    let value = local("value");
    match skips_none(function) {
        true => quote!(::core::option::Option::Some(#value)),
        false => quote!(#value),
    }
}

fn in_result(function: &Function, answers: &TokenStream) -> TokenStream {
    match has_errors(function) {
        true => quote!(::core::result::Result::Ok(#answers)),
        false => answers.clone(),
    }
}

fn has_errors(function: &Function) -> bool {
    matches!(function.answer.form, Form::Value { result: true, .. })
}

fn skips_none(function: &Function) -> bool {
    matches!(function.answer.form, Form::Value { skip_none: true, .. })
}
