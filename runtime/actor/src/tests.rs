//! The life's side of the protocol, against a peer that speaks the controller's side of it over a
//! real socket pair. What the controller decides is not played here; system tests have the real one.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use refrain_abi::Serial;
use refrain_abi::request::{MAX_EXEC_BLOB, MAX_FRAME, Reply, Request};
use refrain_sys::mapping::{ControlPageMapping, create_control_page};
use refrain_sys::{memfd, seqpacket};

use crate::*;

const PAGE: u64 = 4096;
/// Where these tests map blocks: the default window of a site (`pmm.window_base`).
const WINDOW: u64 = 0x1000_0000_0000;

type Said = (Reply, Vec<OwnedFd>);

fn say(socket: &OwnedFd, seq: u32, (reply, fds): Said) {
    let mut frame = [0; MAX_FRAME];
    let len = reply.encode(seq, &mut frame).unwrap();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    seqpacket::send(socket, &frame[..len], &fds).unwrap();
}

/// An attached life whose later requests `answer` answers: sequence number, request, fds.
fn life_with(
    mut answer: impl FnMut(&OwnedFd, u32, Request, Vec<OwnedFd>) -> Option<Said> + Send + 'static,
) -> (Actor, ControlPageMapping) {
    let (life, controller) = seqpacket::pair().unwrap();
    let (page_fd, page) = create_control_page().unwrap();
    let mut welcome = Some((
        Reply::Welcome {
            aid: Aid(7),
            gid: Some(Gid(1)),
            life: LifeNo(2),
            serial: Serial(41),
            capability: Capability([5; 16]),
        },
        vec![page_fd],
    ));
    thread::spawn(move || {
        let mut frame = [0; MAX_FRAME];
        loop {
            let received = seqpacket::recv(&controller, &mut frame, 4).unwrap();
            if received.is_closed() {
                return;
            }
            let (seq, request) = Request::decode(&frame[..received.len]).unwrap();
            let said = match request {
                Request::Hello => welcome.take(),
                other => answer(&controller, seq, other, received.fds),
            };
            match said {
                Some(said) => say(&controller, seq, said),
                None => return,
            }
        }
    });
    (Actor::over(life).unwrap(), page)
}

fn block_file() -> File {
    let file = File::from(memfd::create("block", false).unwrap());
    file.set_len(PAGE).unwrap();
    file
}

fn block_at(addr: u64, file: &File, existed: bool) -> Said {
    let reply = Reply::Block {
        addr,
        size: PAGE,
        existed,
    };
    (reply, vec![file.try_clone().unwrap().into()])
}

/// A life that is handed these blocks, one a `pmm_allocate`; frees are carried out.
fn life_with_blocks(mut blocks: Vec<Said>) -> Actor {
    blocks.reverse();
    life_with(move |_, _, request, _| match request {
        Request::PmmAllocate { .. } => blocks.pop(),
        _ => Some((Reply::Done { count: 1 }, vec![])),
    })
    .0
}

#[test]
fn h6_the_welcome_gives_the_credentials_of_this_life() {
    let (actor, _page) = life_with(|_, _, _, _| None);
    assert_eq!((actor.aid(), actor.gid()), (Aid(7), Some(Gid(1))));
    assert_eq!(
        (actor.life(), actor.capability()),
        (LifeNo(2), Capability([5; 16]))
    );
}

#[test]
fn h21_the_exit_handler_stores_the_serial_of_this_life() {
    let (actor, page) = life_with(|_, _, _, _| None);
    assert_eq!(page.clean.load(SeqCst), 0);
    actor.hr_exit_hdl();
    assert_eq!(page.clean.load(SeqCst), 41);
}

