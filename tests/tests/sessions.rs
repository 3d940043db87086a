//! Who talks to the site's socket, and what comes of rubbish there (DESIGN section 8, invariant 8;
//! the issue's "a client that disconnects half way").
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use refrain_tests::programs::installed;
use refrain_tests::{Site, leftovers, proc, run, wait};

/// The socket of the site, found by its name.
fn socket(site: &Site) -> PathBuf {
    let files = leftovers::files(site.name());
    files
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(".sock"))
        .unwrap()
}

fn assert_unharmed(site: &Site, controller: u32) {
    site.runs("resident", 0);
    assert_eq!(site.controller_pid(), controller, "hr_ctrl is the same");
}

#[test]
fn rubbish_on_the_sites_socket_harms_nobody() {
    let site = Site::start();
    site.actor(1, "resident", "crasher", &["park"]);
    let controller = site.controller_pid();
    let open = br#"{"open":{"version":1,"cwd":"/","console":false}}"#;
    let open = |rest: &[u8]| [open.as_slice(), b"\n", rest].concat();
    let deep = [vec![b'['; 100_000], b"\n".to_vec()].concat();
    let rubbish = [
        Vec::new(),
        b"\n\n\n".to_vec(),
        b"{".to_vec(),
        b"not json\n".to_vec(),
        b"\xff\xfe\x00\n".to_vec(),
        deep.clone(),
        br#"{"open":{"version":999,"cwd":"/","console":false}}"#.to_vec(),
        br#"{"line":"akill -g 1"}"#.to_vec(),
        b"{\"line\":\"akill -g 1\"}\n".to_vec(),
        open(b"{\"line\":\"sleep 1000"),
        open(b"{\"line\":\"sleep 1000\"}\n"),
        open(b"{\"words\":[]}\n"),
        open(b"{\"words\":[\"\"]}\n"),
        open(b"\"interrupt\"\n\"interrupt\"\n"),
        open(&deep),
    ];
    for bytes in &rubbish {
        let mut stream = UnixStream::connect(socket(&site)).unwrap();
        // The site may hang up at any time.
        let _ = stream.write_all(bytes);
        drop(stream);
        assert_unharmed(&site, controller);
    }
}

#[test]
fn a_line_without_end_is_cut_off_and_costs_no_memory() {
    let site = Site::start();
    site.actor(1, "resident", "crasher", &["park"]);
    let controller = site.controller_pid();
    let mut stream = UnixStream::connect(socket(&site)).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let sent = (0..64)
        .take_while(|_| stream.write_all(&chunk).is_ok())
        .count();
    assert!(sent < 64, "the site read 64 MiB of one line");
    let rss = proc::status(controller, "VmRSS").unwrap();
    assert!(rss < 64 << 10, "{rss} KiB");
    assert_unharmed(&site, controller);
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let site = Site::start();
    let one = || {
        let mut command = site.program("aps");
        command.arg("--json").stdout(std::process::Stdio::null());
        run::spawn(&mut command)
    };
    let mut clients: Vec<_> = (0..40).map(|_| one()).collect();
    for client in &mut clients {
        assert_eq!(run::wait_for(client, "aps").code(), Some(0));
    }
    let fds = || proc::fd_count(site.controller_pid());
    let at_rest = fds();
    let mut clients: Vec<_> = (0..40).map(|_| one()).collect();
    for client in &mut clients {
        run::wait_for(client, "aps");
    }
    wait::until_true("their fds to be closed", || fds() <= at_rest);
}

#[test]
fn a_client_that_never_reads_its_answers_holds_up_nobody() {
    let site = Site::start();
    site.actor(1, "resident", "crasher", &["park"]);
    let controller = site.controller_pid();
    let mut stream = UnixStream::connect(socket(&site)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let open = b"{\"open\":{\"version\":1,\"cwd\":\"/\",\"console\":false}}\n";
    stream.write_all(open).unwrap();
    let line = b"{\"line\":\"help arun\"}\n";
    // Until the site takes no more, or has had plenty.
    let _ = (0..20_000)
        .take_while(|_| stream.write_all(line).is_ok())
        .count();
    assert_unharmed(&site, controller);
    let rss = proc::status(controller, "VmRSS").unwrap();
    assert!(
        rss < 128 << 10,
        "answers are kept for a client that reads none: {rss} KiB"
    );
    drop(stream);
    assert_unharmed(&site, controller);
}

#[test]
fn invariant_8_nobody_but_the_sites_owner_can_command_it() {
    let (Some(setpriv), Some(python)) = (installed("setpriv"), installed("python3")) else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        refrain_tests::programs::skipped("only root can become somebody else");
        return;
    }
    let site = Site::start();
    site.actor(1, "resident", "crasher", &["park"]);
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  try:\n    s.connect(sys.argv[1])\n\
                  \x20   s.sendall(b'{\"open\":{\"version\":1,\"cwd\":\"/\",\"console\":false}}\\n')\n\
                  \x20   s.sendall(b'{\"line\":\"akill -g 1\"}\\n')\n\
                  \x20   print('answered', s.recv(4096))\n\
                  except OSError as e:\n    print('refused', e)\n";
    let mut command = std::process::Command::new(setpriv);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(python).args(["-c", script]).arg(socket(&site));
    let finished = run::to_end(command.current_dir("/"), None);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let kept_out = finished.out.starts_with("refused") || finished.out.contains("b''");
    assert!(kept_out, "{finished:?}");
    site.runs("resident", 0);
    let mode = std::fs::metadata(socket(&site))
        .unwrap()
        .permissions()
        .mode();
    let folder = socket(&site).parent().unwrap().to_owned();
    let folder = std::fs::metadata(folder).unwrap().permissions().mode();
    assert!(
        mode & 0o077 == 0 || folder & 0o077 == 0,
        "{mode:o} in {folder:o}"
    );
}

#[test]
fn a_client_of_another_version_is_told_so() {
    let site = Site::start();
    let mut stream = UnixStream::connect(socket(&site)).unwrap();
    stream.set_read_timeout(Some(wait::WATCHDOG)).unwrap();
    stream
        .write_all(b"{\"open\":{\"version\":999,\"cwd\":\"/\",\"console\":false}}\n")
        .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("version"), "{answer:?}");
}
