//! What the program says about tokens and keys on the command line.

use std::process::Output;

use serde_json::json;

use super::support::Server;
use super::tokens::{SECRET, public_key};
use super::{File, Way, bring, configuration, manage, upgrade, voxhall};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = voxhall(arguments).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_development_token_opens_the_rooms_it_names() {
    let file = File::new("mint", &configuration());
    let server = Server::start(&["--config", file.path(), "--shards", "1"]);
    let mint = |more: &[&str]| {
        let (code, token, errors) =
            run(&[&["token", "--sub", "ann", "--ttl", "1h", "--config", file.path()], more].concat());
        assert_eq!(code, Some(0), "{errors}");
        token.trim().to_owned()
    };
    let statuses = |token: &str| ["/ws/a1", "/ws/b"].map(|path| bring(&server, Way::Header, path, token).1);
    assert_eq!(statuses(&mint(&["--room", "a*"])), [101, 403]);
    assert_eq!(statuses(&mint(&["--room", "a*", "--room", "b"])), [101, 101]);
    assert_eq!(statuses(&mint(&[])), [101, 101]);
    assert_eq!(
        upgrade(&server, &format!("/ws/c?engine=echo&token={}", mint(&["--engine", "relay"])), "").1,
        403
    );
    let admin = mint(&["--role", "admin"]);
    assert_eq!(manage(&server, "GET", "/api/v1/stats", Some(&admin)).0, 200);
    let rights = mint(&["--channel", "room:*=subscribe,publish", "--channel", "log=subscribe"]);
    let (_stays, status, _) = bring(&server, Way::Header, "/ws/d", &rights);
    let (_, room) = manage(&server, "GET", "/api/v1/rooms/d", Some(&admin));
    let shown = r#""channels":{"log":["subscribe"],"room:*":["subscribe","publish"]}"#;
    assert!(status == 101 && room.contains(shown), "{room}");
}

#[test]
fn a_token_without_a_secret_or_with_a_strange_span_is_refused_with_the_remedy() {
    for (arguments, word) in [
        (&["token", "--sub", "ann"][..], "auth.hs256_secret"),
        (&["token", "--sub", "ann", "--ttl", "soon"], "such as 90s or 1h"),
        (&["token", "--sub", "ann", "--engine", "cello"], "possible values"),
        (&["token", "--sub", "ann", "--channel", "a=read"], "PATTERN=subscribe,publish"),
        (&["token"], "--sub"),
    ] {
        let (code, printed, errors) = run(arguments);
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(errors.contains(word), "{arguments:?}: {errors}");
    }
}

#[test]
fn keys_that_are_missing_or_wrong_are_named_with_what_is_wrong() {
    let private = public_key("private/rsa");
    let certificate = File::new("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    let noise = File::new("noise.pem", "noise");
    let set = File::new("set.json", &json!({ "keys": [{ "kty": "EC", "crv": "P-521" }] }).to_string());
    for (setting, words) in [
        (String::new(), ["needs a key", "auth.hs256_secret, auth.public_keys, auth.jwks"]),
        ("auth.public_keys=/nowhere/a.pem".to_owned(), ["names /nowhere/a.pem", "can't be read"]),
        (format!("auth.public_keys={private}"), ["is a private key", "-pubout"]),
        (format!("auth.public_keys={}", certificate.path()), ["is a certificate", "-pubkey"]),
        (format!("auth.public_keys={}", noise.path()), ["is no public key", "P-256"]),
        ("auth.jwks=/nowhere/set.json".to_owned(), ["names /nowhere/set.json", "can't be read"]),
        (format!("auth.jwks={}", noise.path()), ["is no JSON Web Key Set", "a URL with https://"]),
        (format!("auth.jwks={}", set.path()), ["has no key for HS256", "auth.jwks"]),
        ("auth.hs256_secret=short".to_owned(), ["shorter than the 32 bytes", "openssl rand"]),
        ("auth.jwks=https://me:pw@issuer/keys".to_owned(), ["user name or password", "needs none"]),
        ("server.allowed_origins=app.example".to_owned(), ["is no origin", "https://"]),
    ] {
        let mut arguments = vec!["check-config", "--set", "auth.mode=jwt"];
        if !setting.is_empty() {
            arguments.extend(["--set", &setting]);
        }
        let (code, _, errors) = run(&arguments);
        assert_eq!(code, Some(2), "{setting}: {errors}");
        assert!(words.iter().all(|word| errors.contains(word)), "{setting}: {errors}");
    }
    let (code, _, errors) =
        run(&["serve", "--set", "auth.mode=jwt", "--set", "auth.jwks=http://127.0.0.1:1/k"]);
    assert!(code == Some(1) && errors.contains("see whether the issuer can be reached"), "{errors}");
    let (code, _, errors) = run(&["check-config", "--set", "auth.jwks=set.json"]);
    assert!(code == Some(2) && errors.contains("no effect while auth.mode"), "{errors}");
}

#[test]
fn a_secret_is_shown_neither_in_a_configuration_nor_in_a_mistake() {
    let file = File::new("secret", &configuration());
    let flag = format!("auth.hs256_secret={SECRET}");
    let slip = format!("auth.hs256_secrets={SECRET}");
    for (arguments, code) in [
        (&["check-config", "--config", file.path()][..], 0),
        (&["check-config", "--set", "auth.mode=jwt", "--set", &flag], 0),
        (&["check-config", "--set", &flag], 2),
        (&["check-config", "--set", &slip], 2),
        (&["check-config", "--set", "auth.hs256_secret=secret-and-short", "--set", "auth.mode=jwt"], 2),
    ] {
        let (found, printed, errors) = run(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {errors}");
        for hidden in [SECRET, "secret-and-short"] {
            assert!(!printed.contains(hidden) && !errors.contains(hidden), "{printed}{errors}");
        }
        assert_eq!(printed.contains("# hs256_secret is set and not shown"), code == 0, "{printed}");
    }
}

#[test]
fn an_address_for_everybody_needs_auth_and_then_asks_for_it() {
    let (code, _, errors) = run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(code == Some(2) && errors.contains("set auth.mode = \"jwt\""), "{errors}");
    let file = File::new("everybody", &configuration());
    let server = Server::start(&["--config", file.path(), "--listen", "0.0.0.0:0", "--shards", "1"]);
    assert_eq!(upgrade(&server, "/ws/a", "").1, 401);
    let good = super::tokens::token(json!({}));
    let bearer = format!("Authorization: Bearer {good}\r\n");
    assert_eq!(upgrade(&server, "/ws/a", &format!("{bearer}Origin: http://voxhall\r\n")).1, 101);
    assert_eq!(upgrade(&server, "/ws/a", &format!("{bearer}Origin: http://evil.example\r\n")).1, 403);
}
