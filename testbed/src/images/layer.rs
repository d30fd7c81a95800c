//! Layers: gzipped tar files, built once and cached by their content.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::packages::{self, Part};
use crate::{Error, Result};

/// A layer of random bytes has files of at most this size.
const FILE_SIZE: u64 = 4 << 20;

/// One layer of an image to build.
#[derive(Clone, Debug)]
pub struct Layer(Content);

#[derive(Clone, Debug)]
enum Content {
    /// Bytes of a seeded generator; `compressible` ones shrink to about a half.
    Random {
        seed: u64,
        size: u64,
        compressible: bool,
    },
    Files(Vec<Entry>),
    /// A gzipped tar file that is used where it is.
    Archive(PathBuf),
}

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    mode: u32,
    link: bool,
    content: Vec<u8>,
}

/// A built layer.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Where the gzipped tar file is.
    pub path: PathBuf,
    /// Its digest.
    pub digest: String,
    /// The digest of the tar file inside.
    pub diff_id: String,
    /// Its compressed size in bytes.
    pub size: u64,
}

impl Layer {
    /// About `size` bytes that do not compress. A different seed gives different content.
    pub fn random(seed: u64, size: u64) -> Layer {
        Layer(Content::Random { seed, size, compressible: false })
    }

    /// `size` bytes unpacked, about half of that compressed.
    pub fn compressible(seed: u64, size: u64) -> Layer {
        Layer(Content::Random { seed, size, compressible: true })
    }

    /// These files: path, mode and content.
    pub fn files(files: &[(&str, u32, &[u8])]) -> Layer {
        let entry = |&(path, mode, content): &(&str, u32, &[u8])| Entry {
            path: path.trim_start_matches('/').into(),
            mode,
            link: false,
            content: content.to_vec(),
        };
        Layer(Content::Files(files.iter().map(entry).collect()))
    }

    /// An existing gzipped tar file.
    pub fn archive(path: &Path) -> Layer {
        Layer(Content::Archive(path.into()))
    }

    /// busybox, its commands as links to it, and a `/tmp`.
    pub fn busybox() -> Result<Layer> {
        packages::require(Part::RunnableImages)?;
        let program = fs::read("/bin/busybox").map_err(Error::io("read /bin/busybox"))?;
        let mut entries = vec![
            Entry { path: "bin/busybox".into(), mode: 0o755, link: false, content: program },
            Entry { path: "etc/passwd".into(), mode: 0o644, link: false, content: PASSWD.into() },
            Entry { path: "etc/group".into(), mode: 0o644, link: false, content: b"root:x:0:\nlab:x:1000:\n".into() },
            Entry { path: "tmp/.keep".into(), mode: 0o644, link: false, content: Vec::new() },
        ];
        let commands = "sh sleep cat echo ls true false date env id wget nc httpd nslookup mount df stat tail head seq sync \
                        touch mkdir rm dd kill ps yes vi grep sed awk hostname ip";
        entries.extend(commands.split_whitespace().map(|name| Entry {
            path: format!("bin/{name}"),
            mode: 0o777,
            link: true,
            content: b"busybox".into(),
        }));
        Ok(Layer(Content::Files(entries)))
    }

    /// Builds it, or finds the one that was built before.
    pub fn blob(&self) -> Result<Blob> {
        if let Content::Archive(path) = &self.0 {
            return archived(path);
        }
        let folder = cache_folder()?;
        let path = folder.join(format!("{}.tar.gz", self.key()));
        let facts = path.with_extension("json");
        if let Some(blob) = known(&path, &facts) {
            return Ok(blob);
        }
        let failed = || Error::io(format!("write {}", path.display()));
        // Others may build the same layer now, so each writes its own file until it is complete.
        let file = tempfile::NamedTempFile::new_in(&folder).map_err(failed())?;
        let compression = if self.compresses() { Compression::fast() } else { Compression::none() };
        let packed = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        let mut tar = Hashing::new(GzEncoder::new(packed, compression));
        self.write(&mut tar).map_err(failed())?;
        let (diff_id, _, gzip) = tar.finish();
        let (digest, size, buffered) = gzip.finish().map_err(failed())?.finish();
        let file = buffered.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.persist(&path).map_err(|error| failed()(error.error))?;
        let blob = Blob { path, digest, diff_id, size };
        remember(&blob, &facts)?;
        Ok(blob)
    }

    fn compresses(&self) -> bool {
        !matches!(self.0, Content::Random { compressible: false, .. })
    }

    /// A name for its content.
    fn key(&self) -> String {
        match &self.0 {
            Content::Random { seed, size, compressible } => {
                format!("{}-{seed}-{size}", if *compressible { "compressible" } else { "random" })
            }
            Content::Files(entries) => {
                let mut hash = Sha256::new();
                for entry in entries {
                    hash.update(format!("{} {:o} {} {} ", entry.path, entry.mode, entry.link, entry.content.len()));
                    hash.update(&entry.content);
                }
                format!("files-{}", hex(&hash.finalize()))
            }
            Content::Archive(path) => path.display().to_string(),
        }
    }

