//! For now.
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use refrain_data::blocks::{Blocks, BlocksError, ROOT};
use refrain_data::region::{Memory, Region};
pub struct Named(pub String);
struct Held(refrain::Block);
impl Memory for Held {
    fn words(&self) -> &[AtomicU64] { self.0.words() }
    fn sync(&self) -> std::io::Result<()> { Ok(()) }
}
impl Blocks for Named {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let bytes = if number == 0 { ROOT } else { bytes };
        let block = refrain::pmm_allocate(&format!("{}.{number}", self.0), bytes as u64, refrain::HR_GROUP_KEY)?;
        Ok(Region::new(Arc::new(Held(block))).ok_or("aligned")?)
    }
    fn free(&mut self, number: u32) -> Result<(), BlocksError> {
        let _ = refrain::pmm_free(&format!("{}.{number}", self.0));
        Ok(())
    }
    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(NonZeroU64::new(u64::from(refrain::attach()?.aid().0)).ok_or("aid 0")?)
    }
    fn is_alive(&self, writer: NonZeroU64) -> Result<bool, BlocksError> {
        let aid = refrain::Aid(u32::try_from(writer.get())?);
        Ok(refrain::hr_get_actor_group(aid).is_ok())
    }
}
