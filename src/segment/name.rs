//! Where a segment stands: a name in a directory.

use std::path::{Path, PathBuf};

use crate::error::InvalidName;

/// Longest name in bytes. A file name may have 255; the rest is for what structures of several
/// segments append.
pub(crate) const NAME_MAX: usize = 200;

/// A checked name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    dir: PathBuf,
    name: String,
}

impl Place {
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Self, InvalidName> {
        check(name)?;
        // Made absolute, so that a later chdir does not lead to another file. It fails only where
        // there is no current directory; then the system calls that follow say what is wrong.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        Ok(Self {
            dir,
            name: name.to_owned(),
        })
    }

    /// The place beside this one that has `suffix` behind a point: of a segment that belongs to this.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        Self {
            dir: self.dir.clone(),
            name: format!("{}.{suffix}", self.name),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

/// Whether `name` can be the name of a segment.
pub(crate) fn check(name: &str) -> Result<(), InvalidName> {
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it is too long"
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        "it has a character outside the alphabet"
    } else if name.starts_with(['.', '-']) {
        "it starts with . or -"
    } else {
        return Ok(());
    };
    Err(InvalidName {
        name: name.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_alphabet_pass() {
        let longest = "a".repeat(NAME_MAX);
        for name in ["a", "0", "_", "A.b-c_9", "a..b", &longest] {
            assert!(check(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn all_other_names_are_refused() {
        let too_long = "a".repeat(NAME_MAX + 1);
        for name in [
            "", "/", "/a", "a/b", ".", "..", ".hidden", "-rf", "a b", "a\0b", "a\n", "ä", "a\\b",
            "a:b", "*", &too_long,
        ] {
            let error = check(name).unwrap_err();
            assert_eq!(error.name, name);
        }
    }
}
