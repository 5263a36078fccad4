use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proptest::prelude::*;

use super::{filters::markup, *};

/// Every text that is translated, with its form for many.
fn texts() -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in files(&root.join("src"), "rs") {
        if file.ends_with("language.rs") || file.components().any(|part| part.as_os_str() == "language") {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        for (macro_, plural) in [("t!(", false), ("mark!(", false), ("n!(", true)] {
            for (at, _) in source.match_indices(macro_) {
                let is_other =
                    source[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
                if is_other {
                    continue;
                }
                let literals = literals(&source[at + macro_.len()..], if plural { 2 } else { 1 });
                let mut literals = literals.into_iter();
                let one = literals
                    .next()
                    .unwrap_or_else(|| panic!("{}: {}", file.display(), &source[at..at + 60]));
                found.insert(one, literals.next());
            }
        }
    }
    for file in files(&root.join("../templates"), "html") {
        let source = fs::read_to_string(&file).unwrap();
        for filter in ["\"|t", "\"|rich"] {
            for (at, _) in source.match_indices(filter) {
                let start = source[..at].rfind('"').unwrap();
                found.insert(source[start + 1..at].to_owned(), None);
            }
        }
    }
    found
}

fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found
}

/// The first literals in a piece of source, as the compiler reads them.
fn literals(source: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while found.len() < count {
        let Some((_, after)) = rest.split_once('"') else {
            break;
        };
        let mut text = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => text.push('\n'),
                    // The line goes on where its text does.
                    Some('\n') => {
                        let blank = after[at + 2..].chars().take_while(|c| c.is_whitespace()).count();
                        for _ in 0..blank {
                            characters.next();
                        }
                    }
                    Some(other) => text.push(other),
                    None => {}
                },
                other => text.push(other),
            }
        }
        found.push(text);
        rest = &after[end..];
    }
    found
}

/// What a text has in braces, ticks and stars.
fn marks(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices('{') {
        if let Some((name, _)) = text[at + 1..].split_once('}') {
            found.insert(format!("{{{name}}}"));
        }
    }
    for (at, _) in text.match_indices("](") {
        if let Some((to, _)) = text[at + 2..].split_once(')') {
            found.insert(format!("({to})"));
        }
    }
    found.insert(format!("{} ticks", text.matches('`').count()));
    found.insert(format!("{} stars", text.matches("**").count()));
    found
}

#[test]
fn every_text_has_its_translation_and_no_translation_is_left_over() {
    let po = include_bytes!("../../locales/ja.po");
    let read = polib::po_file::parse_from_reader(po.as_slice()).unwrap();
    let mut wrong = Vec::new();
    let texts = texts();
    let mut known = BTreeSet::new();
    for message in read.messages() {
        let english = message.msgid();
        known.insert(english.to_owned());
        let Some(many) = texts.get(english) else {
            wrong.push(format!("nothing says {english:?} any more"));
            continue;
        };
        if message.is_fuzzy() || !message.is_translated() {
            wrong.push(format!("{english:?} has no translation yet"));
            continue;
        }
        let translation = JAPANESE.get(english).unwrap();
        if message.is_plural() != many.is_some() {
            wrong.push(format!("{english:?} has a plural on one side only"));
        }
        // A language may name the number where English has a word for it.
        let awaited = many.as_deref().unwrap_or(english);
        if marks(awaited) != marks(translation) {
            wrong.push(format!(
                "{awaited:?} and {translation:?} do not name the same values"
            ));
        }
    }
    wrong.extend(
        texts
            .keys()
            .filter(|text| !known.contains(*text))
            .map(|text| format!("{text:?} is not in ja.po")),
    );
    assert!(wrong.is_empty(), "{} texts:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_browser_gets_what_it_likes_best_of_what_there_is() {
    for (header, language) in [
        ("", Language::English),
        ("ja", Language::Japanese),
        ("ja-JP,ja;q=0.9,en;q=0.8", Language::Japanese),
        ("en-US,en;q=0.9,ja;q=0.8", Language::English),
        ("de,ja;q=0.5", Language::Japanese),
        ("de, fr;q=0.5", Language::English),
        ("\u{fffd};;;q=x,,", Language::English),
    ] {
        assert_eq!(Language::accepted(header), language, "{header}");
    }
}

#[tokio::test]
async fn a_request_is_answered_in_its_language() {
    let said = || t!("Sign in");
    assert_eq!(said(), "Sign in");
    assert_eq!(Language::Japanese.answer(async { said() }).await, "サインイン");
}

#[test]
fn a_text_may_link_to_our_pages_only() {
    assert_eq!(
        markup("See [servers](/servers) & `a < b`, **now**."),
        "See <a href=\"/servers\">servers</a> &#38; <code>a &#60; b</code>, <strong>now</strong>."
    );
    for plain in [
        "[a](https://evil.example)",
        "[a](//evil.example)",
        "`a",
        "**a",
        "[a]",
        "2 * 3",
    ] {
        assert_eq!(markup(plain), plain);
    }
}

proptest! {
    #[test]
    fn what_is_filled_in_is_never_taken_for_a_name(a in ".{0,12}", b in "[{}ab]{0,8}") {
        let filled = fill("<{a}|{b}|{c}>", &[("a", &a), ("b", &b)]);
        prop_assert_eq!(filled, format!("<{a}|{b}|{{c}}>"));
    }
}
