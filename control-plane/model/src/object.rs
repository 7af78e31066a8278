//! Any object of the model, as the sources give it to the engine.

use std::sync::Arc;

use crate::{
    credential::Credential,
    kind::{Kind, with_object_types},
    mesh::MeshConfig,
    meta::{Created, Meta},
    names::ObjectRef,
    policy::*,
    service::*,
    workload::Workload,
};

macro_rules! objects {
    ($($(#[$doc:meta])* $variant:ident($type:ty),)*) => {
        /// A Kubernetes object in its parsed form.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Object {
            Namespace(Arc<Meta>),
            $($(#[$doc])* $variant(Arc<$type>),)*
            /// The mesh's settings, with the ConfigMap that they come from.
            MeshConfig(Arc<Meta>, Arc<MeshConfig>),
        }

        impl Object {
            /// Its metadata.
            pub fn meta(&self) -> &Meta {
                match self {
                    Self::Namespace(meta) | Self::MeshConfig(meta, _) => meta,
                    $(Self::$variant(object) => &object.meta,)*
                }
            }

            fn meta_mut(&mut self) -> &mut Meta {
                match self {
                    Self::Namespace(meta) | Self::MeshConfig(meta, _) => Arc::make_mut(meta),
                    $(Self::$variant(object) => &mut Arc::make_mut(object).meta,)*
                }
            }
        }

        $(impl From<$type> for Object {
            fn from(object: $type) -> Self {
                Self::$variant(Arc::new(object))
            }
        })*
    };
}

with_object_types!(objects);

impl Object {
    /// Whether both say the same, wherever they were read.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.meta_mut().origin = self.meta().origin.clone();
        *self == other
    }

    /// The object with the age of `before`, its previous version, if it has none itself: a cluster keeps the age of an
    /// object that is applied again.
    #[must_use]
    pub fn keeping_age_of(mut self, before: &Self) -> Self {
        if self.meta().created == Created::default() {
            self.meta_mut().created = before.meta().created;
        }
        self
    }

    /// What names it.
    pub fn reference(&self) -> &ObjectRef {
        &self.meta().object
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.reference().kind
    }
}

/// One change of the world. The parsed forms are complete: an update replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The object is new or different.
    Upsert(Object),
    /// The object is gone.
    Delete(ObjectRef),
}
