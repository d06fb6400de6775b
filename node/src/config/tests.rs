use std::collections::HashMap;

use super::*;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rookery.toml");
    std::fs::write(&file, text).unwrap();
    let variables: HashMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut source =
        Environment::with_prefix("ROOKERY").prefix_separator("__").separator("__").try_parsing(true);
    source = source.list_separator(",").source(Some(variables));
    for list in LISTS {
        source = source.with_list_parse_key(list);
    }
    Config::merge(Some(&file), source)
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    format!("{:#}", load(text, environment).expect_err("the configuration is refused"))
}

fn names_all(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn the_default_file_has_every_field_and_no_other() {
    // No field has a default of its own and no struct takes unknown fields: only an exact match can be read.
    let config: Config = toml::from_str(DEFAULTS).unwrap();
    config.check().unwrap();
}

#[test]
fn every_key_of_the_default_file_is_explained_above_it() {
    let mut explained = false;
    for line in DEFAULTS.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            // `key` and the second half of a pair share the comment of the line before.
            assert!(explained, "nothing explains {line:?}");
        } else {
            explained = line.starts_with('#');
        }
    }
}

#[test]
fn every_list_can_be_given_in_the_environment() {
    let defaults: toml::Table = DEFAULTS.parse().unwrap();
    let mut lists: Vec<String> = Vec::new();
    for (section, keys) in &defaults {
        let keys = keys.as_table().unwrap().iter().filter(|(_, value)| value.is_array());
        lists.extend(keys.map(|(key, _)| format!("{section}.{key}")));
    }
    assert_eq!(lists.len(), LISTS.len());
    assert!(lists.iter().all(|list| LISTS.contains(&list.as_str())), "{lists:?}");
}

#[test]
fn the_documentation_shows_the_default_file() {
    let page = include_str!("../../../docs/configuration.md");
    assert!(
        page.contains(&format!("```toml\n{DEFAULTS}```\n")),
        "docs/configuration.md shows another default file"
    );
}

#[test]
fn a_file_goes_over_the_defaults_and_the_environment_over_both() {
    let text = "[listen]\naddress = \"127.0.0.1:1\"\n[rooms]\nidle_s = 7\n";
    let config = load(text, &[("ROOKERY__LISTEN__ADDRESS", "127.0.0.1:2")]).unwrap();
    assert_eq!(config.listen.address(), "127.0.0.1:2".parse().unwrap());
    assert_eq!((config.rooms.idle_s, config.rooms.waiting), (7, 4096));
}

#[test]
fn lists_come_from_the_environment_too() {
    let config = load("", &[("ROOKERY__LISTEN__TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1")]).unwrap();
    assert_eq!(config.listen.trusted_proxies().unwrap().len(), 2);
}

