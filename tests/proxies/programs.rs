//! HAProxy and nginx in front, with the configurations of docs/operations.md.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;

use super::support::tls::{Files, any_client, get, secure};
use super::support::{Server, ask, connect, repository};
use super::{Folder, member_of, unix};

/// The path of the socket file in the documentation.
pub(crate) const DOCUMENTED: &str = "/run/voxhall/public.sock";

/// The block of docs/operations.md that begins with this line.
pub(crate) fn documented(first_line: &str) -> String {
    let page = fs::read_to_string(repository("docs/operations.md")).expect("the page");
    let (_, block) = page.split_once(&format!("```\n{first_line}\n")).expect("the page shows it");
    block.split_once("\n```").expect("a block ends").0.to_owned()
}

/// With each of these in place of what is documented, which has to be there.
pub(crate) fn adapted(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (documented, own)| {
        assert!(text.contains(documented), "{documented:?} is not in\n{text}");
        text.replace(documented, own)
    })
}

/// A proxy, ended with its test.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// Waits until it listens.
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the proxy runs: `make packages` installs it");
        let mut proxy = Self { child, address };
        while TcpStream::connect(address).is_err() {
            let ended = proxy.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "the proxy ended: its report is above");
            thread::yield_now();
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

pub(crate) fn haproxy(folder: &Folder, configuration: &str, address: SocketAddr) -> Proxy {
    let file = folder.path("haproxy.cfg");
    fs::write(&file, format!("{configuration}\n")).expect("a file");
    Proxy::start(daemon("haproxy").arg("-f").arg(&file).arg("-db"), address)
}

/// A server at a socket file, behind HAProxy as it is documented.
pub(crate) fn behind_haproxy(folder: &Folder) -> (Server, Proxy) {
    let (socket, address) = (folder.path("public.sock"), free_address());
    let server =
        Server::start(&["--shards", "2", "--listen", &unix(&socket), "--set", "server.proxy_protocol=true"]);
    let configuration = adapted(
        &documented("# haproxy.cfg"),
        &[(DOCUMENTED, &socket.display().to_string()), ("bind :80\n", &format!("bind {address}\n"))],
    );
    let proxy = haproxy(folder, &configuration, address);
    (server, proxy)
}

/// A server at a socket file, behind nginx as it is documented.
pub(crate) fn behind_nginx(folder: &Folder) -> (Server, Proxy) {
    let (socket, address) = (folder.path("public.sock"), free_address());
    // For whoever nginx runs as here; in earnest it joins the group.
    let server =
        Server::start(&["--shards", "2", "--listen", &unix(&socket), "--set", "server.unix_mode=0666"]);
    let site = adapted(
        &documented("# nginx, conf.d/voxhall.conf"),
        &[(DOCUMENTED, &socket.display().to_string()), ("listen 80;", &format!("listen {address};"))],
    );
    let proxy = nginx(folder, &site, address);
    (server, proxy)
}

/// A daemon: Debian keeps those where only root looks.
fn daemon(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

pub(crate) fn nginx(folder: &Folder, site: &str, address: SocketAddr) -> Proxy {
    let place = |name: &str| folder.path(name).display().to_string();
    fs::write(folder.path("site.conf"), format!("{site}\n")).expect("a file");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {};\n", place(kind)))
        .collect();
    let main = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log stderr;\nevents {{}}\nhttp {{\n    access_log off;\n\
         {temporary}    include {};\n}}\n",
        place("pid"),
        place("site.conf")
    );
    fs::write(folder.path("nginx.conf"), main).expect("a file");
    let conf = folder.path("nginx.conf");
    Proxy::start(daemon("nginx").args(["-e", "stderr", "-c"]).arg(conf), address)
}

