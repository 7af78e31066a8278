//! The items of a List in block style as texts of their own, so that each of them is read whatever the others are.

/// A List that is cut into its items.
pub(super) struct Cut {
    /// The text around the items, of which each line stands where it stood.
    pub(super) head: String,
    /// The items with the number of lines before them.
    pub(super) items: Vec<(usize, String)>,
}

/// Cuts a document that is an object with `items:` in block style; anything else is `None`.
///
/// Content of an item is indented more than its dash, so a line with a dash at that depth begins an item, whatever is
/// wrong with the one before.
pub(super) fn cut(text: &str) -> Option<Cut> {
    let lines: Vec<&str> = text.lines().collect();
    let start = 1 + lines
        .iter()
        .position(|line| line.strip_prefix("items:").is_some_and(|rest| is_silent(rest.trim())))?;
    let first = start + lines[start..].iter().position(|line| !is_silent(line.trim()))?;
    let depth = indent(lines[first]);
    let begins = |line: &str| {
        let dash = line.get(depth..).and_then(|rest| rest.strip_prefix('-'));
        indent(line) == depth && dash.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    begins(lines[first]).then_some(())?;
    let belongs = |line: &&str| is_silent(line.trim()) || indent(line) > depth || begins(line);
    let end = first + lines[first..].iter().take_while(|line| belongs(line)).count();
    let mut items: Vec<(usize, String)> = Vec::new();
    for (number, line) in lines[..end].iter().enumerate().skip(first) {
        if begins(line) {
            items.push((number, line.replacen('-', " ", 1)));
        } else if let Some((_, item)) = items.last_mut() {
            item.push('\n');
            item.push_str(line);
        }
    }
    let outside = |number: &usize| *number < start - 1 || *number >= end;
    let head = lines.iter().enumerate().map(|(number, line)| if outside(&number) { line } else { "" });
    Some(Cut { head: head.collect::<Vec<_>>().join("\n"), items })
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_silent(trimmed: &str) -> bool {
    trimmed.is_empty() || trimmed.starts_with('#')
}
