//! Writes the Rust that a checked function stands for: calls of `purview::lang`.
//!
//! Every token has the span of what the user wrote for it, so that rustc's own errors, of calls to `#[mask]`,
//! `#[score]` and `#[index]` functions, are on the user's tokens.

use crate::warn::warn;
use proc_macro2::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};
use purview_language::tree::{
    Body, CheckedAccumulator, CheckedAttention, CheckedKeyLoop, CheckedLeading, CheckedOperand, CheckedPush,
    CheckedRole, KeyStep, Node, QueryStep, TypedLet, TypedValue,
};
use purview_language::{
    Checked, DeclaredElement, DeclaredParameter, Kind, ParameterKind, Scalar, Signature, Sorted, Source, ValueType,
};
use quote::{ToTokens, format_ident, quote, quote_spanned};

/// The function that `checked` is.
pub fn function(checked: &Checked) -> TokenStream {
    let Checked { signature, body, warnings } = checked;
    let warnings = warnings.iter().map(warn).collect();
    match body {
        Body::Attention(attention) => self::attention(signature, attention, warnings),
        Body::Value(kind, value) => {
            let Signature { attributes, visibility, name, .. } = signature;
            let parameters = value_parameters(signature);
            let output = value_output(*kind);
            let value = self::value(value);
            let quiet = quiet();
            quote! {
                #(#attributes)*
                #quiet
                #visibility fn #name(#(#parameters),*) -> #output {
                #[allow(unused_imports)]
                use ::core::clone::Clone as _;
                #warnings
                #value
            }
            }
        }
    }
}

/// Turns off the lints that are for what a person writes.
fn quiet() -> TokenStream {
    quote! {
        #[allow(
            clippy::all,
            clippy::pedantic,
            clippy::nursery,
            clippy::restriction,
            non_snake_case,
            unused_braces,
            unused_parens
        )]
    }
}

/// A function with the right signature and no meaning, so that a mistake in it is no mistake in its callers.
pub fn stub(signature: &Signature) -> TokenStream {
    let Signature { kind, attributes, visibility, name, .. } = signature;
    let (parameters, output) = match kind {
        Kind::Attention => {
            (attention_parameters(signature), RunTensors::of_parameters(signature).ty(signature.outputs))
        }
        kind => (value_parameters(signature), value_output(*kind)),
    };
    let names = |kind| signature.of_kind(kind).map(|parameter| &parameter.name);
    let pairs: Vec<_> = names(ParameterKind::Key).zip(names(ParameterKind::Value)).collect();
    let how_to_run = how_to_run(signature, RunTensors::of_parameters(signature), &pairs);
    quote! {
        #(#attributes)*
        #how_to_run
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        #visibility fn #name(#(#parameters),*) -> #output {
            ::core::unreachable!("the function has errors")
        }
    }
}