/// Joins through the proxy, with a word for the server to return, and gives the local end.
fn talk_through(server: &Server, proxy: &Proxy, session: &str) -> SocketAddr {
    let stream = connect(proxy.address);
    let own = stream.local_addr().expect("connected");
    let mut member = server.join_over(stream, &format!("/ws/{session}?engine=echo"), None).expect("a room");
    member.event("session.created");
    for size in [2, 640, 100_000] {
        member.send(vec![size as u8; size]);
        assert_eq!(member.read().into_data(), vec![size as u8; size]);
    }
    assert_eq!(member_of(server, session).split_once(':').map(|(host, _)| host), Some("127.0.0.1"));
    own
}

#[test]
fn haproxy_names_the_client_over_a_socket_file() {
    let folder = Folder::new("haproxy");
    let (server, proxy) = behind_haproxy(&folder);
    for number in 0..6 {
        let session = format!("through-haproxy-{number}");
        let stream = connect(proxy.address);
        let own = stream.local_addr().expect("connected").to_string();
        let mut member = server.join_over(stream, &format!("/ws/{session}"), None).expect("a room");
        member.event("session.created");
        assert_eq!(member_of(&server, &session), own, "the client's address and port, not the proxy's");
    }
    talk_through(&server, &proxy, "much-through-haproxy");
    assert!(ask(proxy.address, "GET", "/", "").contains("</html>"));
}

#[test]
fn haproxy_passes_tls_on_with_the_clients_address_before_it() {
    let folder = Folder::new("haproxy-tls");
    let files = Files::new("haproxy-tls");
    let (trusted, address) = (files.issue(), free_address());
    let proxied = ["--set", "server.proxy_protocol=true", "--set", "server.trusted_proxies=127.0.0.1"];
    let server = files.serve(&[&["--shards", "2"], &proxied[..]].concat());
    let configuration = adapted(
        &documented("# haproxy.cfg, TLS passed on"),
        &[("127.0.0.1:8443", &server.public.to_string()), ("bind :443\n", &format!("bind {address}\n"))],
    );
    let proxy = haproxy(&folder, &configuration, address);
    for number in 0..6 {
        let session = format!("sealed-through-haproxy-{number}");
        let stream =
            secure(&any_client(&trusted), proxy.address).expect("a handshake with the server itself");
        let own = stream.sock.local_addr().expect("connected").to_string();
        let mut member =
            server.join_over(stream, &format!("/ws/{session}?engine=echo"), None).expect("a room");
        member.event("session.created");
        member.send(vec![number; 70_000]);
        assert_eq!(member.read().into_data(), vec![number; 70_000]);
        assert_eq!(member_of(&server, &session), own);
    }
    assert!(get(&any_client(&trusted), proxy.address, "/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn nginx_names_the_client_over_a_socket_file() {
    let folder = Folder::new("nginx");
    let (server, proxy) = behind_nginx(&folder);
    let address = proxy.address;
    talk_through(&server, &proxy, "through-nginx");
    assert!(
        member_of_named(&server, &proxy, "forged").starts_with("127.0.0.1:"),
        "not what the client claims"
    );
    assert!(ask(proxy.address, "GET", "/", "").contains("</html>"));
    // Pages of the proxy's own host may connect, others may not.
    let join = |origin: String| {
        let mut request = format!("ws://{address}/ws/page").into_client_request().expect("a good address");
        request.headers_mut().insert("origin", HeaderValue::from_str(&origin).expect("text"));
        tungstenite::client(request, connect(address)).is_ok()
    };
    assert!(join(format!("http://{address}")));
    assert!(!join("http://elsewhere.example".to_owned()));
}

/// Where the server thinks somebody comes from who claims to be somebody else.
fn member_of_named(server: &Server, proxy: &Proxy, session: &str) -> String {
    let mut request =
        format!("ws://{}/ws/{session}", proxy.address).into_client_request().expect("a good address");
    request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("203.0.113.5"));
    let (_member, _) = tungstenite::client(request, connect(proxy.address)).expect("a room");
    member_of(server, session)
}
