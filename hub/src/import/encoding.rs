//! Which letters a file's bytes stand for: what Excel saves in Europe and in Japan.

use encoding_rs::{Encoding, SHIFT_JIS, UTF_8};

/// Ten thousand rows of a hundred columns.
pub const BYTES_MAX: usize = 16 << 20;

/// UTF-8 or UTF-16 by its mark, else UTF-8 if it is that, else `Shift_JIS`.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!(
            "the file is larger than {} MiB; split it",
            BYTES_MAX >> 20
        ));
    }
    let marked = Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
    let encoding = marked.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(_) => UTF_8,
        Err(_) => SHIFT_JIS,
    });
    let (text, _, is_broken) = encoding.decode(bytes);
    if is_broken {
        let before = text.split('\u{fffd}').next().unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        return Err(format!(
            "line {line} is neither UTF-8 nor Shift_JIS: save the file as CSV UTF-8"
        ));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_excel_saves_is_read() {
        let text = "名前,東京\r\n";
        let utf16: Vec<u8> = [0xfeff]
            .into_iter()
            .chain(text.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let with_mark = [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat();
        for bytes in [text.as_bytes(), &with_mark, &utf16, &SHIFT_JIS.encode(text).0] {
            assert_eq!(decode(bytes).unwrap(), text);
        }
        let broken = decode(b"a\nb\xff\xff\xff").unwrap_err();
        assert!(broken.starts_with("line 2 is neither"), "{broken}");
        assert!(decode(&vec![b'a'; BYTES_MAX + 1]).unwrap_err().contains("16 MiB"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
