//! The file that holds the keys under which secrets rest. It appears and changes as a whole or not at all.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{KEY_BYTES, KeyId, SealingKey, Secret, SecretError, key_words, parse_keys, random_bytes, random_token};

/// Puts a new key in front, which seals from the moment that a process reads the file again. Answers all keys, the new one
/// first.
///
/// # Errors
/// [`SecretError`]; the file is as it was then.
pub fn rotate(path: &Path) -> Result<Vec<KeyId>, SecretError> {
    let (old, _) = text(path)?;
    let text = Secret::new(format!("{}\n{}", new_key().expose(), old.expose()));
    replace(path, &text)
}

/// Takes away the keys that are neither the first nor in use. Answers those that stay.
///
/// # Errors
/// [`SecretError`]; the file is as it was then.
pub fn retire(path: &Path, in_use: &BTreeSet<KeyId>) -> Result<Vec<KeyId>, SecretError> {
    let (old, origin) = text(path)?;
    let keys = parse_keys(old.expose(), &origin)?;
    let words = key_words(old.expose()).zip(keys.iter()).enumerate();
    let kept = words.filter(|(position, (_, key))| *position == 0 || in_use.contains(&key.id));
    let text = kept.map(|(_, (word, _))| format!("{word}\n")).collect::<String>();
    replace(path, &Secret::new(text))
}

/// The keys in the file.
///
/// # Errors
/// [`SecretError`]: it can't be read, everybody can read it, or it holds something else than keys.
pub(super) fn read(path: &Path) -> Result<Arc<[SealingKey]>, SecretError> {
    let (text, origin) = text(path)?;
    parse_keys(text.expose(), &origin)
}

/// Makes the file with one new key. Does nothing when there is one, also when another process was faster.
///
/// # Errors
/// [`SecretError::Create`]
pub(super) fn create_if_missing(path: &Path) -> Result<(), SecretError> {
    if path.exists() {
        return Ok(());
    }
    make_once(path, line(&new_key()).expose().as_bytes())
        .map_err(|source| SecretError::Create { path: path.into(), source })
}

/// What the file holds, and what it is called in errors.
fn text(path: &Path) -> Result<(Secret, String), SecretError> {
    let failed = |source| SecretError::Read { path: path.into(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Exposed { path: path.into(), mode });
    }
    Ok((Secret::new(fs::read_to_string(path).map_err(failed)?), format!("the key file {}", path.display())))
}

fn new_key() -> Secret {
    Secret::new(STANDARD.encode(random_bytes::<KEY_BYTES>()))
}

/// Puts a changed file into the place of the old one. Its draft has one name only, so that of two processes that change
/// the keys at the same time one fails instead of losing the other's key.
fn replace(path: &Path, text: &Secret) -> Result<Vec<KeyId>, SecretError> {
    let ids = parse_keys(text.expose(), "the changed key file")?.iter().map(|key| key.id).collect();
    let draft = beside(path, ".new");
    match write_draft(&draft, line(text).expose().as_bytes())
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| sync_folder_of(path))
    {
        Ok(()) => Ok(ids),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(SecretError::Busy { path: draft }),
        Err(source) => {
            // What is left of it would stand in the way of the next change. It may never have been made.
            let _ = fs::remove_file(&draft);
            Err(SecretError::Write { path: draft, source })
        }
    }
}

/// Makes a file for its owner only, as a whole: it is written beside its place and linked there, which fails when another process
/// was faster; that one's file is then the one that counts, and stays.
///
/// # Errors
/// What the system says.
pub(crate) fn make_once(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = beside(path, &format!(".{}", random_token()));
    let made = write_draft(&draft, content).and_then(|()| fs::hard_link(&draft, path));
    // It may never have been made.
    let _ = fs::remove_file(&draft);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder_of(path),
    }
}

/// A key file's content: one line end at its end.
fn line(text: &Secret) -> Secret {
    Secret::new(format!("{}\n", text.expose().trim_end()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn write_draft(draft: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(content).and_then(|()| file.sync_all())
}

/// Makes the file's name as durable as its content.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretKeyring;

    #[test]
    fn the_key_file_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let sealed = SecretKeyring::open(&path).unwrap().seal(b"x", "row");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretKeyring::open(&path).unwrap().open_sealed(&sealed, "row").unwrap(), b"x");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the draft is gone");
    }

    #[test]
    fn a_file_that_another_process_made_meanwhile_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        make_once(&path, b"first").unwrap();
        make_once(&path, b"second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the draft is gone");
    }

    #[test]
    fn a_key_file_open_to_everybody_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        SecretKeyring::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SecretKeyring::open(&path), Err(SecretError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_running_keyring_takes_a_new_key_and_lets_the_old_one_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (one, other) = (SecretKeyring::open(&path).unwrap(), SecretKeyring::open(&path).unwrap());
        let before = one.seal(b"before", "row");
        assert!(!one.reload().unwrap(), "nothing has changed yet");

        let keys = rotate(&path).unwrap();
        assert_eq!((keys.len(), keys[1]), (2, KeyId::of(&before).unwrap()));
        assert!(one.reload().unwrap());
        let after = one.seal(b"after", "row");
        assert_eq!(KeyId::of(&after), Some(keys[0]));
        assert!(one.is_outdated(&before) && !one.is_outdated(&after));
        assert_eq!(other.open_sealed(&after, "row").unwrap(), b"after", "a key that is new to it is looked for");
        assert_eq!(one.open_sealed(&before, "row").unwrap(), b"before");

        assert_eq!(retire(&path, &keys.iter().copied().collect()).unwrap(), keys, "both are in use");
        assert_eq!(retire(&path, &BTreeSet::new()).unwrap(), keys[..1], "the first stays in any case");
        assert!(one.reload().unwrap());
        assert!(matches!(one.open_sealed(&before, "row"), Err(SecretError::UnknownKey { .. })));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the drafts are gone");
    }

    #[test]
    fn two_changes_at_once_lose_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keyring = SecretKeyring::open(&path).unwrap();
        let before = fs::read_to_string(&path).unwrap();
        fs::write(beside(&path, ".new"), "half a key").unwrap();
        assert!(matches!(rotate(&path), Err(SecretError::Busy { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), before);

        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(keyring.reload(), Err(SecretError::NotAKey { .. })));
        assert_eq!(keyring.ids().len(), 1, "a file that can't be read takes no key away");
    }
}
