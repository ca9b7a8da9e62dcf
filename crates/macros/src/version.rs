//! Derives the version of a function from its tokens.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Block, Signature};
use xxhash_rust::xxh3::Xxh3Default;

/// A hash of the signature and the body. Comments, white space and line ends are not tokens, so they do not
/// change it. Functions that the body calls are not part of it.
///
/// Hashes the tokens and not their text, since the compiler decides the spacing of the text.
pub(crate) fn of(signature: &Signature, body: &Block) -> u32 {
    let mut hash = Xxh3Default::new();
    absorb(&mut hash, signature.to_token_stream());
    absorb(&mut hash, body.to_token_stream());
    u32::try_from(hash.digest() >> 32).unwrap_or_default()
}

fn absorb(hash: &mut Xxh3Default, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                hash.update(&[0, delimiter(group.delimiter())]);
                absorb(hash, group.stream());
                hash.update(&[1]);
            }
            TokenTree::Ident(ident) => word(hash, 2, &ident.to_string()),
            TokenTree::Punct(punct) => word(hash, 3, punct.as_char().encode_utf8(&mut [0; 4])),
            TokenTree::Literal(literal) => word(hash, 4, &literal.to_string()),
        }
    }
}

/// Hashes a word with its length, so that two adjacent words are distinct from one long word.
fn word(hash: &mut Xxh3Default, kind: u8, word: &str) {
    hash.update(&[kind]);
    hash.update(&(word.len() as u64).to_le_bytes());
    hash.update(word.as_bytes());
}

fn delimiter(delimiter: Delimiter) -> u8 {
    match delimiter {
        Delimiter::Parenthesis => 0,
        Delimiter::Brace => 1,
        Delimiter::Bracket => 2,
        Delimiter::None => 3,
    }
}

#[cfg(test)]
mod tests {
    use syn::{ItemFn, parse_str};

    fn version(function: &str) -> u32 {
        let function: ItemFn = parse_str(function).expect("a function");
        super::of(&function.sig, &function.block)
    }

    #[test]
    fn white_space_and_comments_do_not_change_the_version() {
        let plain = version("fn f(a: u8) -> u8 { a + 1 }");
        assert_eq!(plain, version("fn f(a: u8)->u8 {\n // one more\n a+1 }"));
    }

    #[test]
    fn changed_token_changes_the_version() {
        let plain = version("fn f(a: u8, b: u8) -> u8 { a - b }");
        for other in [
            "fn f(a: u8, b: u8) -> u8 { b - a }",
            "fn f(b: u8, a: u8) -> u8 { a - b }",
            "fn f(a: u8, b: u8) -> u8 { (a - b) }",
            "fn f(a: u8, b: u8) -> u16 { a - b }",
        ] {
            assert_ne!(plain, version(other), "{other}");
        }
    }
}
