//! Where an author's machine keeps what it compiled: the same component is compiled once, not by each command. It matters for Python,
//! whose components take some ten seconds.
//!
//! `hookloom/compiled` in `$XDG_CACHE_HOME` or `~/.cache`, with the key that authenticates it beside it, for its owner only. Where
//! there is no such place, nothing is kept and everything works.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use hookloom_runtime::{CacheConfig, CacheKey};

/// Bytes that are kept at most: some twenty components of Python, or hundreds of Rust's.
const BYTES_MAX: u64 = 1 << 30;

/// The cache of this user.
pub fn config() -> Option<CacheConfig> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    in_folder(&cache.join("hookloom")).ok()
}

fn in_folder(folder: &Path) -> io::Result<CacheConfig> {
    fs::create_dir_all(folder)?;
    let key = key(&folder.join("compiled.key"))?;
    Ok(CacheConfig { folder: folder.join("compiled"), key: CacheKey::new(key), bytes_max: BYTES_MAX })
}

/// The key in the file, which is made where there is none.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    let read = || fs::read(path)?.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // Under a name of its own first: who comes at the same time reads a whole key or none, and all end with the same one.
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    write_private(&draft, &key)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
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
        assert_eq!(key(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
