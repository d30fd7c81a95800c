//! All tags of a repository, page by page.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_NONE_MATCH, LINK};
use serde::Deserialize;
use sidecar::sync::lock;

use super::error::{Problem, RegistryError};
use super::exchange::{Ask, Exchange};
use super::paging;
use super::request::Answer;
use crate::reference::Repository;

/// The largest page of tags.
const MOST_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// The most tags of a repository.
const MOST_TAGS: usize = 1_000_000;

const MOST_PAGES: usize = 10_000;

/// The page sizes that are tried, until a registry accepts one; `None` requests no size. A registry may return fewer
/// tags, or ignore the size.
const PAGE_SIZES: [Option<usize>; 3] = [Some(1000), Some(100), None];

/// The tags of a repository.
#[derive(Debug, Default)]
pub struct TagList {
    /// The tags, as the registry lists them.
    pub tags: Vec<String>,
    /// Why some tags are missing: the error of the page that could not be read.
    pub partial: Option<RegistryError>,
}

/// The state from earlier lists.
#[derive(Debug, Default)]
pub(super) struct TagLists {
    /// Tags of repositories that fit on one page, with its ETag.
    kept: Mutex<HashMap<Repository, (String, Vec<String>)>>,
    /// The page size that a host accepts, as an index of [`PAGE_SIZES`].
    sizes: Mutex<HashMap<String, usize>>,
}

impl TagLists {
    /// Lists all tags.
    ///
    /// # Errors
    ///
    /// If the first page cannot be read. If a later one cannot be read, the list says so.
    pub(super) async fn list(&self, exchange: &Exchange, repository: &Repository) -> Result<TagList, RegistryError> {
        let kept = lock(&self.kept).get(repository).cloned();
        let first = format!("list the tags of {repository} (page 1)");
        let answer = self.first_page(exchange, repository, &first, kept.as_ref().map(|(etag, _)| etag)).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(TagList { tags: kept.map(|(_, tags)| tags).unwrap_or_default(), partial: None });
        }
        let etag = answer.header(ETAG).map(str::to_owned);
        let mut seen = HashSet::from([answer.url.to_string()]);
        let page = read(&answer).map_err(|problem| RegistryError::new(&first, problem))?;
        let mut list = TagList { tags: page.tags, partial: None };
        let mut next = match page.next {
            Ok(None) => {
                if let Some(etag) = etag {
                    lock(&self.kept).insert(repository.clone(), (etag, list.tags.clone()));
                }
                return Ok(list);
            }
            Ok(Some(url)) => url,
            Err(problem) => {
                list.partial = Some(RegistryError::new(&first, problem));
                return Ok(list);
            }
        };
        for number in 2.. {
            let what = format!("list the tags of {repository} (page {number})");
            let page = async {
                let failed = |problem| RegistryError::new(&what, problem);
                if number > MOST_PAGES {
                    return Err(failed(Problem::TooManyPages { most: MOST_PAGES }));
                }
                if !seen.insert(next.to_string()) {
                    return Err(failed(Problem::PageLoop { url: next.to_string() }));
                }
                let answer = exchange.send(Ask::get(repository, next.clone(), &what, MOST_PAGE_BYTES)).await?;
                let page = read(&answer).map_err(failed)?;
                if list.tags.len() + page.tags.len() > MOST_TAGS {
                    return Err(failed(Problem::TooManyTags { most: MOST_TAGS }));
                }
                list.tags.extend(page.tags);
                page.next.map_err(failed)
            };
            match page.await {
                Ok(Some(url)) => next = url,
                Ok(None) => break,
                Err(error) => {
                    list.partial = Some(error);
                    break;
                }
            }
        }
        Ok(list)
    }

    /// The first page, with the size that the registry accepts.
    async fn first_page(
        &self,
        exchange: &Exchange,
        repository: &Repository,
        what: &str,
        etag: Option<&String>,
    ) -> Result<Answer, RegistryError> {
        let mut size = lock(&self.sizes).get(repository.host()).copied().unwrap_or_default();
        loop {
            let query = PAGE_SIZES[size].map_or(String::new(), |number| format!("?n={number}"));
            let url = exchange.url(repository, &format!("tags/list{query}"))?;
            let mut ask = Ask::get(repository, url, what, MOST_PAGE_BYTES);
            if let Some(etag) = etag {
                ask = ask.header(IF_NONE_MATCH, etag);
            }
            match exchange.send(ask).await {
                // The page size is the only unusual part of this request.
                Err(error) if error.may_be_the_page_size() && size + 1 < PAGE_SIZES.len() => size += 1,
                Err(error) => return Err(error),
                Ok(answer) => {
                    lock(&self.sizes).insert(repository.host().to_owned(), size);
                    return Ok(answer);
                }
            }
        }
    }
}

struct Page {
    tags: Vec<String>,
    next: Result<Option<reqwest::Url>, Problem>,
}

fn read(answer: &Answer) -> Result<Page, Problem> {
    let body: Body = answer.object()?;
    let tags = body.tags.unwrap_or_default();
    if tags.len() > MOST_TAGS {
        return Err(Problem::TooManyTags { most: MOST_TAGS });
    }
    Ok(Page { tags, next: paging::next(&answer.header_list(LINK), &answer.url) })
}

/// `GET /v2/<name>/tags/list`. Some registries send `null` for no tags. An answer without the field is not a list of
/// tags.
#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "Option::deserialize")]
    tags: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Url;
    use reqwest::header::{HeaderMap, HeaderValue};

    fn page(body: &str, links: &[&[u8]]) -> Result<Page, Problem> {
        let links = links.iter().map(|link| (LINK, HeaderValue::from_bytes(link).unwrap()));
        read(&Answer {
            url: Url::parse("https://r.example.org/v2/lab/tags/list?n=1000").unwrap(),
            status: StatusCode::OK,
            headers: HeaderMap::from_iter(links),
            body: body.as_bytes().to_vec(),
        })
    }

    #[test]
    fn only_a_list_of_tags_is_a_list_of_tags() {
        for (body, expected) in [
            (r#"{"name":"lab","tags":["a","b"]}"#, Some(2)),
            (r#" {"tags":null} "#, Some(0)),
            (r#"{"tags":[],"errors":[]}"#, Some(0)),
            (r#"{"tags":["a"],"errors":null}"#, Some(1)),
            ("{}", None),
            ("[]", None),
            (r#"[["a"]]"#, None),
            ("null", None),
            ("\"tags\"", None),
            ("", None),
            ("<html>", None),
            (r#"{"tags":"a"}"#, None),
            (r#"{"tags":{"a":1}}"#, None),
            (r#"{"tags":[1]}"#, None),
            (r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, None),
            (r#"{"tags":[],"errors":[{"code":"DENIED","message":"no"}]}"#, None),
            (r#"{"Tags":["a"]}"#, None),
        ] {
            assert_eq!(page(body, &[]).ok().map(|page| page.tags.len()), expected, "{body}");
        }
    }

    #[test]
    fn all_link_fields_are_read_and_one_that_is_no_text_makes_the_list_partial() {
        let body = r#"{"tags":["a"]}"#;
        let next = |links: &[&[u8]]| page(body, links).unwrap().next.map(|url| url.map(|url| url.to_string()));
        let url = "https://r.example.org/v2/lab/tags/list?last=a";
        assert_eq!(next(&[b"</x>; rel=help", b"<?last=a>; rel=next"]).unwrap().as_deref(), Some(url));
        assert!(next(&[b"\xff\xfe"]).is_err());
        assert_eq!(next(&[]).unwrap(), None);
    }
}
