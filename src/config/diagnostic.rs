//! What is wrong with a file that a person wrote: where, and what was expected.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use toml::Spanned;

use crate::fs::{self, PathError};

/// The longest configuration file that is read, in bytes: far more than a person writes.
const LONGEST: u64 = 1 << 20;

/// A file that a person wrote, with the text that spans point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is; for what is built into the program a name in angle brackets, such as `<bindery>/profiles/amd64.toml`.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Reads a file, at most 1 MiB of it.
    pub fn read(path: &Path) -> Result<Arc<Self>, PathError> {
        let text = String::from_utf8(fs::read_at_most(path, LONGEST)?);
        let text = text.map_err(|e| PathError::on("read", path)(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        Ok(Arc::new(Self { path: path.to_path_buf(), text }))
    }

    /// Returns the folder that relative paths in the file start from; nothing for what is built into the program.
    pub fn folder(&self) -> Option<&Path> {
        self.path.parent().filter(|_| !self.path.starts_with("<bindery>"))
    }

    /// Returns the line, from 1, that a byte offset lies on.
    pub fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
    }
}

/// A value together with where it was written.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the source's text.
    pub span: Range<usize>,
    /// The file.
    pub source: Arc<Source>,
}

impl<T> At<T> {
    /// Puts a value from a parsed file together with that file.
    pub fn new(spanned: Spanned<T>, source: &Arc<Source>) -> Self {
        Self { span: spanned.span(), value: spanned.into_inner(), source: source.clone() }
    }

    /// Returns the place as `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.source.path.display(), self.source.line(self.span.start))
    }

    /// Starts a complaint about the value.
    pub fn complain(&self, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: self.source.clone(),
            span: Some(self.span.clone()),
            message: message.into(),
            label: label.into(),
            hints: Vec::new(),
        }
    }
}

/// One thing that is wrong in a [`Source`]. `Display` gives one line, [`Diagnostic::render`] the lines with a caret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", self.place())]
pub struct Diagnostic {
    file: Arc<Source>,
    span: Option<Range<usize>>,
    message: String,
    label: String,
    hints: Vec<String>,
}

impl Diagnostic {
    /// Makes one from the TOML parser's own error, whose message names what was expected.
    pub fn of_toml(error: &toml::de::Error, source: &Arc<Source>) -> Self {
        let message = error.message().trim().replace('\n', ", ");
        // It may quote what it found, and that is shown on a terminal.
        let message = message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { file: source.clone(), span: error.span(), message, label: String::new(), hints: Vec::new() }
    }

    /// Makes one about a file as a whole.
    pub fn of_file(source: &Arc<Source>, message: impl Into<String>) -> Self {
        Self { file: source.clone(), span: None, message: message.into(), label: String::new(), hints: Vec::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns what went wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what to do about it.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the place as `FILE:LINE`, or `FILE` where it is about the whole file.
    pub fn place(&self) -> String {
        let path = self.file.path.display();
        match &self.span {
            Some(span) => format!("{path}:{}", self.file.line(span.start)),
            None => path.to_string(),
        }
    }

    /// Returns the message with file, line and caret, on several lines, for a terminal that may show colours.
    pub fn render(&self, colour: bool) -> String {
        let path = self.file.path.display().to_string();
        let span = self.span.clone().unwrap_or(0..0);
        // The renderer wants a span that lies on characters of the text; a parser may point behind its end.
        let end = self.file.text.len();
        let (start, stop) = (floor(&self.file.text, span.start.min(end)), floor(&self.file.text, span.end.min(end)));
        let title = Level::ERROR.primary_title(self.message.as_str());
        let mut group = match &self.span {
            Some(_) => {
                let annotation = AnnotationKind::Primary.span(start..stop.max(start));
                let annotation = if self.label.is_empty() { annotation } else { annotation.label(&self.label) };
                title.element(Snippet::source(self.file.text.as_str()).path(path).annotation(annotation))
            }
            None => Group::with_title(title).element(annotate_snippets::Origin::path(path)),
        };
        for hint in &self.hints {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { path: "x.toml".into(), text: text.into() })
    }

    #[test]
    fn a_complaint_shows_file_line_and_caret() {
        let source = source("version = 1\nimage = \"nmae\"\n");
        let at = At { value: (), span: 20..26, source };
        let diagnostic = at.complain("there is no image `nmae`", "expected one of `name`").hint("did you mean `name`?");
        assert_eq!(diagnostic.to_string(), "x.toml:2: there is no image `nmae`");
        insta::assert_snapshot!(diagnostic.render(false), @r#"
        error: there is no image `nmae`
         --> x.toml:2:9
          |
        2 | image = "nmae"
          |         ^^^^^^ expected one of `name`
          |
          = help: did you mean `name`?
        "#);
    }

    #[test]
    fn a_span_outside_the_text_or_inside_a_character_is_no_panic() {
        let source = source("ä = 1");
        for span in [1..2, 0..1, 4..900, 900..901] {
            let at = At { value: (), span, source: source.clone() };
            assert!(at.complain("odd", "").render(true).contains("odd"));
        }
    }

    #[test]
    fn a_complaint_about_a_whole_file_names_it() {
        let text = Diagnostic::of_file(&source(""), "no key `chost`").hint("add one").render(false);
        insta::assert_snapshot!(text, @r"
        error: no key `chost`
        --> x.toml
         = help: add one
        ");
    }
}
