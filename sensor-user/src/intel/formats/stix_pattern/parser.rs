//! Parser: text to alternatives, in one pass without a tree.
//!
//! Precedence as in the grammar: `AND` binds before `OR`, and between observations `OR` before
//! `FOLLOWEDBY`. Each rule returns the alternatives that can still be sufficient.

use super::clause::Clause;
use super::lexer::{PatternLexer, Token};
use super::{PatternError, PatternErrorKind};

/// Maximum nesting of parentheses.
const DEPTH_MAX: usize = 64;
/// Maximum number of steps to combine alternatives.
const WORK_MAX: usize = 1 << 20;
/// Maximum number of alternatives.
const CLAUSES_MAX: usize = 1 << 16;

type Clauses<'a> = Vec<Clause<'a>>;

/// Parser of one pattern.
#[derive(Debug)]
pub(super) struct PatternParser<'a> {
    lexer: PatternLexer<'a>,
    pub(super) token: Token<'a>,
    at: usize,
    depth: usize,
    work_left: usize,
    /// Errors of texts that should be addresses, in their order.
    pub(super) unreadable: Vec<PatternError>,
    conjunction: Conjunction,
}

/// Meaning of `AND` between comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conjunction {
    /// All must hold, as in STIX.
    All,
    /// Each address is an alternative; ports qualify all of them, and everything else is ignored.
    Addresses,
}

impl<'a> PatternParser<'a> {
    pub(super) fn new(text: &'a str, conjunction: Conjunction) -> Result<Self, PatternError> {
        let mut lexer = PatternLexer::new(text);
        let (at, token) = lexer.next()?;
        let work_left = WORK_MAX;
        Ok(Self { lexer, token, at, depth: 0, work_left, unreadable: Vec::new(), conjunction })
    }

