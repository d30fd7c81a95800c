//! The platform as its users see it, on a real cluster with the shipped manifests: a Hub behind nginx, its login and menu in a real
//! browser, labs with homes on the file server, and an outage of GitHub. All steps share one cluster, because starting one takes a
//! while.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "hub/bed.rs"]
mod bed;
#[path = "hub/broker.rs"]
mod broker;
#[path = "hub/monitoring.rs"]
mod monitoring;
#[path = "hub/nginx.rs"]
mod nginx;
#[path = "hub/volumes.rs"]
mod volumes;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use bed::Bed;
use serde_json::{Value, json};
use testbed::chromium::Page;
use testbed::wait::{LIMIT, patiently};

#[test]
fn users_log_in_choose_a_lab_and_work_in_it() {
    let bed = Bed::start();
    both_nodes_hold(&bed, &["w_2026_47", "w_2026_46"]);
    volumes::old_file(&bed.share());
    let before = volumes::owners(&bed.share());

    nginx::redirects_to_tls(&bed);
    nginx::routes_firefly_but_its_admin_pages(&bed);
    a_stranger_reads_why_the_login_is_refused(&bed);
    let mut ada = bed.log_in("ada");
    the_menu_shows_what_is_on_the_nodes(&bed, &mut ada);
    a_lab_starts_with_its_progress(&bed, &mut ada);
    a_terminal_is_the_users_own(&bed, &mut ada);
    nginx::takes_bodies_of_100_mib(&bed, &mut ada);
    a_push_uses_the_hubs_token(&bed, &mut ada);
    the_labs_lines_arrive_with_its_name(&bed);
    monitoring::all_metrics_and_dashboards_have_data(&bed);
    let mut bob = bed.log_in("bob");
    a_new_weekly_is_started_from_the_nodes(&bed, &mut bob);
    no_user_sees_another_users_home(&bed, &mut bob);
    no_owner_has_changed(&bed, &before);
    stop(&bed, &mut bob, "bob");
    everything_works_while_github_is_away(&bed, &mut ada, &mut bob);
    a_removed_member_loses_access(&bed, &mut bob);
    a_moved_tag_starts_the_new_image(&bed, &mut ada);

    stop(&bed, &mut ada, "ada");
    let mut cleo = bed.log_in("cleo");
    let start = |page: &mut Page| {
        choose(page, &bed, "w_2026_48");
        lab(&bed, page);
    };
    let end = |page: &mut Page, user: &str| stop(&bed, page, user);
    volumes::no_group_is_applied(&bed, start, end, &mut [("ada", 58_001, &mut ada), ("cleo", 58_004, &mut cleo)]);
    volumes::a_server_that_is_away_is_named(&bed, |page| choose(page, &bed, "w_2026_48"), &mut ada);
}

/// The images that each node's object reports as present.
fn both_nodes_hold(bed: &Bed, tags: &[&str]) {
    let path = r#"jsonpath={range .items[*]}{.metadata.name}{range .status.images[?(@.state=="Present")]} {.image}{end}{"\n"}{end}"#;
    let holds = |line: &str| tags.iter().all(|tag| line.contains(&format!(":{tag}")));
    let all = |text: &str| text.lines().filter(|line| holds(line)).count() == 2;
    let asked = bed.kubectl.wait(&["-n", "labhands-node", "get", "nodeimages", "-o", path], LIMIT, all);
    asked.unwrap_or_else(|error| panic!("{error}\n{}", bed.state()));
}

fn no_owner_has_changed(bed: &Bed, before: &[volumes::Owner]) {
    assert_eq!(volumes::owners(&bed.share()), before);
    for (name, uid) in [("ada", 58_001), ("bob", 58_002)] {
        assert_eq!(volumes::owner(&bed.share().join(name)), (uid, uid, 0o700), "{name}");
        assert_eq!(bed.get("jupyter", &format!("pod/jupyter-{name}"), "{.spec.securityContext.fsGroup}"), "");
    }
}

fn a_stranger_reads_why_the_login_is_refused(bed: &Bed) {
    let mut eve = bed.log_in("eve");
    eve.wait(LIMIT, "document.body.innerText.includes('eve is not a member of stars')").unwrap();
    bed.picture(&mut eve, "stranger");
    fits_a_phone(bed, &mut eve, "stranger-phone");
}

