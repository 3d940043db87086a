//! Tests of the interpreter with the commands that need no site.

use std::fs;
use std::path::PathBuf;

use refrain_abi::session::FromSite;

use super::*;

/// An interpreter without a site, and what it has said.
struct Bench {
    interpreter: CInit,
    session: Session,
    said: Rc<RefCell<Vec<FromSite>>>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let said = Rc::new(RefCell::new(Vec::new()));
        let directory = tempfile::tempdir().unwrap();
        let sink = {
            let said = said.clone();
            move |message| said.borrow_mut().push(message)
        };
        let session = Session::new(directory.path().to_owned(), Rc::new(sink), Rc::new(|| ()));
        let env = [("PATH", "/bin"), ("REFRAIN_LOG", "debug")];
        let env = env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        Self {
            interpreter: CInit::without_site(env),
            session,
            said,
            directory,
        }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.directory.path().join(name), bytes).unwrap();
        name.into()
    }

    async fn line(&self, line: &str) -> i32 {
        self.interpreter
            .execute(&self.session, Input::Line(line.to_owned()))
            .await
    }

    async fn ini(&self, file: &str, mode: IniMode) -> u32 {
        self.interpreter
            .read_ini(&self.session, file.as_ref(), mode)
            .await
    }

    /// What was written to stdout, and the lines on stderr, since the last time.
    fn said(&self) -> (String, Vec<String>) {
        let mut out = String::new();
        let mut err = Vec::new();
        for message in self.said.take() {
            match message {
                FromSite::Out(text) => out += &text,
                FromSite::Err(line) => err.push(line),
                other => panic!("{other:?}"),
            }
        }
        (out, err)
    }

    async fn out(&self, line: &str) -> String {
        assert_eq!(self.line(line).await, 0, "{line}");
        let (out, err) = self.said();
        assert!(err.is_empty(), "{err:?}");
        out
    }

    async fn err(&self, line: &str, code: i32) -> String {
        assert_eq!(self.line(line).await, code, "{line}");
        let (out, err) = self.said();
        assert_eq!((out.as_str(), err.len()), ("", 1), "{err:?}");
        err.concat()
    }
}

#[tokio::test]
async fn c2_the_environment_is_remembered_from_command_to_command() {
    let bench = Bench::new();
    bench.out("setenv GREETING 'hello  world'").await;
    assert_eq!(bench.out("env").await, "GREETING=hello  world\nPATH=/bin\n");
    bench.out("unsetenv PATH").await;
    bench.out("unsetenv NEVER").await;
    assert_eq!(bench.out("env").await, "GREETING=hello  world\n");
    bench.err("setenv A=B c", 1).await;
    bench.err("setenv A", 2).await;
}

#[tokio::test]
async fn c2_echo_prints_its_words_whatever_they_look_like() {
    let bench = Bench::new();
    assert_eq!(
        bench.out("echo a 'b  c' -n --help # no").await,
        "a b  c -n --help\n"
    );
    assert_eq!(bench.out("echo --help").await, "--help\n");
    assert_eq!(bench.out("echo").await, "\n");
    assert_eq!(bench.out("   # only a comment").await, "");
}

#[tokio::test]
async fn c2_umask_and_ulimit_show_what_was_set() {
    let bench = Bench::new();
    bench.out("umask 027").await;
    assert_eq!(bench.out("umask").await, "0027\n");
    bench.err("umask 999", 2).await;
    bench.out("ulimit -n 100").await;
    assert_eq!(bench.out("ulimit -n").await, "100\n");
    assert_eq!(bench.out("ulimit -Hn").await, "100\n");
    bench.out("ulimit -Sn 50").await;
    assert_eq!(bench.out("ulimit -n").await, "50\n");
    assert_eq!(bench.out("ulimit -Hn").await, "100\n");
    bench.err("ulimit -Sn 200", 1).await;
    bench.err("ulimit -n many", 2).await;
    bench.err("ulimit -nf 1", 2).await;
    bench.out("ulimit -c 0").await;
    assert!(
        bench
            .out("ulimit -a")
            .await
            .contains("-c  core dump, in 512-byte blocks")
    );
}

#[tokio::test]
async fn c4_what_is_wrong_is_one_line_and_the_session_goes_on() {
    let bench = Bench::new();
    assert_eq!(
        bench.err("bogus 1 2", 2).await,
        "c_init: bogus: unknown command; help lists them"
    );
    let told = bench.err("arun --bogus x", 2).await;
    assert_eq!(
        told,
        "c_init: arun: unexpected argument '--bogus'; see help arun"
    );
    assert!(
        bench
            .err("echo 'a", 2)
            .await
            .starts_with("c_init: unbalanced quotes")
    );
    assert!(bench.err("echo a\0b", 2).await.contains("NUL"));
    assert!(
        bench
            .err("\u{1b}[2J", 2)
            .await
            .starts_with("c_init: \\u{1b}[2J: unknown")
    );
    assert!(
        bench
            .err(&format!("echo {}", "x".repeat(MAX_LINE)), 2)
            .await
            .contains("65536")
    );
    assert!(
        bench
            .err("help bogus", 1)
            .await
            .contains("no command 'bogus'")
    );
    assert!(bench.err("sleep -1", 2).await.contains("sleep"));
    assert!(bench.err("aps", 1).await.contains("no site"));
    assert_eq!(bench.out("echo still here").await, "still here\n");
}