#[test]
fn h34_a_promise_is_in_the_page_when_the_controller_is_told_and_progress_is_one_addition() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&seen);
    let (actor, page) = life_with(move |_, _, request, _| {
        noted.lock().unwrap().push(request);
        Some((Reply::Done { count: 0 }, vec![]))
    });
    actor.progress();
    actor.progress();
    assert_eq!(page.progress.load(SeqCst), 2);
    assert_eq!(*seen.lock().unwrap(), [], "nobody is asked");
    let second = std::time::Duration::from_secs(1);
    actor.promise_progress(second).unwrap();
    assert_eq!(page.promise_of(Serial(41)), Some(1000));
    assert_eq!(page.progress.load(SeqCst), 3, "a period begins with it");
    actor.promise_progress(std::time::Duration::ZERO).unwrap();
    assert_eq!(page.promise_of(Serial(41)), None);
    assert_eq!(*seen.lock().unwrap(), [Request::Promise, Request::Promise]);
}

#[test]
fn h2_a_refusal_carries_the_controllers_code_and_its_very_words() {
    let words = "collector is an ordinary actor; run it with arun -g to use the hot-restart API";
    let refuse = move |_: &OwnedFd, _, _, _| Some((Reply::error(ErrorCode::Denied, words), vec![]));
    let (actor, _page) = life_with(refuse);
    let killed = actor.hr_kill_group(Gid(1)).unwrap_err();
    assert_eq!(
        (killed.code(), killed.to_string()),
        (Some(ErrorCode::Denied), words.to_owned())
    );
    let freed = actor.pmm_free("x").unwrap_err();
    assert_eq!(
        (freed.code(), freed.to_string()),
        (Some(ErrorCode::Denied), words.to_owned())
    );
    let spawned = actor.hrfexec(Exec::new("/bin/true")).unwrap_err();
    assert_eq!(
        (spawned.code(), spawned.to_string()),
        (Some(ErrorCode::Denied), words.to_owned())
    );
}

#[test]
fn h14_the_group_of_an_ordinary_actor_is_none_and_a_reply_of_another_kind_is_refused() {
    let (actor, _page) = life_with(|_, _, request, _| match request {
        Request::GetActorGroup { aid: Aid(8) } => {
            Some((Reply::Group { gid: Some(Gid(3)) }, vec![]))
        }
        Request::GetActorGroup { .. } => Some((Reply::Group { gid: None }, vec![])),
        _ => Some((Reply::Started { aid: Aid(1) }, vec![])),
    });
    assert_eq!(actor.hr_get_actor_group(Aid(8)).unwrap(), Some(Gid(3)));
    assert_eq!(actor.hr_get_actor_group(Aid(9)).unwrap(), None);
    let error = actor.sys_shutdown(1).unwrap_err();
    assert!(matches!(
        error,
        HrError::Request(RequestError::Protocol {
            asked: "sys_shutdown"
        })
    ));
}

#[test]
fn a_reply_to_another_request_is_dropped() {
    let (actor, _page) = life_with(|socket, seq, _, _| {
        say(
            socket,
            seq - 1,
            (
                Reply::Group { gid: Some(Gid(66)) },
                vec![block_file().into()],
            ),
        );
        say(
            socket,
            seq + 1,
            (Reply::Group { gid: Some(Gid(67)) }, vec![]),
        );
        Some((Reply::Group { gid: Some(Gid(3)) }, vec![]))
    });
    assert_eq!(actor.hr_get_actor_group(Aid(8)).unwrap(), Some(Gid(3)));
}

#[test]
fn h31_a_second_answer_to_a_request_is_dropped_with_its_fd() {
    use refrain_abi::request::ErrorCode;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut writer = Some(OwnedFd::from(writer));
    let (actor, _page) = life_with(move |socket, seq, _, _| {
        let group = |gid| Reply::Group { gid: Some(gid) };
        // What two controllers say to one request, then what the second says to the next.
        let Some(writer) = writer.take() else {
            return Some((group(Gid(2)), vec![]));
        };
        say(socket, seq, (group(Gid(1)), vec![]));
        say(socket, seq, (group(Gid(66)), vec![writer]));
        Some((Reply::error(ErrorCode::Again, "look"), vec![]))
    });
    for gid in [1, 2] {
        let group = actor.hr_get_actor_group(Aid(8)).unwrap();
        assert_eq!(group, Some(Gid(gid)));
    }
    let mut nothing = Vec::new();
    assert_eq!(reader.read_to_end(&mut nothing).unwrap(), 0);
}

