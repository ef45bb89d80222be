//! Typed resources in a store that knows only documents: found, listed, and written.

use super::{
    Page, PageRequest, Position, Result, Store, StoreError, Write,
    resource::{Document, Resource, Stored},
};
use crate::{clock::Timestamp, id::AppId};

impl dyn Store + '_ {
    /// The resource with this id or, within the tenant, this uid.
    ///
    /// # Errors
    /// As [`Store::document`].
    pub async fn find<T: Resource>(&self, app: Option<&AppId>, id_or_uid: &str) -> Result<Option<Stored<T>>> {
        self.document(T::KIND, app, id_or_uid).await?.map(read).transpose()
    }

    /// A page of resources.
    ///
    /// # Errors
    /// As [`Store::documents`].
    pub async fn list<T: Resource>(&self, app: Option<&AppId>, page: PageRequest) -> Result<Page<Stored<T>>> {
        let page = self.documents(T::KIND, app, page).await?;
        Ok(Page::new(page.rows.into_iter().map(read).collect::<Result<_>>()?, page.done))
    }

    /// All resources of a tenant, in pages of 500. For kinds with a bound on their number
    /// ([`ResourceKind::owned_max`](super::resource::ResourceKind::owned_max)).
    ///
    /// # Errors
    /// As [`Store::documents`].
    pub async fn all<T: Resource>(&self, app: &AppId) -> Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        let mut request = PageRequest::oldest(500);
        loop {
            let page = self.list::<T>(Some(app), request.clone()).await?;
            all.extend(page.rows.into_iter().map(|stored| stored.value));
            match all.last() {
                Some(last) if !page.done => request.position = Position::After(last.id().to_owned()),
                _ => break,
            }
        }
        Ok(all)
    }

    /// The resource that a secret's digest finds, and when it stops to find it.
    ///
    /// # Errors
    /// As [`Store::document_by_handle`].
    pub async fn find_by_handle<T: Resource>(
        &self,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Stored<T>, Option<Timestamp>)>> {
        let found = self.document_by_handle(T::KIND, digest, now).await?;
        found.map(|(document, until)| Ok((read(document)?, until))).transpose()
    }
}

/// A resource as a new document.
pub fn insert<T: Resource>(value: &T) -> Write {
    Write::Insert(document(value, 1))
}

/// A changed resource as an update of what was read.
pub fn update<T: Resource>(value: &T, revision: i64) -> Write {
    Write::Update(document(value, revision))
}

/// That a resource is still there.
pub fn require<T: Resource>(id: &(impl ToString + ?Sized)) -> Write {
    Write::Require { kind: T::KIND, id: id.to_string() }
}

/// The removal of a resource.
pub fn delete<T: Resource>(value: &T) -> Write {
    Write::Delete { kind: T::KIND, id: value.id().to_owned(), app: value.app().cloned() }
}

/// A resource as the store sees a new one.
pub fn document_of<T: Resource>(value: &T) -> Document {
    document(value, 1)
}

fn document<T: Resource>(value: &T, revision: i64) -> Document {
    Document {
        kind: T::KIND,
        id: value.id().to_owned(),
        app: value.app().cloned(),
        uid: value.uid().map(str::to_owned),
        data: serde_json::to_string(value).expect("resources have string keys and no failing serializers"),
        revision,
    }
}

/// The typed resource of a document.
///
/// # Errors
/// [`StoreError::Inconsistent`] if it can't be read as that.
pub fn read<T: Resource>(document: Document) -> Result<Stored<T>> {
    let value = serde_json::from_str(&document.data).map_err(|error| StoreError::Inconsistent {
        detail: format!("{} {}: {error}", document.kind.as_str(), document.id),
    })?;
    Ok(Stored { value, revision: document.revision })
}
