//! Tests of `[[feed]]`: keys of servers and of kinds, and the reports of mistakes.

use std::path::Path;
use std::time::Duration;

use super::Config;
use crate::base::environment::Environment;
use crate::http::{Access, HeaderText, Login, Proxy, Secret};
use crate::intel::{FeedConfig, FeedKind, FeedQuery, ListField, ListShape};

fn parse(more: &str) -> Result<FeedConfig, Vec<String>> {
    let environment = Environment {
        home: Some("/home/user".into()),
        credentials_directory: Some("/run/credentials/netsensor.service".into()),
        ..Environment::default()
    };
    let text = format!("[[feed]]\nname = 'a'\n{more}");
    match Config::parse(&text, Path::new("/etc/n.toml"), &environment) {
        Ok(mut config) => Ok(config.feeds.remove(0)),
        Err(error) => Err(error
            .to_string()
            .lines()
            .map(|line| line.replacen("/etc/n.toml:", "", 1))
            .collect()),
    }
}

fn access(more: &str) -> Access {
    parse(&format!("kind = 'stix'\nurl = 'https://h/'\n{more}")).unwrap().access
}

#[test]
fn secrets_are_referred_to_and_never_stored() {
    let file = |path: &str| Secret::File(path.into());
    let basic = access("user = 'u'\npassword = { file = '/p' }");
    assert_eq!(basic.login, Login::Basic { user: "u".into(), password: file("/p") });
    let credential = Secret::Credential {
        name: "t".to_owned(),
        folder: Some("/run/credentials/netsensor.service".into()),
    };
    let token = |header: &str, scheme: &str| Login::Token {
        header: header.to_owned(),
        scheme: scheme.to_owned(),
        token: credential.clone(),
    };
    assert_eq!(access("token = { credential = 't' }").login, token("Authorization", "Bearer"));
    let more = "token = { credential = 't' }\ntoken_scheme = 'Token'";
    assert_eq!(access(more).login, token("Authorization", "Token"));
    let more = "token = { credential = 't' }\ntoken_header = 'X-Key'";
    assert_eq!(access(more).login, token("X-Key", ""));
    for (kind, login) in
        [("misp", token("Authorization", "")), ("crowdsec", token("X-Api-Key", ""))]
    {
        let text = format!("kind = '{kind}'\nurl = 'https://h/'\ntoken = {{ credential = 't' }}");
        assert_eq!(parse(&text).unwrap().access.login, login, "{kind}");
    }
    let more = "headers = { X-A = 'text', Auth-Key = { file = '/k' } }";
    let headers = access(more).headers;
    assert!(headers.contains(&("X-A".to_owned(), HeaderText::Plain("text".to_owned()))));
    assert!(headers.contains(&("Auth-Key".to_owned(), HeaderText::Secret(file("/k")))));
}

#[test]
fn certificates_and_proxies_are_read() {
    assert_eq!(access("").proxy, Proxy::Environment);
    assert_eq!(access("proxy = 'none'").proxy, Proxy::None);
    let more = "proxy = 'socks5h://p:1080'\nproxy_user = 'u'\nproxy_password = { file = '/s' }";
    let url = "socks5h://p:1080".parse().unwrap();
    let login = Some(("u".to_owned(), Secret::File("/s".into())));
    assert_eq!(access(more).proxy, Proxy::Url { url, login });
    let found = access("client_cert = '/c'\nclient_key = '/k'\nca_file = '/ca'");
    let certificate = found.certificate.unwrap();
    assert_eq!(
        (certificate.chain.as_path(), certificate.key.as_path()),
        (Path::new("/c"), Path::new("/k"))
    );
    assert_eq!(found.ca_file.as_deref(), Some(Path::new("/ca")));
}

#[test]
fn a_kind_has_its_own_keys() {
    let taxii = parse("kind = 'taxii2'\nurl = 'https://h/t/'\ncollections = ['a']\npage_size = 7\nfull_refresh_interval = '2h'").unwrap();
    let FeedQuery::Taxii(query) = &taxii.query else { panic!("{:?}", taxii.query) };
    assert_eq!((query.collections.as_slice(), query.page_size), (&["a".to_owned()][..], 7));
    assert_eq!(taxii.full_refresh_interval, Duration::from_hours(2));
    let misp = parse("kind = 'misp'\nurl = 'https://h/'\nfilter = { tags = ['x', 'y'], published = true, threat_level_id = 1 }").unwrap();
    let FeedQuery::Misp(query) = &misp.query else { panic!("{:?}", misp.query) };
    assert_eq!(
        serde_json::to_string(&query.filter).unwrap(),
        r#"{"published":true,"tags":["x","y"],"threat_level_id":1}"#
    );
    assert_eq!(query.types.len(), 5);
    for (more, kind) in [
        ("kind = 'misp'\nurl = 'https://h/f/manifest.json'", FeedKind::MispFeed),
        ("kind = 'misp'\nmode = 'feed'\nurl = 'https://h/f/'", FeedKind::MispFeed),
        ("kind = 'misp'\nmode = 'search'\nurl = 'https://h/manifest.json'", FeedKind::Misp),
        ("kind = 'sentinel'\nurl = 'https://h/'", FeedKind::Sentinel),
        ("kind = 'stix'\nurl = 'file:x.json'", FeedKind::Stix),
    ] {
        assert_eq!(parse(more).unwrap().kind, kind, "{more}");
    }
    let list = parse(
        "kind = 'list'\nurl = 'file:x'\npreset = 'sslbl'\n[feed.columns]\naddress = ['ip', 'dst']\nport = 2",
    )
    .unwrap()
    .list;
    assert_eq!(list.shape, ListShape::Csv);
    assert_eq!(list.columns.get(ListField::Address), ["ip", "dst"]);
    assert_eq!(list.columns.get(ListField::Port), ["2"]);
    let workspace = parse("kind = 'sentinel'\nsubscription = 's'\nresource_group = 'g(1)'\nworkspace = 'w'\ntenant = 't.example'\nclient_id = 'c'\nclient_secret = { file = '/s' }").unwrap();
    assert_eq!(workspace.source.shown(), "https://management.azure.com/");
    let FeedQuery::Sentinel(query) = workspace.query else { panic!("{:?}", workspace.query) };
    assert_eq!(query.login_url.as_str(), "https://login.microsoftonline.com/");
    assert_eq!(query.tenant, "t.example");
}