#[test]
fn a_controller_that_is_gone_is_said_not_to_answer() {
    let (actor, _page) = life_with(|_, _, _, _| None);
    for _ in 0..2 {
        let error = actor.hr_get_actor_group(Aid(8)).unwrap_err();
        assert!(
            matches!(error, HrError::Request(RequestError::NoAnswer)),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .starts_with("the site's controller does not answer")
        );
    }
}

#[test]
fn h15_a_name_allocated_twice_in_a_life_is_one_mapping_at_the_address_named() {
    let addr = WINDOW + 0x10_0000;
    let file = block_file();
    let actor = life_with_blocks(vec![
        block_at(addr, &file, false),
        block_at(addr, &file, true),
    ]);
    let first = actor.pmm_allocate("counter", 1, HR_GROUP_KEY).unwrap();
    let second = actor.pmm_allocate("counter", 1, HR_GROUP_KEY).unwrap();
    assert_eq!((first.existed(), second.existed()), (false, true));
    assert_eq!((first.len(), first.name()), (PAGE as usize, "counter"));
    assert_eq!(first.as_ptr().addr().get() as u64, addr);
    first.atomic_u64(8).unwrap().store(99, SeqCst);
    drop(first);
    assert_eq!(second.atomic_u64(8).unwrap().load(SeqCst), 99);
}

#[test]
fn h17_a_freed_block_makes_room_for_its_successor_once_no_handle_is_left() {
    let addr = WINDOW + 0x20_0000;
    let (old, new) = (block_file(), block_file());
    let actor = life_with_blocks(vec![
        block_at(addr, &old, false),
        block_at(addr, &new, false),
        block_at(addr, &new, true),
    ]);
    let handle = actor.pmm_allocate("a", PAGE, HR_GROUP_KEY).unwrap();
    handle.atomic_u64(0).unwrap().store(1, SeqCst);
    actor.pmm_free("a").unwrap();
    // Another name: the bank may put any block where a freed one was.
    let error = actor.pmm_allocate("b", PAGE, HR_GROUP_KEY).unwrap_err();
    assert!(matches!(error, PmmError::PlaceTaken { .. }), "{error:?}");
    assert_eq!(
        handle.atomic_u64(0).unwrap().load(SeqCst),
        1,
        "a handle keeps its memory"
    );
    drop(handle);
    let successor = actor.pmm_allocate("b", PAGE, HR_GROUP_KEY).unwrap();
    assert_eq!(successor.atomic_u64(0).unwrap().load(SeqCst), 0);
}

#[test]
fn h17_a_block_that_another_actor_freed_and_allocated_anew_is_mapped_anew() {
    let addr = WINDOW + 0x30_0000;
    let (old, new) = (block_file(), block_file());
    let actor = life_with_blocks(vec![
        block_at(addr, &old, false),
        block_at(addr, &new, true),
    ]);
    let before = actor.pmm_allocate("a", PAGE, HR_GROUP_KEY).unwrap();
    before.atomic_u64(0).unwrap().store(1, SeqCst);
    drop(before);
    let after = actor.pmm_allocate("a", PAGE, HR_GROUP_KEY).unwrap();
    assert_eq!(after.atomic_u64(0).unwrap().load(SeqCst), 0);
}

#[test]
fn h11_a_block_is_never_mapped_over_what_is_there() {
    let taken = std::ptr::from_ref(&PAGE).addr() as u64 & !(PAGE - 1);
    let actor = life_with_blocks(vec![block_at(taken, &block_file(), false)]);
    let error = actor.pmm_allocate("a", PAGE, HR_GROUP_KEY).unwrap_err();
    assert!(
        matches!(error, PmmError::PlaceTaken { addr, .. } if addr == taken),
        "{error:?}"
    );
}

