//! `prepuller scan` of a large repository against the bare HTTP requests that it makes, sent again from the registry's own log.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::folder::Folder;
use testbed::images::{Image, Layer, tag};
use testbed::registry::Registry;

use crate::Size;
use crate::measure::{Subject, command, program};
use crate::table::{Table, median, median_seconds};

const REPOSITORY: &str = "lsstsqre/sciplat-lab";

/// The number of concurrent requests to one host, as in `prepuller`.
const PARALLEL: usize = 8;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

pub(crate) fn run(size: Size) -> Result<()> {
    let (count, runs) = (size.choose(10_000, 1_000), size.choose(9, 3));
    let registry = Registry::start()?;
    publish(&registry, count)?;
    let folder = Folder::new("scan")?;
    let (mut ours, mut bare, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let before = registry.log().lines().count();
        let repository = format!("{}/{REPOSITORY}", registry.host());
        let settings = [("LAB_REPOSITORIES", repository.as_str()), ("LAB_INSECURE_REGISTRIES", &registry.host())];
        let scan = command(program("prepuller")?, &["scan", "--output", "json"], &settings);
        ours.push(Subject::start("prepuller", &scan, &folder.join("log"))?.until_end(Duration::from_secs(120))?);
        requests = registry.log().lines().skip(before).filter_map(request).collect();
        bare.push(send_again(&registry, &requests)?);
    }
    let (scan, plain) = (median_seconds(ours.iter().map(|taken| taken.time)), median_seconds(bare));
    let memory = median(ours.iter().map(|taken| taken.peak as f64)) / f64::from(1 << 20);
    let mut table = Table::new(&["scan", "s", "CPU s", "peak MiB"]);
    let cpu = median_seconds(ours.iter().map(|taken| taken.cpu));
    table.row([
        format!("prepuller scan, {count} tags"),
        format!("{scan:.2}"),
        format!("{cpu:.2}"),
        format!("{memory:.1}"),
    ]);
    table.row([format!("its {} requests alone", requests.len()), format!("{plain:.2}"), "-".into(), "-".into()]);
    table.row(["difference".into(), format!("{:.2}", scan - plain), "-".into(), "-".into()]);
    println!("{table}\nMedian of {runs}, in turns. Goal: difference below 1 s, memory below 64 MiB.");
    Ok(())
}

/// Builds of every class from 2000 on, most of them experimental ones and dailies, all of one digest for each fifty.
fn publish(registry: &Registry, count: usize) -> Result<()> {
    let images = (0..50)
        .map(|seed| Image::new([Layer::random(seed, 4096)]).push(registry, REPOSITORY, &format!("sha-{seed:07x}")))
        .collect::<testbed::Result<Vec<_>>>()?;
    let mut tags = vec![Vec::new(); images.len()];
    for number in 0..count - images.len() - 3 {
        let (year, day) = (2000 + number / 500, number % 500);
        tags[number % images.len()].push(match number % 10 {
            0 => format!("r{}_{}_{}", 20 + year - 2000, day / 25, day % 25),
            1 | 2 => format!("w_{year}_{:02}_c{day:04}.001", day % 52 + 1),
            3..=5 => format!("exp_w_{year}_{:02}_branch-{day}", day % 52 + 1),
            _ => format!("d_{year}_{:02}_{:02}_c{day:04}.{:03}", day / 31 % 12 + 1, day % 28 + 1, number % 7),
        });
    }
    tags[1].extend(["recommended", "latest_weekly", "latest_daily"].map(str::to_owned));
    for (image, tags) in images.iter().zip(&tags) {
        tag(registry, image, tags)?;
    }
    Ok(())
}

/// Method and path of a request in the registry's access log (Apache's combined format).
fn request(line: &str) -> Option<(String, String)> {
    let (method, rest) = line.split('"').nth(1)?.split_once(' ')?;
    let path = rest.strip_suffix(" HTTP/1.1")?;
    path.starts_with("/v2/").then(|| (method.to_owned(), path.to_owned()))
}

/// Sends the requests: the first ones, for lists of tags, one after the other; then the others, as many at a time as `prepuller` does.
fn send_again(registry: &Registry, requests: &[(String, String)]) -> Result<Duration> {
    if requests.is_empty() {
        bail!("the registry's log has no request of the scan");
    }
    let client = registry.client(REPOSITORY)?;
    let send = |(method, path): &(String, String)| -> testbed::Result<()> {
        client
            .send(method, &format!("{}{path}", registry.url()), &[("Accept", ACCEPT)], b"")?
            .expect(200, path)
            .map(drop)
    };
    let lists = requests.iter().take_while(|(_, path)| path.contains("/tags/list")).count();
    let (next, started) = (AtomicUsize::new(lists), Instant::now());
    requests[..lists].iter().try_for_each(send)?;
    std::thread::scope(|scope| {
        let work = || {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                send(request)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().ok().context("a thread broke")?.map_err(|error: testbed::Error| error.into())
        })
    })
    .map(|()| started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_the_access_log() {
        let line = r#"127.0.0.1 - - [25/Nov/2026:02:00:00 +0000] "GET /v2/lab/tags/list?n=1000 HTTP/1.1" 200 20 "" "labhands/0.1.0""#;
        assert_eq!(request(line), Some(("GET".into(), "/v2/lab/tags/list?n=1000".into())));
        assert_eq!(request("level=info msg=\"listening on\""), None);
    }
}
