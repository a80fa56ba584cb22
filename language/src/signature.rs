//! What a function takes and gives: all of it but its body.

use crate::types::ValueType;
use proc_macro2::Ident;

/// Which macro a function is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `#[attention]`: loops over tiles of queries and keys.
    Attention,
    /// `#[mask]`: a predicate of positions.
    Mask,
    /// `#[score]`: a number made of a score.
    Score,
    /// `#[index]`: an integer made of positions.
    Index,
}

impl Kind {
    /// The attribute, as it is written.
    pub fn attribute(self) -> &'static str {
        match self {
            Kind::Attention => "#[attention]",
            Kind::Mask => "#[mask]",
            Kind::Score => "#[score]",
            Kind::Index => "#[index]",
        }
    }
}

/// All of a function but its body.
pub struct Signature {
    /// Which macro it is written with.
    pub kind: Kind,
    /// The other attributes, doc comments among them.
    pub attributes: Vec<syn::Attribute>,
    /// `pub`, or what is there instead.
    pub visibility: syn::Visibility,
    /// The name of the function.
    pub name: Ident,
    /// The parameters, in order.
    pub parameters: Vec<DeclaredParameter>,
    /// How many values it gives, if that was not reported. Only an attention gives several.
    pub outputs: Option<usize>,
}

impl Signature {
    /// The parameters of a kind, in order.
    pub fn of_kind(&self, kind: ParameterKind) -> impl Iterator<Item = &DeclaredParameter> {
        self.parameters.iter().filter(move |parameter| parameter.kind == kind)
    }
}

/// A parameter of a function.
pub struct DeclaredParameter {
    /// Its name.
    pub name: Ident,
    /// What it is declared as.
    pub kind: ParameterKind,
    /// Whether it is marked `#[comptime]`.
    pub comptime: bool,
    /// How it is marked `#[sorted]`, if it is.
    pub sorted: Option<Sorted>,
}

/// That the elements of a captured tensor never decrease along its last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// `#[sorted]`: a launch makes sure of it.
    Checked,
    /// `#[sorted(unchecked)]`: the caller answers for it.
    Unchecked,
}

/// What a parameter is declared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// `Query`: the tiles of queries.
    Query,
    /// `Key`: the tiles of keys of one loop.
    Key,
    /// `Value`: the tiles of values that go with the keys of one loop.
    Value,
    /// `u32`, `i32`, `f32` or `bool`.
    Scalar(Scalar),
    /// `Tensor<T, R>`: a captured tensor of so many dimensions.
    Tensor(DeclaredElement, usize),
    /// `Pos`, of a `#[mask]`, `#[score]` or `#[index]`.
    Position,
    /// `Score`, of a `#[mask]`, `#[score]` or `#[index]`.
    Score,
    /// Something that was reported.
    Reported,
}

/// The type of a scalar parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `i32`.
    I32,
    /// `u32`.
    U32,
    /// `f32`.
    F32,
    /// `bool`.
    Bool,
}

impl Scalar {
    /// The type that is written `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "i32" => Some(Scalar::I32),
            "u32" => Some(Scalar::U32),
            "f32" => Some(Scalar::F32),
            "bool" => Some(Scalar::Bool),
            _ => None,
        }
    }

    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scalar::I32 => "i32",
            Scalar::U32 => "u32",
            Scalar::F32 => "f32",
            Scalar::Bool => "bool",
        }
    }

    /// The type of its value in expressions.
    pub fn ty(self) -> ValueType {
        match self {
            Scalar::I32 | Scalar::U32 => ValueType::Int,
            Scalar::F32 => ValueType::Float,
            Scalar::Bool => ValueType::Bool,
        }
    }
}

/// The element type of a captured tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredElement {
    /// `f32`.
    F32,
    /// `i32`.
    I32,
    /// `bool`, and `u8` where any value but zero is true.
    Bool,
}

impl DeclaredElement {
    /// The type of an element in expressions.
    pub fn ty(self) -> ValueType {
        match self {
            DeclaredElement::F32 => ValueType::Float,
            DeclaredElement::I32 => ValueType::Int,
            DeclaredElement::Bool => ValueType::Bool,
        }
    }
}
