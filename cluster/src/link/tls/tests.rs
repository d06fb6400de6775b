use std::fs;

use super::*;

#[test]
fn a_development_certificate_speaks_for_its_node_alone() {
    let folder = tempfile::tempdir().unwrap();
    Tls::development(folder.path(), "a").unwrap();
    let identity = |path: &Path| Identity::of(Some(&certificates(path).unwrap()));
    let a = identity(&folder.path().join("a/certificate.pem"));
    assert!(a.speaks_for("a") && !a.speaks_for("b"));
    assert!(!Identity::of(None).speaks_for("a"));
    let any = rcgen::generate_simple_self_signed(vec![ANY_NODE.to_owned()]).unwrap();
    let any = Identity::of(Some(&[any.cert.der().clone()]));
    assert!(any.speaks_for("a") && any.speaks_for("b"));
}

#[test]
fn nodes_that_start_together_agree_on_one_ca() {
    let folder = tempfile::tempdir().unwrap();
    let nodes: Vec<_> = (0..8)
        .map(|n| {
            let path = folder.path().to_owned();
            std::thread::spawn(move || Tls::development(&path, &format!("n{n}")).unwrap())
        })
        .collect();
    nodes.into_iter().for_each(|node| drop(node.join().unwrap()));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 9, "the CA and eight nodes: {left:?}");
    // Each is signed by the CA that is there now: the verifier checks that in the tests of links.
}

#[test]
fn replaced_files_are_used_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::development(folder.path(), "a").unwrap();
    let first = tls.current();
    assert!(Arc::ptr_eq(&first.server, &tls.current().server));
    let files = tls.0.files.clone();
    let longer = fs::read_to_string(&files.ca).unwrap() + "\n";
    fs::write(&files.ca, longer).unwrap();
    let second = tls.current();
    assert!(!Arc::ptr_eq(&first.server, &second.server));
    fs::write(&files.key, "no key").unwrap();
    assert!(Arc::ptr_eq(&second.server, &tls.current().server));
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = Tls::development(folder.path(), "a").unwrap().0.files.clone();
    fs::remove_file(&files.ca).unwrap();
    let error = Tls::from_files(files).err().unwrap();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}
