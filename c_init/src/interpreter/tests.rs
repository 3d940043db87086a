//! Tests of the interpreter with the commands that need no site.

use super::*;
use crate::talk::Talk;

#[tokio::test]
async fn c2_the_environment_is_remembered_from_command_to_command() {
    let talk = Talk::new();
    talk.out("setenv GREETING 'hello  world'").await;
    assert_eq!(talk.out("env").await, "GREETING=hello  world\nPATH=/bin\n");
    talk.out("unsetenv PATH").await;
    talk.out("unsetenv NEVER").await;
    assert_eq!(talk.out("env").await, "GREETING=hello  world\n");
    talk.err("setenv A=B c", 1).await;
    talk.err("setenv A", 2).await;
}

#[tokio::test]
async fn c2_echo_prints_its_words_whatever_they_look_like() {
    let talk = Talk::new();
    assert_eq!(
        talk.out("echo a 'b  c' -n --help # no").await,
        "a b  c -n --help\n"
    );
    assert_eq!(talk.out("echo --help").await, "--help\n");
    assert_eq!(talk.out("echo").await, "\n");
    assert_eq!(talk.out("   # only a comment").await, "");
}

#[tokio::test]
async fn c2_umask_and_ulimit_show_what_was_set() {
    let talk = Talk::new();
    talk.out("umask 027").await;
    assert_eq!(talk.out("umask").await, "0027\n");
    talk.err("umask 999", 2).await;
    talk.out("ulimit -n 100").await;
    assert_eq!(talk.out("ulimit -n").await, "100\n");
    assert_eq!(talk.out("ulimit -Hn").await, "100\n");
    talk.out("ulimit -Sn 50").await;
    assert_eq!(talk.out("ulimit -n").await, "50\n");
    assert_eq!(talk.out("ulimit -Hn").await, "100\n");
    talk.err("ulimit -Sn 200", 1).await;
    talk.err("ulimit -n many", 2).await;
    talk.err("ulimit -nf 1", 2).await;
    talk.out("ulimit -c 0").await;
    assert!(
        talk.out("ulimit -a")
            .await
            .contains("-c  core dump, in 512-byte blocks")
    );
}

#[tokio::test]
async fn c4_what_is_wrong_is_one_line_and_the_session_goes_on() {
    let talk = Talk::new();
    assert_eq!(
        talk.err("bogus 1 2", 2).await,
        "c_init: bogus: unknown command; help lists them"
    );
    let told = talk.err("arun --bogus x", 2).await;
    assert_eq!(
        told,
        "c_init: arun: unexpected argument '--bogus'; see help arun"
    );
    assert!(
        talk.err("echo 'a", 2)
            .await
            .starts_with("c_init: unbalanced quotes")
    );
    assert!(talk.err("echo a\0b", 2).await.contains("NUL"));
    assert!(
        talk.err("\u{1b}[2J", 2)
            .await
            .starts_with("c_init: \\u{1b}[2J: unknown")
    );
    assert!(
        talk.err(&format!("echo {}", "x".repeat(MAX_LINE)), 2)
            .await
            .contains("65536")
    );
    assert!(
        talk.err("help bogus", 1)
            .await
            .contains("no command 'bogus'")
    );
    assert!(talk.err("sleep -1", 2).await.contains("sleep"));
    assert!(talk.err("aps", 1).await.contains("no site"));
    assert_eq!(talk.out("echo still here").await, "still here\n");
}

#[tokio::test]
async fn c2_help_is_asked_for_in_two_ways() {
    let talk = Talk::new();
    let help = talk.out("help arun").await;
    assert_eq!(talk.out("arun --help").await, help);
    assert!(talk.out("help").await.contains("shutdown"));
}

#[tokio::test]
async fn c3_words_are_not_split_again() {
    let talk = Talk::new();
    let words = ["echo", "a b", "'", "#"].map(str::to_owned).to_vec();
    assert_eq!(talk.words(words).await, 0);
    assert_eq!(talk.said().0, "a b ' #\n");
}

#[tokio::test]
async fn h2_supervisor_actors_and_names_that_are_none_are_refused() {
    let talk = Talk::new();
    assert!(talk.err("arun -S x", 1).await.contains("embedding program"));
    assert!(
        talk.err("arun -S -U x", 2)
            .await
            .contains("cannot be used with")
    );
}

