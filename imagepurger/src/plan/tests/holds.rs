//! Reasons that keep all images.

use super::*;
use lab_images::catalogue::RepositoryState;

#[test]
fn nothing_is_removed_while_the_catalogue_cannot_be_trusted() {
    type Change = fn(&mut Seen);
    let changes: [(Change, &str); 5] = [
        (|seen| seen.catalogue = Err("no such file".into()), "there is no catalogue: no such file"),
        (|seen| seen.catalogue.as_mut().unwrap().fresh_at = at(-6 * 3600 - 1), "the catalogue is stale"),
        (|seen| seen.catalogue.as_mut().unwrap().fresh_at = at(6 * 3600 + 1), "the catalogue is stale"),
        (|seen| seen.catalogue.as_mut().unwrap().catalogue.complete = false, "the catalogue is partial"),
        (|seen| seen.catalogue.as_mut().unwrap().catalogue.images.truncate(0), "the catalogue is empty"),
    ];
    for (change, words) in changes {
        let (mut seen, history) = world(vec![image('a', &["w_1"]), image('b', &[])]);
        change(&mut seen);
        seen.freeing = true;
        let everything = Rules { scope: Scope::All, deny: vec![LAB.parse().unwrap()], force_shrink: true, ..rules() };
        let plan = plan(&seen, &history, &everything);
        assert_eq!(plan.to_remove().count(), 0);
        assert!(plan.hold.unwrap().to_string().starts_with(words), "{words}");
    }
}

#[test]
fn only_the_incomplete_repositories_of_a_partial_catalogue_are_held() {
    let state = |name: &str, complete| RepositoryState {
        name: name.parse().unwrap(),
        complete,
        scanned: None,
        problem: None,
        tags: None,
        unread: None,
    };
    for (partial, kept) in [(LAB, true), ("other.example.org/owner/lab", false)] {
        let (mut seen, history) = world(vec![image('a', &["w_1"])]);
        let catalogue = &mut seen.catalogue.as_mut().unwrap().catalogue;
        catalogue.complete = false;
        catalogue.repositories = vec![state(LAB, partial != LAB), state("other.example.org/owner/lab", partial == LAB)];
        let plan = plan(&seen, &history, &rules());
        assert_eq!((plan.to_remove().count(), plan.hold), (usize::from(!kept), None), "{partial}");
        if kept {
            assert!(reason(&seen, &history, &rules()).contains("the catalogue is partial"));
        }
    }
}

#[test]
fn nothing_is_removed_if_the_catalogue_shrinks_by_more_than_half_unless_forced() {
    let (seen, mut history) = world(vec![image('a', &["w_1"])]);
    history.wanted = Some(2);
    assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 1);
    history.wanted = Some(3);
    let words =
        "nothing is removed: the catalogue suddenly shrank from 3 wanted images to 1; set PURGE_FORCE_SHRINK=true";
    assert!(reason(&seen, &history, &rules()).starts_with(words));
    assert_eq!(plan(&seen, &history, &Rules { force_shrink: true, ..rules() }).to_remove().count(), 1);
}

#[test]
fn nothing_is_removed_while_the_pods_are_not_known() {
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    seen.pods = Pods::Unknown("the API server does not answer".into());
    assert!(reason(&seen, &history, &rules()).contains("the API server does not answer"));
    seen.pods = Pods::Seen { at: at(-60), pods: Vec::new() };
    assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 1);
    seen.pods = Pods::Seen { at: at(-61), pods: Vec::new() };
    assert!(reason(&seen, &history, &rules()).contains("the pods of this node were last seen at"));
    seen.pods = Pods::NoCluster;
    assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 1);
}

#[test]
fn nothing_is_removed_while_the_clock_is_not_set() {
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    seen.now = Timestamp::from_second(60).unwrap();
    let rules = Rules { catalogue_max_age: SignedDuration::MAX, ..rules() };
    seen.pods = Pods::NoCluster;
    assert!(
        reason(&seen, &history, &rules)
            .starts_with("nothing is removed: the clock of this machine is not set: it shows 1970")
    );
    assert_eq!(plan(&seen, &history, &rules).hold.unwrap().word(), "clock_unset");
}