#[test]
fn bytes_are_read_and_written_at_any_place_in_a_block_and_nowhere_else() {
    let addr = WINDOW + 0x40_0000;
    let actor = life_with_blocks(vec![block_at(addr, &block_file(), false)]);
    let block = actor.pmm_allocate("text", PAGE, HR_GROUP_KEY).unwrap();
    let mut model = vec![0_u8; PAGE as usize];
    for (offset, len) in [
        (0, 1),
        (7, 2),
        (9, 30),
        (16, 8),
        (4090, 6),
        (100, 0),
        (4096, 0),
    ] {
        let bytes: Vec<u8> = (0..len).map(|n| (n + offset) as u8 | 1).collect();
        block.write(offset, &bytes).unwrap();
        model[offset..offset + len].copy_from_slice(&bytes);
        let mut back = vec![0; len];
        block.read(offset, &mut back).unwrap();
        assert_eq!(back, bytes);
    }
    let mut whole = vec![0; PAGE as usize];
    block.read(0, &mut whole).unwrap();
    assert_eq!(whole, model);

    assert!(matches!(
        block.write(4090, &[1; 7]),
        Err(PlaceError::Outside { .. })
    ));
    assert!(matches!(
        block.read(usize::MAX, &mut [0; 2]),
        Err(PlaceError::Outside { .. })
    ));
    assert!(matches!(
        block.atomic_u64(4096),
        Err(PlaceError::Outside { .. })
    ));
    assert!(matches!(
        block.atomic_u64(4),
        Err(PlaceError::Unaligned { .. })
    ));
    block.read(0, &mut whole).unwrap();
    assert_eq!(whole, model, "a refused write has written nothing");
}

#[test]
fn a_text_that_is_no_name_is_refused_unasked() {
    let (actor, _page) = life_with(|_, _, _, _| panic!("nothing is asked"));
    let error = actor.pmm_allocate("a/b", 1, HR_GROUP_KEY).unwrap_err();
    let words = "\"a/b\" is no name of a block: a name holds no slash, space or control character";
    assert_eq!(error.to_string(), words);
}

#[test]
fn h2_hrfexec_passes_every_string_and_the_stdio_it_was_given() {
    let (log, input) = (block_file(), block_file());
    let inodes = [&input, &log].map(|file| file.metadata().unwrap().ino());
    let (actor, _page) = life_with(move |_, _, request, mut fds| {
        let Request::Hrfexec { blob, argc, envc } = request else {
            panic!("{request:?}")
        };
        let mut strings = File::from(fds.pop().unwrap());
        strings.rewind().unwrap();
        let mut text = Vec::new();
        strings.read_to_end(&mut text).unwrap();
        assert!(strings.set_len(0).is_err(), "sealed against its sender");
        let inode = |fd: &OwnedFd| {
            File::from(fd.try_clone().unwrap())
                .metadata()
                .unwrap()
                .ino()
        };
        assert_eq!([inode(&fds[0]), inode(&fds[1])], inodes);
        assert_eq!(
            inode(&fds[2]),
            inode(&std::io::stderr().as_fd().try_clone_to_owned().unwrap())
        );
        let expected = b"child-1\0bin/child\0/tmp\0child\0-v\0\0A=2\0B==\0";
        assert_eq!(
            (text.as_slice(), blob as usize),
            (expected.as_slice(), expected.len())
        );
        assert_eq!((argc, envc), (3, 2));
        Some((Reply::Started { aid: Aid(12) }, vec![]))
    });
    let exec = Exec::new("bin/child")
        .name("child-1")
        .argv(["child", "-v"])
        .arg("")
        .envp(["DROPPED=1"])
        .envp(["A=1", "B=x"])
        .env("A", "2")
        .env("B", "=");
    let exec = exec.cwd("/tmp").stdin(&input).stdout(log);
    assert_eq!(actor.hrfexec(exec).unwrap(), Aid(12));
}

#[test]
fn hrfexec_refuses_unasked_what_no_program_can_be_given() {
    let (actor, _page) = life_with(|_, _, _, _| panic!("nothing is asked"));
    let error = actor.hrfexec(Exec::new("a\0b")).unwrap_err();
    assert_eq!(error.to_string(), "hrfexec: \"a\\0b\" holds a NUL byte");
    let error = actor.hrfexec(Exec::new("a").envp(["LANG"])).unwrap_err();
    assert!(matches!(error, ExecError::Variable { .. }), "{error:?}");
    let error = actor.hrfexec(Exec::new("a").env("", "x")).unwrap_err();
    assert!(matches!(error, ExecError::Variable { .. }), "{error:?}");
    let long = "x".repeat(MAX_EXEC_BLOB as usize);
    let error = actor.hrfexec(Exec::new("a").arg(long)).unwrap_err();
    assert!(matches!(error, ExecError::TooLong { .. }), "{error:?}");
}

