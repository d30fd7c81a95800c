//! The list of servers in `NFS_SERVERS`.

use crate::server::{Server, ServerError};

/// Parses a comma-separated list of servers, without duplicates. A backslash before a comma, a space or a backslash
/// makes it a part of an export.
///
/// # Errors
///
/// What is wrong with the first invalid server, or a space instead of a comma.
pub(super) fn servers_of(text: &str) -> Result<Vec<Server>, String> {
    let mut servers: Vec<Server> = Vec::new();
    for item in items(text)? {
        let server = item.parse().map_err(|error: ServerError| error.to_string())?;
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    Ok(servers)
}

/// A character, and whether it follows a backslash.
type Character = (char, bool);

fn items(text: &str) -> Result<Vec<String>, String> {
    let (mut written, mut rest) = (Vec::<Character>::new(), text.chars());
    while let Some(character) = rest.next() {
        written.push(match character {
            '\\' => (rest.next().ok_or("there is nothing after the last backslash")?, true),
            character => (character, false),
        });
    }
    let is_blank = |&(character, escaped): &Character| character.is_whitespace() && !escaped;
    let mut items = Vec::new();
    for item in written.split(|written| *written == (',', false)) {
        let start = item.iter().position(|written| !is_blank(written)).unwrap_or(item.len());
        let end = item.iter().rposition(|written| !is_blank(written)).map_or(start, |last| last + 1);
        let item = &item[start..end];
        let plain = |written: &[Character]| written.iter().map(|(character, _)| character).collect::<String>();
        if let Some(next) = item.split(is_blank).skip(1).map(plain).find(|word| begins_a_server(word)) {
            return Err(format!(
                "{next:?} follows a space: servers are separated by commas, and a space in an export is written as `\\ `"
            ));
        }
        items.push(plain(item));
    }
    items.retain(|item| !item.is_empty());
    Ok(items)
}

/// Whether a word looks like a server rather than like a part of an export.
fn begins_a_server(word: &str) -> bool {
    let is_address = word.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    is_address || (!word.starts_with('/') && word.contains(['/', ':']) && word.parse::<Server>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        Ok(servers_of(text)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn commas_and_spaces_after_a_backslash_belong_to_an_export() {
        let table = [
            (r"a/home, b/x", vec!["a/home", "b/x"]),
            (r"a/one\,two,b/x", vec!["a/one,two", "b/x"]),
            (r"a/data\ sets/x", vec!["a/data sets/x"]),
            (r"a/data sets", vec!["a/data sets"]),
            (r"a/back\\slash", vec![r"a/back\slash"]),
            (r" ,a/home,, a/home ", vec!["a/home"]),
            ("", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(
                shown(text).as_deref(),
                Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_space_instead_of_a_comma_is_explained() {
        for text in ["a/home b/x", "a/home\nb/x", "a:/home  10.0.0.9", "a/home [fd00::1]/x", "a/data sets b:2050/x"] {
            let error = shown(text).unwrap_err();
            assert!(error.contains("separated by commas"), "{text}: {error}");
        }
        assert!(shown("a/home\\").unwrap_err().contains("backslash"));
    }
}
