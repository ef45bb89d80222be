//! The operator's own profiles: files in a folder.

use std::path::{Path, PathBuf};

/// Largest file of a profile, in bytes.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// The files `*.toml` in a folder, each with its name.
pub(super) fn profile_files(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let read = |path: PathBuf| profile_file(&path).map(|text| (path.display().to_string(), text));
    paths.into_iter().map(read).collect()
}

/// The text of a profile's file.
///
/// # Errors
/// As the system, or when it is too large to be one.
pub fn profile_file(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > PROFILE_BYTES_MAX {
        let what = format!("{} is larger than {PROFILE_BYTES_MAX} bytes", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what));
    }
    std::fs::read_to_string(path)
}
