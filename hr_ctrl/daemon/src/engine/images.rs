//! One image for all actors of one program: a site with a thousand actors of one file holds its bytes,
//! and the fd of them, once.
//!
//! Called by [`super::load`], on its threads: nothing here is on the restart path. An image is shared
//! while an actor holds it; the table itself keeps none. Must never give out an image of a file that has
//! changed since: then the file is read again (SPEC H3), and the actors of before keep theirs.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use refrain_image::Image;

/// A file that was changed so short a time ago may be changed again without its times telling.
const SETTLED: Duration = Duration::from_millis(100);

/// What tells a state of a file from every other: device, inode, size, and both times in
/// nanoseconds.
type State = [i128; 5];

/// A path, and the user with whose rights it was read, where that is not the site's own.
type Key = (PathBuf, Option<u32>);

/// The images that actors hold.
#[derive(Debug, Default)]
pub(crate) struct Images(Mutex<HashMap<Key, Loaded>>);

#[derive(Debug)]
struct Loaded {
    image: Weak<Image>,
    /// The file that was asked for, and the one that is executed: a script, and its interpreter.
    states: [State; 2],
}

impl Images {
    /// The image of the program at `path`: the one that is in memory, or what `load` reads; `user` is
    /// whose rights it reads with, because what one user may read another may not.
    pub(crate) fn get<E>(
        &self,
        path: &Path,
        user: Option<u32>,
        load: impl FnOnce() -> Result<Image, E>,
    ) -> Result<Arc<Image>, E> {
        let Some(asked) = state(path) else {
            return load().map(Arc::new);
        };
        if let Some(image) = self.find(path, user, asked) {
            return Ok(image);
        }
        let image = Arc::new(load()?);
        // Looked at before and after: what was read lies between.
        if let (Some(again), Some(executed)) = (state(path), state(&image.path))
            && again == asked
        {
            let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            images.retain(|_, loaded| loaded.image.strong_count() > 0);
            let loaded = Loaded {
                image: Arc::downgrade(&image),
                states: [asked, executed],
            };
            images.insert((path.to_owned(), user), loaded);
        }
        Ok(image)
    }

    fn find(&self, path: &Path, user: Option<u32>, asked: State) -> Option<Arc<Image>> {
        let images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = images.get(&(path.to_owned(), user))?;
        let image = loaded.image.upgrade()?;
        let states = [asked, state(&image.path)?];
        (loaded.states == states).then_some(image)
    }
}

/// The state of a file; `None` when it is not there, or was changed a moment ago.
fn state(path: &Path) -> Option<State> {
    let data = std::fs::metadata(path).ok()?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let nanos = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let changed = nanos(data.ctime(), data.ctime_nsec());
    let settled = now.as_nanos() as i128 - changed > SETTLED.as_nanos() as i128;
    settled.then(|| {
        [
            data.dev().into(),
            data.ino().into(),
            data.size().into(),
            nanos(data.mtime(), data.mtime_nsec()),
            changed,
        ]
    })
}

/// Images that nucleus has kept, each under the name of every actor that had it: one again.
#[derive(Default)]
pub(super) struct KeptImages(HashMap<(u64, Option<u64>, PathBuf), Arc<Image>>);

impl KeptImages {
    /// The one image of these bytes.
    pub(super) fn unite(&mut self, image: Image) -> Arc<Image> {
        let number = |fd: &dyn AsFd| rustix::fs::fstat(fd.as_fd()).ok().map(|about| about.st_ino);
        let script = image.script.as_ref();
        let (Some(program), text) = (number(&image.fd), script.map(|script| number(&script.fd)))
        else {
            return Arc::new(image);
        };
        let path = script.map_or(&image.path, |script| &script.path).clone();
        let key = (program, text.flatten(), path);
        Arc::clone(self.0.entry(key).or_insert_with(|| Arc::new(image)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(path: &Path) -> Result<Image, refrain_image::image::ImageError> {
        Image::load(path)
    }

    #[test]
    fn h3_actors_of_one_file_share_its_image_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        while state(&path).is_none() {
            std::thread::yield_now();
        }
        let images = Images::default();
        let get = || images.get(&path, None, || load(&path)).unwrap();
        let (first, second) = (get(), get());
        assert!(Arc::ptr_eq(&first, &second));
        std::fs::copy("/bin/false", &path).unwrap();
        assert!(!Arc::ptr_eq(&first, &get()), "the file has changed");
    }

    #[test]
    fn an_image_that_nobody_holds_is_let_go() {
        let images = Images::default();
        let path = Path::new("/bin/true");
        let image = Arc::downgrade(&images.get(path, None, || load(path)).unwrap());
        assert!(image.upgrade().is_none());
    }
}