#[test]
fn mistakes_are_reported_without_secrets() {
    const FORM: &str = "use { file = \"/path\" } or { credential = \"NAME\" }";
    let at = |more: &str| format!("kind = 'stix'\nurl = 'https://h/'\n{more}");
    for (text, messages) in [
        (at("user = 'u'"), vec![format!("5: feed.user: has no password; set password = {}", FORM.trim_start_matches("use "))]),
        (at("password = { file = '/p' }"), vec!["5: feed.password: has no user; set user".into()]),
        (at("user = 'u'\npassword = 'hunter2'"), vec![format!("6: feed.password: a secret must not be in this file; {FORM}")]),
        (at("token = { value = 'hunter2' }"), vec![format!("5: feed.token: \"value\" is not known here; {FORM}")]),
        (at("token = { file = '/a', credential = 'b' }"), vec![format!("5: feed.token: does not name exactly one location; {FORM}")]),
        (at("token = { file = 'a' }"), vec!["5: feed.token: \"a\" is not absolute; use an absolute path in quotes".into()]),
        (at("token = { credential = '../a' }"), vec!["5: feed.token: \"../a\" is not a name; use 1 to 64 letters, digits, -, _ or . in quotes".into()]),
        (at("user = 'u'\npassword = { file = '/p' }\ntoken = { file = '/t' }"), vec!["7: feed.token: is one login, user and password are another; leave one out".into()]),
        (at("token_scheme = 'Token'"), vec!["5: feed.token_scheme: is of no use without token; set token too, or leave it out".into()]),
        (at("headers = { Authorization = 'hunter2' }"), vec![format!("5: feed.headers: Authorization holds a secret, which must not be in this file; {FORM}")]),
        (at("headers = { 'a b' = 'x' }"), vec!["5: feed.headers: \"a b\" is not the name of a header that can be set here".into()]),
        (at("client_cert = '/c'"), vec!["5: feed.client_cert: has no key; set client_key to its PEM file".into()]),
        (at("proxy = 'http://u:hunter2@p/'"), vec!["5: feed.proxy: holds a user name or password; leave it out, secrets must not be in this file".into()]),
        (at("proxy = 'ftp://p/'"), vec!["5: feed.proxy: has scheme ftp; use \"none\", or an http:, https: or socks5h: URL in quotes".into()]),
        (at("proxy_user = 'u'"), vec!["5: feed.proxy_user: is of no use alone; set proxy_user and proxy_password".into()]),
        (at("collections = ['x']"), vec!["5: feed.collections: has no meaning for kind \"stix\", only for \"taxii2\"".into()]),
        (at("scopes = ['ip']"), vec!["5: feed.scopes: has no meaning for kind \"stix\", only for \"crowdsec\"".into()]),
        (at("min_confidence = 101"), vec!["5: feed.min_confidence: 101 is out of range; use a whole number from 0 to 100".into()]),
        ("kind = 'list'\nurl = 'file:x'\nuser = 'u'".into(), vec!["5: feed.user: has no meaning for a file: URL, only for http: and https:".into()]),
        ("kind = 'misp'\nurl = 'https://h/'\nfilter = { page = 1 }".into(), vec!["5: feed.filter: \"page\" is set by the agent; leave it out".into()]),
        ("kind = 'misp'\nmode = 'feed'\nurl = 'https://h/'\ntypes = ['ip-dst']".into(), vec!["6: feed.types: has no meaning for a feed of events, only for mode \"search\"".into()]),
        ("kind = 'sentinel'\nurl = 'https://h/'\ntenant = 't'".into(), vec!["5: feed.tenant: has no meaning without workspace; set workspace too".into()]),
        ("kind = 'sentinel'\nworkspace = 'a/b'\nsubscription = 's'\nresource_group = 'g'\ntenant = 't'\nclient_id = 'c'\nclient_secret = { file = '/s' }".into(),
            vec!["4: feed.workspace: \"a/b\" is not a name; use letters, digits, -, _, . and parentheses in quotes".into()]),
    ] {
        let found = parse(&text).unwrap_err();
        assert!(!found.join(" ").contains("hunter2"), "{found:?}");
        assert_eq!(found, messages, "{text}");
    }
}