fn attention(signature: &Signature, body: &CheckedAttention, warnings: TokenStream) -> TokenStream {
    let Signature { attributes, visibility, name, .. } = signature;
    let form = RunTensors::of(body);
    let (parameters, output, constructor) =
        (attention_parameters(signature), form.ty(signature.outputs), form.constructor());
    let scalars = signature.parameters.iter().filter_map(|DeclaredParameter { name, kind, .. }| match kind {
        ParameterKind::Scalar(scalar) => {
            let variant = variant(*scalar);
            Some(quote!(::purview::spec::ScalarValue::#variant(#name)))
        }
        _ => None,
    });
    let tensors = signature.parameters.iter().filter_map(|DeclaredParameter { name, kind, .. }| match kind {
        ParameterKind::Tensor(..) => Some(quote!(::core::clone::Clone::clone(#name))),
        _ => None,
    });
    let builder = Ident::new("builder", Span::mixed_site());
    let text = unraw(name);
    let doc = doc(attributes);
    let (line, column) = Source::from(name.span()).place();
    let declarations = declarations(signature, body, &builder);
    let quiet = quiet();
    let is_scalar = |parameter: &&DeclaredParameter| matches!(parameter.kind, ParameterKind::Scalar(_));
    let scalar_names: Vec<String> =
        signature.parameters.iter().filter(is_scalar).map(|parameter| unraw(&parameter.name)).collect();
    let steps = body.steps.iter().map(|step| self::step(step, &scalar_names, &builder));
    let outputs = body.outputs.iter().map(|output| {
        let output = value(output);
        quote!(#builder.output(#output);)
    });
    let of_role = |role| body.operands.iter().find(|operand| operand.role == role).map(|operand| &operand.name);
    let pairs = (0..).map_while(|set| of_role(CheckedRole::Key(set)).zip(of_role(CheckedRole::Value(set))));
    let how_to_run = how_to_run(signature, form, &pairs.collect::<Vec<_>>());
    quote! {
        #(#attributes)*
        #how_to_run
        #[allow(clippy::too_many_arguments)]
        #visibility fn #name(#(#parameters),*) -> #output {
            #quiet
            fn __purview_spec() -> ::purview::spec::Spec {
                #[allow(unused_imports)]
                use ::core::clone::Clone as _;
                #warnings
                let mut #builder = ::purview::lang::Builder::new(#text, #doc, ::core::file!(), #line, #column);
                #declarations
                #(#steps)*
                #(#outputs)*
                #builder.finish()
            }
            static __PURVIEW_SPEC: ::std::sync::OnceLock<::std::sync::Arc<::purview::spec::Spec>> =
                ::std::sync::OnceLock::new();
            #constructor(
                ::core::clone::Clone::clone(__PURVIEW_SPEC.get_or_init(|| ::std::sync::Arc::new(__purview_spec()))),
                ::std::vec![#(#scalars),*],
                ::std::vec![#(#tensors),*],
            )
        }
    }
}

/// What the tensors are that an attention is run with.
#[derive(Clone, Copy)]
enum RunTensors {
    /// One of queries, and pairs of keys and values, so many.
    Pairs(usize),
    /// So many of all kinds.
    Operands(usize),
}

impl RunTensors {
    fn of(body: &CheckedAttention) -> RunTensors {
        let count = |role| body.operands.iter().filter(|operand| operand.role == role).count();
        let sets = (0..).take_while(|set| count(CheckedRole::Key(*set)) > 0).count();
        let has_pairs = count(CheckedRole::Query) == 1
            && (0..sets).all(|set| (count(CheckedRole::Key(set)), count(CheckedRole::Value(set))) == (1, 1));
        if has_pairs { RunTensors::Pairs(sets) } else { RunTensors::Operands(body.operands.len()) }
    }

    /// That of an attention with mistakes, as its parameters show it.
    fn of_parameters(signature: &Signature) -> RunTensors {
        let count = |kind| signature.of_kind(kind).count();
        let (queries, keys, values) =
            (count(ParameterKind::Query), count(ParameterKind::Key), count(ParameterKind::Value));
        if queries <= 1 && keys == values {
            RunTensors::Pairs(keys)
        } else {
            RunTensors::Operands(queries + keys + values)
        }
    }

    /// The type of the attention, with so many outputs.
    fn ty(self, outputs: Option<usize>) -> TokenStream {
        let several = outputs.filter(|outputs| *outputs > 1).map(|outputs| quote!(, #outputs));
        match self {
            RunTensors::Pairs(count) => quote!(::purview::Attention<#count #several>),
            RunTensors::Operands(count) => quote!(::purview::GeneralAttention<#count #several>),
        }
    }

    /// What makes it.
    fn constructor(self) -> TokenStream {
        match self {
            RunTensors::Pairs(_) => quote!(::purview::Attention::new),
            RunTensors::Operands(_) => quote!(::purview::GeneralAttention::new),
        }
    }
}

fn is_operand(kind: ParameterKind) -> bool {
    matches!(kind, ParameterKind::Query | ParameterKind::Key | ParameterKind::Value)
}

/// A last paragraph for the documentation of an attention: that tensors are given where it is run, which its parameters as
/// Rust has them don't show. A public function without documentation gets none, so that `missing_docs` finds it.
fn how_to_run(signature: &Signature, form: RunTensors, pairs: &[(&Ident, &Ident)]) -> TokenStream {
    let is_documented = signature.attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
    let is_private = matches!(signature.visibility, syn::Visibility::Inherited);
    if signature.kind != Kind::Attention || !is_documented && !is_private {
        return TokenStream::new();
    }
    let arguments = signature.parameters.iter().filter_map(|DeclaredParameter { name, kind, .. }| match kind {
        ParameterKind::Scalar(_) => Some(name.to_string()),
        ParameterKind::Tensor(..) => Some(format!("&{name}")),
        _ => None,
    });
    let call = format!("{}({})", signature.name, arguments.collect::<Vec<_>>().join(", "));
    let query = signature.of_kind(ParameterKind::Query).map(|parameter| format!("&{}", parameter.name)).next();
    let query = query.unwrap_or_default();
    let (run, what) = match (form, pairs) {
        (RunTensors::Operands(_), _) => {
            let operands = signature.parameters.iter().filter(|parameter| is_operand(parameter.kind));
            let operands: Vec<String> = operands.map(|parameter| format!("&{}", parameter.name)).collect();
            (format!("run(&device, [{}])", operands.join(", ")), "what lies along queries and keys is given")
        }
        (_, [(key, value)]) => {
            (format!("run(&device, {query}, &{key}, &{value})"), "queries, keys and values are given")
        }
        _ => {
            let pairs = pairs.iter().map(|(key, value)| format!("(&{key}, &{value})"));
            let run = format!("run_pairs(&device, {query}, [{}])", pairs.collect::<Vec<_>>().join(", "));
            (run, "queries, keys and values are given")
        }
    };
    let text = format!(" Run by `{call}.{run}?`: {what} to `run`, the other parameters here.");
    // An empty line, where there is something before it.
    let gap = is_documented.then(|| quote!(#[doc = ""]));
    quote!(#gap #[doc = #text])
}

/// Declares the parameters to the builder.
fn declarations(signature: &Signature, body: &CheckedAttention, builder: &Ident) -> TokenStream {
    let mut tokens = TokenStream::new();
    for CheckedOperand { name, role } in &body.operands {
        let text = unraw(name);
        tokens.extend(match role {
            CheckedRole::Query => quote!(#builder.query(#text);),
            CheckedRole::Key(set) => quote!(#builder.key(#text, #set);),
            CheckedRole::Value(set) => quote!(#builder.value(#text, #set);),
        });
    }
    for DeclaredParameter { name, kind, comptime, sorted } in &signature.parameters {
        let text = unraw(name);
        match kind {
            ParameterKind::Scalar(scalar) => {
                let ty = lang_type(scalar.ty(), Span::call_site());
                let variant = variant(*scalar);
                tokens.extend(quote! {
                    let #name = #builder.scalar::<#ty>(#text, ::purview::spec::ScalarType::#variant, #comptime);
                });
            }
            ParameterKind::Tensor(_, rank) if sorted.is_some() => {
                let checked = *sorted == Some(Sorted::Checked);
                tokens.extend(quote!(let #name = #builder.sorted_tensor::<#rank>(#text, #checked);));
            }
            ParameterKind::Tensor(element, rank) => {
                let ty = lang_type(element.ty(), Span::call_site());
                tokens.extend(quote!(let #name = #builder.tensor::<#ty, #rank>(#text);));
            }
            _ => {}
        }
    }
    tokens
}

/// What a caller of an attention gives: scalars by value, tensors by reference.
fn attention_parameters(signature: &Signature) -> Vec<TokenStream> {
    let parameters = distinct(signature).into_iter().filter_map(|(name, kind)| match kind {
        ParameterKind::Query | ParameterKind::Key | ParameterKind::Value => None,
        ParameterKind::Scalar(scalar) => {
            let ty = format_ident!("{}", scalar.name());
            Some(quote!(#name: ::core::primitive::#ty))
        }
        ParameterKind::Tensor(..) => Some(quote!(#name: &::purview::Tensor)),
        ParameterKind::Position | ParameterKind::Score | ParameterKind::Reported => {
            Some(quote!(#name: impl ::core::marker::Sized))
        }
    });
    parameters.collect()
}

/// What a caller of a `#[mask]`, `#[score]` or `#[index]` function gives.
fn value_parameters(signature: &Signature) -> Vec<TokenStream> {
    let parameters = distinct(signature).into_iter().map(|(name, kind)| {
        let span = name.span();
        let ty = match kind {
            ParameterKind::Scalar(scalar) => lang_type(scalar.ty(), span),
            ParameterKind::Position => lang_type(ValueType::Int, span),
            ParameterKind::Score => lang_type(ValueType::Float, span),
            ParameterKind::Tensor(element, rank) => {
                let element = lang_type(DeclaredElement::ty(element), span);
                quote_spanned!(span=> ::purview::lang::Captured<#element, #rank>)
            }
            ParameterKind::Query | ParameterKind::Key | ParameterKind::Value | ParameterKind::Reported => {
                quote!(impl ::core::marker::Sized)
            }
        };
        quote!(#name: #ty)
    });
    parameters.collect()
}

fn value_output(kind: Kind) -> TokenStream {
    let ty = match kind {
        Kind::Mask => ValueType::Bool,
        Kind::Index => ValueType::Int,
        Kind::Score | Kind::Attention => ValueType::Float,
    };
    lang_type(ty, Span::call_site())
}

/// The parameters, each with a name of its own: a second one of the same name was reported.
fn distinct(signature: &Signature) -> Vec<(Ident, ParameterKind)> {
    let mut parameters: Vec<(Ident, ParameterKind)> = Vec::new();
    for DeclaredParameter { name, kind, .. } in &signature.parameters {
        let taken = parameters.iter().any(|(earlier, _)| earlier == name);
        let name = if taken { format_ident!("{}_{}", name, parameters.len()) } else { name.clone() };
        parameters.push((name, *kind));
    }
    parameters
}

fn step(step: &QueryStep, scalars: &[String], builder: &Ident) -> TokenStream {
    match step {
        QueryStep::Let(binding) => self::binding(binding),
        QueryStep::Accumulator(name, accumulator) => {
            let name = unraw(name);
            match accumulator {
                CheckedAccumulator::Softmax(None) => quote!(#builder.softmax(#name, ::core::option::Option::None);),
                CheckedAccumulator::Softmax(Some(sink)) => {
                    let sink = value(sink);
                    quote!(#builder.softmax(#name, ::core::option::Option::Some(#sink));)
                }
                CheckedAccumulator::Sum => quote!(#builder.sum(#name);),
                CheckedAccumulator::Mean => quote!(#builder.mean(#name);),
            }
        }
        QueryStep::Loop(CheckedKeyLoop { set, dots, steps }) => {
            let dots = dots.iter().map(|(query, key)| quote!((#query, #key)));
            let steps = steps.iter().map(|step| match step {
                KeyStep::Let(binding) => self::binding(binding),
                KeyStep::Push(push) => self::push(push, scalars, builder),
            });
            quote!({ #builder.key_loop(#set, &[#(#dots),*]); #(#steps)* })
        }
    }
}

fn push(push: &CheckedPush, scalars: &[String], builder: &Ident) -> TokenStream {
    let CheckedPush { accumulator, score, weight, values, leading } = push;
    let values = match leading {
        None => quote!(#values),
        Some(CheckedLeading::Literal(dim)) => quote!(::purview::lang::PushedValues::leading(#values, #dim)),
        Some(CheckedLeading::Constant(path)) => {
            quote!(::purview::lang::PushedValues::leading(#values, ::purview::lang::elements(#path)))
        }
        Some(CheckedLeading::Scalar(name)) => {
            let place = scalars.iter().position(|scalar| *scalar == unraw(name)).unwrap_or_default();
            // It is used, in the eyes of rustc.
            quote!({ let _ = &#name; ::purview::lang::PushedValues::leading_by_scalar(#values, #place) })
        }
    };
    let score = value(score);
    match weight {
        None => quote!(#builder.push(#accumulator, #score, #values);),
        Some(weight) => {
            let weight = value(weight);
            quote!(#builder.push_weighted(#accumulator, #score, #weight, #values);)
        }
    }
}

fn binding(binding: &TypedLet) -> TokenStream {
    let (name, value) = (&binding.name, value(&binding.value));
    match binding.ty {
        Some((ty, span)) => {
            let ty = lang_type(ty, span);
            quote!(let #name: #ty = #value;)
        }
        None => quote!(let #name = #value;),
    }
}

fn value(value: &TypedValue) -> TokenStream {
    let Source { start, end } = value.source;
    match &value.node {
        Node::Int(number) => {
            let magnitude = Literal::u32_unsuffixed(number.unsigned_abs());
            let sign = (*number < 0).then(|| quote_spanned!(start=> -));
            lang("int", None, (start, end), quote_spanned!(start=> #sign #magnitude))
        }
        Node::Float(number) => lang("float", None, (start, end), float(*number, start)),
        Node::Bool(truth) => lang("boolean", None, (start, end), quote_spanned!(start=> #truth)),
        Node::Local(name) | Node::Tensor(name) => {
            let span = name.span();
            quote_spanned!(span=> #name.clone())
        }
        Node::Constant(path) => {
            let (line, column) = Source::from(start).place();
            let place = quote_spanned!(end=> ::core::file!(), #line, #column);
            lang("constant", None, (start, end), quote!(#path, #place))
        }
        Node::Load(tensor, index) => {
            let index = index.iter().map(self::value);
            at(quote_spanned!(end=> #tensor.load([#(#index),*])), value.ty, tensor.span(), value.source)
        }
        Node::Dot(place, token) => lang("dot", None, (*token, end), quote_spanned!(end=> #place)),
        Node::Result(place, token) => lang("result", None, (*token, end), quote_spanned!(end=> #place)),
        Node::Lang { function, token, operands, generic, located } => {
            let operands = operands.iter().map(self::value);
            let call = lang(function, *generic, (*token, end), quote!(#(#operands),*));
            if *located { at(call, value.ty, *token, value.source) } else { call }
        }
        Node::Call(path, arguments, similar) => {
            let arguments = arguments.iter().map(argument);
            let Source { start: first, end: last } = Source::of(path);
            let mut inner = Group::new(Delimiter::Parenthesis, path.to_token_stream());
            inner.set_span(last);
            let function = quote_spanned!(first=> ::purview::lang::Function::itself #inner);
            let call = call(function, end, quote!(#(#arguments),*));
            match similar {
                // If there is no such function, rustc finds this one to be similar.
                Some(similar) => {
                    let similar = format_ident!("{similar}");
                    quote!({ #[allow(unused_imports)] use ::purview::lang::#similar; #call })
                }
                None => call,
            }
        }
        Node::Block(lets, tail) => {
            let (lets, tail) = (lets.iter().map(binding), self::value(tail));
            quote!({ #(#lets)* #tail })
        }
        Node::Reported => unreachable!("what was reported is not expanded"),
    }
}

/// An argument of a user's function. Where arguments are missing, rustc writes the call anew from the first token to the last
/// of each that is there, and the first of `a * b` has the span of the operator.
fn argument(value: &TypedValue) -> TokenStream {
    let tokens = self::value(value);
    if !matches!(value.node, Node::Lang { located: false, .. }) {
        return tokens;
    }
    let start = |(place, mut token): (usize, TokenTree)| {
        // The `::` that the path begins with.
        if place < 2 {
            token.set_span(value.source.start);
        }
        token
    };
    tokens.into_iter().enumerate().map(start).collect()
}

fn float(number: f32, span: Span) -> TokenStream {
    let mut literal = Literal::f32_suffixed(number);
    literal.set_span(span);
    literal.into_token_stream()
}

/// `call`, with the place of `token`.
fn at(call: TokenStream, ty: ValueType, token: Span, source: Source) -> TokenStream {
    let (line, column) = Source::from(token).place();
    lang("at", Some(ty), (source.start, source.end), quote!(#call, ::core::file!(), #line, #column))
}

/// A call of `function` of `purview::lang` with the type parameter `generic`, from `start` to `end`.
fn lang(function: &str, generic: Option<ValueType>, (start, end): (Span, Span), arguments: TokenStream) -> TokenStream {
    let function = Ident::new(function, start);
    let generic = generic.and_then(type_name).map(|ty| {
        let ty = Ident::new(ty, start);
        quote_spanned!(start=> ::<::purview::lang::#ty>)
    });
    call(quote_spanned!(start=> ::purview::lang::#function #generic), end, arguments)
}

fn call(function: TokenStream, end: Span, arguments: TokenStream) -> TokenStream {
    let mut arguments = Group::new(Delimiter::Parenthesis, arguments);
    arguments.set_span(end);
    let mut tokens = function;
    tokens.extend([TokenTree::Group(arguments)]);
    tokens
}

fn lang_type(ty: ValueType, span: Span) -> TokenStream {
    let name = Ident::new(type_name(ty).expect("a type that is declared"), span);
    quote_spanned!(span=> ::purview::lang::#name)
}

/// The type of `purview::lang` that `ty` is; none where it is not known.
fn type_name(ty: ValueType) -> Option<&'static str> {
    match ty {
        ValueType::Int => Some("Int"),
        ValueType::Float => Some("Float"),
        ValueType::Bool => Some("Bool"),
        ValueType::Unknown | ValueType::Reported => None,
    }
}

/// The variant of `spec::ScalarType` and `spec::ScalarValue` for `scalar`.
fn variant(scalar: Scalar) -> Ident {
    let variant = match scalar {
        Scalar::I32 => "I32",
        Scalar::U32 => "U32",
        Scalar::F32 => "F32",
        Scalar::Bool => "Bool",
    };
    Ident::new(variant, Span::call_site())
}

/// The name without `r#`.
fn unraw(name: &Ident) -> String {
    name.to_string().trim_start_matches("r#").to_string()
}

/// The doc comment among `attributes`.
fn doc(attributes: &[syn::Attribute]) -> String {
    let line = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(line)
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_string())
        .collect();
    lines.join("\n")
}
