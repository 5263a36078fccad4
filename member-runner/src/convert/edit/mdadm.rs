//! mdadm's configuration: members of arrays, by names which the instance does not give. A system on an array would wait
//! for its root for ever.

use crate::convert::{
    editor::{EditError, Editor},
    inspect::storage::is_by_hardware,
    plan::Plan,
};

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    for path in ["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"] {
        let why = "mdadm has to find the members of arrays under other names";
        editor.amend(path, why, without_device_names)?;
    }
    Ok(())
}

fn without_device_names(text: &str) -> String {
    statements(text)
        .into_iter()
        .map(|statement| match keyword(statement) {
            // Without a list, mdadm looks at all.
            Keyword::Device if is_by_hardware(statement) && !statement.contains("partitions") => statement
                .split_inclusive('\n')
                .flat_map(|line| ["# ", line])
                .collect(),
            // What is left has a UUID, or is an array that needs no line.
            Keyword::Array => statement.split_inclusive('\n').map(without_members).collect(),
            _ => statement.to_owned(),
        })
        .collect()
}

enum Keyword {
    Device,
    Array,
    Other,
}

/// mdadm takes them in any case, and shortened to three letters.
fn keyword(statement: &str) -> Keyword {
    let first = statement
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_lowercase();
    match &*first {
        "dev" | "devi" | "devic" | "device" => Keyword::Device,
        "arr" | "arra" | "array" => Keyword::Array,
        _ => Keyword::Other,
    }
}

/// Each with the lines that go on with it, which begin with a blank.
fn statements(text: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        if !line.starts_with([' ', '\t']) && end > start {
            statements.push(&text[start..end]);
            start = end;
        }
        end += line.len();
    }
    statements.push(&text[start..end]);
    statements
}

/// A line of an array, unless it has nothing but members.
fn without_members(line: &str) -> String {
    let (content, end) = line
        .strip_suffix('\n')
        .map_or((line, ""), |content| (content, "\n"));
    let names_members = |word: &&str| word.to_lowercase().starts_with("devices=") && is_by_hardware(word);
    let words = || content.split_inclusive([' ', '\t']);
    if !words().any(|word| names_members(&word)) {
        return line.to_owned();
    }
    let kept: String = words().filter(|word| !names_members(word)).collect();
    match kept.trim_end() {
        "" => String::new(),
        kept => format!("{kept}{end}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_by_name_are_forgotten_once() {
        let text = "# DEVICE /dev/sda1\nDEVICE /dev/sd[ab]1\n  /dev/hdc1\nDEVICE partitions /dev/sdz\nHOMEHOST <system>\n\
                    ARRAY /dev/md0 UUID=1:2:3:4 devices=/dev/sda1,/dev/sdb1 name=old:0\n\
                    array /dev/md1 metadata=1.2 UUID=5:6:7:8\n   devices=/dev/sda2,/dev/sdb2\nMAILADDR root";
        let expected = "# DEVICE /dev/sda1\n# DEVICE /dev/sd[ab]1\n#   /dev/hdc1\nDEVICE partitions /dev/sdz\nHOMEHOST <system>\n\
                        ARRAY /dev/md0 UUID=1:2:3:4 name=old:0\n\
                        array /dev/md1 metadata=1.2 UUID=5:6:7:8\nMAILADDR root";
        assert_eq!(without_device_names(text), expected);
        assert_eq!(without_device_names(expected), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_changed_once(words in proptest::collection::vec(0..WORDS.len(), 0..30)) {
            let text: String = words.into_iter().map(|word| WORDS[word]).collect();
            let once = without_device_names(&text);
            prop_assert_eq!(without_device_names(&once), once.clone());
        }
    }

    const WORDS: [&str; 12] = [
        "DEVICE",
        "ARRAY",
        "devices=",
        "/dev/sda1",
        "partitions",
        "UUID=x",
        "#",
        " ",
        " ",
        "\t",
        "\n",
        "\n",
    ];
}