    /// Writes the tar file.
    fn write(&self, tar: &mut impl Write) -> io::Result<()> {
        match &self.0 {
            Content::Archive(path) => return io::copy(&mut GzDecoder::new(File::open(path)?), tar).map(drop),
            Content::Random { seed, size, compressible } => {
                let mut bytes = Generator::new(*seed, *compressible);
                let files = size.div_ceil(FILE_SIZE);
                for number in 0..files {
                    let length = FILE_SIZE.min(size - number * FILE_SIZE);
                    tar.write_all(&header(&format!("data/{seed}/{number}"), 0o644, length, None))?;
                    io::copy(&mut (&mut bytes).take(length), tar)?;
                    pad(tar, length)?;
                }
            }
            Content::Files(entries) => {
                for entry in entries {
                    let link = entry.link.then(|| String::from_utf8_lossy(&entry.content).into_owned());
                    let length = if entry.link { 0 } else { entry.content.len() as u64 };
                    tar.write_all(&header(&entry.path, entry.mode, length, link.as_deref()))?;
                    if !entry.link {
                        tar.write_all(&entry.content)?;
                        pad(tar, length)?;
                    }
                }
            }
        }
        tar.write_all(&[0; 1024])
    }
}

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nlab:x:1000:1000:lab:/tmp:/bin/sh\n";

/// A POSIX.1-1988 `ustar` header of a file or symbolic link of root, from the start of 1970.
fn header(path: &str, mode: u32, size: u64, link: Option<&str>) -> [u8; 512] {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &path[..path.len().min(100)]);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, if link.is_some() { "2" } else { "0" });
    put(157, link.unwrap_or_default());
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn pad(tar: &mut impl Write, length: u64) -> io::Result<()> {
    let over = usize::try_from(length % 512).unwrap_or(0);
    tar.write_all(&[0; 512][..(512 - over) % 512])
}

/// Endless bytes that depend only on the seed (xorshift64*, Vigna 2016).
struct Generator {
    state: u64,
    mask: u64,
}

impl Generator {
    fn new(seed: u64, compressible: bool) -> Generator {
        // Spreads the bits of a small seed; the state must not be zero.
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Generator { state, mask: if compressible { 0x0f0f_0f0f_0f0f_0f0f } else { u64::MAX } }
    }
}

impl Read for Generator {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let whole = buffer.len() / 8 * 8;
        let length = if whole == 0 { buffer.len() } else { whole };
        for chunk in buffer[..length].chunks_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) & self.mask;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        Ok(length)
    }
}

/// Counts and hashes the bytes that are written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Hashing<W> {
        Hashing { inner, hash: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (String, u64, W) {
        (format!("sha256:{}", hex(&self.hash.finalize())), self.size, self.inner)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The layer in an existing file. Its digests are stored beside the file, so that they are computed once.
fn archived(path: &Path) -> Result<Blob> {
    let facts = path.with_extension("json");
    if let Some(blob) = known(path, &facts) {
        return Ok(blob);
    }
    let failed = || Error::io(format!("read {}", path.display()));
    let mut packed = Hashing::new(io::sink());
    io::copy(&mut File::open(path).map_err(failed())?, &mut packed).map_err(failed())?;
    let mut tar = Hashing::new(io::sink());
    io::copy(&mut GzDecoder::new(File::open(path).map_err(failed())?), &mut tar).map_err(failed())?;
    let (digest, size, _) = packed.finish();
    let blob = Blob { path: path.into(), digest, diff_id: tar.finish().0, size };
    remember(&blob, &facts)?;
    Ok(blob)
}

fn remember(blob: &Blob, facts: &Path) -> Result<()> {
    let failed = || Error::io(format!("write {}", facts.display()));
    let known = json!({"digest": blob.digest, "diff_id": blob.diff_id, "size": blob.size});
    let file = tempfile::NamedTempFile::new_in(facts.parent().unwrap_or(facts)).map_err(failed())?;
    fs::write(file.path(), known.to_string()).map_err(failed())?;
    file.persist(facts).map(drop).map_err(|error| failed()(error.error))
}

fn known(path: &Path, facts: &Path) -> Option<Blob> {
    let facts: Value = serde_json::from_slice(&fs::read(facts).ok()?).ok()?;
    let size = facts["size"].as_u64()?;
    let whole = File::open(path).ok()?.metadata().ok()?.len() == size;
    let text = |name: &str| facts[name].as_str().map(str::to_owned);
    if whole {
        Some(Blob { path: path.into(), digest: text("digest")?, diff_id: text("diff_id")?, size })
    } else {
        None
    }
}

fn cache_folder() -> Result<PathBuf> {
    let folder = crate::folder::cache()?.join("layers");
    fs::create_dir_all(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
    Ok(folder)
}