#[tokio::test]
async fn c2_help_is_asked_for_in_two_ways() {
    let bench = Bench::new();
    let help = bench.out("help arun").await;
    assert_eq!(bench.out("arun --help").await, help);
    assert!(bench.out("help").await.contains("shutdown"));
}

#[tokio::test]
async fn c3_words_are_not_split_again() {
    let bench = Bench::new();
    let words = ["echo", "a b", "'", "#"].map(str::to_owned).to_vec();
    assert_eq!(
        bench
            .interpreter
            .execute(&bench.session, Input::Words(words))
            .await,
        0
    );
    assert_eq!(bench.said().0, "a b ' #\n");
}

#[tokio::test]
async fn h2_supervisor_actors_and_names_that_are_none_are_refused() {
    let bench = Bench::new();
    assert!(
        bench
            .err("arun -S x", 1)
            .await
            .contains("embedding program")
    );
    assert!(
        bench
            .err("arun -S -U x", 2)
            .await
            .contains("cannot be used with")
    );
}

#[tokio::test]
async fn c1_sysadm_ini_takes_crlf_comments_and_a_last_line_without_end() {
    let bench = Bench::new();
    bench.file(
        "sysadm.ini",
        "# start\r\n\r\nsetenv A 1\r\necho 'x y'\r\nenv",
    );
    assert_eq!(bench.ini("sysadm.ini", IniMode::Start).await, 0);
    assert_eq!(bench.said(), ("x y\nA=1\nPATH=/bin\n".to_owned(), vec![]));
}

#[tokio::test]
async fn c4_a_bad_line_of_sysadm_ini_is_told_with_its_number_and_the_next_is_read() {
    let bench = Bench::new();
    let mut bytes = b"echo one\nbogus\necho 'two\necho \0\necho \xff\necho ".to_vec();
    bytes.extend(vec![b'x'; 1 << 20]);
    bytes.extend(b"\naps --bogus\necho last\n");
    bench.file("sysadm.ini", bytes);
    assert_eq!(bench.ini("sysadm.ini", IniMode::Start).await, 6);
    let (out, err) = bench.said();
    assert_eq!(out, "one\nlast\n");
    assert_eq!(
        err,
        [
            "sysadm.ini:2: bogus: unknown command; help lists them",
            "sysadm.ini:3: unbalanced quotes, or a backslash at the end; close or escape them",
            "sysadm.ini:4: a NUL byte in the line; remove it",
            "sysadm.ini:5: the line is not UTF-8 text",
            "sysadm.ini:6: the line is longer than 65536 bytes",
            "sysadm.ini:7: aps: unexpected argument '--bogus'; see help aps",
        ]
    );
}

#[tokio::test]
async fn c4_a_sysadm_ini_that_cannot_be_read_counts_as_one_failure() {
    let bench = Bench::new();
    for (file, what) in [("none.ini", "no such file"), (".", "not a regular file")] {
        assert_eq!(bench.ini(file, IniMode::Start).await, 1);
        assert_eq!(bench.said().1, [format!("{file}: {what}")]);
    }
}

#[tokio::test]
async fn h25_a_restart_ignores_the_starts_of_restartable_actors_and_only_them() {
    let bench = Bench::new();
    bench.file("more.ini", "arun -g 2 /bin/true\necho more\n");
    bench.file(
        "sysadm.ini",
        "echo a\narun -g 1 /bin/true\nsource more.ini\narun /bin/true\necho b\n",
    );
    // Without a site, a start that is carried out fails: only the ordinary one is.
    assert_eq!(bench.ini("sysadm.ini", IniMode::Restart).await, 1);
    let (out, err) = bench.said();
    assert_eq!(out, "a\nmore\nb\n");
    assert_eq!(err.len(), 1);
    assert!(err[0].starts_with("sysadm.ini:4: arun: "), "{err:?}");
    assert_eq!(bench.ini("sysadm.ini", IniMode::Start).await, 3);
}

#[tokio::test]
async fn c2_source_tells_file_and_line_and_ends_at_exit() {
    let bench = Bench::new();
    bench.file("a.ini", "echo a\nsource b.ini\necho c\nexit\necho never\n");
    bench.file("b.ini", "echo b\nbogus\n");
    assert_eq!(bench.line("source a.ini").await, 1);
    let (out, err) = bench.said();
    assert_eq!(out, "a\nb\nc\n");
    assert_eq!(err, ["b.ini:2: bogus: unknown command; help lists them"]);
    assert_eq!(
        bench.err("source none", 1).await,
        "c_init: source: none: no such file"
    );
}

#[tokio::test]
async fn c2_a_file_that_sources_itself_comes_to_an_end() {
    let bench = Bench::new();
    bench.file("loop.ini", "source loop.ini\n");
    assert_eq!(bench.line("source loop.ini").await, 1);
    let (_, err) = bench.said();
    assert_eq!(err.len(), 1);
    assert!(
        err[0].starts_with("loop.ini:1: source: files source each other"),
        "{err:?}"
    );
}
