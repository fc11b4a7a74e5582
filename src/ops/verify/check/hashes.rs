//! The checksums of a stored artifact.

use crc_fast::CrcAlgorithm::Crc64Nvme;

use super::VerifyFinding;
use crate::model::manifest::Manifest;

/// Hashes the bytes of an artifact, in order.
pub(super) struct StoredHashes {
    crc64nvme: crc_fast::Digest,
    /// `None` if the manifest has none, because it is not signed.
    blake3: Option<blake3::Hasher>,
}

impl StoredHashes {
    pub fn of(manifest: &Manifest) -> StoredHashes {
        let blake3 = manifest.artifact.blake3.as_ref().map(|_| blake3::Hasher::new());
        StoredHashes { crc64nvme: crc_fast::Digest::new(Crc64Nvme), blake3 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.crc64nvme.update(bytes);
        if let Some(hasher) = &mut self.blake3 {
            hasher.update(bytes);
        }
    }

    /// The differences from the manifest.
    pub fn compare(&self, manifest: &Manifest) -> Vec<VerifyFinding> {
        let artifact = &manifest.artifact;
        let mut findings = Vec::new();
        let crc64nvme = self.crc64nvme.finalize();
        if format!("{crc64nvme:016x}") != artifact.crc64nvme {
            findings.push(format!(
                "the checksum of {} is {crc64nvme:016x}, but the manifest says {}",
                artifact.key, artifact.crc64nvme
            ));
        }
        let blake3 = self.blake3.as_ref().map(|hasher| hasher.finalize().to_hex().to_string());
        if blake3 != artifact.blake3 {
            findings.push(format!("{} does not have the BLAKE3 in the manifest", artifact.key));
        }
        findings.into_iter().map(VerifyFinding::of_backup).collect()
    }
}
