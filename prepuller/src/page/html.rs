//! The page as HTML: complete, readable without scripts, and without external resources.

use maud::{DOCTYPE, Markup, html};

use super::query::{Query, Show};
use super::summary;
use super::text;
use super::view::{Cell, CellState, ImageRow, NodeRow, Standing, View};

/// Up to this many nodes, no filter is offered.
const FEW: usize = 10;

/// The whole page.
pub(super) fn page(view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title(view)) }
                link rel="stylesheet" href="page.css";
                script src="page.js" defer {}
            }
            body {
                header {
                    h1 { "Lab images" }
                    p.live {
                        span #state { noscript { a href=(address(&view.query)) { "Reload" } } }
                        button #pause type="button" hidden aria-pressed="false" { "Pause" }
                    }
                }
                (live(view))
                footer {
                    p {
                        "Also as data: "
                        a href="catalogue.json" { "catalogue" } ", "
                        a href=(format!("status.json{}", view.query)) { "status" } ", "
                        a href="spawner/v1/images" { "spawner images" } ", "
                        a href="spawner/v1/prepulls" { "prepulls" } ", "
                        a href="metrics" { "metrics" } "."
                    }
                }
            }
        }
    }
}

/// The part of the page that changes.
pub(super) fn live(view: &View) -> Markup {
    html! {
        main data-title=(title(view)) {
            (summary(view))
            @if !view.problems.is_empty() {
                section.problems aria-labelledby="problems" {
                    h2 #problems { "Problems" }
                    ul { @for problem in &view.problems { li { (problem) } } }
                }
            }
            (images(view))
            (nodes(view))
            (spawns(view))
            (repositories(view))
        }
    }
}

fn title(view: &View) -> String {
    match view.totals.wanted {
        0 => "Lab images".to_owned(),
        wanted => format!("{} % – Lab images", text::percent(view.totals.present as u64, wanted as u64)),
    }
}

/// The address of a query; a bare `?` would keep the current one.
fn address(query: &Query) -> String {
    let text = query.to_string();
    if text.is_empty() { "./".to_owned() } else { text }
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Problem => "bad",
        Standing::Pulling => "busy",
        Standing::Waiting => "wait",
        Standing::Complete => "good",
        Standing::NotEligible => "off",
    }
}

fn summary(view: &View) -> Markup {
    let (standing, headline) = summary::headline(view);
    html! {
        section.summary.(class(standing)) aria-label="Summary" {
            p.headline role="status" { (headline) }
            @if view.totals.wanted > 0 && !view.complete {
                progress.busy max=(view.totals.wanted)
                    value=(view.totals.present) aria-label="Copies that are present" {}
                p { (summary::progress(view)) "." }
            }
            p.quiet {
                "Last good scan: "
                @if let Some(good) = view.scan.last_good {
                    time datetime=(good) { (summary::scan(view)) }
                } @else { (summary::scan(view)) }
                "."
                @if view.by_pods { " Pods pull the images, so there is no progress within an image." }
            }
        }
    }
}

fn images(view: &View) -> Markup {
    let rows: Vec<(usize, &ImageRow)> = (1..).zip(&view.images).collect();
    // Images that are on every node come last, and are folded while there are others.
    let done_from = rows.iter().position(|(_, image)| image.standing == Standing::Complete).unwrap_or(rows.len());
    let (open, done) = rows.split_at(done_from);
    html! {
        section aria-labelledby="images" {
            h2 #images { "Wanted images" }
            @if rows.is_empty() { p.quiet { "None." } }
            @if !open.is_empty() { (image_table(open)) }
            @if open.is_empty() && !done.is_empty() { (image_table(done)) }
            @if !open.is_empty() && !done.is_empty() {
                details #complete {
                    summary { (text::images(done.len())) " on every node" }
                    (image_table(done))
                }
            }
        }
    }
}

