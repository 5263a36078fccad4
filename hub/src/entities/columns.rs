//! Columns that hold our own types.
//!
//! - [`Word`]: an identifier or a plain enum, stored as the text that it serializes to.
//! - [`Doc`]: a structure, stored as JSON text.
//!
//! With them a row is typed as it is read: there is no second set of structures beside the schema's.

use std::{fmt, ops::Deref};

use sea_orm::{
    ColIdx, DbErr, QueryResult, TryFromU64, TryGetError, TryGetable,
    sea_query::{ArrayType, ColumnType, Nullable, StringLen, Value, ValueType, ValueTypeErr},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::clean::clean_json;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Word<T>(pub T);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doc<T>(pub T);

impl<T: fmt::Display> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize> Word<T> {
    fn store(&self) -> String {
        match serde_json::to_value(&self.0) {
            Ok(serde_json::Value::String(text)) => text,
            other => unreachable!("identifiers and plain enums serialize to text, not {other:?}"),
        }
    }
}

impl<T: DeserializeOwned> Word<T> {
    fn read(text: String) -> Result<Self, serde_json::Error> {
        serde_json::from_value(text.into()).map(Self)
    }
}

impl<T: Serialize> Doc<T> {
    fn store(&self) -> String {
        let json = serde_json::to_string(&self.0);
        clean_json(json.expect("stored structures have no maps with keys that are not text"))
    }
}

impl<T: DeserializeOwned> Doc<T> {
    // Taken by value like `Word::read`, which needs it, so that one macro serves both.
    #[allow(clippy::needless_pass_by_value)]
    fn read(text: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&text).map(Self)
    }
}

macro_rules! column {
    ($name:ident) => {
        impl<T> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }

        impl<T> From<T> for $name<T> {
            fn from(inner: T) -> Self {
                Self(inner)
            }
        }

        impl<T: Serialize> From<$name<T>> for Value {
            fn from(column: $name<T>) -> Self {
                Value::String(Some(column.store()))
            }
        }

        impl<T: DeserializeOwned> TryGetable for $name<T> {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                let text = String::try_get_by(row, index)?;
                Self::read(text).map_err(|error| TryGetError::DbErr(DbErr::Json(error.to_string())))
            }
        }

        impl<T: DeserializeOwned> ValueType for $name<T> {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                match value {
                    Value::String(Some(text)) => Self::read(text).map_err(|_| ValueTypeErr),
                    _ => Err(ValueTypeErr),
                }
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                ArrayType::String
            }

            fn column_type() -> ColumnType {
                ColumnType::String(StringLen::None)
            }
        }

        impl<T> Nullable for $name<T> {
            fn null() -> Value {
                Value::String(None)
            }
        }

        impl<T> TryFromU64 for $name<T> {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    };
}

column!(Word);
column!(Doc);
