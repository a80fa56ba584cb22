//! From text to a [`Module`] (PTX ISA, "Directive Statements", "Kernel and Function Directives").

use super::decode::{Decoder, PtxStatement};
use super::fault::PtxParseError;
use super::lexer::{self, PtxToken};
use super::module::{KernelParameter, Module};
use super::operand::ParsedOperand;
use super::types::{PtxType, Space};

impl Module {
    /// Reads a module.
    ///
    /// # Errors
    /// Names the line of whatever is not understood, be it ever run or not.
    pub fn parse(text: &str) -> Result<Module, PtxParseError> {
        let tokens = lexer::tokens(text)?;
        let mut parser = ModuleParser { source: text, tokens: &tokens, at: 0 };
        parser.module()
    }
}

struct ModuleParser<'a> {
    source: &'a str,
    tokens: &'a [PtxToken<'a>],
    at: usize,
}

impl<'a> ModuleParser<'a> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn next(&mut self) -> &'a str {
        let text = self.peek();
        self.at += 1;
        text
    }

    fn accept(&mut self, text: &str) -> bool {
        let found = self.peek() == text;
        self.at += found as usize;
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), PtxParseError> {
        if self.accept(text) {
            return Ok(());
        }
        Err(self.error(format!("expected `{text}`, found `{}`", self.peek())))
    }

    fn error(&self, reason: impl Into<String>) -> PtxParseError {
        lexer::error(self.source, self.line(), reason)
    }

    fn number(&mut self) -> Result<u64, PtxParseError> {
        let line = self.line();
        let text = self.next();
        super::operand::number(text)
            .ok_or_else(|| lexer::error(self.source, line, format!("expected a number, found `{text}`")))
    }

    fn size(&mut self) -> Result<usize, PtxParseError> {
        Ok(self.number()? as usize)
    }

    fn module(&mut self) -> Result<Module, PtxParseError> {
        let mut decoder = Decoder::default();
        let mut target = String::new();
        let mut kernel: Option<Kernel> = None;
        loop {
            match self.peek() {
                "" => break,
                ".version" | ".address_size" => self.at += 2,
                ".target" => {
                    self.at += 1;
                    target = self.next().to_owned();
                    while self.accept(",") {
                        self.at += 1;
                    }
                }
                ".extern" | ".visible" | ".weak" => self.at += 1,
                ".shared" => self.variable(Space::Shared, &mut decoder)?,
                ".global" | ".const" => self.variable(Space::Constant, &mut decoder)?,
                ".entry" if kernel.is_some() => return Err(self.error("a second kernel: one in a module is expected")),
                ".entry" => kernel = Some(self.entry(&mut decoder)?),
                other => return Err(self.error(format!("`{other}` is not understood here"))),
            }
        }
        let Some(kernel) = kernel else {
            return Err(self.error("no kernel (`.entry`) is in this module"));
        };
        decoder.finish().map_err(|(line, reason)| lexer::error(self.source, line, reason))?;
        Ok(Module {
            source: self.source.to_owned(),
            target,
            entry: kernel.name,
            parameters: kernel.parameters,
            threads: kernel.threads,
            max_threads: kernel.max_threads,
            static_shared: decoder.shared,
            local: decoder.local,
            constant: decoder.constant,
            meets: super::meet::meets(&decoder.instructions),
            instructions: decoder.instructions,
            opcodes: decoder.opcodes,
            registers: decoder.registers.file,
        })
    }

    /// `.shared .align 16 .b8 name[4096];` and its like, initialised for the constant space.
    fn variable(&mut self, space: Space, decoder: &mut Decoder<'a>) -> Result<(), PtxParseError> {
        self.at += 1;
        let Declaration { name, each, count, alignment } = self.declaration()?;
        let mut values = Vec::new();
        if self.accept("=") {
            self.expect("{")?;
            while !self.accept("}") {
                let negative = self.accept("-");
                let value = self.number()?;
                values.push(if negative { value.wrapping_neg() } else { value });
                self.accept(",");
            }
        } else if space == Space::Constant {
            return Err(self.error("a variable of the module without values: kernels get memory as parameters"));
        }
        self.expect(";")?;
        let bytes = (each.bits() / 8) as usize;
        let mut content: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()[..bytes].to_vec()).collect();
        let length = count.unwrap_or(0) * bytes;
        if space == Space::Constant {
            content.resize(length.max(content.len()), 0);
        }
        decoder.variable(name, space, count.map(|_| length), alignment.unwrap_or(bytes), &content);
        Ok(())
    }

    /// `.align 8 .b8 name[120]`.
    fn declaration(&mut self) -> Result<Declaration<'a>, PtxParseError> {
        let mut alignment = None;
        let mut each = None;
        loop {
            let word = self.peek();
            if word == ".align" {
                self.at += 1;
                alignment = Some(self.size()?);
            } else if matches!(word, ".ptr" | ".global" | ".shared" | ".local" | ".const") {
                // What a parameter points to, which the kernel need not be told.
                self.at += 1;
                if word == ".ptr" && self.peek() != ".align" {
                    continue;
                }
                if self.accept(".align") {
                    self.at += 1;
                }
            } else if let Some(found) = word.strip_prefix('.').and_then(PtxType::named) {
                self.at += 1;
                each = Some(found);
            } else {
                break;
            }
        }
        let Some(each) = each else {
            return Err(self.error(format!("expected a type such as `.b32`, found `{}`", self.peek())));
        };
        let name = self.next();
        let mut count = Some(1usize);
        while self.accept("[") {
            if self.accept("]") {
                count = None;
            } else {
                let size = self.size()?;
                count = count.map(|count| count.saturating_mul(size));
                self.expect("]")?;
            }
        }
        Ok(Declaration { name, each, count, alignment })
    }

    fn entry(&mut self, decoder: &mut Decoder<'a>) -> Result<Kernel, PtxParseError> {
        self.at += 1;
        let mut kernel = Kernel { name: self.next().to_owned(), ..Kernel::default() };
        let mut end = 0usize;
        if self.accept("(") {
            while !self.accept(")") {
                self.expect(".param")?;
                let Declaration { name, each, count, alignment } = self.declaration()?;
                let size = (each.bits() / 8) as usize;
                let alignment = alignment.unwrap_or(size);
                let bytes = size * count.ok_or_else(|| self.error("a parameter without a size"))?;
                let offset = end.next_multiple_of(alignment.max(1));
                end = offset + bytes;
                decoder.parameter(name, offset);
                kernel.parameters.push(KernelParameter { name: name.to_owned(), bytes, alignment, offset });
                self.accept(",");
            }
        }
        while !self.accept("{") {
            match self.next() {
                ".reqntid" => kernel.threads = Some(self.triple()?),
                ".maxntid" => kernel.max_threads = Some(self.triple()?),
                ".minnctapersm" | ".maxnreg" => self.at += 1,
                ".pragma" => self.at += 2,
                other => {
                    self.at -= 1;
                    return Err(self.error(format!("`{other}` is not understood on a kernel")));
                }
            }
        }
        self.body(decoder)?;
        Ok(kernel)
    }

    /// Up to three numbers; those left out are 1.
    fn triple(&mut self) -> Result<[u32; 3], PtxParseError> {
        let mut triple = [1; 3];
        for (index, side) in triple.iter_mut().enumerate() {
            if index > 0 && !self.accept(",") {
                break;
            }
            *side = self.number()? as u32;
        }
        Ok(triple)
    }

    /// Everything until the kernel's closing brace.
    fn body(&mut self, decoder: &mut Decoder<'a>) -> Result<(), PtxParseError> {
        decoder.open_scope();
        let mut depth = 1;
        while depth > 0 {
            let line = self.line();
            let failed = |reason| lexer::error(self.source, line, reason);
            match self.peek() {
                "" => return Err(self.error("the kernel has no end")),
                "{" => {
                    self.at += 1;
                    depth += 1;
                    decoder.open_scope();
                }
                "}" => {
                    self.at += 1;
                    depth -= 1;
                    decoder.close_scope().map_err(|(line, reason)| lexer::error(self.source, line, reason))?;
                }
                ";" => self.at += 1,
                ".reg" => self.registers(decoder)?,
                ".local" | ".shared" => {
                    let space = if self.peek() == ".local" { Space::Local } else { Space::Shared };
                    self.variable(space, decoder)?;
                }
                ".pragma" => {
                    self.at += 2;
                    self.expect(";")?;
                }
                label if self.tokens.get(self.at + 1).is_some_and(|token| token.text == ":") => {
                    self.at += 2;
                    if self.accept(".branchtargets") {
                        let mut targets = vec![self.next()];
                        while self.accept(",") {
                            targets.push(self.next());
                        }
                        self.expect(";")?;
                        decoder.targets(label, targets);
                    } else {
                        decoder.label(label).map_err(failed)?;
                    }
                }
                _ => {
                    let statement = self.statement()?;
                    decoder.instruction(statement).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// `.reg .b32 %r<100>;` or a list of names.
    fn registers(&mut self, decoder: &mut Decoder<'a>) -> Result<(), PtxParseError> {
        self.at += 1;
        let Some(each) = self.peek().strip_prefix('.').and_then(PtxType::named) else {
            return Err(self.error(format!("expected a type such as `.b32`, found `{}`", self.peek())));
        };
        self.at += 1;
        loop {
            let name = self.next();
            if self.accept("<") {
                let count = self.size()?;
                self.expect(">")?;
                decoder.registers.declare_many(name, each, count);
            } else {
                decoder.registers.declare(name.to_owned(), each);
            }
            if !self.accept(",") {
                break;
            }
        }
        self.expect(";")
    }

    fn statement(&mut self) -> Result<PtxStatement<'a>, PtxParseError> {
        let line = self.line();
        let guard = if self.accept("@") {
            let negated = self.accept("!");
            Some((self.next(), negated))
        } else {
            None
        };
        let opcode = self.next();
        let mut operands = Vec::new();
        while !self.accept(";") {
            operands.push(self.operand()?);
            if !self.accept(",") {
                self.expect(";")?;
                break;
            }
        }
        Ok(PtxStatement { line, guard, opcode, operands })
    }

    fn operand(&mut self) -> Result<ParsedOperand<'a>, PtxParseError> {
        if self.accept("{") {
            let mut parts = Vec::new();
            while !self.accept("}") {
                parts.push(self.operand()?);
                self.accept(",");
            }
            return Ok(ParsedOperand::Vector(parts));
        }
        if self.accept("[") {
            let base = self.next();
            let offset = self.offset()?;
            self.expect("]")?;
            return Ok(ParsedOperand::Address { base, offset });
        }
        if self.accept("!") {
            return Ok(ParsedOperand::Not(self.next()));
        }
        if self.accept("-") {
            return Ok(ParsedOperand::Negative(self.next()));
        }
        let word = self.next();
        if !word.starts_with(|first: char| first.is_ascii_alphanumeric() || "_$%.".contains(first)) {
            self.at -= 1;
            return Err(self.error(format!("expected an operand, found `{word}`")));
        }
        if self.accept("|") {
            return Ok(ParsedOperand::Pair(word, self.next()));
        }
        match self.offset()? {
            0 => Ok(ParsedOperand::Word(word)),
            offset => Ok(ParsedOperand::Sum(word, offset)),
        }
    }

    /// `+4`, `-4` or `+-4`; zero where there is none.
    fn offset(&mut self) -> Result<i64, PtxParseError> {
        let mut negative = false;
        let mut any = false;
        loop {
            match self.peek() {
                "+" => {}
                "-" => negative = !negative,
                _ => break,
            }
            any = true;
            self.at += 1;
        }
        if !any {
            return Ok(0);
        }
        let value = self.number()? as i64;
        Ok(if negative { -value } else { value })
    }
}

/// A variable or a parameter.
struct Declaration<'a> {
    name: &'a str,
    each: PtxType,
    /// How many: one without brackets, unknown with empty ones.
    count: Option<usize>,
    /// What its address is a multiple of, in bytes, where that is said.
    alignment: Option<usize>,
}

#[derive(Default)]
struct Kernel {
    name: String,
    parameters: Vec<KernelParameter>,
    threads: Option<[u32; 3]>,
    max_threads: Option<[u32; 3]>,
}