fn image_table(rows: &[(usize, &ImageRow)]) -> Markup {
    html! {
        table.images role="table" aria-labelledby="images" {
            thead role="rowgroup" {
                tr role="row" {
                    th.number role="columnheader" scope="col" { "No." }
                    th role="columnheader" scope="col" { "Image" }
                    th role="columnheader" scope="col" { "Why" }
                    th.size role="columnheader" scope="col" { "Size" }
                    th role="columnheader" scope="col" { "On nodes" }
                }
            }
            tbody role="rowgroup" { @for (number, image) in rows { (image_row(*number, image)) } }
        }
    }
}

fn image_row(number: usize, image: &ImageRow) -> Markup {
    html! {
        tr role="row" {
            td.number role="cell" { (number) }
            th role="rowheader" scope="row" {
                (image.name) " "
                code title=(image.reference) { (text::tag(&image.reference)) }
                @if !image.also.is_empty() { span.quiet { "also " (image.also.join(", ")) } }
            }
            td.why role="cell" { (image.why) }
            td.size role="cell" { @if let Some(size) = image.size { (text::bytes(size)) } }
            td.spread role="cell" { (spread(image)) }
        }
    }
}

/// The state of an image's rollout. One that is everywhere has only a sign.
fn spread(image: &ImageRow) -> Markup {
    if image.standing == Standing::Complete && image.eligible > 0 {
        return html! { span.sign.good role="img" aria-label=(image.wave) title=(image.wave) { (summary::sign(CellState::Present)) } };
    }
    let lacking = image.eligible - image.present.min(image.eligible);
    let lacks = Query { missing: image.reference.clone(), page: 1, ..Query::default() };
    html! {
        @if image.eligible > 0 {
            progress.(class(image.standing)) max=(image.eligible) value=(image.present)
                aria-label=(format!("Nodes that hold {}", image.name)) {}
            " " (text::count(image.present)) " of " (text::count(image.eligible))
        }
        div.note.(class(image.standing)) {
            (image.wave)
            @if image.pulling > 0 { ", " (text::count(image.pulling)) " pulling" }
            @if image.failed > 0 { ", " (text::count(image.failed)) " failed" }
            @if lacking > 0 { ", " a href=(address(&lacks)) { "missing on " (text::count(lacking)) } }
        }
    }
}

