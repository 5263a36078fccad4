//! Which letters a file's bytes stand for: what Excel saves in Europe and in Japan.

use encoding_rs::{DecoderResult, Encoding, SHIFT_JIS, UTF_8};

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
    let (encoding, mark) = Encoding::for_bom(bytes).unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(_) => (UTF_8, 0),
        Err(_) => (SHIFT_JIS, 0),
    });
    let bytes = &bytes[mark..];
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let longest = decoder.max_utf8_buffer_length_without_replacement(bytes.len());
    let mut text = String::with_capacity(longest.unwrap_or(4 * BYTES_MAX));
    match decoder.decode_to_string_without_replacement(bytes, &mut text, true) {
        (DecoderResult::InputEmpty, _) => Ok(text),
        (DecoderResult::Malformed(..) | DecoderResult::OutputFull, _) => {
            let line = text.matches('\n').count() + 1;
            Err(format!(
                "line {line} is no {}: save the file as CSV UTF-8",
                encoding.name()
            ))
        }
    }
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
        assert!(broken.starts_with("line 2 is no Shift_JIS"), "{broken}");
        let broken = decode(
            "\u{feff}\u{fffd}\n"
                .as_bytes()
                .iter()
                .chain(b"\xe5")
                .copied()
                .collect::<Vec<_>>()
                .as_slice(),
        );
        assert!(broken.unwrap_err().starts_with("line 2 is no UTF-8"));
        assert!(decode(&vec![b'a'; BYTES_MAX + 1]).unwrap_err().contains("16 MiB"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
