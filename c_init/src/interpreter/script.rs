//! A file of commands: `sysadm.ini`, and what `source` names (SPEC C1, C4). A bad line is told
//! with file and number, and the next one is carried out all the same.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hr_ctrl::interpreter::IniMode;

use super::{Context, MAX_LINE};
use crate::commands::{CommandError, Flow};

/// Why a file of commands cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ScriptError {
    /// There is none.
    #[error("no such file")]
    Missing,
    /// A directory, a pipe, a device: reading it might never end.
    #[error("not a regular file")]
    NotRegular,
    /// The system says why.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Why a line is no text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum LineError {
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("the line is not UTF-8 text")]
    NotText,
}

/// Carries out the commands in `file`, a relative path of the session; answers how many failed.
///
/// # Errors
/// [`ScriptError`] when the file cannot be opened or read.
pub(crate) async fn run(cx: &Context<'_>, file: &Path) -> Result<u32, ScriptError> {
    carry_out(cx, file, |_| cx.ini()).await
}

/// As [`run`], of `sysadm.ini`: which lines are carried out says `mode`, and `reached` is told of those that
/// no hr_ctrl has carried out before.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_ini(
    cx: &Context<'_>,
    file: &Path,
    mode: IniMode,
    reached: &dyn Fn(u32),
) -> Result<u32, ScriptError> {
    let of_line = |number| match mode {
        IniMode::Adopt { from } if from.is_none_or(|from| number < from) => Some(mode),
        // This one may have been carried out, too.
        IniMode::Adopt { from } if from == Some(number) => {
            reached(number);
            Some(mode)
        }
        IniMode::Adopt { .. } | IniMode::Start => {
            reached(number);
            Some(IniMode::Start)
        }
        IniMode::Restart => Some(mode),
    };
    carry_out(cx, file, of_line).await
}

async fn carry_out(
    cx: &Context<'_>,
    file: &Path,
    mode_of: impl Fn(u32) -> Option<IniMode>,
) -> Result<u32, ScriptError> {
    let mut reader = open(&cx.session().cwd().join(file))?;
    pass_mark(&mut reader)?;
    let mut failed = 0;
    for number in 1.. {
        let cx = &cx.of_line(mode_of(number), number);
        let outcome = match next_line(&mut reader).await? {
            None => break,
            Some(Ok(line)) => super::run_line(cx, &line).await,
            Some(Err(why)) => Err(CommandError::Failed(why.to_string())),
        };
        let (code, flow) = cx.report(&format!("{}:{number}", file.display()), outcome);
        failed += u32::from(code != crate::DONE);
        if flow == Flow::End || cx.is_given_up() {
            break;
        }
        // Commands that wait for nothing must not keep the other sessions waiting.
        tokio::task::yield_now().await;
    }
    Ok(failed)
}

fn open(path: &Path) -> Result<BufReader<File>, ScriptError> {
    // Without O_NONBLOCK, opening a pipe would wait for its writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => ScriptError::Missing,
        _ => ScriptError::Io(why),
    })?;
    if !file.metadata()?.is_file() {
        return Err(ScriptError::NotRegular);
    }
    Ok(BufReader::new(file))
}

/// Passes over the byte order mark that some editors put in front of a text.
fn pass_mark(reader: &mut impl BufRead) -> io::Result<()> {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if reader.fill_buf()?.starts_with(MARK) {
        reader.consume(MARK.len());
    }
    Ok(())
}

/// The next line; of one that is too long no more than the bound is kept, and the other sessions have their
/// turn while it is passed over: gigabytes take longer than hr_ctrl may be silent.
async fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Result<String, LineError>>> {
    let mut line = Vec::new();
    let mut length = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() && length == 0 {
            return Ok(None);
        }
        let newline = chunk.iter().position(|&byte| byte == b'\n');
        let taken = newline.map_or(chunk.len(), |at| at + 1);
        let room = (MAX_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&chunk[..taken.min(room)]);
        length += taken;
        let ended = newline.is_some() || chunk.is_empty();
        reader.consume(taken);
        if ended {
            break;
        }
        tokio::task::yield_now().await;
    }
    if length > MAX_LINE {
        return Ok(Some(Err(LineError::TooLong)));
    }
    Ok(Some(
        String::from_utf8(line).map_err(|_| LineError::NotText),
    ))
}