fn the_menu_shows_what_is_on_the_nodes(bed: &Bed, page: &mut Page) {
    // The catalogue follows the nodes' reports.
    patiently(LIMIT, || {
        page.open(&format!("{}/hub/spawn", bed.hub)).ok()?;
        page.wait(LIMIT, "document.readyState === 'complete'").ok()?;
        let text = page.evaluate("document.body.innerText").ok()?;
        (text.as_str()?.matches("on 2 of 2 nodes").count() == 2).then_some(())
    })
    .unwrap_or_else(|| panic!("{:?}\n{}", page.evaluate("document.body.innerText"), bed.state()));
    let profiles = page.evaluate("[...document.querySelectorAll('[name=profile]')].map(input => input.value)").unwrap();
    assert_eq!(profiles, json!(["w_2026_47", "w_2026_46"]));
    assert_eq!(page.evaluate("document.querySelector('[name=profile]:checked').value").unwrap(), "w_2026_47");
    bed.picture(page, "menu");
    fits_a_phone(bed, page, "menu-phone");
    page.open(&format!("{}/hub/home", bed.hub)).unwrap();
    page.wait(LIMIT, "!!document.querySelector('#start')").unwrap();
    fits_a_phone(bed, page, "home-phone");
}

/// Checks that nothing on the page is wider than a phone's screen.
fn fits_a_phone(bed: &Bed, page: &mut Page, name: &str) {
    page.wait(LIMIT, "document.readyState === 'complete'").unwrap();
    page.resize(390, 844).unwrap();
    bed.picture(page, name);
    assert_eq!(page.overflow().unwrap(), Vec::<String>::new(), "{name}");
    page.resize(bed::LOOK.width, bed::LOOK.height).unwrap();
}

fn choose(page: &mut Page, bed: &Bed, profile: &str) {
    let (form, profile) = (format!("{}/hub/spawn", bed.hub), format!("[name=profile][value={profile}]"));
    // While a server is still stopping, the Hub shows another page.
    let chosen = patiently(LIMIT, || {
        page.open(&form).ok()?;
        page.click(Duration::from_secs(5), &profile).ok()
    });
    assert!(chosen.is_some(), "no {profile} on the form\n{}", bed.state());
    page.click(LIMIT, "form input[type=submit], form button[type=submit]").unwrap();
}

/// Waits until the page is JupyterLab, ready for work.
fn lab(bed: &Bed, page: &mut Page) {
    let ready = "location.pathname.includes('/lab') && !!document.querySelector('.jp-Launcher, .jp-NotebookPanel')";
    page.wait(LIMIT, ready).unwrap_or_else(|error| panic!("{error}\n{}", bed.state()));
}

fn a_lab_starts_with_its_progress(bed: &Bed, page: &mut Page) {
    let shows_volume = "location.pathname.startsWith('/hub/spawn-pending/') && \
        document.querySelector('details')?.textContent.includes('labhands-home') && (document.querySelector('details').open = true)";
    let shown = patiently(LIMIT, || {
        choose(page, bed, "w_2026_47");
        let step = page.wait(LIMIT, &format!("({shows_volume}) || (location.pathname.includes('/lab') && 'missed')"));
        if step.unwrap_or_else(|error| panic!("{error}\n{}", bed.state())) != "missed" {
            return Some(());
        }
        // It started while this test or the browser stood still.
        stop(bed, page, "ada");
        None
    });
    shown.unwrap();
    bed.picture(page, "progress");
    lab(bed, page);
    bed.picture(page, "lab");
}

/// The output of a command in a terminal of the lab that the page shows.
fn terminal(page: &mut Page, command: &str) -> String {
    let quoted = json!(command).to_string();
    let script = include_str!("hub/terminal.js").replace("COMMAND", quoted.trim_matches('"'));
    page.evaluate(&script).unwrap().as_str().unwrap().to_owned()
}

fn kernel(page: &mut Page, code: &str) -> Value {
    page.evaluate(&include_str!("hub/kernel.js").replace("CODE", &json!(code).to_string())).unwrap()
}

