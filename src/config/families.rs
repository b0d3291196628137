//! The families of keys that are checked each for itself.

use super::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn check_families(&mut self) {
        self.check_jobs();
        self.check_store();
        self.check_worker();
        self.check_channels();
        self.check_parrot();
    }
}
