//! Where an author's machine keeps what it compiled: the same component is compiled once, not by each command. It matters for Python,
//! whose components take some ten seconds.
//!
//! `compiled` in the user's cache folder, with the key that authenticates it beside it, for its owner only. Where there is no such
//! place, nothing is kept and everything works.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use hookloom_runtime::{CacheConfig, CacheKey};

use crate::{secret::key_file::make_once, toolchain};

/// Bytes that are kept at most: some twenty components of Python, or hundreds of Rust's.
const BYTES_MAX: u64 = 1 << 30;

/// The cache of this user; none for a user without a folder for it.
///
/// # Errors
/// Where the folder can't be made, or its key not be read, with its path.
pub fn config() -> anyhow::Result<Option<CacheConfig>> {
    let Some(folder) = toolchain::cache_folder() else { return Ok(None) };
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let path = folder.join("compiled.key");
    let key = key(&path).with_context(|| format!("could not use the key in {}", path.display()))?;
    Ok(Some(CacheConfig { folder: folder.join("compiled"), key: CacheKey::new(key), bytes_max: BYTES_MAX }))
}

/// The key in the file, which is made where there is none.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    if !path.exists() {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        make_once(path, &key)?;
    }
    let wrong =
        |_| io::Error::new(io::ErrorKind::InvalidData, "it must have 32 bytes: remove it, and another one is made");
    fs::read(path)?.try_into().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compiled.key");
        let made = key(&path).unwrap();
        assert_eq!(key(&path).unwrap(), made);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_that_is_none_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compiled.key");
        fs::write(&path, "short").unwrap();
        assert!(key(&path).unwrap_err().to_string().contains("remove it"));
    }
}