fn a_terminal_is_the_users_own(bed: &Bed, page: &mut Page) {
    let printed = terminal(
        page,
        "id; getent passwd $(id -u); pwd; stat -c '%U %a' ~; ls ~; git --no-pager config --list; cat /version",
    );
    for line in [
        "uid=58001(ada) gid=58001(ada) groups=58001(ada),58100(stars)",
        "ada:x:58001:58001:ada the astronomer:/home/ada:/bin/bash",
        "/home/ada",
        "ada 700",
        "user.name=ada the astronomer",
        "user.email=ada@example.org",
        "47",
    ] {
        assert!(printed.lines().any(|printed| printed.trim() == line), "no {line:?} in\n{printed}");
    }
    for folder in ["notebooks", "DATA", "WORK"] {
        assert!(printed.contains(folder), "no {folder} in\n{printed}");
    }
    assert!(printed.contains(&format!("credential.{}.helper=", bed.github.url())), "{printed}");
    // It is the home on the file server, through the volume.
    terminal(page, "echo mine > ~/notebooks/secret");
    assert_eq!(fs::read_to_string(bed.share().join("ada/notebooks/secret")).unwrap(), "mine\n");
    assert_eq!(bed.get("jupyter", "pvc/homes", "{.spec.volumeName}"), "labhands-fileserver-fileserver-home");
    assert!(bed.cluster.nodes().iter().any(|node| node.nfs_mounts().contains(":/home ")));
    assert_eq!(kernel(page, "answer = 6 * 7; print(answer)"), "42\n");
}

fn a_push_uses_the_hubs_token(bed: &Bed, page: &mut Page) {
    let clone = format!("cd /tmp && GIT_TERMINAL_PROMPT=0 git clone -q {}/ada/work.git", bed.github.url());
    let commit = "cd work && echo stars > notes && git add notes && git commit -q -m 'Count stars' && git push -q origin HEAD:main";
    let printed = terminal(page, &format!("{clone} && {commit} && echo pushed"));
    assert!(printed.contains("pushed"), "{printed}");
    let log = [
        "-n",
        "github",
        "exec",
        "github",
        "--",
        "git",
        "-C",
        "/srv/ada/work.git",
        "log",
        "--format=%an <%ae> %s",
        "main",
    ];
    assert_eq!(bed.kubectl.run(&log).unwrap(), "ada the astronomer <ada@example.org> Count stars\n");
    // The token is nowhere in the lab, except for the one that talks to the Hub.
    let printed = terminal(page, "env | grep -c gho_; grep -rl gho_ ~ /run/labhands /etc/git* 2>/dev/null | wc -l");
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["0", "0"], "{printed}");
}

fn the_labs_lines_arrive_with_its_name(bed: &Bed) {
    let line = bed.lines.wait_for(LIMIT, "jupyter-ada", "notebook");
    assert_eq!(line["kubernetes"]["namespace"], "jupyter");
}

fn a_new_weekly_is_started_from_the_nodes(bed: &Bed, page: &mut Page) {
    let pushed = bed.push_lab("w_2026_48", "48");
    bed.scan();
    both_nodes_hold(bed, &["w_2026_48"]);
    the_menu_offers(bed, page, "w_2026_48");
    choose(page, bed, "w_2026_48");
    lab(bed, page);
    assert!(terminal(page, "cat /version").contains("48"));
    let image = bed.get("jupyter", "pod/jupyter-bob", "{.spec.containers[0].image}");
    assert_eq!(image, format!("{}/lab@{}", bed.cluster.registry_host(), pushed.digest));
    let path = r#"jsonpath={range .items[?(@.involvedObject.name=="jupyter-bob")]}{.message}{"\n"}{end}"#;
    let present = format!("Container image \"{image}\" already present on machine");
    bed.kubectl.wait(&["-n", "jupyter", "get", "events", "-o", path], LIMIT, |all| all.contains(&present)).unwrap();
}

/// The Hub is not changed for it.
fn the_menu_offers(bed: &Bed, page: &mut Page, tag: &str) {
    let offered = format!("!!document.querySelector('[name=profile][value={tag}]')");
    let seen = patiently(LIMIT, || {
        page.open(&format!("{}/hub/spawn", bed.hub)).ok()?;
        page.wait(Duration::from_secs(2), &offered).ok()
    });
    assert!(seen.is_some(), "{tag} is not on the menu\n{}", bed.state());
}

