//! Parses the options: `name`, `name = value`, `name(list)`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Token, parenthesized};

use super::suggest::{self, BUILT};
use super::{Batch, Options, Policy, Tags, Tier, Version, literal};

/// Options that every attribute has.
const COMMON: [&str; 20] = [
    "batch",
    "capacity",
    "crate",
    "exclude",
    "idle",
    "jitter",
    "key",
    "memory_bytes",
    "method",
    "name",
    "on_event",
    "policy",
    "record_bytes",
    "result",
    "share_err",
    "skip",
    "skip_none",
    "tags",
    "ttl",
    "ttl_fn",
];
/// Options of the attributes with byte tiers.
const TIERED: [&str; 15] = [
    "access",
    "codec",
    "compress",
    "dir",
    "disk_bytes",
    "durability",
    "kind",
    "persistence",
    "preset",
    "require",
    "selector",
    "sharing",
    "thresholds",
    "version",
    "warm_restart",
];
/// Options of the attribute whose cache may have any tier.
const UNIVERSAL: [&str; 5] = ["coherence", "lease", "namespace", "redis", "url"];
/// Options of builders that only affect `load`.
const OF_LOAD: [&str; 4] = ["hard_timeout", "refresh_ahead", "soft_timeout", "stale"];
/// Options of every builder that are passed on unchanged.
const HANDED_ON: [&str; 2] = ["weigher", "clock"];
/// The eviction policies: their words in configuration files, and their variants.
const POLICIES: [(&str, &str); 9] = [
    ("auto", "Auto"),
    ("tiny_lfu", "TinyLfu"),
    ("lru", "Lru"),
    ("lfu", "Lfu"),
    ("s3_fifo", "S3Fifo"),
    ("sieve", "Sieve"),
    ("fifo", "Fifo"),
    ("random", "Random"),
    ("cost_aware", "CostAware"),
];

/// One option as the user wrote it.
struct Written {
    name: Ident,
    value: Value,
}

enum Value {
    None,
    Is(Expr),
    List(TokenStream),
}

impl Parse for Written {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = input.call(Ident::parse_any)?;
        if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            return Ok(Self { name, value: Value::Is(input.parse()?) });
        }
        if input.peek(syn::token::Paren) {
            let list;
            parenthesized!(list in input);
            return Ok(Self { name, value: Value::List(list.parse()?) });
        }
        Ok(Self { name, value: Value::None })
    }
}

impl Written {
    fn value(self) -> syn::Result<Expr> {
        match self.value {
            Value::Is(value) => Ok(value),
            _ => Err(Error::new(self.name.span(), format!("`{0}` needs a value: `{0} = ..`", self.name))),
        }
    }

    /// An expression that may be quoted: `"a::b"` or `a::b`.
    fn code(self) -> syn::Result<Expr> {
        let value = self.value()?;
        match literal::text(&value) {
            Some(text) => text.parse(),
            None => Ok(value),
        }
    }

    fn flag(self) -> syn::Result<Ident> {
        match self.value {
            Value::None => Ok(self.name),
            _ => Err(Error::new(self.name.span(), format!("`{}` stands alone, without a value", self.name))),
        }
    }

    /// Parses `batch`, or `batch = ids`.
    fn batch(self) -> syn::Result<Batch> {
        let message = "`batch` stands alone, or names the argument with the keys: `batch = ids`";
        let argument = match &self.value {
            Value::None => None,
            Value::Is(Expr::Path(path)) if path.path.get_ident().is_some() => path.path.get_ident().cloned(),
            Value::Is(value) => return Err(Error::new(value.span(), message)),
            Value::List(_) => return Err(Error::new(self.name.span(), message)),
        };
        Ok(Batch { word: self.name, argument })
    }