#[test]
fn an_unknown_key_is_named_with_its_value_and_what_is_allowed() {
    let parts = &["listen.adress", "127.0.0.1:1", "address", "behind_proxy"];
    names_all(&refusal("[listen]\nadress = \"127.0.0.1:1\"\n", &[]), parts);
    names_all(&refusal("", &[("ROOKERY__LISTEN__ADRESS", "127.0.0.1:1")]), parts);
    names_all(&refusal("[lisen]\naddress = \"x\"\n", &[]), &["lisen", "listen", "rooms"]);
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_what_is_allowed() {
    names_all(&refusal("[rooms]\nidle_s = \"long\"\n", &[]), &["rooms.idle_s", "long", "integer"]);
    names_all(&refusal("[listen]\naddress = \"here\"\n", &[]), &["listen.address", "here", "127.0.0.1:8080"]);
    names_all(&refusal("[store]\nkind = \"floppy\"\n", &[]), &["floppy", "sqlite"]);
    names_all(&refusal("[limits]\noutbox_kib = 1\n", &[]), &["limits.outbox_kib", "1", "128"]);
    let proxies = "[listen]\ntrusted_proxies = [\"ten\"]\n";
    names_all(&refusal(proxies, &[]), &["listen.trusted_proxies", "ten", "10.0.0.0/8"]);
    let url = "[listen]\npublic_url = \"https://chat.example/path\"\n";
    names_all(&refusal(url, &[]), &["listen.public_url", "https://chat.example/path", "without a path"]);
}

#[test]
fn an_address_that_others_reach_needs_encryption() {
    let open = "[listen]\naddress = \"0.0.0.0:80\"\n";
    names_all(
        &refusal(open, &[]),
        &["listen.address", "0.0.0.0:80", "listen.certificate", "listen.behind_proxy"],
    );
    names_all(&refusal(&format!("{open}behind_proxy = true\n"), &[]), &["listen.trusted_proxies"]);
    load(&format!("{open}behind_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]\n"), &[]).unwrap();
    load(&format!("{open}certificate = \"c.pem\"\nkey = \"k.pem\"\n"), &[]).unwrap();
    names_all(
        &refusal(&format!("{open}certificate = \"c.pem\"\n"), &[]),
        &["listen.certificate", "listen.key"],
    );
}

#[test]
fn a_cluster_needs_a_database_a_secret_and_certificates() {
    let on = "[cluster]\nenabled = true\n";
    names_all(&refusal(on, &[]), &["cluster.enabled", "sqlite", "scylla"]);
    let scylla = "[store]\nkind = \"scylla\"\n";
    names_all(&refusal(&format!("{scylla}{on}"), &[]), &["cluster.secret_file", "32"]);
    let secret = format!("{scylla}{on}secret_file = \"s\"\n");
    names_all(&refusal(&secret, &[]), &["cluster.certificate", "cluster.development_tls"]);
    load(&format!("{secret}development_tls = \"d\"\n"), &[]).unwrap();
    load(&format!("{secret}certificate = \"c\"\nkey = \"k\"\nca = \"a\"\n"), &[]).unwrap();
    let everywhere = format!("{secret}development_tls = \"d\"\ngossip = \"0.0.0.0:7100\"\n");
    names_all(&refusal(&everywhere, &[]), &["cluster.advertise"]);
    names_all(&refusal(&format!("{secret}roles = [\"cook\"]\n"), &[]), &["cook", "gateway"]);
}

#[test]
fn signing_keys_are_sealed_in_the_store_or_come_from_files() {
    let load = |text: &str| load(&format!("[auth]\n{text}\n"), &[]);
    let refusal = |text: &str| refusal(&format!("[auth]\n{text}\n"), &[]);
    load("seal_secret_file = \"new\"\nseal_secret_file_previous = \"old\"").unwrap();
    names_all(
        &refusal("seal_secret_file_previous = \"old\""),
        &["auth.seal_secret_file_previous", "needs auth.seal_secret_file"],
    );
    assert_eq!(load("signing_key_files = [\"1\", \"2\"]").unwrap().auth.signing_key_files.len(), 2);
    names_all(
        &refusal("signing_key_files = [\"1\"]\nseal_secret_file = \"new\""),
        &["auth.signing_key_files", "auth.seal_secret_file", "one of them"],
    );
    names_all(&refusal("signing_key_files = [\"\"]"), &["auth.signing_key_files", "paths"]);
}

#[test]
fn an_admin_address_that_others_reach_needs_a_token() {
    let open = "[admin]\nlisten = \"0.0.0.0:9090\"\n";
    names_all(&refusal(open, &[]), &["admin.listen", "0.0.0.0:9090", "admin.token_file"]);
    load(&format!("{open}token_file = \"secret\"\n"), &[]).unwrap();
}

#[test]
fn the_admin_socket_lies_in_the_data_folder_unless_told() {
    let socket = |text: &str| load(text, &[]).unwrap().admin_socket();
    assert_eq!(socket("[store]\nfolder = \"/d\"\n"), Some("/d/admin.sock".into()));
    assert_eq!(socket("[admin]\nsocket = \"/run/rookery\"\n"), Some("/run/rookery".into()));
    assert_eq!(socket("[admin]\nsocket = \"off\"\n"), None);
}
