//! Patterns of keys, as `KEYS` and `SCAN` take them.
//!
//! Called by `keyspace.rs` for each key. Every answer is that of Redis, also for patterns that make no sense: a
//! class that is not closed goes to the end of the pattern. It must never take longer than pattern times text.
//! Source: `stringmatchlen` of Redis 7, <https://redis.io/docs/latest/commands/keys/>.

/// What matches everything. Redis asks for this one before it looks at a key: no other matches an empty key.
pub const ALL: &[u8] = b"*";

/// Whether `text` fits `pattern` as a whole: `*` any bytes, `?` one, `[a-c]` and `[^a-c]` one of a class, and a
/// backslash takes the meaning from what follows.
pub fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    // Behind the last star, and what it has left. Only that one is ever tried again: if the star before took
    // more, this one could take less and come to the same.
    let mut star: Option<(&[u8], &[u8])> = None;
    while let Some((byte, behind)) = left.split_first() {
        if rest.first() == Some(&b'*') {
            rest = without_stars(rest);
            if rest.is_empty() {
                return true;
            }
            star = Some((rest, left));
        }
        if let Some((true, next)) = step(rest, *byte) {
            (rest, left) = (next, behind);
        } else if let Some((begin, [_, taken @ ..])) = star {
            star = Some((begin, taken));
            (rest, left) = (begin, taken);
        } else {
            return false;
        }
    }
    // An empty text does not get as far as the stars.
    rest.is_empty() || (!text.is_empty() && without_stars(rest).is_empty())
}

fn without_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    &pattern[stars..]
}

/// Whether the begin of the pattern, which is no star, takes the byte, and what comes behind it.
fn step(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', b'^', rest @ ..] => {
            let (is_in, rest) = class(rest, byte);
            (!is_in, rest)
        }
        [b'[', rest @ ..] => class(rest, byte),
        [b'\\', plain, rest @ ..] | [plain, rest @ ..] => (*plain == byte, rest),
    })
}

/// Whether the byte is in the class that ends at the next `]`, and what comes behind that.
fn class(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut is_in = false;
    loop {
        pattern = match pattern {
            [] => return (is_in, pattern),
            [b'\\', plain, rest @ ..] => {
                is_in |= *plain == byte;
                rest
            }
            [b']', rest @ ..] => return (is_in, rest),
            [from, b'-', to, rest @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [plain, rest @ ..] => {
                is_in |= *plain == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, as slow as it is plain.
    fn fits_slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => {
                (0..=text.len()).any(|taken| fits_slowly(rest, &text[taken..]))
            }
            (_, [byte, behind @ ..]) => {
                step(pattern, *byte).is_some_and(|(fits, rest)| fits && fits_slowly(rest, behind))
            }
            (rest, []) => rest.is_empty(),
        }
    }

    #[test]
    fn each_sign_of_a_pattern_means_what_redis_says() {
        let all = [
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "hllo", true),
            ("h*llo", "heeeello", true),
            ("h*llo*", "hellohello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("[^", "a", true),
            ("[", "[", false),
            ("a\\", "a\\", true),
            ("[a-]", "b", false),
            ("[a-]", "^", true),
            ("", "", true),
            ("**", "", false),
            ("a**", "a", true),
            ("*a", "ab", false),
        ];
        for (pattern, text, expected) in all {
            assert_eq!(
                fits(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = b"*a".repeat(500);
        assert!(!fits(&pattern, &[b'b'; 1024]) && !fits(&pattern, &[b'a'; 499]));
        assert!(fits(&pattern, &[b'a'; 1024]));
    }

    proptest! {
        #[test]
        fn it_fits_what_the_definition_fits(
            pattern in prop::collection::vec(prop::sample::select(b"aab*?[]^-\\".to_vec()), 0..10),
            text in prop::collection::vec(prop::sample::select(b"aab]-^\\".to_vec()), 1..8),
        ) {
            prop_assert_eq!(fits(&pattern, &text), fits_slowly(&pattern, &text));
        }
    }
}
