//! Builds a view from an overview.

use lab_images::catalogue::RepositoryState;

use super::fold::Folded;
use super::{Cell, CellState, Counts, ImageRow, NodeRow, PER_PAGE, RepositoryRow, ScanTimes, Standing, Totals, View};
use crate::node_images::PullState;
use crate::overview::{AgentState, ImageOnNode, ImageOverview, Mode, NodeOverview, Overview, Reported, Wave};
use crate::page::query::{Query, Show};
use crate::page::{reason, text};

/// Longer errors are cut; the node's agent shows all of it.
const MOST_ERROR_BYTES: usize = 400;

impl View {
    /// The view of `overview` for `query`.
    pub fn new(overview: &Overview, query: &Query) -> Self {
        let folded = Folded::new(overview);
        let mut sums = Sums::new(&folded);
        let mut found = Vec::new();
        let missing = (!query.missing.is_empty()).then(|| folded.named(&query.missing));
        for node in &overview.nodes {
            let standing = sums.add(&folded, node);
            let lacks = match missing {
                None => true,
                Some(index) => {
                    let image = index.and_then(|index| folded.on(node).nth(index));
                    standing != Standing::NotEligible && image.is_some_and(ImageOnNode::is_missing)
                }
            };
            if query.show.shows(standing) && lacks && node.name.contains(&query.node) {
                found.push((standing, node));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
        let pages = found.len().div_ceil(PER_PAGE).max(1);
        let query = query.on_page(query.page.clamp(1, pages));
        let nodes = found.iter().skip((query.page - 1) * PER_PAGE).take(PER_PAGE);
        Self {
            now: overview.now,
            complete: overview.is_complete(),
            decided: overview.decided,
            by_pods: overview.mode == Mode::Pods,
            scan: ScanTimes {
                generated: overview.catalogue.as_ref().map(|catalogue| catalogue.generated),
                last: overview.scan.last,
                last_good: overview.scan.last_good,
                last_good_began: overview.scan.last_good_began,
                problem: overview.scan.problem.clone(),
            },
            problems: problems(overview),
            repositories: repositories(overview),
            nodes: nodes.map(|(standing, node)| NodeRow::new(&folded, node, *standing)).collect(),
            matching: found.len(),
            pages,
            query,
            totals: sums.totals(),
            counts: sums.counts,
            images: sums.images,
            spawns: overview.spawns,
        }
    }
}

impl Show {
    fn shows(self, standing: Standing) -> bool {
        match self {
            Self::All => true,
            Self::Problems => standing == Standing::Problem,
            Self::Pulling => standing == Standing::Pulling,
            Self::Waiting => standing == Standing::Waiting,
            Self::Complete => standing == Standing::Complete,
            Self::NotEligible => standing == Standing::NotEligible,
        }
    }
}

impl Counts {
    /// How many nodes this filter would show.
    pub fn of(&self, show: Show) -> usize {
        match show {
            Show::All => self.all,
            Show::Problems => self.problems,
            Show::Pulling => self.pulling,
            Show::Waiting => self.waiting,
            Show::Complete => self.complete,
            Show::NotEligible => self.not_eligible,
        }
    }
}

/// Totals, added up node by node.
struct Sums {
    images: Vec<ImageRow>,
    counts: Counts,
    totals: Totals,
}

impl Sums {
    fn new(folded: &Folded) -> Self {
        Self {
            images: folded.images().map(|(image, others, behind)| ImageRow::new(image, &others, behind)).collect(),
            counts: Counts::default(),
            totals: Totals::default(),
        }
    }

    /// Adds a node and returns its state.
    fn add(&mut self, folded: &Folded, node: &NodeOverview) -> Standing {
        self.counts.all += 1;
        if node.not_eligible.is_some() {
            self.counts.not_eligible += 1;
            return Standing::NotEligible;
        }
        // While nothing is wanted, nothing is complete.
        let mut standing = if self.images.is_empty() { Standing::Waiting } else { Standing::Complete };
        for (image, row) in folded.on(node).zip(&mut self.images) {
            standing = standing.min(self.totals.add(image, row));
        }
        self.totals.behind += usize::from(standing < Standing::Complete);
        if trouble(node).is_some() {
            standing = Standing::Problem;
        }
        match standing {
            Standing::Problem => self.counts.problems += 1,
            Standing::Pulling => self.counts.pulling += 1,
            Standing::Waiting => self.counts.waiting += 1,
            Standing::Complete | Standing::NotEligible => self.counts.complete += 1,
        }
        standing
    }

    fn totals(&self) -> Totals {
        let left = self.totals.bytes_left;
        let is_known = left > 0 && self.totals.unknown == 0;
        Totals { eta_seconds: left.checked_div(self.totals.rate).filter(|_| is_known), ..self.totals.clone() }
    }
}

impl Totals {
    /// Adds an image on an eligible node and returns its state.
    fn add(&mut self, image: &ImageOnNode, row: &mut ImageRow) -> Standing {
        let size = row.size;
        let (standing, left) = match image {
            ImageOnNode::NotWanted => return Standing::Complete,
            ImageOnNode::NotOrdered | ImageOnNode::Ordered => (Standing::Waiting, size),
            ImageOnNode::Reported(reported) => match reported.state {
                PullState::Present => (Standing::Complete, Some(0)),
                PullState::Waiting => (Standing::Waiting, size),
                PullState::Unpacking => (Standing::Pulling, Some(0)),
                PullState::Downloading => {
                    self.rate = self.rate.saturating_add(reported.rate.unwrap_or(0));
                    let total = Some(reported.total).filter(|total| *total > 0).or(size);
                    (Standing::Pulling, total.map(|total| total.saturating_sub(reported.done)))
                }
                PullState::Failed | PullState::Refused => (Standing::Problem, size),
            },
        };
        self.wanted += 1;
        self.present += usize::from(standing == Standing::Complete);
        self.bytes_left = self.bytes_left.saturating_add(left.unwrap_or(0));
        self.unknown += usize::from(left.is_none());
        row.pulling += usize::from(standing == Standing::Pulling);
        row.failed += usize::from(standing == Standing::Problem);
        standing
    }
}

impl ImageRow {
    /// An image under its main name, with its other names. The state is that of the name that is furthest behind.
    fn new(image: &ImageOverview, others: &[&ImageOverview], behind: &ImageOverview) -> Self {
        Self {
            reference: image.reference.to_string(),
            name: image.name.clone(),
            also: others.iter().map(|other| text::tag(&other.reference.to_string()).to_owned()).collect(),
            why: image.why.clone(),
            size: image.size,
            present: behind.present,
            eligible: behind.eligible,
            pulling: 0,
            failed: 0,
            standing: Standing::of(&behind.wave),
            wave: wave(behind),
        }
    }
}

/// The state of an image's rollout, in words.
fn wave(image: &ImageOverview) -> String {
    match &image.wave {
        Wave::Done if image.eligible == 0 => "no node should have it".to_owned(),
        Wave::Done => "on every node".to_owned(),
        Wave::Waiting => "waits for its first node".to_owned(),
        Wave::Canary { node } => format!("{node} tries it first"),
        Wave::Rolling => "spreading".to_owned(),
        Wave::Stopped { node, next, .. } => format!("stopped: {node} could not pull it; {}", text::next(node, next)),
        Wave::Held { node, why, next } => format!("held up by {node}: {why}; {}", text::next(node, next)),
    }
}

impl NodeRow {
    fn new(folded: &Folded, node: &NodeOverview, standing: Standing) -> Self {
        let mut remarks: Vec<String> = node.not_eligible.iter().cloned().collect();
        match node.waiting_pods {
            0 => {}
            1 => remarks.push("one user waits here".to_owned()),
            users => remarks.push(format!("{users} users wait here")),
        }
        if node.gated {
            remarks.push("closed to users until its images are present".to_owned());
        }
        if node.not_eligible.is_none() {
            remarks.extend(trouble(node));
            if node.agent == AgentState::Awaited {
                remarks.push("its agent has not reported yet".to_owned());
            }
        }
        Self {
            name: node.name.to_string(),
            standing,
            present: folded.on(node).filter(|image| image.is_present()).count(),
            wanted: folded.on(node).filter(|image| !matches!(image, ImageOnNode::NotWanted)).count(),
            remarks,
            disk: node.disk,
            images: folded.on(node).map(Cell::new).collect(),
        }
    }
}

impl Cell {
    fn new(image: &ImageOnNode) -> Self {
        let plain = |state| Self { state, done: 0, total: 0, rate: None, eta_seconds: None, failures: 0, error: None };
        match image {
            ImageOnNode::NotWanted => plain(CellState::NotWanted),
            ImageOnNode::NotOrdered => plain(CellState::NotOrdered),
            ImageOnNode::Ordered => plain(CellState::Waiting),
            ImageOnNode::Reported(reported) => Self::of(reported),
        }
    }

    fn of(reported: &Reported) -> Self {
        let state = match reported.state {
            PullState::Waiting => CellState::Waiting,
            PullState::Downloading => CellState::Downloading,
            PullState::Unpacking => CellState::Unpacking,
            PullState::Present => CellState::Present,
            PullState::Failed => CellState::Failed,
            PullState::Refused => CellState::Refused,
        };
        let pulling = matches!(state, CellState::Downloading | CellState::Unpacking);
        let error = reported.error.as_deref().filter(|_| state != CellState::Present);
        Self {
            state,
            done: if pulling { reported.done } else { 0 },
            total: if pulling { reported.total } else { 0 },
            rate: reported.rate.filter(|_| state == CellState::Downloading),
            eta_seconds: reported.eta_seconds.filter(|_| pulling),
            failures: reported.failures,
            error: error.map(|error| short(error).to_owned()),
        }
    }
}

/// The trouble of a node that should have images, apart from these images.
fn trouble(node: &NodeOverview) -> Option<String> {
    let agent = match &node.agent {
        AgentState::Missing => Some("no agent has reported".to_owned()),
        AgentState::Silent(silence) => {
            Some(format!("its agent has not reported for {}", text::duration(silence.as_secs())))
        }
        AgentState::NoRuntime(problem) => Some(format!("its container runtime can't be used: {}", short(problem))),
        AgentState::Awaited | AgentState::Fine => None,
    };
    let unwritten = node.unwritten.as_ref().map(|error| format!("its orders can't be written: {}", short(error)));
    match (agent, unwritten) {
        (Some(agent), Some(unwritten)) => Some(format!("{agent}; {unwritten}")),
        (agent, unwritten) => agent.or(unwritten),
    }
}

fn short(error: &str) -> &str {
    &error[..error.floor_char_boundary(MOST_ERROR_BYTES)]
}

/// The state of the scans, by repository.
fn repositories(overview: &Overview) -> Vec<RepositoryRow> {
    let states = overview.catalogue.iter().flat_map(|catalogue| &catalogue.repositories);
    let row = |state: &RepositoryState| RepositoryRow {
        name: state.name.to_string(),
        complete: state.complete,
        scanned: state.scanned,
        tags: state.tags,
        unread: state.unread,
        problem: state.problem.clone(),
    };
    states.map(row).collect()
}

/// General problems.
fn problems(overview: &Overview) -> Vec<String> {
    let mut problems = overview.cluster.clone();
    problems.extend(scan_problem(overview));
    for image in &overview.images {
        if let Wave::Stopped { node, error, next } = &image.wave {
            let (name, next, (why, _)) = (&image.name, text::next(node, next), reason::sentence(error));
            problems.push(format!("{name} is stopped: {node} could not pull {}: {why}; {next}", image.reference));
        }
    }
    let eligible = || overview.nodes.iter().filter(|node| node.not_eligible.is_none());
    let named = |is_it: fn(&NodeOverview) -> bool| {
        let names: Vec<&str> = eligible().filter(|node| is_it(node)).map(|node| &*node.name).collect();
        text::names(&names)
    };
    if let Some(nodes) = named(|node| node.unwritten.is_some()) {
        let first = eligible().find_map(|node| node.unwritten.as_deref()).unwrap_or_default();
        problems.push(format!("Orders can't be written for {nodes}, so nothing new is pulled there: {first}"));
    }
    if let Some(nodes) = named(|node| node.agent == AgentState::Missing) {
        problems.push(format!(
            "No agent has reported from {nodes}: check the pods of prepuller-node there, and the node's taints"
        ));
    }
    if let Some(nodes) = named(|node| matches!(node.agent, AgentState::Silent(_))) {
        problems.push(format!("The agent has stopped reporting on {nodes}: check the log of prepuller-node there"));
    }
    if let Some(nodes) = named(|node| matches!(node.agent, AgentState::NoRuntime(_))) {
        problems.push(format!("The container runtime can't be used on {nodes}"));
    }
    problems
}

/// What was wrong with the last scan, and what follows from it.
fn scan_problem(overview: &Overview) -> Option<String> {
    let (scan, problem) = (&overview.scan, overview.scan.problem.as_ref()?);
    Some(match (scan.last, scan.has_failed(), &overview.catalogue) {
        (None, _, _) => format!("There has been no scan yet: {problem}"),
        (Some(_), true, None) => {
            format!("The wanted images are not known, because no scan has succeeded so far: {problem}")
        }
        (Some(_), true, Some(_)) => {
            format!("The last scan failed; the list of wanted images is unchanged: {problem}")
        }
        (Some(_), false, _) => {
            format!("The last scan was incomplete; what it found is used: {problem}")
        }
    })
}
