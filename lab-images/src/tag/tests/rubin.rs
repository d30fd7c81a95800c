//! The tags of the Rubin Science Platform.

use super::describe;
use crate::tag::{Tag, TagScheme};

fn rubin(text: &str) -> Tag {
    TagScheme::Rubin.parse(text)
}

#[test]
fn every_form_of_the_rubin_grammar() {
    for (text, expected) in [
        ("r22_0_0_rc1", "candidate | Release Candidate r22.0.0-rc1 | 22.0.0-rc1 | - | - | - | -"),
        (
            "r22_0_0_rc1_c0020.001_20210527",
            "candidate | Release Candidate r22.0.0-rc1 (SAL Cycle 0020, Build 001) [20210527] | 22.0.0-rc1 | 20.1 | - | 20210527 | -",
        ),
        ("r21_0_1", "release | Release r21.0.1 | 21.0.1 | - | - | - | -"),
        ("r23_0_0_c0020.001", "release | Release r23.0.0 (SAL Cycle 0020, Build 001) | 23.0.0 | 20.1 | - | - | -"),
        ("r21_0_1_20210527", "release | Release r21.0.1 [20210527] | 21.0.1 | - | - | 20210527 | -"),
        ("r21_0_1_rcx", "release | Release r21.0.1 [rcx] | 21.0.1 | - | - | rcx | -"),
        ("r170", "release | Release r17.0.0 | 17.0.0 | - | - | - | -"),
        ("r170_c0020.001", "unknown | r170 (SAL Cycle 0020, Build 001) | - | 20.1 | - | - | -"),
        ("r170-amd64", "unknown | r170 [amd64] | - | - | - | - | amd64"),
        ("w_2021_22", "weekly | Weekly 2021_22 | 2021.22 | - | - | - | -"),
        ("w_2021_2", "weekly | Weekly 2021_2 | 2021.2 | - | - | - | -"),
        ("w_2022_53", "weekly | Weekly 2022_53 | 2022.53 | - | - | - | -"),
        ("w_2022_54", "unknown | w_2022_54 | - | - | - | - | -"),
        ("w_2022_00", "unknown | w_2022_00 | - | - | - | - | -"),
        ("w_2021_22_c0020", "weekly | Weekly 2021_22 (SAL Cycle 0020) | 2021.22 | 20.- | - | - | -"),
        ("w_2021_22_rsp19", "weekly | Weekly 2021_22 (RSP Build 19) | 2021.22 | - | 19 | - | -"),
        (
            "w_2021_22_c0020.001_rsp19",
            "weekly | Weekly 2021_22 (SAL Cycle 0020, Build 001) (RSP Build 19) | 2021.22 | 20.1 | 19 | - | -",
        ),
        (
            "w_2021_22_rsp19_c0020.001",
            "weekly | Weekly 2021_22 (SAL Cycle 0020, Build 001) (RSP Build 19) | 2021.22 | 20.1 | 19 | - | -",
        ),
        (
            "w_2021_22_c0020.001_foo_bar-amd64",
            "weekly | Weekly 2021_22 (SAL Cycle 0020, Build 001) [foo_bar] [amd64] | 2021.22 | 20.1 | - | foo_bar | amd64",
        ),
        ("w_2021_22-arm64", "weekly | Weekly 2021_22 [arm64] | 2021.22 | - | - | - | arm64"),
        ("w_2021_22_my-branch", "weekly | Weekly 2021_22 [my-branch] | 2021.22 | - | - | my-branch | -"),
        ("w_2021_22_", "unknown | w_2021_22_ | - | - | - | - | -"),
        ("w_2021_22x", "unknown | w_2021_22x | - | - | - | - | -"),
        ("w_2021_22_c1_c2", "weekly | Weekly 2021_22 (SAL Cycle 1) [c2] | 2021.22 | 1.- | - | c2 | -"),
        ("d_2021_05_27", "daily | Daily 2021_05_27 | 2021.5.27 | - | - | - | -"),
        ("d_2024_02_29", "daily | Daily 2024_02_29 | 2024.2.29 | - | - | - | -"),
        ("d_2021_02_30", "unknown | d_2021_02_30 | - | - | - | - | -"),
        ("d_2021_13_01", "unknown | d_2021_13_01 | - | - | - | - | -"),
        (
            "d_2021_05_27_c0019.001_rsp7_x",
            "daily | Daily 2021_05_27 (SAL Cycle 0019, Build 001) (RSP Build 7) [x] | 2021.5.27 | 19.1 | 7 | x | -",
        ),
        ("exp_random", "experimental | Experimental random | - | - | - | - | -"),
        ("exp_my-branch", "experimental | Experimental my-branch | - | - | - | - | -"),
        (
            "exp_random_c0027-amd64",
            "experimental | Experimental random (SAL Cycle 0027) [amd64] | - | 27.- | - | - | amd64",
        ),
        (
            "exp_w_2021_22_c0020.001_foo",
            "experimental | Experimental Weekly 2021_22 (SAL Cycle 0020, Build 001) [foo] | 2021.22 | 20.1 | - | foo | -",
        ),
        (
            "exp_w_2021_05_13_nosudo",
            "experimental | Experimental Weekly 2021_05 [13_nosudo] | 2021.5 | - | - | 13_nosudo | -",
        ),
        ("exp_exp_x", "experimental | Experimental exp_x | - | - | - | - | -"),
        ("exp_", "unknown | exp_ | - | - | - | - | -"),
        ("recommended", "unknown | recommended | - | - | - | - | -"),
        ("recommended_c0027", "unknown | recommended (SAL Cycle 0027) | - | 27.- | - | - | -"),
        ("sha-abc123", "unknown | sha-abc123 | - | - | - | - | -"),
        ("2024-01-02", "unknown | 2024-01-02 | - | - | - | - | -"),
        ("MiXeD_CaSe_TaG", "unknown | MiXeD_CaSe_TaG | - | - | - | - | -"),
        ("", "unknown | latest | - | - | - | - | -"),
        ("w_2021_22\n", "unknown | w_2021_22? | - | - | - | - | -"),
        ("r1_2_99999999999999999999", "unknown | r1_2_99999999999999999999 | - | - | - | - | -"),
    ] {
        assert_eq!(describe(&rubin(text)), expected, "{text:?}");
    }
}