    /// Parses the whole text.
    pub(super) fn pattern(&mut self) -> Result<Clauses<'a>, PatternError> {
        let clauses = self.sequence()?;
        if self.token != Token::End {
            return Err(self.unexpected("the end, or AND, OR, FOLLOWEDBY"));
        }
        for clause in &clauses {
            self.spend(clause.cost_to_finish())?;
        }
        Ok(clauses)
    }

    /// Parses `a FOLLOWEDBY b`: two observations, of which none is sufficient.
    fn sequence(&mut self) -> Result<Clauses<'a>, PatternError> {
        let mut clauses = self.observations()?;
        while self.take_word("FOLLOWEDBY")? {
            self.observations()?;
            clauses.clear();
        }
        Ok(clauses)
    }

    fn observations(&mut self) -> Result<Clauses<'a>, PatternError> {
        let mut clauses = self.joint_observations()?;
        while self.take_word("OR")? {
            clauses.extend(self.joint_observations()?);
            self.check_count(clauses.len())?;
        }
        Ok(clauses)
    }

    /// Parses `a AND b`: two different observations (section 9.3), of which none is sufficient.
    fn joint_observations(&mut self) -> Result<Clauses<'a>, PatternError> {
        let mut clauses = self.observation()?;
        while self.take_word("AND")? {
            self.observation()?;
            clauses.clear();
        }
        Ok(clauses)
    }

    fn observation(&mut self) -> Result<Clauses<'a>, PatternError> {
        let is_group = self.token == Token::Sign(b'(');
        if !is_group && self.token != Token::Sign(b'[') {
            return Err(self.unexpected("[ or ("));
        }
        self.enter()?;
        let mut clauses = if is_group {
            let clauses = self.sequence()?;
            self.sign(b')', ")")?;
            clauses
        } else {
            let clauses = self.comparisons()?;
            self.sign(b']', "]")?;
            clauses
        };
        self.depth -= 1;
        while let Some(is_one_at_any_time) = self.qualifier()? {
            if !is_one_at_any_time {
                clauses.clear();
            }
        }
        Ok(clauses)
    }

    /// Parses a qualifier of an observation. Returns true if a single observation at any time meets
    /// it.
    fn qualifier(&mut self) -> Result<Option<bool>, PatternError> {
        if self.take_word("WITHIN")? {
            self.number()?;
            self.word("SECONDS")?;
            return Ok(Some(true));
        }
        if self.take_word("REPEATS")? {
            let times = self.number()?;
            self.word("TIMES")?;
            return Ok(Some(times.trim_start_matches(['+', '0']) == "1"));
        }
        if self.take_word("START")? {
            self.time()?;
            self.word("STOP")?;
            self.time()?;
            return Ok(Some(false));
        }
        Ok(None)
    }

    fn comparisons(&mut self) -> Result<Clauses<'a>, PatternError> {
        let mut clauses = self.joint_comparisons()?;
        while self.take_word("OR")? {
            clauses.extend(self.joint_comparisons()?);
            self.check_count(clauses.len())?;
        }
        Ok(clauses)
    }

    fn joint_comparisons(&mut self) -> Result<Clauses<'a>, PatternError> {
        let mut clauses = self.comparison()?;
        while self.take_word("AND")? {
            let others = self.comparison()?;
            clauses = match self.conjunction {
                Conjunction::All => self.product(&clauses, &others)?,
                Conjunction::Addresses => self.alternatives(clauses, others)?,
            };
        }
        Ok(clauses)
    }

    fn product(
        &mut self,
        left: &[Clause<'a>],
        right: &[Clause<'a>],
    ) -> Result<Clauses<'a>, PatternError> {
        let mut clauses = Vec::with_capacity(left.len().min(right.len()));
        for a in left {
            for b in right {
                self.spend(a.cost(b))?;
                clauses.extend(a.join(b));
            }
        }
        self.check_count(clauses.len())?;
        Ok(clauses)
    }

    /// Combines comparisons of which each address is an alternative.
    fn alternatives(
        &mut self,
        left: Clauses<'a>,
        right: Clauses<'a>,
    ) -> Result<Clauses<'a>, PatternError> {
        let conditions = |clauses: &Clauses<'a>| clauses.first().map(Clause::ports_only);
        let (of_left, of_right) = (conditions(&left), conditions(&right));
        let mut clauses = Vec::with_capacity(left.len() + right.len());
        for (own, other) in [(left, of_right), (right, of_left)] {
            for clause in own {
                let joined =
                    other.as_ref().map_or_else(|| Some(clause.clone()), |it| clause.join(it));
                clauses.extend(joined);
            }
        }
        // A comparison without an address qualifies those that have one.
        if clauses.iter().any(Clause::has_addresses) {
            clauses.retain(Clause::has_addresses);
        }
        self.spend(clauses.len())?;
        self.check_count(clauses.len())?;
        Ok(clauses)
    }

    fn comparison(&mut self) -> Result<Clauses<'a>, PatternError> {
        // An extension of the grammar: negated comparisons are parsed but not used.
        let is_negated = self.take_word("NOT")?;
        let clauses = if self.token == Token::Sign(b'(') {
            self.enter()?;
            let clauses = self.comparisons()?;
            self.sign(b')', ")")?;
            self.depth -= 1;
            clauses
        } else if self.take_word("EXISTS")? {
            self.path()?;
            Vec::new()
        } else {
            self.single_comparison()?.into_iter().collect()
        };
        Ok(if is_negated { Vec::new() } else { clauses })
    }

    fn number(&mut self) -> Result<&'a str, PatternError> {
        match self.advance()? {
            (_, Token::Number(number)) => Ok(number),
            (at, token) => Err(self.unexpected_at(at, &token, "a number")),
        }
    }

    /// Parses a time; STIX 2.0 has times as strings.
    fn time(&mut self) -> Result<(), PatternError> {
        match self.advance()? {
            (_, Token::Constant | Token::Text(_)) => Ok(()),
            (at, token) => Err(self.unexpected_at(at, &token, "a time such as t'…'")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), PatternError> {
        if self.take_word(word)? { Ok(()) } else { Err(self.unexpected(word)) }
    }

    pub(super) fn sign(&mut self, sign: u8, expected: &'static str) -> Result<(), PatternError> {
        if self.token != Token::Sign(sign) {
            return Err(self.unexpected(expected));
        }
        self.advance().map(|_taken| ())
    }

    /// Consumes the next token if it is this keyword. Returns true if it was.
    pub(super) fn take_word(&mut self, keyword: &str) -> Result<bool, PatternError> {
        let is_it = matches!(&self.token, Token::Word(it) if it.eq_ignore_ascii_case(keyword));
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    /// Consumes the next token. Returns it with its offset.
    pub(super) fn advance(&mut self) -> Result<(usize, Token<'a>), PatternError> {
        let (at, token) = self.lexer.next()?;
        let taken = (self.at, std::mem::replace(&mut self.token, token));
        self.at = at;
        Ok(taken)
    }

    /// Consumes an opening bracket.
    fn enter(&mut self) -> Result<(), PatternError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(PatternError { at: self.at, kind: PatternErrorKind::TooDeep });
        }
        self.advance().map(|_bracket| ())
    }

    const fn spend(&mut self, work: usize) -> Result<(), PatternError> {
        match self.work_left.checked_sub(work) {
            Some(left) => {
                self.work_left = left;
                Ok(())
            }
            None => Err(PatternError { at: self.at, kind: PatternErrorKind::TooComplex }),
        }
    }

    const fn check_count(&self, clauses: usize) -> Result<(), PatternError> {
        if clauses > CLAUSES_MAX {
            return Err(PatternError { at: self.at, kind: PatternErrorKind::TooComplex });
        }
        Ok(())
    }

    pub(super) fn unexpected(&self, expected: &'static str) -> PatternError {
        self.unexpected_at(self.at, &self.token, expected)
    }

    pub(super) fn unexpected_at(
        &self,
        at: usize,
        token: &Token<'_>,
        expected: &'static str,
    ) -> PatternError {
        let found = if *token == Token::End { String::new() } else { self.lexer.excerpt(at) };
        PatternError { at, kind: PatternErrorKind::Unexpected { found, expected } }
    }
}
