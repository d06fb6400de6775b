//! A CA in a folder, for nodes on one machine that nobody made certificates for.
//!
//! ```text
//! folder/ca/{ca.pem, key.pem}            made once, by whoever renames its own first
//! folder/<id>/{certificate.pem, key.pem} the same, per node
//! ```

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{TlsError, TlsFiles};

/// The files of the node `id`, made if they are not there.
pub(super) fn files(folder: &Path, id: &str) -> Result<TlsFiles, TlsError> {
    let (ca, node) = (folder.join("ca"), folder.join(id));
    make(folder, &ca, make_ca)?;
    make(folder, &node, || make_node(&ca, id))?;
    Ok(TlsFiles {
        certificate: node.join("certificate.pem"),
        key: node.join("key.pem"),
        ca: ca.join("ca.pem"),
    })
}

/// File names and contents.
type Contents = [(&'static str, String); 2];

/// Writes the files into a folder of our own and renames that: the first one wins, and is whole. A folder that is there
/// is left as it is.
fn make(
    folder: &Path,
    target: &Path,
    contents: impl FnOnce() -> Result<Contents, TlsError>,
) -> Result<(), TlsError> {
    if target.exists() {
        return Ok(());
    }
    let failed = |path: &Path, source| TlsError::Io { path: path.to_owned(), source };
    let contents = contents()?;
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let own = own_folder(folder).map_err(|error| failed(folder, error))?;
    for (name, text) in contents {
        let path = own.join(name);
        write_private(&path, &text).map_err(|error| failed(&path, error))?;
    }
    let renamed = fs::rename(&own, target);
    if renamed.is_err() {
        // Someone else was faster. What is left of ours is of no use, and no harm.
        let _ = fs::remove_dir_all(&own);
    }
    if target.exists() { Ok(()) } else { renamed.map_err(|error| failed(target, error)) }
}

/// A folder that nobody else has: processes of other machines or containers may have the same number.
fn own_folder(folder: &Path) -> io::Result<PathBuf> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let own = folder.join(format!(".new-{}-{number}", std::process::id()));
        match fs::create_dir(&own) {
            Ok(()) => return Ok(own),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// Always the same: an issuer is known by these and its key.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Rookery development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_ca() -> Result<Contents, TlsError> {
    let key = KeyPair::generate()?;
    let certificate = ca_params().self_signed(&key)?;
    Ok([("ca.pem", certificate.pem()), ("key.pem", key.serialize_pem())])
}

fn make_node(ca: &Path, id: &str) -> Result<Contents, TlsError> {
    let path: PathBuf = ca.join("key.pem");
    let pem = fs::read_to_string(&path).map_err(|source| TlsError::Io { path, source })?;
    let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&pem)?);
    let mut params = CertificateParams::new(vec![id.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, id);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok([("certificate.pem", certificate.pem()), ("key.pem", key.serialize_pem())])
}
