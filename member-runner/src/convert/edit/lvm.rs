//! LVM's configuration: filters that take disks by names which the instance does not give. A system on LVM would wait for
//! its root for ever.

use crate::convert::{
    editor::{EditError, Editor},
    inspect::storage::filters_by_name,
    plan::Plan,
};

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    editor.amend(
        "/etc/lvm/lvm.conf",
        "LVM has to find its disks under other names",
        without_filters,
    )
}

fn without_filters(text: &str) -> String {
    let filters = filters_by_name(text);
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .flat_map(|(number, line)| {
            let is_filter = filters.iter().any(|filter| filter.contains(&number));
            [if is_filter { "# " } else { "" }, line]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_name_become_comments_once() {
        let text = "devices {\n\tfilter = [\n\t\"a|/dev/sda3|\", \"r|.*|\"\n\t]\n\tscan_lvs = 0\n}";
        let expected = "devices {\n# \tfilter = [\n# \t\"a|/dev/sda3|\", \"r|.*|\"\n# \t]\n\tscan_lvs = 0\n}";
        assert_eq!(without_filters(text), expected);
        assert_eq!(without_filters(expected), expected);
    }
}
