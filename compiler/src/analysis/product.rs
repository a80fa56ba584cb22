//! Products of floats, taken apart into factors that are the same for a whole query tile and those that are not.

use crate::expr::{BinaryOp, Expr, UnaryOp};

/// constant · Π uniform · Π varying.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The constant factors together.
    pub constant: f64,
    /// Factors that are the same for a whole query tile.
    pub uniform: Vec<Factor>,
    /// The others.
    pub varying: Vec<Factor>,
}

/// One factor of a product.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// A multiplication by it.
    Times(Expr),
    /// A division by it.
    Over(Expr),
}

impl Product {
    /// The factors of a float expression: one, unless it is a product, a quotient or a negation.
    pub fn of(expr: &Expr) -> Product {
        let mut product = Product { constant: 1.0, uniform: Vec::new(), varying: Vec::new() };
        product.multiply(expr, false);
        product
    }

    fn multiply(&mut self, expr: &Expr, over: bool) {
        match expr {
            Expr::Binary(BinaryOp::Mul, a, b) => {
                self.multiply(a, over);
                self.multiply(b, over);
            }
            Expr::Binary(BinaryOp::Div, a, b) => {
                self.multiply(a, over);
                self.multiply(b, !over);
            }
            Expr::Unary(UnaryOp::Neg, a) => {
                self.constant = -self.constant;
                self.multiply(a, over);
            }
            // A constant that would make the others vanish stays a factor of its own.
            Expr::Float(value) if value.value().is_normal() => {
                let value = f64::from(value.value());
                self.constant *= if over { 1.0 / value } else { value };
            }
            _ => {
                let factor = if over { Factor::Over(expr.clone()) } else { Factor::Times(expr.clone()) };
                if expr.is_uniform() { self.uniform.push(factor) } else { self.varying.push(factor) }
            }
        }
    }

    /// The uniform factors with the constant last; `None` where they are 1, an error of the constant itself where it has no
    /// f32.
    pub fn uniform_part(&self) -> Result<Option<Expr>, f64> {
        let constant = self.constant as f32;
        if !constant.is_normal() {
            return Err(self.constant);
        }
        let constant = (constant != 1.0).then(|| Factor::Times(Expr::float(constant)));
        // A quotient needs something to divide.
        let (over, times): (Vec<_>, Vec<_>) =
            self.uniform.iter().cloned().partition(|factor| matches!(factor, Factor::Over(_)));
        Ok(multiply_all(None, times.into_iter().chain(constant).chain(over)))
    }

    /// The varying factors; `None` where there are none.
    pub fn varying_part(&self) -> Option<Expr> {
        let (over, times): (Vec<_>, Vec<_>) =
            self.varying.iter().cloned().partition(|factor| matches!(factor, Factor::Over(_)));
        multiply_all(None, times.into_iter().chain(over))
    }

    /// The product of both parts, as `varying * (uniform)`; an error of the constant where it has no f32.
    pub fn to_expr(&self) -> Result<Expr, f64> {
        Ok(match (self.varying_part(), self.uniform_part()?) {
            (Some(varying), Some(uniform)) => Expr::binary(BinaryOp::Mul, varying, uniform),
            (Some(part), None) | (None, Some(part)) => part,
            (None, None) => Expr::float(1.0),
        })
    }
}

fn multiply_all(first: Option<Expr>, factors: impl Iterator<Item = Factor>) -> Option<Expr> {
    factors.fold(first, |product, factor| {
        Some(match (product, factor) {
            (None, Factor::Times(factor)) => factor,
            (None, Factor::Over(factor)) => Expr::binary(BinaryOp::Div, Expr::float(1.0), factor),
            (Some(product), Factor::Times(factor)) => Expr::binary(BinaryOp::Mul, product, factor),
            (Some(product), Factor::Over(factor)) => Expr::binary(BinaryOp::Div, product, factor),
        })
    })
}
