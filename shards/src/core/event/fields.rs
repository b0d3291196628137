//! Typed access to a parsed object, with errors that name the path of the field at fault.

use simd_json::prelude::*;
use simd_json::tape::{Array, Object, Value};

use super::client::ClientError;

/// An object and where in the event it is.
pub(super) struct Fields<'t, 'i, 'p> {
    object: Object<'t, 'i>,
    /// Empty for the event itself.
    path: &'p str,
}

impl<'t, 'i, 'p> Fields<'t, 'i, 'p> {
    pub(super) fn new(object: Object<'t, 'i>, path: &'p str) -> Self {
        Self { object, path }
    }

    /// The value as it is, a `null` included.
    pub(super) fn raw(&self, name: &str) -> Option<Value<'t, 'i>> {
        self.object.get(name)
    }

    /// The value; `null` counts as absent.
    pub(super) fn value(&self, name: &str) -> Option<Value<'t, 'i>> {
        self.raw(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'i str>, ClientError> {
        self.typed(name, "a string", |value| value.into_string())
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ClientError> {
        self.typed(name, "a boolean", |value| value.as_bool())
    }

    pub(super) fn array(&self, name: &str) -> Result<Option<Array<'t, 'i>>, ClientError> {
        self.typed(name, "an array", |value| value.as_array())
    }

    /// An integer within `min..=max`.
    pub(super) fn integer(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, ClientError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = match (value.as_u64(), value.as_i64()) {
            (Some(number), _) => number,
            (None, Some(_)) => return Err(self.out_of_range(name, min, max)),
            (None, None) => return Err(self.mistyped(name, "an integer")),
        };
        if number < min || number > max {
            return Err(self.out_of_range(name, min, max));
        }
        Ok(Some(number))
    }

    /// A number from 0 to 1, in thousandths.
    pub(super) fn permille(&self, name: &str) -> Result<Option<u16>, ClientError> {
        let number = self.typed(name, "a number", |value| value.cast_f64())?;
        match number {
            None => Ok(None),
            Some(number) if (0.0..=1.0).contains(&number) => Ok(Some((number * 1_000.0).round() as u16)),
            Some(_) => Err(self.out_of_range(name, 0, 1)),
        }
    }

    /// An object, whose own path is `path`.
    pub(super) fn object<'q>(
        &self,
        name: &str,
        path: &'q str,
    ) -> Result<Option<Fields<'t, 'i, 'q>>, ClientError> {
        let object = self.typed(name, "an object", |value| value.as_object())?;
        Ok(object.map(|object| Fields::new(object, path)))
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn missing(&self, name: &str) -> ClientError {
        let path = self.path_of(name);
        let message = format!("Missing required parameter: '{path}'.");
        ClientError { param: Some(path.into()), ..ClientError::new("missing_required_parameter", message) }
    }

    pub(super) fn mistyped(&self, name: &str, expected: &str) -> ClientError {
        let path = self.path_of(name);
        let message = format!("Invalid type for '{path}': expected {expected}.");
        ClientError { param: Some(path.into()), ..ClientError::new("invalid_type", message) }
    }

    /// The value is of the right type, but not one of those that are taken.
    pub(super) fn invalid(&self, name: &str, expected: &str) -> ClientError {
        let path = self.path_of(name);
        ClientError::invalid_value(&path, format!("Invalid value for '{path}': expected {expected}."))
    }

    fn out_of_range(&self, name: &str, min: u64, max: u64) -> ClientError {
        self.invalid(name, &format!("{min} to {max}"))
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        take: impl FnOnce(Value<'t, 'i>) -> Option<T>,
    ) -> Result<Option<T>, ClientError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => take(value).map(Some).ok_or_else(|| self.mistyped(name, expected)),
        }
    }
}