fn no_user_sees_another_users_home(bed: &Bed, page: &mut Page) {
    let printed =
        terminal(page, "ls /home; cat /home/ada/notebooks/secret; find / -name secret -path '*notebooks*' 2>/dev/null");
    assert!(printed.contains("bob") && !printed.contains("mine") && printed.contains("No such file"), "{printed}");
    // Also not through the whole claim: the folder belongs to its user alone.
    let mode = fs::metadata(bed.share().join("ada")).unwrap().mode();
    assert_eq!(mode & 0o077, 0);
}

/// Stops the lab as the user does, until the Hub offers a start again.
fn stop(bed: &Bed, page: &mut Page, user: &str) {
    let address = format!("{}/hub/home", bed.hub);
    let stopped = patiently(LIMIT, || {
        page.open(&address).ok()?;
        // The button may not work yet, or may already be gone.
        page.wait(LIMIT, "document.readyState === 'complete'").ok()?;
        let _ = page.evaluate("document.querySelector('#stop')?.click()");
        page.wait(Duration::from_secs(5), "document.querySelector('#start').innerText.includes('Start')").ok()
    });
    assert!(stopped.is_some(), "{}", bed.state());
    // The Hub's page does not wait for a pod that ends slowly.
    let pod = format!("jupyter-{user}");
    bed.kubectl.wait(&["-n", "jupyter", "get", "pods", "-o", "name"], LIMIT, |pods| !pods.contains(&pod)).unwrap();
}

fn everything_works_while_github_is_away(bed: &Bed, ada: &mut Page, bob: &mut Page) {
    bed.github.control(&json!({"outage": 503})).unwrap();
    // Longer than the time after which a login is checked again.
    let seen = ["-n", "jupyter", "logs", "deployment/hub", "--tail=200"];
    patiently(LIMIT, || {
        let _ = bob.open(&format!("{}/hub/home", bed.hub));
        bed.kubectl.run(&seen).ok().filter(|log| log.contains("GitHub does not answer"))
    })
    .unwrap_or_else(|| panic!("{}", bed.state()));
    assert_eq!(kernel(ada, "print(answer)"), "42\n");
    choose(bob, bed, "w_2026_48");
    lab(bed, bob);
    assert!(terminal(bob, "id").contains("uid=58002(bob)"));
}

fn a_removed_member_loses_access(bed: &Bed, bob: &mut Page) {
    let bob_alone = json!({"login": "bob", "id": 58_002, "organizations": {}});
    bed.github.control(&json!({"outage": null, "accounts": [bob_alone]})).unwrap();
    patiently(LIMIT, || {
        bob.open(&format!("{}/hub/spawn", bed.hub)).ok()?;
        bob.wait(Duration::from_secs(5), "location.pathname.startsWith('/hub/login')").ok()
    })
    .unwrap_or_else(|| panic!("bob is still in\n{}", bed.state()));
    bed.picture(bob, "removed");
    bed.github.control(&json!({"browser_user": "bob"})).unwrap();
    bob.open(&format!("{}/hub/oauth_login?next=%2Fhub%2Fspawn", bed.hub)).unwrap();
    bob.wait(LIMIT, "document.body.innerText.includes('bob is not a member of stars')").unwrap();
}

fn a_moved_tag_starts_the_new_image(bed: &Bed, ada: &mut Page) {
    let moved = bed.push_lab("w_2026_48", "48 as it should be");
    bed.scan();
    let path = r#"{range .items[*]}{range .status.images[?(@.state=="Present")]}{.digest}{"\n"}{end}{end}"#;
    patiently(LIMIT, || {
        (bed.get("labhands-node", "nodeimages", path).matches(&moved.digest).count() == 2).then_some(())
    })
    .unwrap_or_else(|| {
        panic!("{}", bed.kubectl.run(&["-n", "labhands-node", "get", "nodeimages", "-o", "yaml"]).unwrap())
    });
    stop(bed, ada, "ada");
    let started = patiently(LIMIT, || {
        the_menu_offers(bed, ada, "w_2026_48");
        choose(ada, bed, "w_2026_48");
        lab(bed, ada);
        let image = bed.get("jupyter", "pod/jupyter-ada", "{.spec.containers[0].image}");
        if image.ends_with(&moved.digest) {
            return Some(());
        }
        stop(bed, ada, "ada");
        None
    });
    assert!(started.is_some(), "the old image is started");
    assert!(terminal(ada, "cat /version").contains("as it should be"));
}
