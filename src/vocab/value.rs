//! Values: what functions take and give, what outputters print. The data model of YAML and of Salt's Python.

use indexmap::IndexMap;

/// A value of configuration management.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// Nothing: YAML `null`, Python `None`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number; what does not fit stays a string, as it does on Salt's wire.
    Int(i128),
    /// A floating-point number, infinities and NaN included.
    Float(f64),
    /// Text.
    String(String),
    /// An ordered list.
    List(Vec<Value>),
    /// A map that keeps its order.
    Map(Map),
}

/// A map from keys to values, in the order they were given.
pub type Map = IndexMap<Key, Value>;

/// What may be a key of a map: any scalar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// YAML `null`, Python `None`.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A floating-point number, by its bits.
    Float(u64),
    /// Text.
    String(String),
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl Key {
    /// The text of a string key.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl From<Key> for Value {
    fn from(key: Key) -> Self {
        match key {
            Key::Null => Self::Null,
            Key::Bool(value) => Self::Bool(value),
            Key::Int(number) => Self::Int(number),
            Key::Float(bits) => Self::Float(f64::from_bits(bits)),
            Key::String(text) => Self::String(text),
        }
    }
}

impl TryFrom<Value> for Key {
    /// A list or a map, which cannot be a key.
    type Error = Value;

    fn try_from(value: Value) -> Result<Self, Value> {
        match value {
            Value::Null => Ok(Self::Null),
            Value::Bool(value) => Ok(Self::Bool(value)),
            Value::Int(number) => Ok(Self::Int(number)),
            Value::Float(number) => Ok(Self::Float(number.to_bits())),
            Value::String(text) => Ok(Self::String(text)),
            Value::List(_) | Value::Map(_) => Err(value),
        }
    }
}

impl Value {
    /// A map with these members in this order.
    pub fn map<K: Into<Key>, V: Into<Self>>(members: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(members.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// A list of these values.
    pub fn list<V: Into<Self>>(items: impl IntoIterator<Item = V>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// The member of a map under a text key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(&Key::from(key)),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The members of a map.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The word for this value's type in messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Self::Map(value)
    }
}

impl<V: Into<Self>> From<Vec<V>> for Value {
    fn from(value: Vec<V>) -> Self {
        Self::list(value)
    }
}

impl<V: Into<Self>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Value {
            fn from(value: $number) -> Self {
                Self::Int(i128::from(value))
            }
        }
    )*};
}
whole_numbers!(i32, i64, u8, u16, u32, u64, i128);

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::String(value.clone())
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::String(number.to_string()),
            },
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => Self::list(items),
            serde_json::Value::Object(members) => Self::map(members),
        }
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Int(value as i128)
    }
}
