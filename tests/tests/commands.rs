//! The commands of SPEC C2 and their programs (C3): what they print and how they end.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::console::Console;
use refrain_tests::{Options, Site, binaries, proc, run, wait};
use rustix::process::Signal;

#[test]
fn c2_aps_shows_every_actor_on_a_line_of_its_own() {
    let site = Site::start();
    let aid = site.actor(3, "one", "crasher", &["park"]);
    site.ordinary("two", "crasher", &["park"]);
    site.runs("two", 0);
    let table = site.ok("aps");
    let line = table.lines().find(|line| line.contains("one")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(
        words.contains(&"3") && words.contains(&aid.to_string().as_str()),
        "{table}"
    );
    assert!(
        words.contains(&"direct") && words.contains(&"running"),
        "{table}"
    );
    assert!(
        table
            .lines()
            .any(|line| line.contains("two") && line.contains("ordinary")),
        "{table}"
    );
    assert_eq!(site.applet("aps", [""; 0]).expect_ok("aps"), site.ok("aps"));
    assert!(table.lines().next().unwrap().contains("NAME"), "{table}");
}

#[test]
fn c2_the_json_of_aps_has_every_field_of_the_contract() {
    let site = Site::start();
    site.actor(3, "one", "crasher", &["park"]);
    site.ordinary("two", "crasher", &["park"]);
    let rows: serde_json::Value = serde_json::from_str(&site.ok("aps --json")).unwrap();
    let fields = [
        "name",
        "gid",
        "aid",
        "capability",
        "pid",
        "kind",
        "mode",
        "state",
        "life",
        "restarts",
        "start",
        "last_end",
    ];
    for row in rows.as_array().unwrap() {
        assert!(fields.iter().all(|field| row.get(field).is_some()), "{row}");
    }
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&Site::start().ok("aps --json")).unwrap(),
        serde_json::json!([])
    );
}

#[test]
fn c2_umask_and_ulimit_are_given_to_actors_started_afterwards() {
    let site = Site::start();
    let report = "umask; ulimit -Sn; ulimit -Hn; exec sleep 100000";
    let show = |name: &str| -> Vec<String> {
        let out = site.file(name).display().to_string();
        site.arun([
            "-g",
            "1",
            "-n",
            name,
            "/bin/sh",
            "-c",
            &format!("exec >> {out}; {report}"),
        ]);
        site.wait_lines(name, 3)
    };
    let before = show("before");
    site.ok("umask 027");
    assert_eq!(site.ok("umask").trim().trim_start_matches('0'), "27");
    site.ok("ulimit -S -n 77");
    site.ok("ulimit -H -n 99");
    assert_eq!(site.ok("ulimit -S -n").trim(), "77");
    assert!(site.ok("ulimit -a").lines().count() > 5);
    let after = show("after");
    assert_eq!(after, ["0027", "77", "99"]);
    // In every life of it, and only of it.
    proc::kill(site.runs("before", 0).pid(), Signal::KILL);
    assert_eq!(site.wait_lines("after", 6)[3..], after);
    assert_eq!(site.wait_lines("before", 6)[3..], before);
}

#[test]
fn c2_setenv_unsetenv_and_env_keep_the_interpreters_environment() {
    let site = Options::new().env("INHERITED", "yes").start();
    site.ok("setenv COLOUR 'deep blue'");
    let env = site.ok("env");
    assert!(env.lines().any(|line| line == "COLOUR=deep blue"), "{env}");
    assert!(env.lines().any(|line| line == "INHERITED=yes"), "{env}");
    site.ok("unsetenv INHERITED");
    site.actor(1, "me", "crasher", &["report", "park"]);
    let line = site.wait_lines("me", 1).remove(0);
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["env"]["COLOUR"], "deep blue");
    assert!(report["env"].get("INHERITED").is_none());
}

