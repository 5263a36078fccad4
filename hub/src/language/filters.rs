//! For templates; each file with a template has this in scope as `filters`.

// The macro makes functions that it wants inlined.
#![allow(clippy::inline_always)]

use std::fmt::Display;

use askama::{Result, Values, filters::Safe};

use super::{fill, translated};

/// A text in the language of the request.
#[askama::filter_fn]
pub fn t(english: impl AsRef<str>, _: &dyn Values) -> Result<String> {
    Ok(translated(english.as_ref()).to_owned())
}

/// Puts a value where its name stands in braces. For one value: a second one is the business of a handler.
#[askama::filter_fn]
pub fn with<V: Display>(text: impl AsRef<str>, _: &dyn Values, name: &str, value: V) -> Result<String> {
    Ok(fill(text.as_ref(), &[(name, &value)]))
}

/// A text with `[links](/to/somewhere)`, `` `code` `` and `**words that stand out**`.
#[askama::filter_fn]
pub fn rich(english: impl AsRef<str>, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(markup(translated(english.as_ref()))))
}

/// The text is ours, and escaped all the same: a translation is no place for tags.
pub(super) fn markup(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find(['[', '`', '*']) {
        let (before, after) = rest.split_at(at);
        html.push_str(&escaped(before));
        if let Some((element, after)) = element(after) {
            html.push_str(&element);
            rest = after;
        } else {
            let (mark, after) = after.split_at(1);
            html.push_str(mark);
            rest = after;
        }
    }
    html.push_str(&escaped(rest));
    html
}

/// The element at the beginning of a text, and what comes after it.
fn element(text: &str) -> Option<(String, &str)> {
    if let Some(text) = text.strip_prefix("**") {
        let (strong, rest) = text.split_once("**")?;
        return Some((format!("<strong>{}</strong>", escaped(strong)), rest));
    }
    if let Some(text) = text.strip_prefix('`') {
        let (code, rest) = text.split_once('`')?;
        return Some((format!("<code>{}</code>", escaped(code)), rest));
    }
    let (label, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (to, rest) = rest.split_once(')')?;
    // Our own pages only.
    let ours = to.starts_with('/') && !to.starts_with("//");
    let link = format!("<a href=\"{}\">{}</a>", escaped(to), escaped(label));
    ours.then_some((link, rest))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&#38;")
        .replace('<', "&#60;")
        .replace('>', "&#62;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}