    fn names(self) -> syn::Result<Vec<Ident>> {
        let Value::List(list) = self.value else {
            let message = format!("`{0}` lists arguments: `{0}(client, log)`", self.name);
            return Err(Error::new(self.name.span(), message));
        };
        let names = Punctuated::<Ident, Token![,]>::parse_terminated_with;
        let names = (|input: ParseStream<'_>| names(input, Ident::parse_any)).parse2(list)?;
        Ok(names.into_iter().collect())
    }
}

pub(super) fn options(tier: Tier, tokens: TokenStream) -> syn::Result<Options> {
    let written = Punctuated::<Written, Token![,]>::parse_terminated.parse2(tokens)?;
    BUILT.check_attribute(tier)?;
    let mut options = Options::default();
    let mut seen: Vec<Ident> = Vec::new();
    let mut errors: Option<Error> = None;
    for option in written {
        let taken = if seen.contains(&option.name) {
            Err(Error::new(option.name.span(), format!("`{}` is given twice", option.name)))
        } else {
            seen.push(option.name.clone());
            take(tier, &mut options, option)
        };
        match (taken, &mut errors) {
            (Err(error), Some(errors)) => errors.combine(error),
            (Err(error), none) => *none = Some(error),
            (Ok(()), _) => {}
        }
    }
    errors.map_or(Ok(options), Err)
}

fn take(tier: Tier, options: &mut Options, option: Written) -> syn::Result<()> {
    BUILT.check_option(tier, &option.name)?;
    let name = option.name.clone();
    match name.to_string().as_str() {
        "skip" => options.skip = option.names()?,
        "key" => options.key = Some(option.code()?),
        "exclude" => options.exclude = Some(option.code()?),
        "share_err" => options.share_err = Some(option.code()?),
        "name" => options.name = Some(option.value()?),
        "crate" => options.krate = Some(syn::parse2(option.code()?.into_token_stream())?),
        "skip_none" => options.skip_none = Some(option.flag()?),
        "result" => options.result = Some(option.flag()?),
        "method" => options.method = Some(option.flag()?),
        "record_bytes" => {
            options.record_bytes = Some(literal::number(tier, "record_bytes", option.value()?)?)
        }
        "ttl" | "idle" => options.builder.push((name, span(option.value()?)?)),
        "lease" if tier == Tier::Universal => options.builder.push((name, span(option.value()?)?)),
        "ttl_fn" => options.ttl_fn = Some(option.code()?),
        "on_event" => options.on_event = Some(option.code()?),
        "policy" => options.policy = Some(policy(option.value()?)?),
        "tags" => options.tags = Some(Tags::read(option.value()?)?),
        "batch" => options.batch = Some(option.batch()?),
        "version" if tier != Tier::Memory => options.version = Some(version(option.value()?)?),
        _ => hand_on(tier, options, option)?,
    }
    Ok(())
}

/// Adds the options that are calls of the builder.
fn hand_on(tier: Tier, options: &mut Options, option: Written) -> syn::Result<()> {
    let name = option.name.to_string();
    let is_common = COMMON.contains(&name.as_str()) || HANDED_ON.contains(&name.as_str());
    let is_tiered = TIERED.contains(&name.as_str());
    let is_universal = UNIVERSAL.contains(&name.as_str());
    if !is_common && !is_tiered && !is_universal {
        return Err(unknown(tier, &option.name));
    }
    if is_tiered && tier == Tier::Memory {
        let message =
            format!("`{name}` is for #[ucache], #[bcache] and #[fcache]: #[mcache] has memory alone");
        return Err(Error::new(option.name.span(), message));
    }
    if is_universal && tier != Tier::Universal {
        let message = format!("`{name}` is for #[ucache], whose cache may have any tier");
        return Err(Error::new(option.name.span(), message));
    }
    let ident = option.name.clone();
    let value = literal::number(tier, &name, option.value()?)?;
    options.builder.push((ident, value.into_token_stream()));
    Ok(())
}

fn unknown(tier: Tier, name: &Ident) -> Error {
    if OF_LOAD.iter().any(|option| name == option) {
        let message = format!(
            "`{name}` needs a loader that outlives its caller, which a function with arguments is not: \
             build a cache with `{name}`, and call its `load`"
        );
        return Error::new(name.span(), message);
    }
    let mut known: Vec<&str> = [&COMMON[..], &HANDED_ON[..]].concat();
    if tier != Tier::Memory {
        known.extend(TIERED);
    }
    if tier == Tier::Universal {
        known.extend(UNIVERSAL);
    }
    known.sort_unstable();
    let meant = suggest::did_you_mean(&name.to_string(), &known);
    let meant = if meant.is_empty() { ";" } else { &meant };
    let message = format!("unknown option `{name}`{meant} #[{}] has {}", tier.name(), known.join(", "));
    Error::new(name.span(), message)
}

/// A policy: a word such as `"lru"`, or an expression.
fn policy(value: Expr) -> syn::Result<Policy> {
    let Some(text) = literal::text(&value) else { return Ok(Policy::Is(value)) };
    let word = text.value();
    let known = POLICIES.map(|(word, _)| word);
    match POLICIES.iter().find(|(known, _)| *known == word) {
        Some((_, variant)) => Ok(Policy::Named(Ident::new(variant, text.span()))),
        None => {
            let meant = suggest::did_you_mean(&word, &known);
            let meant = if meant.is_empty() { ";" } else { &meant };
            Err(Error::new(
                text.span(),
                format!("unknown policy `{word}`{meant} allowed: {}", known.join(", ")),
            ))
        }
    }
}

/// A duration: text is parsed here, anything else is an expression.
fn span(value: Expr) -> syn::Result<TokenStream> {
    if let Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }) = &value {
        let message = format!("a time has a unit: write \"{0}s\" for {0} seconds", number.base10_digits());
        return Err(Error::new(value.span(), message));
    }
    let Some(text) = literal::text(&value) else { return Ok(value.into_token_stream()) };
    let nanos = literal::duration(text)?.as_nanos();
    let nanos = u64::try_from(nanos).map_err(|_| Error::new(text.span(), "longer than 584 years"))?;
    Ok(quote_spanned!(text.span()=> ::core::time::Duration::from_nanos(#nanos)))
}

fn version(value: Expr) -> syn::Result<Version> {
    match literal::text(&value) {
        Some(text) if text.value() == "auto" => Ok(Version::Auto),
        Some(text) => Err(Error::new(text.span(), "`version` is a number, or \"auto\"")),
        None => check_version(&value).map(|()| Version::Number(value)),
    }
}

fn check_version(value: &Expr) -> syn::Result<()> {
    if let Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }) = value
        && number.base10_parse::<u32>().is_err()
    {
        return Err(Error::new(value.span(), "option `version`: allowed 0 to 4294967295"));
    }
    Ok(())
}
