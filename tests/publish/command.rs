//! `voxhall publish`, as a shell sees it.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use super::support::{tls, voxhall};
use super::{server, subscriber};

fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> (Option<i32>, String, String) {
    let mut child = voxhall(&[&["publish"], arguments].concat())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // Whoever does not read it has refused the command.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn it_publishes_and_says_who_took_it() {
    let server = server(&[]);
    let mut member = subscriber(&server, "room", "user:7:*");
    let admin = format!("http://{}", server.admin);
    let (code, said, errors) = run(&["user:7:a", r#"{"n":1.50}"#, "--admin", &admin], &[], "");
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        said.starts_with("published on user:7:a: id ") && said.ends_with("1 subscriber on 1 shard\n"),
        "{said}"
    );
    let own = [
        "user:7:a",
        "-",
        "--json",
        "--dedupe",
        "k",
        "--ttl-s",
        "5",
        "--session-id",
        "s",
        "--require-subscriber",
    ];
    let (code, said, errors) =
        run(&[&own[..], &["--admin", &server.admin.to_string()]].concat(), &[], "\"two\"\n");
    assert_eq!(code, Some(0), "{errors}");
    let answer: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&answer["subscribers"], &answer["duplicate"]), (&1.into(), &false.into()));
    let (_, said, _) = run(&["user:7:a", "3", "--dedupe", "k", "--admin", &admin], &[], "");
    assert!(said.starts_with("had been published on user:7:a"), "{said}");
    let lines = "{\"channel\":\"user:7:a\",\"data\":3}\n\n{\"channel\":\"user:7:a\",\"data\":4}\n";
    let (code, said, errors) = run(&["--batch", "-", "--admin", &admin], &[], lines);
    assert_eq!((code, said.as_str()), (Some(0), "published 2 of 2\n"), "{errors}");
    let heard: Vec<Value> = (0..4).map(|_| member.event("channel.message")["data"].clone()).collect();
    assert_eq!(Value::from(heard).to_string(), r#"[{"n":1.5},"two",3,4]"#);
}

#[test]
fn it_says_what_is_wrong_and_ends_with_the_code_for_it() {
    let server = server(&[]);
    let admin = format!("http://{}", server.admin);
    for (arguments, expected, word) in [
        (&["user:7:a"][..], 2, "JSON"),
        (&["user:7:a", "hello"], 2, "needs quotes"),
        (&["user:7:a", "1", "--batch", "x"], 2, "cannot be used"),
        (&["--batch", "/nowhere/at-all"], 2, "can't be read"),
        (&["user:7:a", "1", "--ca", "/nowhere/at-all"], 2, "can't be read"),
        (&["user:7:*", "1"], 1, "no channel"),
        (&["nowhere:a", "1"], 1, "no such namespace"),
        (&["user:7:a", "1", "--require-subscriber"], 1, "nobody hears"),
    ] {
        let (code, said, errors) = run(&[arguments, &["--admin", &admin]].concat(), &[], "");
        assert_eq!((code, said.as_str()), (Some(expected), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(word), "{arguments:?}: {errors}");
    }
    for more in [&[][..], &["--batch", "-"]] {
        let one = ["nowhere:a", "1"];
        let what = if more.is_empty() { &one[..] } else { &[] };
        let line = "{\"channel\":\"nowhere:a\",\"data\":3}";
        let (code, said, errors) = run(&[what, more, &["--json", "--admin", &admin]].concat(), &[], line);
        let answer: Value = serde_json::from_str(&said).expect("one line of JSON");
        assert_eq!((code, &answer["reason"]), (Some(1), &"refused".into()), "{errors}");
    }
    let lines = "{\"channel\":\"nowhere:a\",\"data\":3}\n{\"channel\":\"user:7:a\",\"data\":4}\n";
    let (code, said, errors) = run(&["--batch", "-", "--admin", &admin], &[], lines);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("line 1: there is no such namespace") && said.ends_with("published 1 of 2\n"),
        "{said}"
    );
    assert!(errors.contains("1 of 2 were not published"), "{errors}");
    let (code, _, errors) = run(&["--batch", "-", "--admin", &admin], &[], "{}\n[1]\n");
    assert_eq!(code, Some(2));
    assert!(errors.contains("-:2 is not a JSON object"), "{errors}");
    let (code, _, errors) = run(&["user:7:a", "1", "--admin", "unix:/run/x"], &[], "");
    assert!(code == Some(2) && errors.contains("can't be a Unix-domain socket"), "{errors}");
    let (code, _, errors) = run(&["user:7:a", "1", "--admin", "http://a b"], &[], "");
    assert!(code == Some(2) && errors.contains("is no address"), "{errors}");
    let (code, _, errors) = run(&["user:7:a", "1", "--admin", &format!("http://{}", server.public)], &[], "");
    assert!(code == Some(1) && errors.contains("404"), "{errors}");
    drop(server);
    let (code, _, errors) = run(&["user:7:a", "1", "--admin", &admin], &[], "");
    assert!(code == Some(1) && errors.contains("no server can be reached at http://"), "{errors}");
}

#[test]
fn a_batch_is_cut_to_what_the_server_takes() {
    let server = server(&["--set", "publish.batch_max=3"]);
    let mut member = subscriber(&server, "room", "user:7:*");
    let lines: String = (0..10).map(|n| format!("{{\"channel\":\"user:7:a\",\"data\":{n}}}\n")).collect();
    let (code, said, errors) = run(&["--batch", "-", "--admin", &server.admin.to_string()], &[], &lines);
    assert_eq!((code, said.as_str()), (Some(0), "published 10 of 10\n"), "{errors}");
    let heard: Vec<Value> = (0..10).map(|_| member.event("channel.message")["data"].clone()).collect();
    assert_eq!(heard, (0..10).map(Value::from).collect::<Vec<_>>(), "each once, in their order");
}

#[test]
fn it_brings_a_token_and_trusts_what_it_is_told_to() {
    const SECRET: &str = "auth.hs256_secret=0123456789abcdef0123456789abcdef";
    let files = tls::Files::new("publish");
    files.issue();
    let ca = files.cert().display().to_string();
    let auth = ["--set", "auth.mode=jwt", "--set", SECRET];
    let (cert, key) = files.settings("tls.admin_cert", "tls.admin_key");
    let server = server(&[&auth[..], &["--set", &cert, "--set", &key]].concat());
    let token = |more: &[&str]| {
        let minted =
            voxhall(&[&["token", "--sub", "ann"], &auth[..], more].concat()).output().expect("it runs");
        String::from_utf8(minted.stdout).expect("text").trim().to_owned()
    };
    let admin = format!("https://localhost:{}", server.admin.port());
    let base = ["system:a", "1", "--admin", &admin, "--ca", &ca];
    let (code, _, errors) = run(&base, &[], "");
    assert!(
        code == Some(1) && errors.contains("401") && errors.contains("voxhall token --role admin"),
        "{errors}"
    );
    let member = token(&[]);
    let (code, _, errors) = run(&[&base[..], &["--token", &member]].concat(), &[], "");
    assert!(code == Some(1) && errors.contains("403"), "{errors}");
    let operator = token(&["--role", "admin"]);
    let (code, _, errors) = run(&base, &[("VOXHALL_TOKEN", &operator)], "");
    assert_eq!(code, Some(0), "{errors}");
    let (code, _, errors) = run(&["system:a", "1", "--admin", &admin, "--token", &operator], &[], "");
    assert!(
        code == Some(1) && errors.contains("no server can be reached"),
        "the host does not know it: {errors}"
    );
}