/// A life that was welcomed, and sent `file` as block "b" of one page, before it asked for anything;
/// what it asks for all the same is counted in the page's word `progress` and refused.
fn life_sent_ahead(file: &File) -> (Actor, ControlPageMapping) {
    let (life, controller) = seqpacket::pair().unwrap();
    let (page_fd, page) = create_control_page().unwrap();
    let counter = refrain_sys::mapping::map_control_page(page_fd.as_fd()).unwrap();
    let welcome = Reply::Welcome {
        aid: Aid(0),
        gid: Some(Gid(1)),
        life: LifeNo(2),
        serial: Serial(41),
        capability: Capability([5; 16]),
    };
    say(&controller, 0, (welcome, vec![page_fd]));
    let ahead = Reply::BlockAhead {
        name: refrain_abi::BlockName::new("b").unwrap(),
        addr: WINDOW + (1 << 30),
        size: PAGE,
        epoch: 0,
    };
    say(
        &controller,
        0,
        (ahead, vec![file.try_clone().unwrap().into()]),
    );
    thread::spawn(move || {
        let mut frame = [0; MAX_FRAME];
        loop {
            let received = seqpacket::recv(&controller, &mut frame, 4).unwrap();
            if received.is_closed() {
                return;
            }
            counter.progress.fetch_add(1, SeqCst);
            let (seq, _) = Request::decode(&frame[..received.len]).unwrap();
            let refusal = Reply::error(ErrorCode::Invalid, "asked");
            say(&controller, seq, (refusal, vec![]));
        }
    });
    (Actor::over(life).unwrap(), page)
}

#[test]
fn h15_a_block_that_came_ahead_is_mapped_without_a_question() {
    let file = block_file();
    let (actor, page) = life_sent_ahead(&file);
    let block = actor.pmm_allocate("b", 5, HR_GROUP_KEY).unwrap();
    assert!(block.existed() && block.len() as u64 == PAGE);
    block.atomic_u64(8).unwrap().store(7, SeqCst);
    let mut bytes = [0; 16];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    assert_eq!(bytes[8], 7, "it is the file that came");
    assert_eq!((actor.life(), actor.gid()), (LifeNo(2), Some(Gid(1))));
    assert_eq!(page.progress.load(SeqCst), 0, "nothing was asked");
}

#[test]
fn h17_a_block_that_came_ahead_and_was_freed_since_is_asked_for() {
    let (actor, page) = life_sent_ahead(&block_file());
    page.block_epoch.store(1, SeqCst);
    let refused = actor.pmm_allocate("b", PAGE, HR_GROUP_KEY).unwrap_err();
    assert_eq!(refused.to_string(), "asked");
    page.block_epoch.store(0, SeqCst);
    let refused = actor.pmm_allocate("b", PAGE, HR_GROUP_KEY).unwrap_err();
    assert_eq!(refused.to_string(), "asked", "what was stale stays so");
}

#[test]
fn h15_a_block_that_came_ahead_with_another_size_is_the_controllers_to_refuse() {
    for size in [0, PAGE + 1, u64::MAX] {
        let (actor, _page) = life_sent_ahead(&block_file());
        let refused = actor.pmm_allocate("b", size, HR_GROUP_KEY).unwrap_err();
        assert_eq!(refused.to_string(), "asked", "{size} bytes");
    }
}

#[test]
fn h6_an_aid_that_was_not_known_yet_is_read_from_the_control_page_or_asked_for() {
    let (actor, page) = life_sent_ahead(&block_file());
    page.set_aid(Serial(40), Aid(8));
    assert_eq!(actor.aid(), Aid(0), "that is another life's");
    assert_eq!(page.progress.load(SeqCst), 1, "so it was asked for");
    page.set_aid(Serial(41), Aid(9));
    assert_eq!((actor.aid(), actor.aid()), (Aid(9), Aid(9)));
    assert_eq!(page.progress.load(SeqCst), 1);
}
