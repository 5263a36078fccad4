//! The languages of the console.
//!
//! English stands where it is shown, and is the key of its translations, as gettext does it; `hub/locales` has them. What
//! the pages say, they say by [`t!`](crate::t), [`n!`](crate::n) and, in templates, the filters [`filters::t`] and
//! [`filters::rich`]. API, command line and logs are English: programs read them, and they are evidence.

use std::{cell::Cell, collections::HashMap, fmt::Display, future::Future, sync::LazyLock};

pub mod filters;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

tokio::task_local! {
    static OF_REQUEST: Cell<Language>;
}

/// Text in English, and what stands for it: one form, for Japanese has one for all numbers.
type Catalogue = HashMap<String, String>;

static JAPANESE: LazyLock<Catalogue> = LazyLock::new(|| {
    let po = include_bytes!("../locales/ja.po");
    let read = polib::po_file::parse_from_reader(po.as_slice()).expect("a test reads the catalogue");
    let translated = read.messages().filter(|message| message.is_translated());
    translated
        .map(|message| {
            let translation = if message.is_plural() {
                message
                    .msgstr_plural()
                    .ok()
                    .and_then(|forms| forms.first().cloned())
            } else {
                message.msgstr().ok().map(str::to_owned)
            };
            (message.msgid().to_owned(), translation.unwrap_or_default())
        })
        .collect()
});

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::Japanese];

    /// Of the request that is being answered; English outside of one.
    pub fn current() -> Self {
        OF_REQUEST.try_with(Cell::get).unwrap_or(Self::English)
    }

    /// Answers a request in this language, or in another one that is found out on the way.
    pub async fn answer<F: Future>(self, answering: F) -> F::Output {
        OF_REQUEST.scope(Cell::new(self), answering).await
    }

    /// From here on, the request is answered in this language.
    pub fn speak(self) {
        // Outside of requests, everything is English.
        let _ = OF_REQUEST.try_with(|language| language.set(self));
    }

    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    pub fn by_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// What a browser would like best, by its `Accept-Language`.
    pub fn accepted(header: &str) -> Self {
        // Nobody writes more than that by hand.
        let header = header.get(..200.min(header.len())).unwrap_or_default();
        let wanted = accept_language::parse(header);
        let mut known = wanted
            .iter()
            .filter_map(|tag| Self::by_tag(tag.split('-').next().unwrap_or_default()));
        known.next().unwrap_or(Self::English)
    }
}

/// A text in the language of the request.
pub fn translated(english: &str) -> &str {
    translation(english).unwrap_or(english)
}

fn translation(english: &str) -> Option<&'static str> {
    match Language::current() {
        Language::English => None,
        Language::Japanese => JAPANESE.get(english).map(String::as_str),
    }
}

/// A text that stands in the program.
pub fn translated_static(english: &'static str) -> &'static str {
    translation(english).unwrap_or(english)
}

/// The form of a text that goes with a number.
pub fn plural(number: u64, one: &'static str, many: &'static str) -> &'static str {
    translation(one).unwrap_or(if number == 1 { one } else { many })
}

/// Puts values where their names stand in braces, all at once: what a value says is never taken for a name.
pub fn fill(text: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut filled = String::with_capacity(text.len() + 16 * values.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let named = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, after))
        });
        if let Some((value, after)) = named {
            filled.push_str(&value.to_string());
            rest = after;
        } else {
            filled.push('{');
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

/// A text in the language of the request: `t!("Ready")`, or with values `t!("{name} is archived.", name)` and
/// `t!("in {time}", time = text::span(left))`.
#[macro_export]
macro_rules! t {
    ($english:literal) => {
        $crate::language::translated_static($english)
    };
    ($english:literal, $($name:ident $(= $value:expr)?),+ $(,)?) => {
        $crate::language::fill(
            $crate::language::translated_static($english),
            &[$((stringify!($name), $crate::t!(@value $name $(= $value)?))),+],
        )
    };
    (@value $name:ident) => {
        &$name as &dyn ::std::fmt::Display
    };
    (@value $name:ident = $value:expr) => {
        &$value as &dyn ::std::fmt::Display
    };
}

/// A text of a constant, which is translated where it is used, by [`translated_static`].
#[macro_export]
macro_rules! mark {
    ($english:literal) => {
        $english
    };
}

/// The same for a number of things, which is `{n}` in the text: `n!(count, "{n} server", "{n} servers")`.
#[macro_export]
macro_rules! n {
    ($number:expr, $one:literal, $many:literal $(, $name:ident $(= $value:expr)?)* $(,)?) => {{
        let number: u64 = $number;
        $crate::language::fill(
            $crate::language::plural(number, $one, $many),
            &[
                ("n", &$crate::web::grouped(number) as &dyn ::std::fmt::Display),
                $((stringify!($name), $crate::t!(@value $name $(= $value)?))),*
            ],
        )
    }};
}

#[cfg(test)]
mod tests;
