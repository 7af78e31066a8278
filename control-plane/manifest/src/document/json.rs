//! JSON files: one value, or a stream of them.

use super::{Document, SyntaxError, checked::Checked, to_line};

/// The values of a stream. Nothing behind a mistake can be trusted, so it ends the stream.
pub(super) fn documents(text: &str) -> Vec<Result<Document, SyntaxError>> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Checked>();
    let (mut results, mut counted, mut line) = (Vec::new(), 0, 1);
    loop {
        let rest = &text[stream.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        line += text[counted..start].matches('\n').count();
        counted = start;
        match stream.next() {
            None => return results,
            Some(Ok(checked)) => results.push(Ok(Document::new(to_line(line), checked))),
            Some(Err(error)) => {
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                let message = format!("this is not valid JSON: {message}");
                let line = to_line(error.line().max(1));
                results.push(Err(SyntaxError { line, message, text: rest.trim().into() }));
                return results;
            }
        }
    }
}
