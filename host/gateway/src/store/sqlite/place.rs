//! Where a store may lie. SQLite's log needs memory that all processes share and locks that hold: over a network neither is
//! sure, and what was answered as kept may be lost.

use std::path::Path;

use super::error::unavailable;
use crate::store::{Result, StoreError};

/// File systems that reach over a network, or may: their numbers in `statfs(2)`.
const OVER_NETWORKS: [(u64, &str); 14] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x786f_4256, "a folder of the virtual machine's host"),
];

/// Refuses a file on a network file system.
///
/// # Errors
/// [`StoreError::Unavailable`] that names it.
pub fn check(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kind = rustix::fs::statfs(folder).map_err(unavailable)?.f_type;
    // The number's type differs from processor to processor; all of them fit 32 bits.
    match over_network(kind as u64 & 0xffff_ffff) {
        None => Ok(()),
        Some(name) => Err(StoreError::Unavailable {
            detail: format!(
                "{} lies on {name}: put the store on a local disk, or set store.dangerous_network_file_system",
                path.display()
            ),
        }),
    }
}

fn over_network(kind: u64) -> Option<&'static str> {
    OVER_NETWORKS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        // NFS_SUPER_MAGIC, CIFS_SUPER_MAGIC; EXT4_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC, XFS_SUPER_MAGIC
        assert_eq!([0x6969, 0xff53_4d42].map(over_network), [Some("NFS"), Some("CIFS")]);
        assert_eq!([0xef53, 0x0102_1994, 0x794c_7630, 0x5846_5342].map(over_network), [None; 4]);
        check(&tempfile::tempdir().unwrap().path().join("store.db")).unwrap();
        assert!(check(Path::new("/no/such/folder/store.db")).is_err());
    }
}