#[test]
fn aliases_have_readable_names() {
    let aliases = ["recommended".to_owned(), "latest_weekly_c0046".to_owned()];
    let named = |text: &str| describe(&TagScheme::Rubin.parse_with_aliases(text, &aliases));
    assert_eq!(named("recommended"), "alias | Recommended | - | - | - | - | -");
    assert_eq!(named("latest_weekly_c0046"), "alias | Latest Weekly (SAL Cycle 0046) | - | 46.- | - | - | -");
    assert_eq!(named("recommended_c0046"), "unknown | recommended (SAL Cycle 0046) | - | 46.- | - | - | -");
}

#[test]
fn the_order_of_a_menu() {
    let aliases = ["recommended".to_owned(), "latest".to_owned()];
    let expected = [
        "recommended",
        "latest",
        "r23_0_0",
        "r22_0_1_c0020.001_20210513",
        "r22_0_1_c0020.001",
        "r22_0_1_c0020",
        "r22_0_1_c0019.010",
        "r22_0_1_c0019.009",
        "r22_0_1_rsp20",
        "r22_0_1_rsp9",
        "r22_0_1_zeta",
        "r22_0_1_alpha",
        "r22_0_1",
        "r22_0_1-arm64",
        "r22_0_1-amd64",
        "r170",
        "w_2077_46",
        "w_2077_40_c0027.001",
        "w_2077_40_c0026.001",
        "w_2021_2",
        "w_2021_02",
        "w_2021_01",
        "d_2077_10_21",
        "d_2077_10_20",
        "d_2077_9_30",
        "r22_0_0_rc10",
        "r22_0_0_rc2",
        "exp_w_2021_22",
        "exp_w_2021_21",
        "exp_random_c0027",
        "exp_random_c0026",
        "exp_random",
        "exp_20230209",
        "zebra",
        "recommended_c0027",
        "recommended_c0026",
        "anything",
    ];
    let mut tags: Vec<Tag> = expected.iter().map(|text| TagScheme::Rubin.parse_with_aliases(text, &aliases)).collect();
    tags.reverse();
    tags.sort_by(Tag::menu_order);
    assert_eq!(tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn weeks_with_and_without_a_zero_are_the_same() {
    assert_eq!(rubin("w_2021_2").version, rubin("w_2021_02").version);
}
