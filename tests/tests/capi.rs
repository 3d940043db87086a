//! The C API (`runtime/capi`): its headers, each call's answers, a group of three languages.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refrain_tests::programs::{
    c_source, headers, installed, put_libhr, with_libhr, with_libhr_file,
};
use refrain_tests::{Options, Site, proc, run};
use rustix::process::Signal;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The headers, as a program includes them.
fn header_names() -> Vec<String> {
    let root = headers();
    let (mut found, mut places) = (Vec::new(), vec![root.clone()]);
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Has a compiler look at a text.
fn looks_good(compiler: &Path, flags: &[&str], text: &str, what: &str) {
    let mut command = Command::new(compiler);
    let include = format!("-I{}", headers().display());
    command
        .args(flags)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"])
        .args([&include, "-"]);
    let _ = run::to_end(&mut command, Some(text.as_bytes())).expect_ok(what);
}

const C: &[&str] = &["-std=c99", "-x", "c"];
const CPP: &[&str] = &["-std=c++11", "-x", "c++"];

#[test]
fn every_header_stands_alone_in_c99_and_in_cpp11() {
    let names = header_names();
    assert!(names.len() >= 8, "{names:?}");
    let Some(cc) = installed("cc") else { return };
    let cpp = installed("c++");
    for name in names {
        let text = format!("#include <{name}>\nint main(void) {{ return 0; }}\n");
        looks_good(&cc, C, &text, &name);
        if let Some(cpp) = &cpp {
            looks_good(cpp, CPP, &text, &name);
        }
    }
}

#[test]
fn what_the_guides_write_compiles_without_a_warning() {
    let text = r#"
        #include <hr/hr.h>
        #define HR_GROUP "HELLO_GROUP"
        #ifdef __cplusplus
        extern "C" {
        #endif
        extern KnError pmmAllocate(VmAddr *addr, PmmName *name, size_t size, PmmDelKey delKey, size_t delKeySize);
        extern int pmmFree(PmmName *name);
        extern int pmmFreeAll(PmmDelKey delKey, size_t delKeySize);
        extern int hrGetActorGroup(int aid);
        #ifdef __cplusplus
        }
        #endif
        int main(void) {
            int *counter = NULL;
            static PmmName name = { "RAM", "myname" };
            PmmDelKey key = "key";
            char delKey[] = "mykey";
            struct { int a; char b[4]; } structure = { 1, "abc" };
            KnError res = pmmAllocate((VmAddr*)&counter, &name, sizeof(int), HR_GROUP_KEY, HR_GROUP_KEYSIZE);
            res |= pmmAllocate((VmAddr*)&counter, &name, sizeof(int), HR_GROUP, sizeof(HR_GROUP));
            res |= pmmAllocate((VmAddr*)&counter, &name, sizeof(int), delKey, sizeof(delKey));
            res |= pmmAllocate((VmAddr*)&counter, &name, sizeof(int), key, sizeof(PmmDelKey));
            KnError (*allocate)(VmAddr *, PmmName *, size_t, PmmDelKey, size_t) = pmmAllocate;
            KnError (*all)(PmmDelKey, size_t) = pmmFreeAll;
            res |= pmmAllocate((VmAddr*)&counter, &name, sizeof(int), NULL, 0);
            res |= pmmFreeAll((char *)&structure, sizeof(structure));
        #ifdef __cplusplus
            const char constant[] = "const";
            res |= pmmFreeAll(&structure, sizeof(structure)) | pmmFreeAll(constant, sizeof(constant));
        #endif
            res |= all(key, sizeof(key)) | allocate((VmAddr*)&counter, &name, 1, key, sizeof(key));
            return res == K_OK ? HR_EXIT_HDL() : (int)HR_GROUP_KEY_SIZE;
        }
    "#;
    for (compiler, flags) in [("cc", C), ("c++", CPP)] {
        if let Some(compiler) = installed(compiler) {
            looks_good(&compiler, flags, text, "the guides' keys");
        }
    }
}

#[test]
fn the_program_on_the_page_of_the_c_api_compiles() {
    let page = fs::read_to_string(repository().join("docs/c-api.md")).unwrap();
    let block = page.split_once("```c\n").unwrap().1;
    let text = block.split_once("```").unwrap().0;
    if let Some(cc) = installed("cc") {
        looks_good(&cc, C, text, "docs/c-api.md");
    }
}

#[test]
fn programs_in_c_are_programs_in_cpp() {
    let Some(cpp) = installed("c++") else { return };
    for program in ["calls", "chorus_guide"] {
        let text = fs::read_to_string(c_source(program)).unwrap();
        looks_good(&cpp, CPP, &text, program);
    }
}

/// What `calls.c` has written: each call, and its answer.
fn calls(site: &Site, out: &str) -> BTreeMap<String, String> {
    site.wait_line(out, |line| line == "done");
    let lines = site.lines(out);
    let answers = lines.iter().filter_map(|line| line.split_once(": "));
    let answers = answers.map(|(call, answer)| (call.to_owned(), answer.to_owned()));
    answers.collect()
}

#[track_caller]
fn answered(answers: &BTreeMap<String, String>, wanted: &str) {
    for line in wanted
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (answer, calls) = line.split_once(": ").unwrap();
        for call in calls.split(", ") {
            let given = answers.get(call).map(String::as_str);
            assert_eq!(given, Some(answer), "{call}");
        }
    }
}

