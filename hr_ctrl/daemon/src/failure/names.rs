//! Names from programs, made fit to be printed.
//!
//! Called for functions and objects. It must never let through what moves a terminal's cursor or turns
//! the text around, nor a name without end: both come from files that an actor brought.
//!
//! Rust's names are decoded by the crate that std itself uses. Of C++ only plain ones are (`ns::f`);
//! the others stay as they are, for `c++filt`: the decoder that there is as a crate contains panics, and
//! nobody has shown that a hostile name cannot reach them.

use std::fmt::{self, Write};

/// How much of a name in a file is looked at, in bytes.
const MAX_RAW: usize = 512;
/// How long a name is when printed, in characters.
const MAX_SHOWN: usize = 120;

/// A function's name from a symbol; `None` for the empty one.
pub(super) fn function(symbol: &[u8]) -> Option<String> {
    let raw = symbol.get(..MAX_RAW).unwrap_or(symbol);
    let text = String::from_utf8_lossy(raw);
    if text.is_empty() {
        return None;
    }
    if let Ok(name) = rustc_demangle::try_demangle(&text) {
        let mut shown = Short::default();
        // The writer takes everything and keeps the beginning, so this cannot fail.
        let _ = write!(shown, "{name:#}");
        return Some(shown.finish());
    }
    Some(shown(
        &plain_cpp(&text).unwrap_or_else(|| text.into_owned()),
    ))
}

/// The name of an object from a path in `maps`: the file's name, without what the kernel adds.
pub(super) fn object(path: &[u8]) -> String {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let path = path.strip_prefix(b"/memfd:").unwrap_or(path);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let name = name.get(..MAX_RAW).unwrap_or(name);
    shown(&String::from_utf8_lossy(name))
}

fn shown(text: &str) -> String {
    let mut short = Short::default();
    // See above: it cannot fail.
    let _ = short.write_str(text);
    short.finish()
}

/// Keeps the beginning of what is written to it, and only what can be printed.
#[derive(Default)]
struct Short {
    text: String,
    length: usize,
}

impl Short {
    fn finish(mut self) -> String {
        if self.length > MAX_SHOWN {
            self.text.push_str("...");
        }
        self.text
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.length > MAX_SHOWN {
                break;
            }
            self.length += 1;
            if self.length <= MAX_SHOWN {
                self.text.push(if unprintable(c) { '?' } else { c });
            }
        }
        Ok(())
    }
}

/// Control characters, and those that turn the direction of writing around.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `_Z1fv` and `_ZN1a1b1cEv`: names without templates and abbreviations.
fn plain_cpp(symbol: &str) -> Option<String> {
    let rest = symbol.strip_prefix("_Z")?;
    let Some(nested) = rest.strip_prefix('N') else {
        let (name, rest) = source_name(rest)?;
        // `I` begins the arguments of a template.
        return (!rest.starts_with('I')).then(|| name.to_owned());
    };
    let mut rest = nested.trim_start_matches(['r', 'V', 'K']);
    let mut names = Vec::new();
    while !rest.starts_with('E') {
        let (name, after) = source_name(rest)?;
        names.push(name);
        rest = after;
    }
    (!names.is_empty()).then(|| names.join("::"))
}

/// A name with its length in front, and what follows it.
fn source_name(text: &str) -> Option<(&str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (length, rest) = text.split_at_checked(digits)?;
    let (name, rest) = rest.split_at_checked(length.parse().ok()?)?;
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_decoded() {
        for (symbol, name) in [
            ("main", "main"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_ZN2ns1fEi", "ns::f"),
            ("_ZNK2ns4Type3getEv", "ns::Type::get"),
            ("_Z5outeri", "outer"),
            ("_ZNSt6vectorIiE4pushEv", "_ZNSt6vectorIiE4pushEv"),
            ("_Z5outerIiEvT_", "_Z5outerIiEvT_"),
        ] {
            assert_eq!(function(symbol.as_bytes()).as_deref(), Some(name));
        }
        assert_eq!(function(b""), None);
    }

    #[test]
    fn objects_have_the_names_of_their_files() {
        assert_eq!(object(b"/usr/lib/libc.so.6"), "libc.so.6");
        assert_eq!(object(b"/memfd:crash (deleted)"), "crash");
        assert_eq!(object(b"[vdso]"), "[vdso]");
        assert_eq!(object(b"/tmp/a\x1b[2J"), "a?[2J");
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = function(&[b'a'; 4000]).unwrap();
        assert_eq!(name.chars().count(), MAX_SHOWN + 3);
    }

    proptest! {
        #[test]
        fn no_name_is_long_or_moves_the_cursor(
            prefix in prop::sample::select(vec!["", "_ZN", "_Z", "_R", "_RNv", "_RIC", "_RNvMs_", "_ZN4core"]),
            rest in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let symbol = [prefix.as_bytes(), &rest].concat();
            for name in [Some(object(&symbol)), function(&symbol)].into_iter().flatten() {
                prop_assert!(name.chars().count() <= MAX_SHOWN + 3);
                prop_assert!(!name.chars().any(unprintable));
            }
        }

        #[test]
        fn no_name_of_rusts_kind_makes_it_panic(rest in "[A-Za-z0-9_.$]{0,200}") {
            for prefix in ["_RNv", "_RI", "_RNvC1a", "_ZN1a", "_ZN3foo17h"] {
                let _ = function(format!("{prefix}{rest}").as_bytes());
            }
        }
    }
}
