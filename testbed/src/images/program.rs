//! Layers of a program of this machine, so that what `cargo test` built runs in a pod without another build.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Layer;
use crate::folder::Folder;
use crate::{Error, Result, command};

impl Layer {
    /// The program at `target`, without debug information.
    pub(super) fn program(path: &Path, target: &str) -> Result<Layer> {
        let folder = Folder::new("program")?;
        let stripped = folder.join("program");
        command::run(Command::new("strip").arg("-o").arg(&stripped).arg(path))?;
        Ok(Layer::files(&[(target, 0o755, &read(&stripped)?)]))
    }

    /// The libraries that the program is linked to, at their paths, and this machine's trusted certificates.
    pub(super) fn libraries(path: &Path) -> Result<Layer> {
        let listed = command::run(Command::new("ldd").arg(path))?;
        let roots = Some("/etc/ssl/certs/ca-certificates.crt").filter(|roots| Path::new(roots).exists());
        let paths = listed.lines().flat_map(str::split_whitespace).filter(|word| word.starts_with('/')).chain(roots);
        let files = paths.map(|path| Ok((path, read(Path::new(path))?))).collect::<Result<Vec<_>>>()?;
        let files: Vec<(&str, u32, &[u8])> =
            files.iter().map(|(path, content)| (*path, 0o755, content.as_slice())).collect();
        Ok(Layer::files(&files))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io(format!("read {}", path.display())))
}
