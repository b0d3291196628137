//! TLS on the admin address: scrapers and operators, a certificate that is swapped, and what must not get through.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::thread;

use support::tls::{Files, Secure, any_client, client, get, secure};
use support::{Server, ask, connect, voxhall};

/// A server whose admin address has these files.
fn serve(files: &Files, arguments: &[&str]) -> Server {
    let (cert, key) = files.settings("tls.admin_cert", "tls.admin_key");
    Server::start(&[&["--set", &cert, "--set", &key, "--shards", "1"], arguments].concat())
}

#[test]
fn metrics_and_the_api_come_over_https_and_the_public_address_stays_plain() {
    let files = Files::new("admin");
    let trusted = files.issue();
    let server = serve(&files, &[]);
    assert!(
        server.ready.contains(" http://") && server.ready.contains("(admin https://"),
        "{}",
        server.ready
    );
    assert!(ask(server.public, "GET", "/healthz", "").starts_with("HTTP/1.1 200"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client(&trusted, &[version], &["http/1.1"]);
        let mut stream = secure(&config, server.admin).expect("a handshake");
        // Several requests on one connection, as a scraper makes them.
        for (path, word) in
            [("/metrics", "voxhall_ready 1"), ("/api/v1/stats", "\"shards\""), ("/metrics", "tls")]
        {
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("the server reads");
            let answer = one_answer(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(word), "{answer}");
        }
        // It says goodbye by itself to who has no more to ask.
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).expect("a proper end"), 0);
    }
}

/// Head and body of an answer behind which others may come.
fn one_answer(stream: &mut Secure) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    answer.append(&mut body);
    String::from_utf8(answer).expect("text")
}

#[test]
fn curl_trusts_it_and_takes_what_it_asked_for() {
    let files = Files::new("admin-curl");
    files.issue();
    let server = serve(&files, &[]);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--cacert"])
        .arg(files.cert())
        .arg(format!("https://{}/readyz", server.admin))
        .output()
        .expect("curl runs: `make packages` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ready"));
}

#[test]
fn a_hangup_swaps_each_certificate_and_a_broken_one_changes_nothing() {
    let (admin, public) = (Files::new("admin-swap"), Files::new("public-swap"));
    let (old, public_old) = (admin.issue(), public.issue());
    let (cert, key) = public.settings("tls.cert", "tls.key");
    let server = serve(&admin, &["--set", &cert, "--set", &key]);
    let mut kept = secure(&any_client(&old), server.admin).expect("a handshake");
    let (new, public_new) = (admin.issue(), public.issue());
    server.signal("HUP");
    while secure(&any_client(&new), server.admin).is_err() {
        thread::yield_now();
    }
    assert!(secure(&any_client(&old), server.admin).is_err(), "new handshakes use the new certificate");
    while secure(&any_client(&public_new), server.public).is_err() {
        thread::yield_now();
    }
    assert!(secure(&any_client(&public_old), server.public).is_err());
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("it is still open");
    let mut answer = String::new();
    kept.read_to_string(&mut answer).expect("an answer with a proper end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    fs::write(admin.key(), "this is no key").expect("a writable folder");
    public.issue();
    server.signal("HUP");
    while secure(&any_client(&public_new), server.public).is_ok() {
        thread::yield_now();
    }
    assert!(get(&any_client(&new), server.admin, "/healthz").starts_with("HTTP/1.1 200"));
    server.signal("TERM");
    let (_, log) = server.wait();
    let told = log.lines().any(|line| line.contains("tls.admin_cert") && line.contains("no private key"));
    assert!(told, "{log}");
}

#[test]
fn what_is_not_tls_is_told_so_and_keeps_nobody_waiting() {
    let files = Files::new("admin-garbage");
    let trusted = files.issue();
    let server = serve(&files, &[]);
    let plain = ask(server.admin, "GET", "/metrics", "");
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("speaks TLS"), "{plain}");
    let mut garbage = connect(server.admin);
    garbage.write_all(&[0xff; 64]).expect("the server reads");
    let mut alert = Vec::new();
    garbage.read_to_end(&mut alert).expect("an end");
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:?}");
    let mut half = connect(server.admin);
    half.write_all(b"\x16\x03").expect("the server reads");
    assert!(get(&any_client(&trusted), server.admin, "/healthz").starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).expect("half a handshake ends at its deadline");
    assert_eq!(rest, b"");
}

#[test]
fn half_of_it_is_refused_at_start_and_so_is_a_key_of_another() {
    let (files, other) = (Files::new("admin-half"), Files::new("admin-other"));
    files.issue();
    other.issue();
    let check = |settings: &[&str]| {
        let output = voxhall(&["check-config"]).args(settings).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (cert, key) = files.settings("tls.admin_cert", "tls.admin_key");
    for (half, words) in [(&cert, "without tls.admin_key"), (&key, "without tls.admin_cert")] {
        let (code, errors) = check(&["--set", half]);
        assert!(code == Some(2) && errors.contains(words), "{errors}");
    }
    let (_, foreign) = other.settings("tls.admin_cert", "tls.admin_key");
    let (code, errors) = check(&["--set", &cert, "--set", &foreign]);
    assert!(code == Some(2) && errors.contains("tls.admin_key = "), "{errors}");
    let (code, errors) = check(&["--set", &cert, "--set", &key, "--admin", "0.0.0.0:9090"]);
    assert!(
        code == Some(2) && errors.contains("--insecure"),
        "a certificate asks nobody for a name: {errors}"
    );
    assert_eq!(check(&["--set", &cert, "--set", &key]).0, Some(0));
}
