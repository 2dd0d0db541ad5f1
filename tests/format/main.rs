//! The format is what `docs/FORMAT.md` says, byte for byte: this test knows it from there alone.

#![cfg(not(feature = "portable"))]

#[path = "../common/mod.rs"]
mod common;

mod dict;
mod document;
mod map;
mod stream;

const FORMAT: &str = include_str!("../../docs/FORMAT.md");

/// The rows of the table under a heading of the document, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = FORMAT
        .split(heading)
        .nth(1)
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.skip(1).map(cells).collect()
}

fn number(text: &str) -> u64 {
    let text = text.trim_matches('`').replace(['_', ','], "");
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("{text} is no number"))
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn word(&self, offset: u64) -> u64 {
        let offset = offset as usize;
        u64::from_le_bytes(self.0[offset..offset + 8].try_into().unwrap())
    }
}