#[tokio::test]
async fn c1_sysadm_ini_takes_crlf_comments_and_a_last_line_without_end() {
    let talk = Talk::new();
    talk.file(
        "sysadm.ini",
        "# start\r\n\r\nsetenv A 1\r\necho 'x y'\r\nenv",
    );
    assert_eq!(talk.ini("sysadm.ini", IniMode::Start).await, 0);
    assert_eq!(talk.said(), ("x y\nA=1\nPATH=/bin\n".to_owned(), vec![]));
}

#[tokio::test]
async fn c4_a_bad_line_of_sysadm_ini_is_told_with_its_number_and_the_next_is_read() {
    let talk = Talk::new();
    let mut bytes = b"echo one\nbogus\necho 'two\necho \0\necho \xff\necho ".to_vec();
    bytes.extend(vec![b'x'; 1 << 20]);
    bytes.extend(b"\naps --bogus\necho last\n");
    talk.file("sysadm.ini", bytes);
    assert_eq!(talk.ini("sysadm.ini", IniMode::Start).await, 6);
    let (out, err) = talk.said();
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
    let talk = Talk::new();
    for (file, what) in [("none.ini", "no such file"), (".", "not a regular file")] {
        assert_eq!(talk.ini(file, IniMode::Start).await, 1);
        assert_eq!(talk.said().1, [format!("{file}: {what}")]);
    }
}

#[tokio::test]
async fn h25_a_restart_ignores_the_starts_of_restartable_actors_and_only_them() {
    let talk = Talk::new();
    talk.file("more.ini", "arun -g 2 /bin/true\necho more\n");
    talk.file(
        "sysadm.ini",
        "echo a\narun -g 1 /bin/true\nsource more.ini\narun /bin/true\necho b\n",
    );
    // Without a site, a start that is carried out fails: only the ordinary one is.
    assert_eq!(talk.ini("sysadm.ini", IniMode::Restart).await, 1);
    let (out, err) = talk.said();
    assert_eq!(out, "a\nmore\nb\n");
    assert_eq!(err.len(), 1);
    assert!(err[0].starts_with("sysadm.ini:4: arun: "), "{err:?}");
    assert_eq!(talk.ini("sysadm.ini", IniMode::Start).await, 3);
}

#[tokio::test]
async fn c2_source_tells_file_and_line_and_ends_at_exit() {
    let talk = Talk::new();
    talk.file("a.ini", "echo a\nsource b.ini\necho c\nexit\necho never\n");
    talk.file("b.ini", "echo b\nbogus\n");
    assert_eq!(talk.line("source a.ini").await, 1);
    let (out, err) = talk.said();
    assert_eq!(out, "a\nb\nc\n");
    assert_eq!(err, ["b.ini:2: bogus: unknown command; help lists them"]);
    assert_eq!(
        talk.err("source none", 1).await,
        "c_init: source: none: no such file"
    );
}

#[tokio::test]
async fn c2_a_file_that_sources_itself_comes_to_an_end() {
    let talk = Talk::new();
    talk.file("loop.ini", "source loop.ini\n");
    assert_eq!(talk.line("source loop.ini").await, 1);
    let (_, err) = talk.said();
    assert_eq!(err.len(), 1);
    assert!(
        err[0].starts_with("loop.ini:1: source: files source each other"),
        "{err:?}"
    );
}

#[tokio::test]
async fn c4_files_that_source_each_other_many_times_come_to_an_end() {
    let talk = Talk::new();
    talk.file("loop.ini", "source loop.ini\n".repeat(20));
    assert_eq!(talk.line("source loop.ini").await, 1);
    let (_, err) = talk.said();
    assert_eq!(err.len(), 1, "{err:?}");
    for depth in 0..12 {
        let next = format!("source {}.ini\n", depth + 1);
        talk.file(&format!("{depth}.ini"), next.repeat(10));
    }
    talk.file("12.ini", "");
    assert_eq!(talk.line("source 0.ini").await, 1);
    let (_, err) = talk.said();
    assert_eq!(err.len(), 1, "{err:?}");
    assert!(err[0].contains("more than 256 files"), "{err:?}");
    assert_eq!(talk.out("echo a").await, "a\n");
}

#[tokio::test]
async fn c4_a_line_of_sysadm_ini_that_never_ends_is_given_up_and_the_next_is_carried_out() {
    let talk = Talk::new();
    talk.file("loop.ini", "source loop.ini\nsource loop.ini\n");
    let ini = talk.file(
        "sysadm.ini",
        "source loop.ini\nsource loop.ini\necho after\n",
    );
    assert_eq!(talk.ini(ini.to_str().unwrap(), IniMode::Start).await, 2);
    let (out, err) = talk.said();
    assert_eq!((out.as_str(), err.len()), ("after\n", 2));
}
