//! A node's log folder as kubelet keeps it, written with numbered lines, and where every number went.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// How many rotated files kubelet keeps beside the live one.
const MOST_ROTATED: usize = 4;

/// A number, or a part of its line, in a file.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub number: u64,
    pub start: u64,
    pub end: u64,
}

/// One file's content from its beginning to its end, whatever its names.
#[derive(Debug, Default)]
pub struct Generation {
    /// Its plain names, first to last.
    pub names: Vec<String>,
    pub written: Vec<Written>,
    pub size: u64,
    pub on_disk: bool,
}

/// The log of one container, written with numbers that no other container uses.
pub struct Container {
    folder: PathBuf,
    limit: u64,
    live: File,
    /// All files that ever existed; the last one is live.
    generations: Vec<Generation>,
    /// The first content of the live file: each truncation began another one.
    first_of_live: usize,
    /// The second part of a line, to be written next.
    rest: Option<(u64, String)>,
    rotations: u32,
    /// Rotated files, the oldest first, with their generation's index; all but the newest are compressed.
    rotated: Vec<(PathBuf, usize)>,
}

impl Container {
    /// A log in a separate pod below `root`; it rotates at `limit` bytes.
    pub fn new(root: &Path, index: usize, limit: u64) -> Self {
        let folder = root.join(format!("space-{}_pod-{index}_uid-{index:06}/main", index % 3));
        fs::create_dir_all(&folder).unwrap();
        let (live, generation) = begin(&folder);
        let generations = vec![generation];
        Self { folder, limit, live, generations, first_of_live: 0, rest: None, rotations: 0, rotated: Vec::new() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Writes one numbered line with `length` bytes of filling; every seventh in two parts, which may be in two files. Each
    /// part has the number, because the parts are shipped separately if the writer stalls between them.
    pub fn write(&mut self, number: u64, length: usize) {
        let (text, filling) = (format!("number={number}; "), "x".repeat(length));
        if let Some((number, rest)) = self.rest.take() {
            self.append(number, "F", &rest);
        }
        if number.is_multiple_of(7) {
            self.append(number, "P", &text);
            self.rest = Some((number, format!("rest={number}; {filling}")));
            if self.is_full() {
                self.rotate();
            }
            if number.is_multiple_of(2) {
                return;
            }
            let Some((number, rest)) = self.rest.take() else { return };
            self.append(number, "F", &rest);
        } else {
            self.append(number, "F", &(text + &filling));
        }
        if self.is_full() {
            self.rotate();
        }
    }

    /// Completes an open line, so that every number has its whole line.
    pub fn finish(&mut self) {
        if let Some((number, rest)) = self.rest.take() {
            self.append(number, "F", &rest);
        }
    }

    fn append(&mut self, number: u64, tag: &str, text: &str) {
        let (minute, second) = (number / 60 % 60, number % 60);
        let line =
            format!("2026-11-22T10:{minute:02}:{second:02}.{:09}Z stdout {tag} {text}\n", number % 1_000_000_000);
        self.live.write_all(line.as_bytes()).unwrap();
        let generation = self.generations.last_mut().unwrap();
        let start = generation.size;
        generation.size += line.len() as u64;
        generation.written.push(Written { number, start, end: generation.size });
    }

    fn is_full(&self) -> bool {
        self.generations.last().unwrap().size >= self.limit
    }

    /// As kubelet: delete the oldest beyond five files, compress what was renamed before, rename the live one, start a new one.
    fn rotate(&mut self) {
        while self.rotated.len() >= MOST_ROTATED {
            let (path, index) = self.rotated.remove(0);
            fs::remove_file(path).unwrap();
            self.generations[index].on_disk = false;
        }
        if let Some((newest, _)) = self.rotated.last_mut() {
            let compressed = PathBuf::from(format!("{}.gz", newest.display()));
            let temporary = PathBuf::from(format!("{}.tmp", newest.display()));
            let mut encoder = GzEncoder::new(File::create(&temporary).unwrap(), Compression::fast());
            encoder.write_all(&fs::read(&newest).unwrap()).unwrap();
            encoder.finish().unwrap();
            fs::rename(&temporary, &compressed).unwrap();
            fs::remove_file(&newest).unwrap();
            *newest = compressed;
        }
        self.rotations += 1;
        let name = format!("0.log.20261122-{:06}", self.rotations);
        let path = self.folder.join(&name);
        fs::rename(self.folder.join("0.log"), &path).unwrap();
        // A shipper that notices a truncation late knows the file by its later name.
        for generation in &mut self.generations[self.first_of_live..] {
            generation.names.push(name.clone());
        }
        self.rotated.push((path, self.generations.len() - 1));
        self.begin();
    }

    /// Empties the live file, as an administrator does when disk space is short.
    pub fn truncate(&mut self) {
        self.live.set_len(0).unwrap();
        let live = self.generations.last_mut().unwrap();
        live.on_disk = false;
        let generation = Generation { names: live.names.clone(), on_disk: true, ..Generation::default() };
        self.generations.push(generation);
    }

    fn begin(&mut self) {
        let (live, generation) = begin(&self.folder);
        self.live = live;
        self.first_of_live = self.generations.len();
        self.generations.push(generation);
    }
}

fn begin(folder: &Path) -> (File, Generation) {
    let live = File::options().create(true).append(true).open(folder.join("0.log")).unwrap();
    (live, Generation { names: vec!["0.log".into()], on_disk: true, ..Generation::default() })
}