#[test]
fn c1_words_are_split_as_a_shell_does() {
    let site = Site::start();
    assert_eq!(
        site.ok(r#"echo one  two 'three  four' "five 'six'" seven\ eight # nine"#),
        "one two three  four five 'six' seven eight\n"
    );
    assert_eq!(site.ok(""), "");
    assert_eq!(site.ok("# nothing"), "");
    let words = ["report", "park", "two words", "'", ""];
    site.actor(1, "me", "crasher", &words);
    let line = site.wait_lines("me", 1).remove(0);
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    let args: Vec<&str> = report["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|arg| arg.as_str())
        .collect();
    assert_eq!(args[2..], words, "an applet's words are not split again");
}

#[test]
fn c2_everything_after_the_path_belongs_to_the_program() {
    let site = Site::start();
    let crasher = binaries::path("crasher").display().to_string();
    let out = site.file("out").display().to_string();
    site.ok(&format!(
        "arun -g 1 {crasher} {out} report park -g 2 --json -n x"
    ));
    let report: serde_json::Value = serde_json::from_str(&site.wait_lines("out", 1)[0]).unwrap();
    assert_eq!(report["args"].as_array().unwrap().len(), 9);
    assert_eq!(site.runs("crasher", 0).gid, Some(1));
}

#[test]
fn c2_source_runs_a_file_and_sleep_takes_its_time() {
    let site = Site::start();
    site.write(
        "more",
        "echo one\nsetenv SOURCED yes\nsleep 0\n# done\necho two\n",
    );
    assert_eq!(site.ok("source more"), "one\ntwo\n");
    assert!(site.ok("env").contains("SOURCED=yes"));
    site.ok("sleep 0");
}

#[test]
fn c2_a_command_that_waits_holds_up_no_other_session() {
    let site = Site::start();
    let mut command = site.program("c_init");
    let mut sleeper = run::spawn(command.env_remove("REFRAIN_SITE").args([
        "--site",
        site.name(),
        "-c",
        "sleep 100000",
    ]));
    for _ in 0..5 {
        site.ok("echo here");
    }
    assert!(sleeper.try_wait().unwrap().is_none(), "it sleeps");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn c2_help_lists_every_command_and_explains_each() {
    let site = Site::start();
    let help = site.ok("help");
    let commands = [
        "arun",
        "akill",
        "aps",
        "umask",
        "ulimit",
        "setenv",
        "unsetenv",
        "env",
        "echo",
        "source",
        "sleep",
        "help",
        "memstat",
        "chorusStat",
        "console",
        "rshd",
        "restart",
        "reboot",
        "shutdown",
        "log",
    ];
    for command in commands {
        assert!(
            help.split(|c: char| !c.is_alphanumeric())
                .any(|word| word == command),
            "{command}: {help}"
        );
        let page = site.ok(&format!("help {command}"));
        assert!(page.contains(command) && page.lines().count() > 1, "{page}");
    }
    assert!(site.command("help bogus").err.contains("bogus"));
}

#[test]
fn c2_memstat_and_chorusstat_tell_what_there_is() {
    let site = Site::start();
    site.actor(
        4,
        "me",
        "groupie",
        &["alloc", "ledger", "8192", "group", "park"],
    );
    site.wait_lines("me", 1);
    let memory = site.memory();
    let block = &memory["blocks"][0];
    assert_eq!(
        (block["name"].as_str(), block["size"].as_u64()),
        (Some("ledger"), Some(8192))
    );
    assert_eq!(
        (block["gid"].as_u64(), block["group_key"].as_bool()),
        (Some(4), Some(true))
    );
    assert!(memory["images"].as_u64().unwrap() > 0 && memory["used"].as_u64().unwrap() >= 8192);
    assert!(site.ok("memstat").contains("ledger"));
    let stat = site.stat();
    assert_eq!(stat["site"].as_str(), Some(site.name()));
    assert_eq!(stat["actors"].as_u64(), Some(1));
    assert_eq!(stat["groups"][0]["gid"].as_u64(), Some(4));
    assert!(site.ok("chorusStat").contains(site.name()));
}

#[test]
fn c3_the_programs_do_what_the_commands_do_with_the_same_exit_codes() {
    let site = Site::start();
    let aid = site.arun(["-g", "1", "/bin/sleep", "100000"]);
    let refused = site
        .applet("arun", ["-g", "2", "/bin/sleep", "1"])
        .expect_refusal(1, "arun");
    assert!(refused.contains("group 1"), "{refused}");
    let _ = site.applet("arun", [""; 0]).expect_refusal(2, "arun");
    let _ = site.applet("memstat", ["--json"]).expect_ok("memstat");
    let _ = site
        .applet("chorusStat", ["--json"])
        .expect_ok("chorusStat");
    let _ = site.applet("akill", [aid.to_string()]).expect_ok("akill");
    assert!(site.aps().is_empty());
    let mut by_flag = site.program("aps");
    by_flag
        .env_remove("REFRAIN_SITE")
        .args(["--site", site.name(), "--json"]);
    assert_eq!(
        run::to_end(&mut by_flag, None)
            .expect_ok("aps --site")
            .trim(),
        "[]"
    );
}

#[test]
fn c3_a_relative_path_starts_where_the_caller_is() {
    let site = Site::start();
    let program = refrain_tests::programs::c_program("whereabouts", site.dir());
    assert!(program.is_absolute());
    site.arun(["-g", "1", "./whereabouts", "out"]);
    site.wait_lines("out", 1);
}

#[test]
fn c2_log_follows_what_an_actor_prints() {
    let site = Site::start();
    let go = site.file("go").display().to_string();
    site.actor(
        1,
        "singer",
        "crasher",
        &["say", "la", "wait", &go, "say", "lo", "park"],
    );
    wait::until_true("the log", || site.ok("log singer").contains("la"));
    let mut command = site.program("c_init");
    let console = Console::start(command.env_remove("REFRAIN_SITE").args([
        "--site",
        site.name(),
        "-c",
        "log singer -f",
    ]));
    console.wait_line("what was printed before", |line| line.contains("la"));
    site.write("go", "");
    console.wait_line("what is printed now", |line| line.contains("lo"));
}

#[test]
fn c5_commands_can_be_given_from_another_host() {
    let site = Site::start();
    let said = site.ok("rshd -p 0");
    let number = |text: &str| {
        text.trim_matches(|c: char| !c.is_ascii_digit())
            .parse::<u16>()
            .ok()
    };
    let port = said
        .split(|c: char| c.is_whitespace() || c == ':')
        .find_map(number);
    let port = port.unwrap_or_else(|| panic!("no port: {said}"));
    let key = said
        .split_whitespace()
        .max_by_key(|word| word.len())
        .unwrap()
        .to_owned();
    let talk = |key: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(wait::WATCHDOG)).unwrap();
        write!(stream, "{key}\narun -g 1 /bin/sleep 100000\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(
        !talk("wrong").contains("Started"),
        "who does not know the key commands nothing"
    );
    assert!(site.aps().is_empty());
    assert!(talk(&key).contains("Started aid = "));
    site.runs("sleep", 0);
}