#[test]
fn h6_to_h24_each_call_of_a_restartable_actor_answers_as_its_header_says() {
    let site = Site::start();
    let (program, out) = (with_libhr("calls", site.dir()), site.file("out"));
    site.arun([
        "-g",
        "1",
        program.to_str().unwrap(),
        out.to_str().unwrap(),
        "/bin/sleep",
    ]);
    let answers = calls(&site, "out");
    answered(
        &answers,
        "K_OK: allocate, allocate again, allocate with a structure, allocate with the group's key
         yes: same address, address kept, a capability
         K_ESIZE: allocate another size, allocate a long key, free all of a long key
         K_EFAULT: allocate to nowhere, allocate no name, allocate no key of 4 bytes, free no name
         K_EFAULT: free all of no key, self to nowhere, shutdown no words, shutdown a null word
         K_EPRIV: allocate a system key, allocate a system name, free a system name
         K_EPRIV: free all of the group, free all of a system key
         K_EINVAL: allocate on disk, allocate an empty name, allocate a/b, allocate a name without end
         K_EINVAL: allocate nothing, free on disk, free all of zeros
         K_EINVAL: shutdown level 4, shutdown -i9, shutdown -i, shutdown nothing
         K_EFULL: allocate too much
         K_EUNKNOWN: free again, free all again
         K_OK: free, free all, allocate the longest key, free all of the longest key
         K_OK: allocate without a key, free without a key, free of the group, self
         ok: own aid, own capability, spawn, its capability, its group is ours, spawn along PATH, exit handler
         EFAULT: capability to nowhere, spawn no name, spawn no path, spawn no argv, spawn no envp
         ESRCH: capability of nobody, group of nobody, group of aid 0, group of a negative aid
         EINVAL: kill a negative group, spawn no argument, spawn no variable, spawn on disk
         EPERM: kill another group
         EEXIST: spawn what is alive
         ENOENT: spawn nobody, spawn nobody along PATH, spawn without its stdin
         EACCES: spawn a file
         E2BIG: spawn with too much
         ENOTSUP: spawn a supervisor, spawn in another root",
    );
    assert!(site.blocks().is_empty(), "all were freed");
}

#[test]
fn h2_h16_an_ordinary_actor_has_blocks_and_not_the_hot_restart_api() {
    let site = Site::start();
    let (program, out) = (with_libhr("calls", site.dir()), site.file("out"));
    site.arun([
        program.to_str().unwrap(),
        out.to_str().unwrap(),
        "/bin/sleep",
    ]);
    answered(
        &calls(&site, "out"),
        "K_OK: allocate, allocate again, free, free all, self
         K_EPRIV: allocate with the group's key
         EPERM: group of nobody, kill another group, spawn, capability of nobody
         ok: own aid, own capability, exit handler",
    );
}

