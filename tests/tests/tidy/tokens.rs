//! A Rust file as a flat list of tokens with line numbers.
//!
//! Called by the rules about Rust code. Tokens and not a syntax tree, because functions and
//! identifiers inside a macro call (`proptest!`) are then seen like any other. It must never
//! judge; that is the rules' part.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word: identifier or keyword.
    Word(String),
    /// A sign.
    Sign(char),
    /// The beginning of a group.
    Open(Delimiter),
    /// The end of a group.
    Close,
    /// A literal; its text is of no interest here.
    Literal,
}

/// A token and the line it stands on.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// From 1.
    pub line: usize,
}

impl Token {
    /// The word, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether it is this sign.
    pub fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// A function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`.
    pub line: usize,
    /// How many lines from `fn` to the end of its body.
    pub lines: usize,
}

/// The tokens of a Rust text.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|e: proc_macro2::LexError| {
        format!("not Rust from line {} on: {e}", e.span().start().line)
    })?;
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    Ok(flat)
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let kind = match tree {
            TokenTree::Ident(word) => Kind::Word(word.to_string()),
            TokenTree::Punct(sign) => Kind::Sign(sign.as_char()),
            TokenTree::Literal(_) => Kind::Literal,
            TokenTree::Group(group) => {
                into.push(Token {
                    kind: Kind::Open(group.delimiter()),
                    line,
                });
                flatten(group.stream(), into);
                into.push(Token {
                    kind: Kind::Close,
                    line: group.span_close().end().line,
                });
                continue;
            }
        };
        into.push(Token { kind, line });
    }
}

/// Where the group that opens at `open` ends.
pub fn close_of(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}

/// Every function that has a body, also those inside other functions and macro calls.
pub fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, pair) in tokens.windows(2).enumerate() {
        let (Some("fn"), Some(name)) = (pair[0].word(), pair[1].word()) else {
            continue;
        };
        let mut at = start + 2;
        while let Some(token) = tokens.get(at) {
            match token.kind {
                Kind::Open(Delimiter::Brace) => {
                    let lines = tokens[close_of(tokens, at)].line - pair[0].line + 1;
                    found.push(Function {
                        name: name.into(),
                        line: pair[0].line,
                        lines,
                    });
                    break;
                }
                Kind::Open(_) => at = close_of(tokens, at) + 1,
                Kind::Close | Kind::Sign(';') => break,
                _ => at += 1,
            }
        }
    }
    found
}

#[test]
fn functions_are_found_wherever_they_stand() {
    let text = "trait T { fn none(&self); }\n\
                fn one() -> [u8; { 3 }] where [(); 2]: Sized {\n\n}\n\
                proptest! { fn two(x in 0..3) {\n let f: fn(u8) = |_| {}; } }\n\
                macro_rules! m { ($name:ident) => { fn $name() {} } }";
    let found = functions(&tokens(text).unwrap());
    let found: Vec<_> = found
        .iter()
        .map(|f| (f.name.as_str(), f.line, f.lines))
        .collect();
    assert_eq!(found, [("one", 2, 3), ("two", 5, 2)]);
}
