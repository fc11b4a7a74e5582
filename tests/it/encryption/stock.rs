//! Stock `age` reads the tool's encrypted objects, and the tool reads those of stock `age`.

use tempfile::TempDir;
use uzima_backup::artifact::seal::seal;
use uzima_backup::artifact::unseal::{Opener, unseal};
use uzima_backup::base::keys::Recipients;

use super::support::{Key, stock};

/// Lengths at and beside the borders of chunks.
const LENGTHS: [usize; 9] = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 1_000_000];

/// An ed25519 key of SSH from the tests of age, and its public key.
const SSH_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQAAAJCfEwtqnxML
agAAAAtzc2gtZWQyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQ
AAAEADBJvjZT8X6JRJI8xVq/1aU8nMVgOtVnmdwqWwrSlXG3sKLqeplhpW+uObz5dvMgjz
1OxfM/XXUB+VHtZ6isGNAAAADHN0cjRkQGNhcmJvbgE=
-----END OPENSSH PRIVATE KEY-----
";
const SSH_RECIPIENT: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";

fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// Two keys of age and one of SSH, as identity files and recipients.
fn keys(folder: &TempDir) -> Vec<Key> {
    let file = folder.path().join("id_ed25519");
    std::fs::write(&file, SSH_KEY).expect("a key");
    let mut keys = vec![Key::new(folder.path(), "a.key"), Key::new(folder.path(), "b.key")];
    keys.push(Key { file, recipient: SSH_RECIPIENT.into() });
    keys
}

#[test]
fn stock_age_decrypts_with_each_of_the_keys() {
    let folder = TempDir::new().expect("a folder");
    let keys = keys(&folder);
    let texts: Vec<String> = keys.iter().map(|key| key.recipient.clone()).collect();
    let recipients = Recipients::parse(&texts).expect("recipients").expect("three");
    for len in LENGTHS {
        let sealed = seal(&recipients, &content(len)).expect("encrypted");
        for key in &keys {
            let plain = stock("age", &["-d", "-i", key.file.to_str().unwrap()], &sealed);
            assert!(plain == content(len), "{len} bytes with {key:?}");
        }
    }
}

#[test]
fn files_of_stock_age_are_read_whole_and_by_ranges() {
    let folder = TempDir::new().expect("a folder");
    let keys = keys(&folder);
    let to: Vec<&str> = keys.iter().flat_map(|key| ["-r", key.recipient.as_str()]).collect();
    for len in LENGTHS {
        let sealed = stock("age", &to, &content(len));
        for key in &keys {
            let identities = key.identities();
            assert!(unseal(&sealed, &identities).expect("decrypted") == content(len), "{len} bytes");
            let opener = Opener::new(&sealed, sealed.len() as u64, &identities).expect("opened");
            assert_eq!(opener.plain_size(), len as u64);
            let range = len as u64 / 3..len as u64;
            let stored = opener.stored(&range);
            let bytes = sealed[stored.start as usize..stored.end as usize].to_vec();
            assert!(opener.open(&range, bytes).expect("a range") == content(len)[len / 3..]);
        }
    }
}
