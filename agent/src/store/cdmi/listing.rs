// SPDX-License-Identifier: GPL-2.0-only
//! The JSON of listings and metadata, as servers in the field write it.
//!
//! Before: [`super::answer`] has collected a body of bounded size. After: names and sizes, or why
//! they make no sense.

use serde::Deserialize;
use srb_proto::command::{check_volume_name, MAX_SIZE_BYTES};

#[derive(Deserialize)]
struct Container {
    children: Vec<String>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    cdmi_size: Size,
}

/// A number, or a string as in standard CDMI.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

/// The names in a listing, in its order. Those that no volume can have, as of containers, are left
/// out.
pub(crate) fn names(mut json: Vec<u8>) -> Result<Vec<String>, String> {
    let container: Container = parse(&mut json)?;
    let mut names = container.children;
    names.retain(|name| check_volume_name(name).is_ok());
    Ok(names)
}

/// The size in a volume's metadata, in bytes.
pub(crate) fn size(mut json: Vec<u8>) -> Result<u64, String> {
    let object: Object = parse(&mut json)?;
    let size = match object.metadata.cdmi_size {
        Size::Number(size) => Some(size),
        // Digits alone: `parse` would take a sign.
        Size::Text(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Size::Text(_) => None,
    };
    size.filter(|size| *size <= MAX_SIZE_BYTES).ok_or_else(|| "cdmi_size is no size".to_owned())
}

fn parse<'a, T: Deserialize<'a>>(json: &'a mut [u8]) -> Result<T, String> {
    blank_trailing_commas(json);
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Turns each comma that only white space parts from a closing bracket into a space.
fn blank_trailing_commas(json: &mut [u8]) {
    let (mut in_string, mut escaped) = (false, false);
    let mut comma = None;
    for at in 0..json.len() {
        let Some(byte) = json.get(at).copied() else { return };
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' => comma = Some(at),
            b']' | b'}' => {
                if let Some(byte) = comma.take().and_then(|at: usize| json.get_mut(at)) {
                    *byte = b' ';
                }
            }
            _ => {
                in_string = byte == b'"';
                comma = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names_of(json: &str) -> Result<Vec<String>, String> {
        names(json.as_bytes().to_vec())
    }

    fn size_of(json: &str) -> Result<u64, String> {
        size(json.as_bytes().to_vec())
    }

    #[test]
    fn listings_with_and_without_the_comma() {
        for json in [
            r#"{"children":["b","a"]}"#,
            r#"{"children":["b","a",]}"#,
            "{ \"objectName\": \"\", \"children\": [ \"b\" , \"a\" ,\r\n ], \"x\": {\"y\": 1,}, }",
            r#"{"children":["b","a","sub/","",".."]}"#,
        ] {
            assert_eq!(
                names_of(json).as_deref(),
                Ok(&["b".to_owned(), "a".to_owned()][..]),
                "{json}"
            );
        }
        assert_eq!(names_of(r#"{"children":[]}"#), Ok(vec![]));
        assert_eq!(names_of(r#"{"children":[,]}"#), Ok(vec![]));
    }

    #[test]
    fn commas_inside_names_stay() {
        let names = names_of(r#"{"children":["a,]","b\",]","c\\",]}"#);
        assert_eq!(names, Ok(vec!["a,]".to_owned(), "b\",]".to_owned(), "c\\".to_owned()]));
    }

    #[test]
    fn listings_that_are_none() {
        for json in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"children":"a"}"#,
            r#"{"children":[1]}"#,
            r#"{"children":["a",,"b"]}"#,
            r#"{"children":["a",,]}"#,
            r#"{"children":["a""#,
            "<html></html>",
            "\u{1}",
        ] {
            assert!(names_of(json).is_err(), "{json}");
        }
        assert!(names(vec![0xff, 0xfe]).is_err());
    }

    #[test]
    fn sizes_as_numbers_and_strings() {
        assert_eq!(size_of(r#"{"metadata":{"cdmi_size":1024}}"#), Ok(1024));
        assert_eq!(size_of(r#"{"metadata":{"cdmi_size":"1024",},}"#), Ok(1024));
        assert_eq!(size_of(r#"{"metadata":{"cdmi_size":0,"a":[]},"b":1}"#), Ok(0));
        for size in [
            "-1",
            "1.5",
            "\"\"",
            "\"-1\"",
            "\"+1\"",
            "\"1k\"",
            "null",
            "[]",
            "1e3",
            "9223372036854775808",
            "\"18446744073709551616\"",
            "18446744073709551616",
        ] {
            let json = format!(r#"{{"metadata":{{"cdmi_size":{size}}}}}"#);
            assert!(size_of(&json).is_err(), "{size}");
        }
        assert!(size_of(r#"{"cdmi_size":1}"#).is_err());
    }

    proptest! {
        /// Whatever names there are, a comma after the last one changes nothing.
        #[test]
        fn any_names_survive(children: Vec<String>) {
            let json = serde_json::json!({ "children": children }).to_string();
            let with_comma = json.replacen("]}", if children.is_empty() { "]}" } else { ",]}" }, 1);
            let plain = names_of(&json);
            prop_assert!(plain.is_ok());
            // `replacen` may have hit a name.
            if !children.iter().any(|name| name.contains("]}")) {
                prop_assert_eq!(names_of(&with_comma), plain);
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = names(bytes.clone());
            let _ = size(bytes);
        }
    }
}
