//! The language of LVM's metadata: `key = value` and `section { … }`, as `lvm.conf` is written, too.
//!
//! Values are numbers, strings and lists of them. Nothing that is looked at has an escape in its string, so strings
//! stay as they are written.

/// `vg { logical_volumes { root { segment1 { … } } } }`.
const DEPTH_MAX: u32 = 8;

/// In the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section<'a>(Vec<(&'a str, Value<'a>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    Text(&'a str),
    List(Vec<Value<'a>>),
    Section(Section<'a>),
}

/// Where a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody understands it from byte {0} on")]
pub struct SyntaxError(usize);

impl<'a> Section<'a> {
    pub fn parse(text: &'a str) -> Result<Self, SyntaxError> {
        let mut parser = Parser { text, at: 0 };
        let section = parser.section(DEPTH_MAX)?;
        if parser.peek().is_some() {
            return Err(SyntaxError(parser.at));
        }
        Ok(section)
    }

    fn get(&self, key: &str) -> Option<&Value<'a>> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value)
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn list(&self, key: &str) -> Option<&[Value<'a>]> {
        match self.get(key)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub fn has_flag(&self, key: &str, flag: &str) -> bool {
        let flags = self.list(key).unwrap_or_default();
        flags.contains(&Value::Text(flag))
    }

    pub fn section(&self, key: &str) -> Option<&Self> {
        match self.get(key)? {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    pub fn sections(&self) -> impl Iterator<Item = (&'a str, &Self)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((*name, section)),
            _ => None,
        })
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next byte that says something.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let mut is_comment = false;
        let skipped = rest.iter().position(|byte| {
            is_comment = *byte == b'#' || (is_comment && *byte != b'\n');
            // The text is stored with the zero that ends it in memory.
            !is_comment && !byte.is_ascii_whitespace() && *byte != 0
        });
        self.at += skipped.unwrap_or(rest.len());
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Result<(), SyntaxError> {
        if self.peek() != Some(wanted) {
            return Err(SyntaxError(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self) -> Result<&'a str, SyntaxError> {
        self.peek();
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+_.-/".contains(byte);
        let len = rest.bytes().take_while(is_part).count();
        if len == 0 {
            return Err(SyntaxError(self.at));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    /// Up to a closing brace, or the end.
    fn section(&mut self, depth: u32) -> Result<Section<'a>, SyntaxError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(SyntaxError(self.at));
        };
        let mut section = Section::default();
        while self.peek().is_some_and(|next| next != b'}') {
            let key = self.word()?;
            let value = if self.peek() == Some(b'{') {
                self.take(b'{')?;
                let inner = self.section(depth)?;
                self.take(b'}')?;
                Value::Section(inner)
            } else {
                self.take(b'=')?;
                self.value()?
            };
            section.0.push((key, value));
        }
        Ok(section)
    }

    fn value(&mut self) -> Result<Value<'a>, SyntaxError> {
        if self.peek() != Some(b'[') {
            return self.single();
        }
        self.take(b'[')?;
        let mut list = Vec::new();
        while self.peek() != Some(b']') {
            list.push(self.single()?);
            if self.peek() != Some(b']') {
                self.take(b',')?;
            }
        }
        self.take(b']')?;
        Ok(Value::List(list))
    }

    fn single(&mut self) -> Result<Value<'a>, SyntaxError> {
        if self.peek() != Some(b'"') {
            // Nothing that is looked at is below zero or a fraction.
            let word = self.word()?;
            return Ok(word.parse().map_or(Value::Text(word), Value::Number));
        }
        self.take(b'"')?;
        let rest = &self.text[self.at..];
        let mut is_escaped = false;
        let len = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        });
        let len = len.ok_or(SyntaxError(self.at))?;
        self.at += len + 1;
        Ok(Value::Text(&rest[..len]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_read() {
        let text = "# made by hand\nvg-0 { # inner\n size=8192\nflags = []\nlist = [\n\"pv0\", 0,\n\"a\\\"b\"\n]\n}\nlast = \"} # no\"\n\0";
        let read = Section::parse(text).unwrap();
        let vg = read.section("vg-0").unwrap();
        assert_eq!(vg.number("size"), Some(8192));
        assert_eq!(vg.list("flags"), Some(&[][..]));
        assert_eq!(
            vg.list("list"),
            Some(&[Value::Text("pv0"), Value::Number(0), Value::Text("a\\\"b")][..])
        );
        assert!(vg.has_flag("list", "pv0") && !vg.has_flag("list", "pv1"));
        assert_eq!(read.text("last"), Some("} # no"));
        assert_eq!(read.sections().count(), 1);
        assert_eq!((read.number("last"), read.text("size")), (None, None));
    }

    #[test]
    fn what_is_no_text_is_refused_where_it_ends() {
        for (text, at) in [
            ("a = ", 4),
            ("a { b = 1", 9),
            ("a = 1 }", 6),
            ("a = [1 2]", 7),
            ("a = \"x", 5),
            ("= 1", 0),
        ] {
            assert_eq!(Section::parse(text), Err(SyntaxError(at)), "{text}");
        }
        let deep = "a{".repeat(100_000);
        assert_eq!(Section::parse(&deep), Err(SyntaxError(16)));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s)[a-c0-9={}\\[\\],\"\\\\# \n\\PC]{0,200}") {
            drop(Section::parse(&text));
        }
    }
}
