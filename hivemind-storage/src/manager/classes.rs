//! Kinds of volumes, by an administrator.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Stamped, StorageClassName};

use super::StorageManager;
use crate::StorageClass;
use crate::records::{class_at, classes};

impl StorageManager {
    /// Stages a class for claims of every tenant. The same class again is a no-op.
    ///
    /// Whether whoever asks may do that is for the host to decide: classes belong to no tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown provider; [`ErrorKind::AlreadyExists`] if the class exists otherwise: volumes
    /// were made by it, so it does not change.
    pub fn stage_class(&self, view: &Snapshot, txn: &mut Txn, class: &StorageClass) -> Result<()> {
        self.provider(Some(&class.provider))?;
        let at = class_at(&class.name)?;
        match classes()?.get(view, txn, &at)? {
            Some(there) if *there.value == *class => classes()?.expect(txn, &there),
            Some(_) => {
                let message = format!("class {} exists otherwise: make one of another name", class.name);
                Err(Error::new(ErrorKind::AlreadyExists, "class", message))
            }
            None => classes()?.create(view, txn, at, class),
        }
    }

    /// Stages the end of a class. Its volumes stay; no claim can name it any more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such class.
    pub fn stage_class_removal(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        class: &StorageClassName,
    ) -> Result<()> {
        let there = self.class(view, txn, class)?;
        classes()?.delete(txn, &there)
    }

    /// The class of that name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] lists the classes there are.
    pub fn class(
        &self,
        view: &Snapshot,
        txn: &Txn,
        class: &StorageClassName,
    ) -> Result<Stamped<StorageClass>> {
        if let Some(there) = classes()?.get(view, txn, &class_at(class)?)? {
            return Ok(there);
        }
        let known = self.classes(view, txn)?;
        let known = known.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(Error::not_found("class", format!("there is no class {class}; there are: {known}")))
    }

    /// Every class, in the order of names.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn classes(&self, view: &Snapshot, txn: &Txn) -> Result<Vec<Stamped<StorageClass>>> {
        classes()?.list(view, txn, classes()?.prefix())
    }
}