#[test]
fn h2_a_program_that_was_started_by_hand_is_told_so_and_does_not_crash() {
    let site = Options::new().prepare();
    let program = with_libhr("calls", site.dir());
    let mut command = Command::new(program);
    command.arg(site.file("out")).arg("/bin/sleep");
    let mut child = run::spawn(&mut command);
    let answers = calls(&site, "out");
    child.kill().unwrap();
    child.wait().unwrap();
    answered(
        &answers,
        "K_ENOTAVAILABLE: allocate, free, free all, self
         K_EFAULT: allocate no name, free no name, self to nowhere
         EPERM: own aid, own capability, group of nobody, kill another group, spawn, exit handler
         EFAULT: spawn no name, spawn no argv",
    );
}

#[test]
fn h15_h26_a_program_written_from_the_guide_runs_as_the_guide_says() {
    let mut site = Options::new().prepare();
    let program = with_libhr("chorus_guide", site.dir());
    site.write("sysadm.ini", format!("arun -g 3 {}\n", program.display()));
    let finished = run::to_end(site.starter().args(["--once", "sysadm.ini"]), None);
    site.wait_down();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for said in [
        "Hello world!",
        "Hello again! I have been restarted, in group 3.",
        "The child ran 2 times, the site was restarted.",
    ] {
        assert_eq!(
            finished.out.matches(said).count(),
            1,
            "{said}: {finished:?}"
        );
    }
}

#[test]
fn h12_an_actor_parameter_says_where_the_new_life_reads_and_writes() {
    let site = Site::start();
    let source = r#"
        #include <hr/hr.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            PmmName name = { "RAM", "cat" };
            AcParam param;
            char environment[] = "WORD=spoken", *envp[] = { environment, NULL };
            memset(&param, 0, sizeof(param));
            param.acStdin = argv[1];
            param.acStdout = argv[2];
            param.acCurdir = argv[3];
            if (argc < 4 || hrfexecle(&name, "/bin/sh", NULL, &param, "sh", "-c",
                                      "cat; pwd; echo $WORD $HOME; sleep 1000", (char *)NULL, envp) < 0)
                return 1;
            for (;;)
                pause();
        }
    "#;
    let program = with_libhr_file(&site.write("spawner.c", source), site.dir());
    let (asked, said) = (site.write("asked", "read\n"), site.file("said"));
    let words = [&program, &asked, &said, Path::new("/usr")].map(|it| it.to_str().unwrap());
    site.arun([&["-g", "1"], &words[..]].concat());
    assert_eq!(site.wait_lines("said", 3), ["read", "/usr", "spoken"]);
    assert_eq!(site.runs("cat", 0).kind, "indirect");
}

#[test]
fn h9_a_group_of_a_c_a_rust_and_a_python_actor_restarts_as_one() {
    let Some(python) = installed("python3") else {
        return;
    };
    let site = Options::new().never_bad().start();
    put_libhr(site.dir());
    let module = repository().join("runtime/capi/python/refrain.py");
    fs::copy(module, site.file("refrain.py")).unwrap();
    let c = site.write(
        "member.c",
        r#"
        #include <hr/hr.h>
        #include <unistd.h>
        int main(void) {
            PmmName name = { "RAM", "lives.c" };
            int *lives;
            if (pmmAllocate((VmAddr *)&lives, &name, sizeof(int), HR_GROUP_KEY, HR_GROUP_KEYSIZE) != K_OK)
                return 1;
            *lives += 1;
            for (;;)
                pause();
        }
        "#,
    );
    let c = with_libhr_file(&c, site.dir()).display().to_string();
    let script = site.write(
        "member.py",
        "import refrain, signal\n\
         words = refrain.allocate('lives.python', 4096).view.cast('Q')\n\
         words[0] += 1\n\
         me = refrain.attach()\n\
         seen = refrain.allocate('lives.c', 4).view.cast('I')[0]\n\
         with open('python.out', 'a') as out:\n\
         \x20   print(me.life, words[0], refrain.group_of(me.aid), seen >= me.life, file=out)\n\
         signal.pause()\n",
    );
    let (python, script) = (python.display().to_string(), script.display().to_string());
    site.arun(["-g", "1", "-n", "c", c.as_str()]);
    site.runs("c", 0);
    site.actor(
        1,
        "rust",
        "groupie",
        &[
            "alloc",
            "lives.rust",
            "4096",
            "group",
            "add",
            "lives.rust",
            "park",
        ],
    );
    site.arun(["-g", "1", "-n", "python", &python, &script]);
    // Each fails in its turn, and takes the two others along.
    for (life, victim) in ["c", "python", "rust"].iter().enumerate() {
        let before = ["c", "rust", "python"].map(|name| site.runs(name, life as u32));
        site.wait_lines("python.out", life + 1);
        site.wait_lines("rust", life + 1);
        proc::kill(site.runs(victim, life as u32).pid(), Signal::KILL);
        for old in before {
            let new = site.runs(&old.name, life as u32 + 1);
            assert_ne!(
                (new.aid, new.pid, new.capability),
                (old.aid, old.pid, old.capability)
            );
        }
    }
    let python = site.wait_lines("python.out", 4);
    assert_eq!(
        python,
        ["0 1 1 True", "1 2 1 True", "2 3 1 True", "3 4 1 True"]
    );
    site.wait_lines("rust", 4);
    assert_eq!(site.blocks().len(), 3);
}

