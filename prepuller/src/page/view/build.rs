//! From what the planner knows to what the page shows.

use super::{Cell, CellState, Counts, ImageRow, NodeRow, PER_PAGE, ScanTimes, Standing, Totals, View};
use crate::node_images::PullState;
use crate::page::query::{Query, Show};
use crate::plan::overview::{ImageOnNode, ImageOverview, Mode, NodeOverview, Overview, Reported, Wave};

/// So much of an error is shown; the node's agent has all of it.
const MOST_ERROR_BYTES: usize = 400;

impl View {
    /// What a reader sees of `overview` who asked for `query`.
    pub fn new(overview: &Overview, query: &Query) -> Self {
        let mut sums = Sums::new(overview);
        let mut found = Vec::new();
        let missing = (!query.missing.is_empty())
            .then(|| overview.images.iter().position(|image| image.reference.to_string() == query.missing));
        for node in &overview.nodes {
            let standing = sums.add(node);
            let lacks = match missing {
                None => true,
                Some(index) => {
                    let image = index.and_then(|index| node.images.get(index));
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
            by_pods: overview.mode == Mode::Pods,
            scan: ScanTimes {
                generated: overview.catalogue.as_ref().map(|catalogue| catalogue.generated),
                last: overview.scan.last,
                last_good: overview.scan.last_good,
                last_good_began: overview.scan.last_good_began,
                problem: overview.scan.problem.clone(),
            },
            problems: problems(overview),
            nodes: nodes.map(|(standing, node)| NodeRow::new(node, *standing)).collect(),
            matching: found.len(),
            pages,
            query,
            totals: sums.totals(),
            counts: sums.counts,
            images: sums.images,
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
    /// How many nodes this choice would show.
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

/// Sums, one node after the other.
struct Sums {
    images: Vec<ImageRow>,
    counts: Counts,
    totals: Totals,
}

impl Sums {
    fn new(overview: &Overview) -> Self {
        Self {
            images: overview.images.iter().map(ImageRow::new).collect(),
            counts: Counts::default(),
            totals: Totals::default(),
        }
    }

    /// Adds a node and says how it stands.
    fn add(&mut self, node: &NodeOverview) -> Standing {
        self.counts.all += 1;
        if node.not_eligible.is_some() {
            self.counts.not_eligible += 1;
            return Standing::NotEligible;
        }
        let mut standing = Standing::Complete;
        for (image, row) in node.images.iter().zip(&mut self.images) {
            standing = standing.min(self.totals.add(image, row));
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
        Totals { eta_seconds: left.checked_div(self.totals.rate).filter(|_| left > 0), ..self.totals.clone() }
    }
}

impl Totals {
    /// Adds an image on an eligible node and says how it stands.
    fn add(&mut self, image: &ImageOnNode, row: &mut ImageRow) -> Standing {
        let size = row.size.unwrap_or(0);
        let (standing, left) = match image {
            ImageOnNode::NotWanted => return Standing::Complete,
            ImageOnNode::NotOrdered | ImageOnNode::Ordered => (Standing::Waiting, size),
            ImageOnNode::Reported(reported) => match reported.state {
                PullState::Present => (Standing::Complete, 0),
                PullState::Waiting => (Standing::Waiting, size),
                PullState::Unpacking => (Standing::Pulling, 0),
                PullState::Downloading => {
                    self.rate = self.rate.saturating_add(reported.rate.unwrap_or(0));
                    let total = if reported.total == 0 { size } else { reported.total };
                    (Standing::Pulling, total.saturating_sub(reported.done))
                }
                PullState::Failed | PullState::Refused => (Standing::Problem, size),
            },
        };
        self.wanted += 1;
        self.present += usize::from(standing == Standing::Complete);
        self.bytes_left = self.bytes_left.saturating_add(left);
        row.pulling += usize::from(standing == Standing::Pulling);
        row.failed += usize::from(standing == Standing::Problem);
        standing
    }
}

impl ImageRow {
    fn new(image: &ImageOverview) -> Self {
        let (standing, wave) = match &image.wave {
            Wave::Done if image.eligible == 0 => (Standing::Complete, "no node should hold it".to_owned()),
            Wave::Done => (Standing::Complete, "on every node".to_owned()),
            Wave::Waiting => (Standing::Waiting, "waits for its first node".to_owned()),
            Wave::Canary { node } => (Standing::Pulling, format!("{node} tries it first")),
            Wave::Rolling => (Standing::Pulling, "spreading".to_owned()),
            Wave::Stopped { node, .. } => (Standing::Problem, format!("stopped: {node} could not pull it")),
        };
        Self {
            reference: image.reference.to_string(),
            name: image.name.clone(),
            why: image.why.clone(),
            size: image.size,
            present: image.present,
            eligible: image.eligible,
            pulling: 0,
            failed: 0,
            standing,
            wave,
        }
    }
}

impl NodeRow {
    fn new(node: &NodeOverview, standing: Standing) -> Self {
        let mut remarks: Vec<String> = node.not_eligible.iter().cloned().collect();
        match node.waiting_pods {
            0 => {}
            1 => remarks.push("one user waits here".to_owned()),
            users => remarks.push(format!("{users} users wait here")),
        }
        if node.gated {
            remarks.push("closed to users until its images are there".to_owned());
        }
        if node.not_eligible.is_none() && !node.reported {
            remarks.push("its agent has not reported yet".to_owned());
        }
        Self {
            name: node.name.to_string(),
            standing,
            present: node.images.iter().filter(|image| image.is_present()).count(),
            wanted: node.images.iter().filter(|image| !matches!(image, ImageOnNode::NotWanted)).count(),
            remarks,
            disk: node.disk,
            images: node.images.iter().map(Cell::new).collect(),
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
        let short = |error: &str| error[..error.floor_char_boundary(MOST_ERROR_BYTES)].to_owned();
        Self {
            state,
            done: if pulling { reported.done } else { 0 },
            total: if pulling { reported.total } else { 0 },
            rate: reported.rate.filter(|_| state == CellState::Downloading),
            eta_seconds: reported.eta_seconds.filter(|_| pulling),
            failures: reported.failures,
            error: error.map(short),
        }
    }
}

/// What is wrong as a whole.
fn problems(overview: &Overview) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(problem) = &overview.scan.problem {
        problems.push(format!("The last scan was not good, so nothing is wanted anew: {problem}"));
    }
    for image in &overview.images {
        if let Wave::Stopped { node, error } = &image.wave {
            let (name, reference) = (&image.name, &image.reference);
            problems.push(format!("{name} is stopped: {node} could not pull {reference}: {error}"));
        }
    }
    problems
}