/// The scanned repositories.
fn repositories(view: &View) -> Markup {
    html! {
        @if !view.repositories.is_empty() {
            section.repositories aria-labelledby="repositories" {
                h2 #repositories { "Repositories" }
                ul {
                    @for repository in &view.repositories {
                        li {
                            code { (repository.name) } " "
                            span.quiet { (summary::repository(view, repository)) }
                            @if let Some(problem) = &repository.problem {
                                p.(if repository.complete { "wait" } else { "bad" }) { (problem) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn nodes(view: &View) -> Markup {
    let query = &view.query;
    html! {
        section #nodes aria-labelledby="nodes-title" {
            h2 #nodes-title { "Nodes" }
            @if view.counts.all > FEW || !query.to_string().is_empty() { (choices(view)) }
            @if !query.missing.is_empty() {
                p.quiet {
                    "Only nodes that lack " code { (query.missing) } ". "
                    a href=(address(&Query { missing: String::new(), ..query.on_page(1) })) { "Show the others, too" }
                }
            }
            @if view.nodes.is_empty() { p.quiet { "No such node." } } @else {
                (legend(view))
                table.nodes role="table" aria-labelledby="nodes-title" {
                    thead role="rowgroup" {
                        tr role="row" {
                            th role="columnheader" scope="col" { "Node" }
                            @for (index, image) in view.images.iter().enumerate() {
                                th.cell role="columnheader" scope="col" title=(image.reference) {
                                    (index + 1) span.unseen { " " (text::tag(&image.reference)) }
                                }
                            }
                            th.notes role="columnheader" scope="col" { "Status" }
                        }
                    }
                    tbody role="rowgroup" { @for node in &view.nodes { (node_row(view, node)) } }
                }
                @if view.pages > 1 { (pager(view)) }
            }
        }
    }
}

/// The filters for nodes, and the search field.
fn choices(view: &View) -> Markup {
    let query = &view.query;
    html! {
        nav.choices aria-label="Which nodes" {
            @for show in Show::ALL {
                a href=(address(&query.showing(show))) aria-current=[(show == query.show).then_some("true")] {
                    (show.label()) " " span.count { (text::count(view.counts.of(show))) }
                }
            }
        }
        form method="get" action="./" role="search" {
            label { "Name " input type="search" name="node" value=(query.node) autocomplete="off"; }
            @if query.show != Show::All { input type="hidden" name="show" value=(query.show.as_str()); }
            @if !query.missing.is_empty() { input type="hidden" name="missing" value=(query.missing); }
            button { "Find" }
        }
    }
}

fn spawns(view: &View) -> Markup {
    html! {
        @if let Some(spawns) = &view.spawns {
            section aria-labelledby="spawns" {
                h2 #spawns { "Labs that started" }
                p { (text::spawns(view.now, spawns)) }
            }
        }
    }
}

/// The legend of the signs on this page.
fn legend(view: &View) -> Markup {
    let shown = CellState::ALL.into_iter().filter(|state| view.nodes.iter().any(|node| node.has(*state)));
    html! {
        ul.legend aria-label="Signs" {
            @for state in shown {
                li { span.cell.(cell_class(state)) aria-hidden="true" { (summary::sign(state)) } " " (summary::state(state)) }
            }
        }
    }
}

fn node_row(view: &View, node: &NodeRow) -> Markup {
    let notes =
        node.images.iter().zip(&view.images).filter_map(|(cell, image)| Some((cell, image, summary::details(cell)?)));
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                (node.name)
                @if let Some(disk) = node.disk {
                    span.quiet {
                        "disk " (text::percent(disk.used, disk.total)) " % of " (text::bytes(disk.total))
                    }
                }
            }
            @for cell in &node.images {
                td.cell.(cell_class(cell.state)) role="cell" aria-label=(summary::state(cell.state)) {
                    (summary::sign(cell.state))
                }
            }
            td.notes role="cell" {
                span.standing.(class(node.standing)) { (summary::standing(node.standing)) }
                @if !matches!(node.standing, Standing::Complete | Standing::NotEligible) {
                    " " span.quiet { (node.present) " of " (node.wanted) }
                }
                @for remark in &node.remarks { p { (remark) } }
                @for (cell, image, details) in notes { (note(cell, image, &details)) }
            }
        }
    }
}

/// The progress of a running pull, or the reason of a failure, with the runtime's own message behind a click.
fn note(cell: &Cell, image: &ImageRow, details: &str) -> Markup {
    let tag = text::tag(&image.reference);
    if let Some((failure, words)) = summary::failure_in_short(cell) {
        return html! {
            p.bad { code { (tag) } " " (failure) }
            @if let Some(words) = words { details { summary { "Message of the runtime" } p { (words) } } }
        };
    }
    html! {
        p.busy {
            code { (tag) } " "
            @if cell.state == CellState::Downloading && cell.total > 0 {
                progress.busy max=(cell.total) value=(cell.done.min(cell.total))
                    aria-label=(format!("Download of {}", image.name)) {}
                " "
            }
            (details)
        }
    }
}

fn cell_class(state: CellState) -> &'static str {
    match state {
        CellState::NotWanted => "off",
        CellState::NotOrdered | CellState::Waiting => "wait",
        CellState::Downloading | CellState::Unpacking => "busy",
        CellState::Present => "good",
        CellState::Failed | CellState::Refused => "bad",
    }
}

fn pager(view: &View) -> Markup {
    let page = view.query.page;
    html! {
        nav.pager aria-label="Pages of nodes" {
            @if page > 1 { a rel="prev" href=(address(&view.query.on_page(page - 1))) { "← Previous" } }
            span { "Page " (text::count(page)) " of " (text::count(view.pages)) ", " (text::nodes(view.matching)) }
            @if page < view.pages { a rel="next" href=(address(&view.query.on_page(page + 1))) { "Next →" } }
        }
    }
}

#[cfg(test)]
mod tests;