#[test]
fn h14_to_h24_the_python_module_answers_as_the_library_does() {
    let Some(python) = installed("python3") else {
        return;
    };
    let site = Site::start();
    put_libhr(site.dir());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (from, to) in [
        ("../runtime/capi/python/refrain.py", "refrain.py"),
        ("actors/python/calls.py", "calls.py"),
    ] {
        fs::copy(here.join(from), site.file(to)).unwrap();
    }
    let paths = [python, site.file("calls.py"), site.file("out")];
    let paths = paths.each_ref().map(|path| path.to_str().unwrap());
    site.arun([&["-g", "4", "-n", "calls"], &paths[..]].concat());
    site.wait_forgotten("calls");
    // K_ESIZE, K_EUNKNOWN, EEXIST, ESRCH, K_EINVAL, EPERM; the module checks the length of a name itself.
    let wanted = r"me True 0 32
block 5000 b'\x00\x00\x00\x00'
again b'kept' True
size -34 told
key -34 told
name None told
free -2 told
free_all -2 told
spawn 4 17 told
group_of 3 told
shutdown -22 told
kill_group 1 told";
    assert_eq!(site.lines("out").join("\n"), wanted);
    assert!(site.aps().is_empty() && site.blocks().is_empty());
}

#[test]
fn h6_a_capability_is_told_to_members_of_the_group_and_to_nobody_else() {
    let site = Site::start();
    let source = r#"
        #include <errno.h>
        #include <hr/hr.h>
        #include <stdio.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            FILE *out = fopen(argv[1], "w");
            KnCap cap;
            for (int i = 2; i < argc; i++) {
                unsigned char *byte = (unsigned char *)&cap;
                if (acap(atoi(argv[i]), &cap) == 0)
                    for (size_t at = 0; at < sizeof(cap); at++)
                        fprintf(out, "%02x", byte[at]);
                else
                    fputs(errno == EPERM ? "EPERM" : errno == ESRCH ? "ESRCH" : "?", out);
                fputc('\n', out);
            }
            fclose(out);
            for (;;)
                pause();
        }
    "#;
    let program = with_libhr_file(&site.write("asker.c", source), site.dir());
    let member = site.arun(["-g", "1", "-n", "member", "sleep", "1000"]);
    let other = site.arun(["-g", "2", "-n", "other", "sleep", "1000"]);
    let ordinary = site.arun(["-n", "ordinary", "sleep", "1000"]);
    let ended = site.arun(["-g", "3", "-n", "ended", "sleep", "1000"]);
    site.ok("akill -g 3");
    let aids = [member, other, ordinary, ended].map(|aid| aid.to_string());
    let out = site.file("out");
    let mut words = vec!["-g", "1", program.to_str().unwrap(), out.to_str().unwrap()];
    words.extend(aids.iter().map(String::as_str));
    site.arun(words);
    let capability = site.runs("member", 0).capability.unwrap();
    let told = site.wait_lines("out", 4);
    assert_eq!(told, [capability.as_str(), "EPERM", "EPERM", "ESRCH"]);
}
