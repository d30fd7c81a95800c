//! `MULTILINE`: decides which lines belong to one stack trace. No I/O, no clock.

/// The languages whose stack traces are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Languages {
    /// Java and other languages of the JVM.
    pub java: bool,
    /// Python.
    pub python: bool,
    /// Go.
    pub go: bool,
}

/// A stack trace that may continue with the next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// After a line that names an exception, or a frame.
    Java,
    /// Within the frames.
    PythonFrames,
    /// After the line that names the error; another one may follow.
    PythonError,
    /// After `panic:` or `fatal error:`.
    Go,
}

impl Languages {
    /// Whether no language is set.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The trace that this line begins, if any.
    pub fn begins(self, line: &[u8]) -> Option<Trace> {
        let names = |word: &str| memchr::memmem::find(line, word.as_bytes()).is_some();
        if self.python && line.ends_with(b"Traceback (most recent call last):") {
            return Some(Trace::PythonFrames);
        }
        if self.go && (line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ")) {
            return Some(Trace::Go);
        }
        (self.java && (names("Exception") || names("Error") || names("Throwable"))).then_some(Trace::Java)
    }
}

impl Trace {
    /// The trace after this line; `None` if the line does not belong to it.
    pub fn goes_on(self, line: &[u8]) -> Option<Self> {
        let indented = line.first().is_some_and(u8::is_ascii_whitespace);
        let starts = |begins: &[&str]| begins.iter().any(|begin| line.starts_with(begin.as_bytes()));
        match self {
            Self::Java => {
                let frame = indented
                    && [&b"at "[..], b"... ", b"Suppressed: ", b"Caused by: "]
                        .iter()
                        .any(|begin| line.trim_ascii_start().starts_with(begin));
                (frame || starts(&["Caused by: "])).then_some(self)
            }
            Self::PythonFrames if line.is_empty() => None,
            Self::PythonFrames => Some(if indented { self } else { Self::PythonError }),
            Self::PythonError if line.ends_with(b"Traceback (most recent call last):") => Some(Self::PythonFrames),
            Self::PythonError => {
                let chained = ["During handling of the above exception", "The above exception was the direct cause"];
                (line.is_empty() || starts(&chained)).then_some(self)
            }
            Self::Go => {
                let markers = ["goroutine ", "[signal ", "created by ", "panic: ", "exit status "];
                (line.is_empty() || indented || line.ends_with(b")") || starts(&markers)).then_some(self)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of lines of the trace that begins with the first line.
    fn length(languages: Languages, text: &str) -> usize {
        let mut lines = text.lines();
        let mut trace = languages.begins(lines.next().unwrap().as_bytes());
        let mut count = 0;
        while let Some(at) = trace {
            count += 1;
            trace = lines.next().and_then(|line| at.goes_on(line.as_bytes()));
        }
        count
    }

    #[test]
    fn traces_end_where_a_reader_sees_the_end() {
        let all = Languages { java: true, python: true, go: true };
        let java =
            "java.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\n\t... 3 more\nCaused by: x\n\tat d\nnext";
        let python = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\nKeyError: 'a'\n\n\
                      During handling of the above exception, another exception occurred:\n\n\
                      Traceback (most recent call last):\n  File \"a.py\"\nValueError: b\nnext";
        let go = "panic: no\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:3 +0x1\nexit status 2\nnext";
        assert_eq!([java, python, go].map(|text| length(all, text)), [5, 10, 6]);
        assert_eq!([java, python, go].map(|text| length(Languages::default(), text)), [0; 3]);
        assert_eq!(length(all, "all is well\n  indented"), 0);
    }
}
