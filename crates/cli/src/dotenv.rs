//! The variables of a `.env` file, each problem with its line and what to write instead; a value is never shown.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

/// What is wrong in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// No `NAME=value`.
    NoPair,
    /// A quote that ends nowhere, a word behind the value, an unknown escape.
    Value,
    /// A `$` that stands for nothing: the value would lack what follows.
    Dollar,
}

impl Wrong {
    /// What it is, and what to write instead.
    const fn sentence(self) -> &'static str {
        match self {
            Self::NoPair => "is no `NAME=value`; write one a line, and `#` before a comment",
            Self::Value => {
                "has a value that cannot be read; write it in single quotes, NAME='…': elsewhere blanks end a value, `$` \
                 begins a variable and `\\` an escape, and what is quoted has to end in its quote"
            }
            Self::Dollar => {
                "has a `$` that begins no variable which is set before; write the value in single quotes, NAME='…', where \
                 it is meant as it stands, and `${NAME}` for a variable"
            }
        }
    }
}

/// What is wrong, and in which line, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DotenvError {
    line: usize,
    wrong: Wrong,
}

impl DotenvError {
    pub(crate) fn in_file(self, file: &Path) -> anyhow::Error {
        anyhow::anyhow!("{}:{}: this line {}", file.display(), self.line, self.wrong.sentence())
    }
}

/// Reads `text`; `set` are the variables that its values may refer to besides its own.
pub(crate) fn read(
    text: &str,
    set: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let given = Cell::new(0);
    let mut pairs = BTreeMap::new();
    let mut done = 0;
    for pair in dotenvy::from_read_iter(Lines { rest: text.as_bytes(), given: &given }) {
        // Where the pair begins: what is before it and no pair says nothing.
        let says_nothing = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let begun = done + text.lines().skip(done).take_while(says_nothing).count();
        let own: Vec<&str> = text.lines().skip(begun).take(given.get() - begun).collect();
        let error = |wrong| DotenvError { line: begun + 1, wrong };
        let is_pair = own.first().is_some_and(|line| line.contains('='));
        let (name, value) = pair.map_err(|_| error(if is_pair { Wrong::Value } else { Wrong::NoPair }))?;
        let is_set = |name: &String| set.contains_key(name) || pairs.contains_key(name);
        let own = own.join("\n");
        if !references(own.split_once('=').unwrap_or_default().1).iter().all(is_set) {
            return Err(error(Wrong::Dollar));
        }
        pairs.entry(name).or_insert(value);
        done = given.get();
    }
    Ok(pairs)
}

/// Gives one line at a time, so that it is known which was read last.
struct Lines<'t> {
    rest: &'t [u8],
    given: &'t Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |end| end + 1);
        let length = line.min(into.len());
        let (given, rest) = self.rest.split_at(length);
        into.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        self.rest = rest;
        if given.ends_with(b"\n") || (rest.is_empty() && !given.is_empty()) {
            self.given.set(self.given.get() + 1);
        }
        Ok(length)
    }
}

/// The variables that a value refers to as dotenvy reads it; an empty name for a `$` that begins none.
fn references(value: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut single, mut double) = (false, false);
    let mut chars = value.trim_start().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if !double => single = !single,
            _ if single => {}
            '"' => double = !double,
            '\\' => drop(chars.next()),
            // Behind the value there is a comment at most.
            ' ' | '\t' | '\r' | '\n' if !double => break,
            '$' => {
                let braced = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                // Without braces dotenvy ends a name at an underscore.
                let is_whole = if braced { chars.next_if_eq(&'}').is_some() } else { !name.contains('_') };
                names.push(if is_whole { name } else { String::new() });
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(text: &str) -> Result<BTreeMap<String, String>, (usize, Wrong)> {
        read(text, &[("SET_1".to_owned(), "x".to_owned())].into()).map_err(|e| (e.line, e.wrong))
    }

    #[test]
    fn each_problem_has_the_line_where_its_value_begins() {
        for (text, line, wrong) in [
            ("A=1\nT=\"a$bc\"\n", 2, Wrong::Value),
            ("\u{feff}# x\n\nA=1\n\nT='open\nB=2\n", 5, Wrong::Value),
            ("A='1\n2'\nB=two words\n", 3, Wrong::Value),
            ("A=\"\\d\"", 1, Wrong::Value),
            ("A=1\nno pair\n", 2, Wrong::NoPair),
            ("A=1\n# $x\nB=p$ss\n", 3, Wrong::Dollar),
            ("A=1\r\nB=p$A_B\r\n", 2, Wrong::Dollar),
            ("A=1\nB=\"cost $ 5\"", 2, Wrong::Dollar),
            ("A=1\nB=${B}", 2, Wrong::Dollar),
        ] {
            assert_eq!(read_with(text), Err((line, wrong)), "{text:?}");
        }
    }

    #[test]
    fn what_is_meant_is_read() {
        let text =
            "\u{feff}A='a$bc'\nB=\\$x\nexport C=\"${A}\" # $y\nD=1 # it costs $5\n\nE='1\n2'\nF=\nA=again\n";
        let read = read_with(text).unwrap();
        let values: Vec<&str> = read.values().map(String::as_str).collect();
        assert_eq!(values, ["a$bc", "$x", "a$bc", "1", "1\n2", ""]);
    }

    #[test]
    fn a_problem_names_the_file_the_line_and_what_to_write() {
        let error = read("A=1\nT=\"a$bc\"\n", &BTreeMap::new()).unwrap_err().in_file(Path::new("x/.env"));
        let told = error.to_string();
        assert!(
            told.starts_with(
                "x/.env:2: this line has a value that cannot be read; write it in single quotes"
            ),
            "{told}"
        );
    }
}
